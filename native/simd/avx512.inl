// AVX-512 F, BW, DQ, VL: one register per value. With VNNI only the dots change.
#include <immintrin.h>

namespace camelid::CAMELID_ISA {

using F = __m512;
using I = __m512i;
using B = __m512i;

constexpr int kRowVectors = 2;  // of 16 rows, in a tile of the panel product
constexpr int kTokens = 6;      // tokens in such a tile: 12 accumulators, 2 weights, 2 scales, 1 activation
constexpr int kFloatRows = 4;
constexpr int kFloatTokens = 4;
constexpr int kQueries = 8;     // queries that share a loaded key: 16 accumulators

VERB F load(const float* p) { return _mm512_loadu_ps(p); }
VERB __mmask16 first(int n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1); }
VERB F load_first(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
VERB void store(float* p, F v) { _mm512_storeu_ps(p, v); }
VERB void store_first(float* p, F v, int n) { _mm512_mask_storeu_ps(p, first(n), v); }
VERB F set1(float x) { return _mm512_set1_ps(x); }
VERB F add(F a, F b) { return _mm512_add_ps(a, b); }
VERB F sub(F a, F b) { return _mm512_sub_ps(a, b); }
VERB F mul(F a, F b) { return _mm512_mul_ps(a, b); }
VERB F div(F a, F b) { return _mm512_div_ps(a, b); }
VERB F fused(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
VERB F minimum(F a, F b) { return _mm512_min_ps(a, b); }
VERB F maximum(F a, F b) { return _mm512_max_ps(a, b); }
VERB F load_half(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
VERB F load_bf16(const uint16_t* p) {
    const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
}
VERB F keep_first(F v, int n, F otherwise) { return _mm512_mask_blend_ps(first(n), otherwise, v); }
VERB F join(F a, F b) { return _mm512_insertf32x8(a, _mm512_castps512_ps256(b), 1); }
VERB F zero_below(F x, F limit, F v) { return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ), _mm512_setzero_ps()); }
VERB float half_to_float(uint16_t h) { return _cvtsh_ss(h); }
VERB uint16_t float_to_half(float x) { return static_cast<uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT)); }
VERB float fused1(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

VERB float sum(F v) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
VERB float highest(F v) {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

VERB I zero_i() { return _mm512_setzero_si512(); }
VERB I set1_i(int32_t x) { return _mm512_set1_epi32(x); }
VERB I load_i(const int32_t* p) { return _mm512_loadu_si512(p); }
VERB void store_i(int32_t* p, I v) { _mm512_storeu_si512(p, v); }
VERB I add_i(I a, I b) { return _mm512_add_epi32(a, b); }
VERB I sub_i(I a, I b) { return _mm512_sub_epi32(a, b); }
VERB I shift_left(I a, int n) { return _mm512_slli_epi32(a, static_cast<unsigned>(n)); }
VERB I min_i(I a, I b) { return _mm512_min_epi32(a, b); }
VERB I max_i(I a, I b) { return _mm512_max_epi32(a, b); }
VERB I abs_bits(F v) { return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff)); }
VERB I to_int(F v) { return _mm512_cvtps_epi32(v); }
VERB F to_float(I v) { return _mm512_cvtepi32_ps(v); }
VERB F exponent_bits(I n) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23)); }
VERB void store_bytes(int8_t* p, I v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v)); }

VERB B load_bytes(const void* p) { return _mm512_loadu_si512(p); }
VERB B broadcast_quad(const void* p) {
    int32_t quad;
    memcpy(&quad, p, 4);
    return _mm512_set1_epi32(quad);
}
VERB B spread(const int16_t* scales) {
    int64_t four;
    memcpy(&four, scales, 8);
    const __m512i each = _mm512_set_epi64(0x0706070607060706, 0x0706070607060706, 0x0504050405040504, 0x0504050405040504,
                                          0x0302030203020302, 0x0302030203020302, 0x0100010001000100, 0x0100010001000100);
    return _mm512_shuffle_epi8(_mm512_set1_epi64(four), each);
}
VERB B flip_signs(B a) { return _mm512_xor_si512(a, _mm512_set1_epi8(-128)); }
VERB I dot_pairs(I acc, B a, B b) { return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b)); }
VERB I dot_sixteen(const int16_t* a, const int16_t* b) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a));
    const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
    return _mm512_zextsi256_si512(_mm256_madd_epi16(x, y));
}

#if defined(__AVX512VNNI__)
constexpr bool kSignedWide = false;

template <int Max>
VERB I dot(I acc, B w, B x) { return _mm512_dpbusd_epi32(acc, w, x); }

template <int Max>
VERB I dot_scaled(I acc, B w, B x, B scales) {
    if constexpr (Max == 63) return dot_pairs(acc, _mm512_maddubs_epi16(w, x), scales);
    const I scale = _mm512_srai_epi32(scales, 16);
    return _mm512_add_epi32(acc, _mm512_mullo_epi32(dot<Max>(_mm512_setzero_si512(), w, x), scale));
}
#else
constexpr bool kSignedWide = true;

// Sums of two products, in 16 bits. vpmaddubsw saturates at 32767: two products of 128 * 127 fit, so wide codes are taken as
// magnitude times sign.
template <int Max>
VERB B two_products(B w, B x) {
    if constexpr (Max == 63) return _mm512_maddubs_epi16(w, x);
    const __m512i code = flip_signs(w);
    return _mm512_maddubs_epi16(_mm512_abs_epi8(code), _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(code), _mm512_setzero_si512(), x));
}

template <int Max>
VERB I dot(I acc, B w, B x) { return dot_pairs(acc, two_products<Max>(w, x), _mm512_set1_epi16(1)); }

