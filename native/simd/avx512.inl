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
VERB F zero_below(F x, F limit, F v) { return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ), _mm512_setzero_ps()); }
VERB F where_less(F a, F b, F yes, F no) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes); }
VERB F root(F v) { return _mm512_sqrt_ps(v); }
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
VERB I add_i(I a, I b) { return _mm512_add_epi32(a, b); }
VERB I sub_i(I a, I b) { return _mm512_sub_epi32(a, b); }
VERB I shift_left(I a, int n) { return _mm512_slli_epi32(a, static_cast<unsigned>(n)); }
VERB I min_i(I a, I b) { return _mm512_min_epi32(a, b); }
VERB I max_i(I a, I b) { return _mm512_max_epi32(a, b); }
VERB int32_t highest_i(I v) { return _mm512_reduce_max_epi32(v); }
VERB I abs_bits(F v) { return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff)); }
VERB I to_int(F v) { return _mm512_cvtps_epi32(v); }
VERB I mul_i(I a, I b) { return _mm512_mullo_epi32(a, b); }
VERB I shift_right(I a, int n) { return _mm512_srai_epi32(a, static_cast<unsigned>(n)); }
VERB I and_i(I a, int32_t bits) { return _mm512_and_si512(a, _mm512_set1_epi32(bits)); }
VERB F to_float(I v) { return _mm512_cvtepi32_ps(v); }
VERB F exponent_bits(I n) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23)); }
VERB void store_bytes(int8_t* p, I v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v)); }

VERB B load_bytes(const void* p) { return _mm512_loadu_si512(p); }
VERB B broadcast_quad(const void* p) {
    int32_t quad;
    memcpy(&quad, p, 4);
    return _mm512_set1_epi32(quad);
}
VERB I dwords(B a) { return a; }
VERB B bytes(I a) { return a; }
VERB B flip_signs(B a) { return _mm512_xor_si512(a, _mm512_set1_epi8(-128)); }

#if defined(__AVX512VNNI__)
constexpr bool kSignedWide = false;
using P = __m512i;

template <int Max>
constexpr int kProducts = 8;
template <int Max>
using W = B;
template <int Max>
VERB B prepare(B w) { return w; }
template <int Max>
VERB P products(B w, B x) { return _mm512_dpbusd_epi32(_mm512_setzero_si512(), w, x); }
template <int Max>
VERB P add_products(P p, B w, B x) { return settled(_mm512_dpbusd_epi32(p, w, x)); }
VERB I widened(P p) { return p; }
#else
constexpr bool kSignedWide = true;
using P = __m512i;  // 32 sums in 16 bits

// vpmaddubsw saturates at 32767. Two products of 128 * 127 fit, so wide codes are taken as magnitude times sign; of narrower ones
// several sums fit.
template <int Max>
constexpr int kProducts = Max == 15 ? 8 : Max == 31 ? 4 : Max == 63 ? 2 : 1;

struct Wide {
    __m512i magnitude;
    __mmask64 negative;
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
        const __m512i code = flip_signs(w);
        return {_mm512_abs_epi8(code), _mm512_movepi8_mask(code)};
    } else {
        return w;
    }
}
template <int Max>
VERB P products(W<Max> w, B x) {
    if constexpr (Max == 255) return _mm512_maddubs_epi16(w.magnitude, _mm512_mask_sub_epi8(x, w.negative, _mm512_setzero_si512(), x));
    else return _mm512_maddubs_epi16(w, x);
}
template <int Max>
VERB P add_products(P p, W<Max> w, B x) { return settled(_mm512_add_epi16(p, products<Max>(w, x))); }
VERB I widened(P p) { return _mm512_madd_epi16(p, _mm512_set1_epi16(1)); }
#endif


VERB void transpose_four(const __m512i* in, __m512i* out) {  // 4 x 4 dwords within each 128 bits
    const __m512i ab_low = _mm512_unpacklo_epi32(in[0], in[1]), ab_high = _mm512_unpackhi_epi32(in[0], in[1]);
    const __m512i cd_low = _mm512_unpacklo_epi32(in[2], in[3]), cd_high = _mm512_unpackhi_epi32(in[2], in[3]);
    out[0] = _mm512_unpacklo_epi64(ab_low, cd_low);
    out[1] = _mm512_unpackhi_epi64(ab_low, cd_low);
    out[2] = _mm512_unpacklo_epi64(ab_high, cd_high);
    out[3] = _mm512_unpackhi_epi64(ab_high, cd_high);
}
// Rows r, r + 4, r + 8, r + 12. A load that fills 128 bits of a register costs no shuffle.
VERB __m512i every_fourth_row(const uint8_t* const* fourth, int64_t offset) {
    const auto at = [&](int i) __attribute__((always_inline)) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(fourth[i] + offset)); };
    __m512i v = _mm512_castsi128_si512(at(0));
    v = _mm512_mask_broadcast_i32x4(v, 0x00f0, at(1));
    v = _mm512_mask_broadcast_i32x4(v, 0x0f00, at(2));
    return _mm512_mask_broadcast_i32x4(v, 0xf000, at(3));
}
VERB void turn_columns(const uint8_t* const* fourth, int64_t stride, int at, B* out) {
    __m512i rows[4];
    for (int i = 0; i < 4; ++i) rows[i] = every_fourth_row(fourth, i * stride + at);
    transpose_four(rows, out);
}

VERB B field(B v, int shift, int mask) { return _mm512_and_si512(_mm512_srli_epi16(v, static_cast<unsigned>(shift)), _mm512_set1_epi8(static_cast<char>(mask))); }
VERB F low_halves(B v) { return _mm512_cvtph_ps(_mm512_maskz_cvtepi32_epi16(0xffff, v)); }
VERB F high_halves(B v) { return low_halves(_mm512_srli_epi32(v, 16)); }
VERB B or_bytes(B a, B b) { return _mm512_or_si512(a, b); }
VERB B pick_bits(int mask, B yes, B no) { return _mm512_ternarylogic_epi32(_mm512_set1_epi8(static_cast<char>(mask)), yes, no, 0xca); }
VERB B shifted_down(B v, int n) { return _mm512_srli_epi16(v, static_cast<unsigned>(n)); }
VERB B times_power(B a, int n) { return _mm512_slli_epi16(a, static_cast<unsigned>(n)); }
VERB B look_up(B codes, const uint8_t* table) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table))), codes);
}
VERB void store_codes(uint8_t* p, B a) { _mm512_storeu_si512(p, a); }

#if defined(__AVX512VNNI__)
VERB I add_pairs(I sum, I a, I b) { return settled(_mm512_dpwssd_epi32(sum, a, b)); }
#else
VERB I add_pairs(I sum, I a, I b) { return settled(_mm512_add_epi32(sum, _mm512_madd_epi16(a, b))); }
#endif
VERB I load_pairs(const int8_t* p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
VERB void store_words(int16_t* p, I v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(v)); }

}  // namespace camelid::CAMELID_ISA
