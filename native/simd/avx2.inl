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
VERB F zero_below(F x, F limit, F v) {
    return {_mm256_andnot_ps(_mm256_cmp_ps(x.a, limit.a, _CMP_LT_OQ), v.a), _mm256_andnot_ps(_mm256_cmp_ps(x.b, limit.b, _CMP_LT_OQ), v.b)};
}
VERB F where_less(F x, F y, F yes, F no) {
    return {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)), _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}
VERB F root(F v) { return {_mm256_sqrt_ps(v.a), _mm256_sqrt_ps(v.b)}; }
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
VERB I add_i(I x, I y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
VERB I sub_i(I x, I y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
VERB I shift_left(I x, int n) { return {_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)}; }
VERB I min_i(I x, I y) { return {_mm256_min_epi32(x.a, y.a), _mm256_min_epi32(x.b, y.b)}; }
VERB I max_i(I x, I y) { return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
VERB int32_t highest_i(I v) {
    const __m256i eight = _mm256_max_epi32(v.a, v.b);
    const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}
VERB I abs_bits(F v) {
    const __m256i mask = _mm256_set1_epi32(0x7fffffff);
    return {_mm256_and_si256(_mm256_castps_si256(v.a), mask), _mm256_and_si256(_mm256_castps_si256(v.b), mask)};
}
VERB I mul_i(I x, I y) { return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)}; }
VERB I shift_right(I x, int n) { return {_mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n)}; }
VERB I and_i(I x, int32_t bits) { return {_mm256_and_si256(x.a, _mm256_set1_epi32(bits)), _mm256_and_si256(x.b, _mm256_set1_epi32(bits))}; }
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
VERB I dwords(B x) { return x; }
VERB B bytes(I x) { return x; }
VERB B flip_signs(B x) {
    const __m256i sign = _mm256_set1_epi8(-128);
    return {_mm256_xor_si256(x.a, sign), _mm256_xor_si256(x.b, sign)};
}

constexpr bool kSignedWide = true;
using P = I;  // 32 sums in 16 bits

// vpmaddubsw saturates at 32767. Two products of 128 * 127 fit, so wide codes are taken as magnitude times sign; of narrower ones
// several sums fit.
template <int Max>
constexpr int kProducts = Max == 15 ? 8 : Max == 31 ? 4 : Max == 63 ? 2 : 1;

struct Wide {
    B magnitude, code;
};
template <int Max>
struct Prepared { using type = B; };
template <>
struct Prepared<255> { using type = Wide; };
template <int Max>
using W = typename Prepared<Max>::type;

template <int Max>
VERB W<Max> prepare(B w) {
    if constexpr (Max == 255) {
        const B code = flip_signs(w);
        return {{_mm256_abs_epi8(code.a), _mm256_abs_epi8(code.b)}, code};
    } else {
        return w;
    }
}
template <int Max>
VERB P products(W<Max> w, B x) {
    if constexpr (Max == 255)
        return {_mm256_maddubs_epi16(w.magnitude.a, _mm256_sign_epi8(x.a, w.code.a)), _mm256_maddubs_epi16(w.magnitude.b, _mm256_sign_epi8(x.b, w.code.b))};
    else
        return {_mm256_maddubs_epi16(w.a, x.a), _mm256_maddubs_epi16(w.b, x.b)};
}
template <int Max>
VERB P add_products(P p, W<Max> w, B x) {
    const P q = products<Max>(w, x);
    return {settled(_mm256_add_epi16(p.a, q.a)), settled(_mm256_add_epi16(p.b, q.b))};
}
VERB I widened(P p) { return {_mm256_madd_epi16(p.a, _mm256_set1_epi16(1)), _mm256_madd_epi16(p.b, _mm256_set1_epi16(1))}; }


