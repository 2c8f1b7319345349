// AVX2, FMA, F16C: two registers per value.
#include <immintrin.h>

namespace camelid::CAMELID_ISA {

struct F { __m256 a, b; };
struct I { __m256i a, b; };
using B = I;

constexpr int kRowVectors = 1;
constexpr int kTokens = 4;      // 8 accumulators, 2 weights, 2 scales, 1 activation
constexpr int kFloatRows = 2;
constexpr int kFloatTokens = 2;
constexpr int kQueries = 2;

VERB const __m256i* wide(const void* p) { return static_cast<const __m256i*>(p); }
VERB __m256i* wide(void* p) { return static_cast<__m256i*>(p); }
VERB __m256i first(int n) {  // all bits in the first n of eight lanes
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

VERB F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
VERB F load_first(const float* p, int n) { return {_mm256_maskload_ps(p, first(n)), _mm256_maskload_ps(p + 8, first(n - 8))}; }
VERB void store(float* p, F v) { _mm256_storeu_ps(p, v.a); _mm256_storeu_ps(p + 8, v.b); }
VERB void store_first(float* p, F v, int n) { _mm256_maskstore_ps(p, first(n), v.a); _mm256_maskstore_ps(p + 8, first(n - 8), v.b); }
VERB F set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
VERB F add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
VERB F sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
VERB F mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
VERB F div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
VERB F fused(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
VERB F minimum(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
VERB F maximum(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
VERB F load_half(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
            _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
VERB __m256 eight_bf16(const uint16_t* p) {
    const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16));
}
VERB F load_bf16(const uint16_t* p) { return {eight_bf16(p), eight_bf16(p + 8)}; }
VERB F keep_first(F v, int n, F otherwise) {
    return {_mm256_blendv_ps(otherwise.a, v.a, _mm256_castsi256_ps(first(n))),
            _mm256_blendv_ps(otherwise.b, v.b, _mm256_castsi256_ps(first(n - 8)))};
}
VERB F join(F x, F y) { return {x.a, y.a}; }
VERB F zero_below(F x, F limit, F v) {
    return {_mm256_andnot_ps(_mm256_cmp_ps(x.a, limit.a, _CMP_LT_OQ), v.a), _mm256_andnot_ps(_mm256_cmp_ps(x.b, limit.b, _CMP_LT_OQ), v.b)};
}
VERB float half_to_float(uint16_t h) { return _cvtsh_ss(h); }
VERB uint16_t float_to_half(float x) { return static_cast<uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT)); }
VERB float fused1(float x, float y, float z) { return __builtin_fmaf(x, y, z); }

VERB float sum(F v) {
    const __m256 eight = _mm256_add_ps(v.a, v.b);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
VERB float highest(F v) {
    const __m256 eight = _mm256_max_ps(v.a, v.b);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

VERB I zero_i() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
VERB I set1_i(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
VERB I load_i(const int32_t* p) { return {_mm256_loadu_si256(wide(p)), _mm256_loadu_si256(wide(p + 8))}; }
VERB void store_i(int32_t* p, I v) { _mm256_storeu_si256(wide(p), v.a); _mm256_storeu_si256(wide(p + 8), v.b); }
VERB I add_i(I x, I y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
VERB I sub_i(I x, I y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
VERB I shift_left(I x, int n) { return {_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)}; }
VERB I min_i(I x, I y) { return {_mm256_min_epi32(x.a, y.a), _mm256_min_epi32(x.b, y.b)}; }
VERB I max_i(I x, I y) { return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
VERB I abs_bits(F v) {
    const __m256i mask = _mm256_set1_epi32(0x7fffffff);
    return {_mm256_and_si256(_mm256_castps_si256(v.a), mask), _mm256_and_si256(_mm256_castps_si256(v.b), mask)};
}
VERB I to_int(F v) { return {_mm256_cvtps_epi32(v.a), _mm256_cvtps_epi32(v.b)}; }
VERB F to_float(I v) { return {_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }
VERB __m256 eight_exponents(__m256i n) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23)); }
VERB F exponent_bits(I n) { return {eight_exponents(n.a), eight_exponents(n.b)}; }
VERB void store_bytes(int8_t* p, I v) {  // packs work within 128 bits, so put the halves in order in between
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.a, v.b), 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

VERB B load_bytes(const void* p) { return {_mm256_loadu_si256(wide(p)), _mm256_loadu_si256(wide(p) + 1)}; }
VERB B broadcast_quad(const void* p) {
    int32_t quad;
    memcpy(&quad, p, 4);
    const __m256i v = _mm256_set1_epi32(quad);
    return {v, v};
}
VERB B spread(const int16_t* scales) {
    int64_t four;
    memcpy(&four, scales, 8);
    const __m256i v = _mm256_set1_epi64x(four);
    const __m256i low = _mm256_set_epi64x(0x0302030203020302, 0x0302030203020302, 0x0100010001000100, 0x0100010001000100);
    const __m256i high = _mm256_set_epi64x(0x0706070607060706, 0x0706070607060706, 0x0504050405040504, 0x0504050405040504);
    return {_mm256_shuffle_epi8(v, low), _mm256_shuffle_epi8(v, high)};
}
VERB B flip_signs(B x) {
    const __m256i sign = _mm256_set1_epi8(-128);
    return {_mm256_xor_si256(x.a, sign), _mm256_xor_si256(x.b, sign)};
}
VERB I dot_pairs(I acc, B x, B y) {
    return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(x.a, y.a)), _mm256_add_epi32(acc.b, _mm256_madd_epi16(x.b, y.b))};
}
VERB I dot_sixteen(const int16_t* x, const int16_t* y) {
    return {_mm256_madd_epi16(_mm256_loadu_si256(wide(x)), _mm256_loadu_si256(wide(y))), _mm256_setzero_si256()};
}

constexpr bool kSignedWide = true;

// Sums of two products, in 16 bits. vpmaddubsw saturates at 32767: two products of 128 * 127 fit, so wide codes are taken as
// magnitude times sign.
template <int Max>
VERB B two_products(B w, B x) {
    if constexpr (Max == 63) return {_mm256_maddubs_epi16(w.a, x.a), _mm256_maddubs_epi16(w.b, x.b)};
    const B code = flip_signs(w);
    return {_mm256_maddubs_epi16(_mm256_abs_epi8(code.a), _mm256_sign_epi8(x.a, code.a)),
            _mm256_maddubs_epi16(_mm256_abs_epi8(code.b), _mm256_sign_epi8(x.b, code.b))};
}
template <int Max>
VERB I dot(I acc, B w, B x) { return dot_pairs(acc, two_products<Max>(w, x), {_mm256_set1_epi16(1), _mm256_set1_epi16(1)}); }
template <int Max>
VERB I dot_scaled(I acc, B w, B x, B scales) { return dot_pairs(acc, two_products<Max>(w, x), scales); }

VERB __m256i eight_sums(__m256i a, __m256i b, __m256i c, __m256i d, __m256i e, __m256i f, __m256i g, __m256i h) {
    const __m256i abcd = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    const __m256i efgh = _mm256_hadd_epi32(_mm256_hadd_epi32(e, f), _mm256_hadd_epi32(g, h));
    return _mm256_add_epi32(_mm256_permute2x128_si256(abcd, efgh, 0x20), _mm256_permute2x128_si256(abcd, efgh, 0x31));
}
VERB I group_sums(const I* v) {
    return {eight_sums(v[0].a, v[1].a, v[2].a, v[3].a, v[4].a, v[5].a, v[6].a, v[7].a),
            eight_sums(v[0].b, v[1].b, v[2].b, v[3].b, v[4].b, v[5].b, v[6].b, v[7].b)};
}
VERB I interleave(I v) {
    const __m256i low = _mm256_unpacklo_epi32(v.a, v.b), high = _mm256_unpackhi_epi32(v.a, v.b);
    return {_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31)};
}
VERB I add_halves(I v) { return {_mm256_add_epi32(v.a, v.b), v.b}; }

VERB void transpose_eight(const char* in, int64_t stride, char* out) {  // 8 rows of 8 dwords; columns are 64 bytes apart
    __m256i part[8];
    for (int i = 0; i < 8; i += 4) {
        const __m256i a = _mm256_loadu_si256(wide(in + (i + 0) * stride)), b = _mm256_loadu_si256(wide(in + (i + 1) * stride));
        const __m256i c = _mm256_loadu_si256(wide(in + (i + 2) * stride)), d = _mm256_loadu_si256(wide(in + (i + 3) * stride));
        const __m256i ab_low = _mm256_unpacklo_epi32(a, b), ab_high = _mm256_unpackhi_epi32(a, b);
        const __m256i cd_low = _mm256_unpacklo_epi32(c, d), cd_high = _mm256_unpackhi_epi32(c, d);
        part[i + 0] = _mm256_unpacklo_epi64(ab_low, cd_low);
        part[i + 1] = _mm256_unpackhi_epi64(ab_low, cd_low);
        part[i + 2] = _mm256_unpacklo_epi64(ab_high, cd_high);
        part[i + 3] = _mm256_unpackhi_epi64(ab_high, cd_high);
    }
    for (int j = 0; j < 4; ++j) {
        _mm256_storeu_si256(wide(out + 64 * j), _mm256_permute2x128_si256(part[j], part[4 + j], 0x20));
        _mm256_storeu_si256(wide(out + 64 * (4 + j)), _mm256_permute2x128_si256(part[j], part[4 + j], 0x31));
    }
}
VERB void transpose(const void* in, int64_t stride, void* out) {
    const char* rows = static_cast<const char*>(in);
    char* columns = static_cast<char*>(out);
    for (int half = 0; half < 2; ++half) {
        transpose_eight(rows + 32 * half, stride, columns + 512 * half);
        transpose_eight(rows + 32 * half + 8 * stride, stride, columns + 512 * half + 32);
    }
}

// Codes of 64 weights from the bytes of a block.
VERB __m256i thirty_two_fields(__m256i v, int shift, int mask) {
    return _mm256_and_si256(_mm256_srli_epi16(v, shift), _mm256_set1_epi8(static_cast<char>(mask)));
}
VERB B fields(const uint8_t* p, int low, int high, int mask) {
    const __m256i v = _mm256_loadu_si256(wide(p));
    return {thirty_two_fields(v, low, mask), thirty_two_fields(v, high, mask)};
}
VERB B nibbles_64(const uint8_t* p, int shift) {
    return {thirty_two_fields(_mm256_loadu_si256(wide(p)), shift, 15), thirty_two_fields(_mm256_loadu_si256(wide(p + 32)), shift, 15)};
}
VERB __m256i thirty_two_nibbles(const uint8_t* p) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_and_si256(_mm256_inserti128_si256(_mm256_castsi128_si256(v), _mm_srli_epi16(v, 4), 1), _mm256_set1_epi8(15));
}
VERB B nibbles_16(const uint8_t* p, const uint8_t* q) { return {thirty_two_nibbles(p), thirty_two_nibbles(q)}; }
VERB B load_halves(const uint8_t* p, const uint8_t* q) { return {_mm256_loadu_si256(wide(p)), _mm256_loadu_si256(wide(q))}; }
VERB __m256i thirty_two_bits(const uint8_t* p) {  // byte i / 8 of the word to lane i, its bit i % 8 singled out
    int32_t word;
    memcpy(&word, p, 4);
    const __m256i bytes = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    const __m256i bits = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
    const __m256i chosen = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(word), bytes), bits);
    return _mm256_and_si256(_mm256_cmpeq_epi8(chosen, bits), _mm256_set1_epi8(16));
}
VERB B fifth_bits(const uint8_t* p, const uint8_t* q) { return {thirty_two_bits(p), thirty_two_bits(q)}; }
VERB B or_bytes(B x, B y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
VERB B times_power(B x, int n) { return {_mm256_slli_epi16(x.a, n), _mm256_slli_epi16(x.b, n)}; }
VERB B look_up(B codes, const uint8_t* table) {
    const __m256i values = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
    return {_mm256_shuffle_epi8(values, codes.a), _mm256_shuffle_epi8(values, codes.b)};
}
VERB void store_codes(uint8_t* p, B x) {
    _mm256_storeu_si256(wide(p), x.a);
    _mm256_storeu_si256(wide(p + 32), x.b);
}
VERB void store_first_codes(uint8_t* p, B x) { _mm256_storeu_si256(wide(p), x.a); }
// Eight scales and eight minimums of 6 bits from 12 of 16 bytes, each written twice. In dwords: the first four scales, then the last
// four (a low nibble of bytes 8-11 and the top bits of the first), and the same of the minimums.
VERB __m128i six_bit_bytes(const uint8_t* packed) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(packed));
    const __m128i order = _mm_set_epi32(0x0b0a0908, 0x07060504, 0x0b0a0908, 0x03020100);
    const __m128i top_order = _mm_set_epi32(0x07060504, -1, 0x03020100, -1);
    const __m128i low = _mm_srlv_epi32(_mm_shuffle_epi8(v, order), _mm_set_epi32(4, 0, 0, 0));
    const __m128i top = _mm_and_si128(_mm_srli_epi32(_mm_shuffle_epi8(v, top_order), 2), _mm_set1_epi8(0x30));
    return _mm_or_si128(_mm_and_si128(low, _mm_set_epi32(0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f)), top);
}
VERB void six_bit_scales(const uint8_t* packed, int16_t* out) {
    const __m128i v = six_bit_bytes(packed);
    _mm256_storeu_si256(wide(out), _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(v, v)));
    _mm256_storeu_si256(wide(out + 16), _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(v, v)));
}

}  // namespace camelid::CAMELID_ISA
