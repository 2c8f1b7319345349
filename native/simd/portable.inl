// Plain loops, for any processor: the meaning of every verb. The compiler may vectorize them; it may not fuse (-ffp-contract=off).

namespace camelid::CAMELID_ISA {

struct F { float v[16]; };
struct I { int32_t v[16]; };
struct B { uint8_t v[64]; };

constexpr int kRowVectors = 1;
constexpr int kTokens = 2;
constexpr int kFloatRows = 1;
constexpr int kFloatTokens = 1;
constexpr int kQueries = 1;

#define EACH for (int i = 0; i < 16; ++i)

VERB uint32_t float_bits(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }
VERB float bits_float(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }

VERB F load(const float* p) { F r; memcpy(r.v, p, 64); return r; }
VERB F load_first(const float* p, int n) { F r; EACH r.v[i] = i < n ? p[i] : 0.0f; return r; }
VERB void store(float* p, F v) { memcpy(p, v.v, 64); }
VERB void store_first(float* p, F v, int n) { EACH if (i < n) p[i] = v.v[i]; }
VERB F set1(float x) { F r; EACH r.v[i] = x; return r; }
VERB F add(F a, F b) { EACH a.v[i] += b.v[i]; return a; }
VERB F sub(F a, F b) { EACH a.v[i] -= b.v[i]; return a; }
VERB F mul(F a, F b) { EACH a.v[i] *= b.v[i]; return a; }
VERB F div(F a, F b) { EACH a.v[i] /= b.v[i]; return a; }
VERB float fused1(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
VERB F fused(F a, F b, F c) { EACH a.v[i] = fused1(a.v[i], b.v[i], c.v[i]); return a; }
VERB F minimum(F a, F b) { EACH a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i]; return a; }
VERB F maximum(F a, F b) { EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return a; }
VERB F keep_first(F v, int n, F otherwise) { EACH if (i >= n) v.v[i] = otherwise.v[i]; return v; }

VERB F zero_below(F x, F limit, F v) { EACH if (x.v[i] < limit.v[i]) v.v[i] = 0.0f; return v; }
VERB F where_less(F a, F b, F yes, F no) { EACH if (a.v[i] < b.v[i]) no.v[i] = yes.v[i]; return no; }
VERB F root(F x) { EACH x.v[i] = __builtin_sqrtf(x.v[i]); return x; }
VERB float half_to_float(uint16_t h) {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
    if (exponent == 0) {  // subnormal or zero: mantissa * 2^-24 is exact
        const float x = static_cast<float>(mantissa) * 0x1p-24f;
        return bits_float(float_bits(x) | sign);
    }
    if (exponent == 31) return bits_float(sign | 0x7f800000u | (mantissa << 13) | (mantissa ? 0x400000u : 0u));
    return bits_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
}
VERB uint16_t float_to_half(float x) {
    const uint32_t bits = float_bits(x), sign = (bits >> 16) & 0x8000, absolute = bits & 0x7fffffff;
    if (absolute > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | ((absolute >> 13) & 0x3ff));
    if (absolute >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and more round to infinity
    if (absolute < 0x38800000) {  // below 2^-14: let the float adder round to a multiple of 2^-24
        const float shifted = bits_float(absolute) + 0.5f;
        return static_cast<uint16_t>(sign | (float_bits(shifted) - 0x3f000000));
    }
    const uint32_t rounded = absolute + 0xfff + ((absolute >> 13) & 1);
    return static_cast<uint16_t>(sign | ((rounded >> 13) - (112 << 10)));
}
VERB F load_half(const uint16_t* p) { F r; EACH r.v[i] = half_to_float(p[i]); return r; }
VERB F load_bf16(const uint16_t* p) { F r; EACH r.v[i] = bits_float(static_cast<uint32_t>(p[i]) << 16); return r; }

VERB float sum(F x) {
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; ++i) x.v[i] += x.v[i + width];
    return x.v[0];
}
VERB float highest(F x) {
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; ++i) x.v[i] = x.v[i] > x.v[i + width] ? x.v[i] : x.v[i + width];
    return x.v[0];
}