template <int Max>
VERB I dot_scaled(I acc, B w, B x, B scales) { return dot_pairs(acc, two_products<Max>(w, x), scales); }
#endif

VERB I add_low_high(I a, I b) { return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)); }
VERB I add_low_high_64(I a, I b) { return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)); }
VERB I group_sums(const I* v) {
    const I abcd = add_low_high_64(add_low_high(v[0], v[1]), add_low_high(v[2], v[3]));
    const I efgh = add_low_high_64(add_low_high(v[4], v[5]), add_low_high(v[6], v[7]));
    const I mixed = _mm512_add_epi32(_mm512_shuffle_i32x4(abcd, efgh, 0x88), _mm512_shuffle_i32x4(abcd, efgh, 0xdd));
    return _mm512_shuffle_i32x4(mixed, mixed, 0xd8);
}
VERB I interleave(I v) {
    return _mm512_permutexvar_epi32(_mm512_set_epi32(15, 7, 14, 6, 13, 5, 12, 4, 11, 3, 10, 2, 9, 1, 8, 0), v);
}
VERB I add_halves(I v) { return _mm512_add_epi32(v, _mm512_shuffle_i32x4(v, v, 0x4e)); }

VERB void transpose_four(const __m512i* in, __m512i* out) {  // 4 x 4 dwords within each 128 bits
    const __m512i ab_low = _mm512_unpacklo_epi32(in[0], in[1]), ab_high = _mm512_unpackhi_epi32(in[0], in[1]);
    const __m512i cd_low = _mm512_unpacklo_epi32(in[2], in[3]), cd_high = _mm512_unpackhi_epi32(in[2], in[3]);
    out[0] = _mm512_unpacklo_epi64(ab_low, cd_low);
    out[1] = _mm512_unpackhi_epi64(ab_low, cd_low);
    out[2] = _mm512_unpacklo_epi64(ab_high, cd_high);
    out[3] = _mm512_unpackhi_epi64(ab_high, cd_high);
}
VERB void transpose(const void* in, int64_t stride, void* out) {
    const char* rows = static_cast<const char*>(in);
    char* columns = static_cast<char*>(out);
    __m512i row[16], part[16];
    for (int i = 0; i < 16; ++i) row[i] = _mm512_loadu_si512(rows + i * stride);
    for (int i = 0; i < 4; ++i) transpose_four(row + 4 * i, part + 4 * i);
    for (int j = 0; j < 4; ++j) {  // lane l of part[4 * i + j] holds column 4 * l + j of the rows 4 * i ...
        const __m512i a = _mm512_shuffle_i32x4(part[j], part[4 + j], 0x88), b = _mm512_shuffle_i32x4(part[j], part[4 + j], 0xdd);
        const __m512i c = _mm512_shuffle_i32x4(part[8 + j], part[12 + j], 0x88), d = _mm512_shuffle_i32x4(part[8 + j], part[12 + j], 0xdd);
        _mm512_storeu_si512(columns + 64 * j, _mm512_shuffle_i32x4(a, c, 0x88));
        _mm512_storeu_si512(columns + 64 * (8 + j), _mm512_shuffle_i32x4(a, c, 0xdd));
        _mm512_storeu_si512(columns + 64 * (4 + j), _mm512_shuffle_i32x4(b, d, 0x88));
        _mm512_storeu_si512(columns + 64 * (12 + j), _mm512_shuffle_i32x4(b, d, 0xdd));
    }
}

// Codes of 64 weights from the bytes of a block.
VERB B fields(const uint8_t* p, int low, int high, int mask) {
    const __m512i shifts = _mm512_inserti64x4(_mm512_set1_epi16(static_cast<short>(low)), _mm256_set1_epi16(static_cast<short>(high)), 1);
    const __m512i twice = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_and_si512(_mm512_srlv_epi16(twice, shifts), _mm512_set1_epi8(static_cast<char>(mask)));
}
VERB B nibbles_64(const uint8_t* p, int shift) {
    return _mm512_and_si512(_mm512_srli_epi16(_mm512_loadu_si512(p), static_cast<unsigned>(shift)), _mm512_set1_epi8(15));
}
VERB B nibbles_16(const uint8_t* p, const uint8_t* q) {
    const __m256i one = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256i two = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
    const __m512i shifts = _mm512_set_epi64(0x0004000400040004, 0x0004000400040004, 0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0);
    return _mm512_and_si512(_mm512_srlv_epi16(_mm512_inserti64x4(_mm512_castsi256_si512(one), two, 1), shifts), _mm512_set1_epi8(15));
}
VERB B load_halves(const uint8_t* p, const uint8_t* q) {
    const __m512i one = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_inserti64x4(one, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q)), 1);
}
VERB B fifth_bits(const uint8_t* p, const uint8_t* q) {
    uint32_t one, two;
    memcpy(&one, p, 4);
    memcpy(&two, q, 4);
    return _mm512_maskz_set1_epi8(one | static_cast<uint64_t>(two) << 32, 16);
}
VERB B or_bytes(B a, B b) { return _mm512_or_si512(a, b); }
VERB B times_power(B a, int n) { return _mm512_slli_epi16(a, static_cast<unsigned>(n)); }
VERB B look_up(B codes, const uint8_t* table) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table))), codes);
}
VERB void store_codes(uint8_t* p, B a) { _mm512_storeu_si512(p, a); }
VERB void store_first_codes(uint8_t* p, B a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(a)); }
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
    const __m256i twice = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi8(v, v)), _mm_unpackhi_epi8(v, v), 1);
    _mm512_storeu_si512(out, _mm512_cvtepu8_epi16(twice));
}

}  // namespace camelid::CAMELID_ISA