VERB __m256i two_rows(const uint8_t* p, const uint8_t* q) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), _mm_loadu_si128(reinterpret_cast<const __m128i*>(q)), 1);
}
VERB void turn_eight(const uint8_t* low, const uint8_t* high, int64_t stride, __m256i* out) {
    __m256i row[4];
    for (int i = 0; i < 4; ++i) row[i] = two_rows(low + i * stride, high + i * stride);
    const __m256i ab_low = _mm256_unpacklo_epi32(row[0], row[1]), ab_high = _mm256_unpackhi_epi32(row[0], row[1]);
    const __m256i cd_low = _mm256_unpacklo_epi32(row[2], row[3]), cd_high = _mm256_unpackhi_epi32(row[2], row[3]);
    out[0] = _mm256_unpacklo_epi64(ab_low, cd_low);
    out[1] = _mm256_unpackhi_epi64(ab_low, cd_low);
    out[2] = _mm256_unpacklo_epi64(ab_high, cd_high);
    out[3] = _mm256_unpackhi_epi64(ab_high, cd_high);
}
VERB void turn_columns(const uint8_t* const* fourth, int64_t stride, int at, B* out) {
    __m256i low[4], high[4];
    turn_eight(fourth[0] + at, fourth[1] + at, stride, low);
    turn_eight(fourth[2] + at, fourth[3] + at, stride, high);
    for (int i = 0; i < 4; ++i) out[i] = {low[i], high[i]};
}

VERB B field(B x, int shift, int mask) {
    const __m256i bits = _mm256_set1_epi8(static_cast<char>(mask));
    return {_mm256_and_si256(_mm256_srli_epi16(x.a, shift), bits), _mm256_and_si256(_mm256_srli_epi16(x.b, shift), bits)};
}
VERB F low_halves(B x) {
    const __m256i low = _mm256_set1_epi32(0xffff);  // packs work within 128 bits, so put the halves in order
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low)), 0xd8);
    return {_mm256_cvtph_ps(_mm256_castsi256_si128(words)), _mm256_cvtph_ps(_mm256_extracti128_si256(words, 1))};
}
VERB F high_halves(B x) { return low_halves({_mm256_srli_epi32(x.a, 16), _mm256_srli_epi32(x.b, 16)}); }
VERB B or_bytes(B x, B y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
VERB B pick_bits(int mask, B yes, B no) {
    const __m256i bits = _mm256_set1_epi8(static_cast<char>(mask));
    return {_mm256_or_si256(_mm256_and_si256(bits, yes.a), _mm256_andnot_si256(bits, no.a)), _mm256_or_si256(_mm256_and_si256(bits, yes.b), _mm256_andnot_si256(bits, no.b))};
}
VERB B shifted_down(B x, int n) { return {_mm256_srli_epi16(x.a, n), _mm256_srli_epi16(x.b, n)}; }
VERB B times_power(B x, int n) { return {_mm256_slli_epi16(x.a, n), _mm256_slli_epi16(x.b, n)}; }
VERB B look_up(B codes, const uint8_t* table) {
    const __m256i values = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
    return {_mm256_shuffle_epi8(values, codes.a), _mm256_shuffle_epi8(values, codes.b)};
}
VERB void store_codes(uint8_t* p, B x) {
    _mm256_storeu_si256(wide(p), x.a);
    _mm256_storeu_si256(wide(p + 32), x.b);
}

VERB I add_pairs(I sum, I a, I b) {
    return {settled(_mm256_add_epi32(sum.a, _mm256_madd_epi16(a.a, b.a))), settled(_mm256_add_epi32(sum.b, _mm256_madd_epi16(a.b, b.b)))};
}
VERB I load_pairs(const int8_t* p) {
    return {_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
            _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16)))};
}
VERB void store_words(int16_t* p, I v) {  // packs work within 128 bits, so put the quarters in order
    _mm256_storeu_si256(wide(p), _mm256_permute4x64_epi64(_mm256_packs_epi32(v.a, v.b), 0xd8));
}

}  // namespace camelid::CAMELID_ISA
