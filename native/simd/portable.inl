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

VERB F join(F a, F b) { for (int i = 0; i < 8; ++i) a.v[8 + i] = b.v[i]; return a; }
VERB F zero_below(F x, F limit, F v) { EACH if (x.v[i] < limit.v[i]) v.v[i] = 0.0f; return v; }
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
VERB void store_i(int32_t* p, I v) { memcpy(p, v.v, 64); }
VERB I add_i(I a, I b) { EACH a.v[i] += b.v[i]; return a; }
VERB I sub_i(I a, I b) { EACH a.v[i] -= b.v[i]; return a; }
VERB I shift_left(I a, int n) { EACH a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << n); return a; }
VERB I min_i(I a, I b) { EACH a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i]; return a; }
VERB I max_i(I a, I b) { EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return a; }
VERB I abs_bits(F x) { I r; EACH r.v[i] = static_cast<int32_t>(float_bits(x.v[i]) & 0x7fffffff); return r; }
// Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits: exact for |x| < 2^22, anything beyond.
VERB I to_int(F x) { I r; EACH r.v[i] = static_cast<int32_t>(float_bits(x.v[i] + 0x1.8p23f) - 0x4b400000u); return r; }
VERB F to_float(I x) { F r; EACH r.v[i] = static_cast<float>(x.v[i]); return r; }
VERB F exponent_bits(I n) { F r; EACH r.v[i] = bits_float(static_cast<uint32_t>(n.v[i] + 127) << 23); return r; }
VERB void store_bytes(int8_t* p, I x) { EACH p[i] = static_cast<int8_t>(x.v[i]); }

VERB B load_bytes(const void* p) { B r; memcpy(r.v, p, 64); return r; }
VERB B broadcast_quad(const void* p) { B r; EACH memcpy(r.v + 4 * i, p, 4); return r; }
VERB int32_t word(const B& x, int i) { int16_t r; memcpy(&r, x.v + 2 * i, 2); return r; }
VERB B spread(const int16_t* scales) {
    B r;
    for (int i = 0; i < 32; ++i) memcpy(r.v + 2 * i, scales + i / 8, 2);
    return r;
}
VERB I dot_pairs(I acc, const B& a, const B& b) {
    EACH acc.v[i] += word(a, 2 * i) * word(b, 2 * i) + word(a, 2 * i + 1) * word(b, 2 * i + 1);
    return acc;
}
VERB I dot_sixteen(const int16_t* a, const int16_t* b) {
    I r = zero_i();
    for (int i = 0; i < 8; ++i) r.v[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    return r;
}
constexpr bool kSignedWide = false;

template <int Max>
VERB I dot(I acc, const B& w, const B& x) {
    EACH for (int j = 0; j < 4; ++j) acc.v[i] += w.v[4 * i + j] * static_cast<int8_t>(x.v[4 * i + j]);
    return acc;
}
template <int Max>
VERB I dot_scaled(I acc, const B& w, const B& x, const B& scales) {
    const I v = dot<Max>(zero_i(), w, x);
    EACH acc.v[i] += v.v[i] * word(scales, 2 * i);
    return acc;
}

VERB I group_sums(const I* v) {
    I r = zero_i();
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 8; ++j) {
            r.v[i] += v[i].v[j];
            r.v[8 + i] += v[i].v[8 + j];
        }
    return r;
}
VERB I interleave(const I& x) { I r; EACH r.v[i] = x.v[i / 2 + 8 * (i % 2)]; return r; }
VERB I add_halves(I x) { for (int i = 0; i < 8; ++i) x.v[i] += x.v[8 + i]; return x; }
VERB void transpose(const void* in, int64_t stride, void* out) {
    for (int row = 0; row < 16; ++row)
        for (int column = 0; column < 16; ++column)
            memcpy(static_cast<char*>(out) + 64 * column + 4 * row, static_cast<const char*>(in) + row * stride + 4 * column, 4);
}

#define EACH_BYTE for (int i = 0; i < 64; ++i)

VERB B fields(const uint8_t* p, int low, int high, int mask) {
    B r;
    for (int i = 0; i < 32; ++i) r.v[i] = static_cast<uint8_t>((p[i] >> low) & mask);
    for (int i = 0; i < 32; ++i) r.v[32 + i] = static_cast<uint8_t>((p[i] >> high) & mask);
    return r;
}
VERB B nibbles_64(const uint8_t* p, int shift) { B r; EACH_BYTE r.v[i] = (p[i] >> shift) & 15; return r; }
VERB B nibbles_16(const uint8_t* p, const uint8_t* q) {
    B r;
    EACH r.v[i] = p[i] & 15;
    EACH r.v[16 + i] = p[i] >> 4;
    EACH r.v[32 + i] = q[i] & 15;
    EACH r.v[48 + i] = q[i] >> 4;
    return r;
}
VERB B load_halves(const uint8_t* p, const uint8_t* q) { B r; memcpy(r.v, p, 32); memcpy(r.v + 32, q, 32); return r; }
VERB B fifth_bits(const uint8_t* p, const uint8_t* q) {
    B r;
    for (int i = 0; i < 32; ++i) r.v[i] = ((p[i / 8] >> (i % 8)) & 1) << 4;
    for (int i = 0; i < 32; ++i) r.v[32 + i] = ((q[i / 8] >> (i % 8)) & 1) << 4;
    return r;
}
VERB B or_bytes(B a, const B& b) { EACH_BYTE a.v[i] |= b.v[i]; return a; }
VERB B flip_signs(B a) { EACH_BYTE a.v[i] ^= 0x80; return a; }
VERB B times_power(B a, int n) { EACH_BYTE a.v[i] = static_cast<uint8_t>(a.v[i] << n); return a; }
VERB B look_up(B a, const uint8_t* table) { EACH_BYTE a.v[i] = table[a.v[i]]; return a; }
VERB void store_codes(uint8_t* p, const B& a) { memcpy(p, a.v, 64); }
VERB void store_first_codes(uint8_t* p, const B& a) { memcpy(p, a.v, 32); }
VERB void six_bit_scales(const uint8_t* packed, int16_t* out) {
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 2; ++j) {  // scales, then minimums
            const int first = packed[4 * j + i], last = (packed[8 + i] >> (4 * j)) & 15;
            out[16 * j + 2 * i] = out[16 * j + 2 * i + 1] = static_cast<int16_t>(first & 63);
            out[16 * j + 8 + 2 * i] = out[16 * j + 9 + 2 * i] = static_cast<int16_t>(last | (first >> 6 << 4));
        }
}

}  // namespace camelid::CAMELID_ISA