VERB I zero_i() { I r; EACH r.v[i] = 0; return r; }
VERB I set1_i(int32_t x) { I r; EACH r.v[i] = x; return r; }
VERB I load_i(const int32_t* p) { I r; memcpy(r.v, p, 64); return r; }
VERB I add_i(I a, I b) { EACH a.v[i] += b.v[i]; return a; }
VERB I sub_i(I a, I b) { EACH a.v[i] -= b.v[i]; return a; }
VERB I shift_left(I a, int n) { EACH a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << n); return a; }
VERB I shift_right(I a, int n) { EACH a.v[i] >>= n; return a; }
VERB I mul_i(I a, I b) { EACH a.v[i] *= b.v[i]; return a; }
VERB I and_i(I a, int32_t bits) { EACH a.v[i] &= bits; return a; }
VERB I min_i(I a, I b) { EACH a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i]; return a; }
VERB I max_i(I a, I b) { EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return a; }
VERB int32_t highest_i(const I& x) { int32_t r = x.v[0]; EACH r = x.v[i] > r ? x.v[i] : r; return r; }
VERB I abs_bits(F x) { I r; EACH r.v[i] = static_cast<int32_t>(float_bits(x.v[i]) & 0x7fffffff); return r; }
// Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits: exact for |x| < 2^22, anything beyond.
VERB I to_int(F x) { I r; EACH r.v[i] = static_cast<int32_t>(float_bits(x.v[i] + 0x1.8p23f) - 0x4b400000u); return r; }
VERB F to_float(I x) { F r; EACH r.v[i] = static_cast<float>(x.v[i]); return r; }
VERB F exponent_bits(I n) { F r; EACH r.v[i] = bits_float(static_cast<uint32_t>(n.v[i] + 127) << 23); return r; }
VERB void store_bytes(int8_t* p, I x) { EACH p[i] = static_cast<int8_t>(x.v[i]); }

VERB B load_bytes(const void* p) { B r; memcpy(r.v, p, 64); return r; }
VERB B broadcast_quad(const void* p) { B r; EACH memcpy(r.v + 4 * i, p, 4); return r; }
VERB I dwords(const B& x) { I r; memcpy(r.v, x.v, 64); return r; }
VERB B bytes(const I& x) { B r; memcpy(r.v, x.v, 64); return r; }

constexpr bool kSignedWide = false;
using P = I;

template <int Max>
constexpr int kProducts = 8;
template <int Max>
using W = B;
template <int Max>
VERB B prepare(const B& w) { return w; }
template <int Max>
VERB P add_products(P p, const B& w, const B& x) {
    EACH for (int j = 0; j < 4; ++j) p.v[i] += w.v[4 * i + j] * static_cast<int8_t>(x.v[4 * i + j]);
    return p;
}
template <int Max>
VERB P products(const B& w, const B& x) { return add_products<Max>(zero_i(), w, x); }
VERB I widened(P p) { return p; }

VERB void turn_columns(const uint8_t* const* fourth, int64_t stride, int at, B* out) {
    for (int row = 0; row < 16; ++row)
        for (int column = 0; column < 4; ++column) memcpy(out[column].v + 4 * row, fourth[row / 4] + row % 4 * stride + at + 4 * column, 4);
}

#define EACH_BYTE for (int i = 0; i < 64; ++i)

VERB B field(B a, int shift, int mask) { EACH_BYTE a.v[i] = static_cast<uint8_t>((a.v[i] >> shift) & mask); return a; }
VERB uint16_t half_of(const B& x, int i) { uint16_t r; memcpy(&r, x.v + 2 * i, 2); return r; }
VERB F low_halves(const B& x) { F r; EACH r.v[i] = half_to_float(half_of(x, 2 * i)); return r; }
VERB F high_halves(const B& x) { F r; EACH r.v[i] = half_to_float(half_of(x, 2 * i + 1)); return r; }
VERB B or_bytes(B a, const B& b) { EACH_BYTE a.v[i] |= b.v[i]; return a; }
VERB B pick_bits(int mask, B yes, const B& no) { EACH_BYTE yes.v[i] = static_cast<uint8_t>((yes.v[i] & mask) | (no.v[i] & ~mask)); return yes; }
VERB B shifted_down(B a, int n) { EACH_BYTE a.v[i] = static_cast<uint8_t>(a.v[i] >> n); return a; }
VERB B flip_signs(B a) { EACH_BYTE a.v[i] ^= 0x80; return a; }
VERB B times_power(B a, int n) { EACH_BYTE a.v[i] = static_cast<uint8_t>(a.v[i] << n); return a; }
VERB B look_up(B a, const uint8_t* table) { EACH_BYTE a.v[i] = table[a.v[i]]; return a; }
VERB void store_codes(uint8_t* p, const B& a) { memcpy(p, a.v, 64); }

VERB int16_t word_of(const I& x, int i) { return static_cast<int16_t>(static_cast<uint32_t>(x.v[i / 2]) >> (i % 2 * 16)); }
VERB I add_pairs(I sum, const I& a, const I& b) { EACH sum.v[i] += word_of(a, 2 * i) * word_of(b, 2 * i) + word_of(a, 2 * i + 1) * word_of(b, 2 * i + 1); return sum; }
VERB I load_pairs(const int8_t* p) {
    I r;
    EACH r.v[i] = static_cast<int32_t>((static_cast<uint32_t>(p[2 * i]) & 0xffff) | static_cast<uint32_t>(p[2 * i + 1]) << 16);
    return r;
}
VERB void store_words(int16_t* p, const I& v) { EACH p[i] = static_cast<int16_t>(v.v[i]); }

}  // namespace camelid::CAMELID_ISA
