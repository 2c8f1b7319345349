// Float weights to blocks, with the same bytes as formats/block_encoders.py and scale_search.py, which tell why each step is as it is.
//
// Sixteen sub-blocks are worked on at a time, one to a lane, so that a sum over a sub-block shuffles nothing. Products are rounded before
// they are added: nothing is fused, so that numpy can say the same. Apart from the kernels of a model: nothing here runs when one does.

#include "../encode.h"
#include "../simd.h"

namespace camelid::CAMELID_ISA {

constexpr int kRunWeights = 512;  // encoded at a time: 16 sub-blocks of 32, or two times 16 of 16
constexpr int kTrials = 13, kRefinements = 3, kSignedTrials = 19;

struct Scratch {
    float weights[kRunWeights];     // in the order of the file
    uint8_t raw[4 * kRunWeights];   // the same in the type of the file, where a run is cut short
    float x[32 * kLanes];           // (weight of a sub-block, sub-block)
    float weight[32 * kLanes];      // how much each counts
    float weighted[32 * kLanes];
    uint8_t codes[32 * kLanes];
};

VERB F infinity() { return set1(__builtin_inff()); }
VERB F magnitude(F x) { return maximum(x, sub(set1(0.0f), x)); }

// x within [low, high], as an integer: to nearest, ties to even. Adding 1.5 * 2^23 leaves no bit for a fraction.
VERB F rounded(F x, F low, F high) {
    const F magic = set1(0x1.8p23f);
    return sub(add(minimum(maximum(x, low), high), magic), magic);
}

// a / b, and 0 where that is not finite.
VERB F quotient(F a, F b) {
    const F q = div(a, b);
    return where_less(magnitude(q), infinity(), q, set1(0.0f));
}

VERB float inverse_of(float x) {
    const float inverse = 1.0f / x;
    return __builtin_fabsf(inverse) < __builtin_inff() ? inverse : 0.0f;
}

VERB float rounded1(float x, float low, float high) {
    const float within = x < low ? low : x > high ? high : x;
    return (within + 0x1.8p23f) - 0x1.8p23f;
}

// To float16, never towards zero.
VERB uint16_t half_away(float x) {
    const uint16_t nearest = float_to_half(x);
    return static_cast<uint16_t>(nearest + (__builtin_fabsf(half_to_float(nearest)) < __builtin_fabsf(x) ? 1 : 0));
}

VERB void put_half(uint8_t* out, uint16_t half) { memcpy(out, &half, 2); }

// The i-th of `count` evenly spaced values, as numpy.linspace computes them.
constexpr float spaced(double first, double last, int count, int i) {
    return static_cast<float>(i == count - 1 ? last : i * ((last - first) / (count - 1)) + first);
}

// ── the search for a scale and a minimum (Q4_K, Q5_K) ──

struct Fit { F error, scale, offset; };

struct Affine {
    F total, x;  // sums of the weights, and of weight times x
};

VERB F fit_error(const Affine& a, F scale, F offset, F one, F two, F along) {
    const F by_scale = mul(scale, add(mul(scale, two), mul(set1(2.0f), sub(mul(offset, one), along))));
    return add(by_scale, mul(offset, sub(mul(offset, a.total), mul(set1(2.0f), a.x))));
}

// The better of `best` and the weighted least squares of scale * q + offset to x, for q = (x - shift) * finer to the nearest of 0 … top.
VERB void try_affine(const Scratch& s, const Affine& a, F shift, F finer, F top, Fit& best) {
    const F zero = set1(0.0f);
    F one = zero, two = zero, along = zero;
    for (int k = 0; k < 32; ++k) {
        const F q = rounded(mul(sub(load(s.x + k * kLanes), shift), finer), zero, top);
        const F heavy = mul(load(s.weight + k * kLanes), q);
        one = add(one, heavy);
        two = add(two, mul(heavy, q));
        along = add(along, mul(load(s.weighted + k * kLanes), q));
    }
    const F determinant = sub(mul(a.total, two), mul(one, one));
    const F free_scale = quotient(sub(mul(a.total, along), mul(a.x, one)), determinant);
    const F free_offset = quotient(sub(mul(two, a.x), mul(one, along)), determinant);
    const F least = mul(mul(set1(1e-5f), a.total), two);
    const F lone_scale = quotient(along, two);
    const F scale = where_less(zero, free_offset, lone_scale, where_less(least, determinant, free_scale, lone_scale));
    const F offset = where_less(zero, free_offset, zero, where_less(least, determinant, free_offset, zero));
    const F error = fit_error(a, scale, offset, one, two, along);
    best = {where_less(error, best.error, error, best.error), where_less(error, best.error, scale, best.scale),
            where_less(error, best.error, offset, best.offset)};
}

// Fill `scales` and `minimums`, one per lane, both >= 0.
static void search_affine(Scratch& s, float top, float* scales, float* minimums) {
    const F zero = set1(0.0f);
    F squares = zero, low = load(s.x), high = low;
    for (int k = 0; k < 32; ++k) {
        const F x = load(s.x + k * kLanes);
        squares = add(squares, mul(x, x));
        low = minimum(x, low);
        high = maximum(x, high);
    }
    const F mean = root(mul(squares, set1(1.0f / 32.0f)));
    low = minimum(low, zero);
    Affine a{zero, zero};
    for (int k = 0; k < 32; ++k) {
        const F x = load(s.x + k * kLanes), weight = add(magnitude(x), mean), weighted = mul(weight, x);
        a = {add(a.total, weight), add(a.x, weighted)};
        store(s.weight + k * kLanes, weight);
        store(s.weighted + k * kLanes, weighted);
    }
    const F extent = sub(high, low);
    Fit best{fit_error(a, zero, low, zero, zero, zero), zero, low};
    for (int i = 0; i < kTrials + kRefinements; ++i) {  // one loop, so that the trial is compiled once
        const bool is_trial = i < kTrials;
        const F finer = is_trial ? quotient(set1(top + spaced(-2.0, 0.5, kTrials, i)), extent) : quotient(set1(1.0f), best.scale);
        try_affine(s, a, is_trial ? low : best.offset, finer, set1(top), best);
    }
    store(scales, add(maximum(best.scale, zero), zero));
    store(minimums, sub(zero, best.offset));
}

// Eight values, >= 0, as a float16 unit and six bits each.
VERB uint16_t to_six_bits(const float* values, uint8_t* six) {
    float highest = values[0];
    for (int i = 1; i < 8; ++i) highest = values[i] > highest ? values[i] : highest;
    const uint16_t unit = half_away(highest / 63.0f);
    const float inverse = inverse_of(half_to_float(unit));
    for (int i = 0; i < 8; ++i) six[i] = static_cast<uint8_t>(rounded1(values[i] * inverse, 0.0f, 63.0f));
    return unit;
}

VERB void pack_six_bits(const uint8_t* scales, const uint8_t* minimums, uint8_t* out) {
    for (int i = 0; i < 4; ++i) {
        out[i] = static_cast<uint8_t>(scales[i] | (scales[i + 4] & 0x30) << 2);
        out[i + 4] = static_cast<uint8_t>(minimums[i] | (minimums[i + 4] & 0x30) << 2);
        out[i + 8] = static_cast<uint8_t>((scales[i + 4] & 15) | minimums[i + 4] << 4);
    }
}

// Lay the weights out as (weight of a sub-block, sub-block).
template <int Sub>
VERB void to_lanes(const float* weights, float* x) {
    for (int k = 0; k < Sub; ++k)
        for (int lane = 0; lane < kLanes; ++lane) x[k * kLanes + lane] = weights[lane * Sub + k];
}

// Two blocks of 8 sub-blocks of 32, of which `count` are written. Source: formats/block_encoders.py.
static void encode_with_minimum(Scratch& s, bool has_fifth, uint8_t* out, int count) {
    const float top = has_fifth ? 31.0f : 15.0f;
    const int bytes = has_fifth ? 176 : 144;
    float scales[kLanes], minimums[kLanes], inverses[kLanes], offsets[kLanes];
    uint8_t six[2][8];
    to_lanes<32>(s.weights, s.x);
    search_affine(s, top, scales, minimums);
    for (int block = 0; block < 2; ++block) {
        const uint16_t d = to_six_bits(scales + 8 * block, six[0]), m = to_six_bits(minimums + 8 * block, six[1]);
        for (int i = 0; i < 8; ++i) {
            inverses[8 * block + i] = inverse_of(half_to_float(d) * static_cast<float>(six[0][i]));
            offsets[8 * block + i] = half_to_float(m) * static_cast<float>(six[1][i]);
        }
        if (block >= count) break;
        put_half(out + block * bytes, d);
        put_half(out + block * bytes + 2, m);
        pack_six_bits(six[0], six[1], out + block * bytes + 4);
    }
    const F inverse = load(inverses), offset = load(offsets);
    for (int k = 0; k < 32; ++k)
        store_bytes(reinterpret_cast<int8_t*>(s.codes + k * kLanes), to_int(rounded(mul(add(load(s.x + k * kLanes), offset), inverse), set1(0.0f), set1(top))));
    for (int block = 0; block < count; ++block) {
        uint8_t* low = out + block * bytes + (has_fifth ? 48 : 16);
        for (int k = 0; k < 32; ++k) {
            const uint8_t* codes = s.codes + k * kLanes + 8 * block;
            for (int pair = 0; pair < 4; ++pair) low[32 * pair + k] = static_cast<uint8_t>((codes[2 * pair] & 15) | codes[2 * pair + 1] << 4);
            if (!has_fifth) continue;
            int fifth = 0;
            for (int i = 0; i < 8; ++i) fifth |= codes[i] >> 4 << i;
            out[block * bytes + 16 + k] = static_cast<uint8_t>(fifth);
        }
    }
}

// ── the search for a scale of either sign (Q6_K) ──

static void search_signed(Scratch& s, float* scales) {
    const F zero = set1(0.0f);
    F largest = zero, size = zero;
    for (int k = 0; k < 16; ++k) {
        const F x = load(s.x + k * kLanes), square = mul(x, x), absolute = magnitude(x);
        largest = where_less(size, absolute, x, largest);  // the first of those that are as large
        size = maximum(absolute, size);
        store(s.weight + k * kLanes, square);
        store(s.weighted + k * kLanes, mul(square, x));
    }
    F best_error = zero, best = zero;
    for (int i = 0; i < kSignedTrials; ++i) {
        const F finer = quotient(set1(-32.0f + spaced(-0.9, 0.9, kSignedTrials, i)), largest);
        F along = zero, square = zero;
        for (int k = 0; k < 16; ++k) {
            const F q = rounded(mul(load(s.x + k * kLanes), finer), set1(-32.0f), set1(31.0f));
            along = add(along, mul(load(s.weighted + k * kLanes), q));
            square = add(square, mul(mul(load(s.weight + k * kLanes), q), q));
        }
        const F scale = quotient(along, square), error = mul(sub(zero, along), scale);
        best = where_less(error, best_error, scale, best);
        best_error = where_less(error, best_error, error, best_error);
    }
    store(scales, best);
}

// One block of 16 sub-blocks of 16.
static void encode_q6_k(Scratch& s, const float* weights, uint8_t* out) {
    float wanted[kLanes], inverses[kLanes];
    to_lanes<16>(weights, s.x);
    search_signed(s, wanted);
    float largest = 0.0f;
    for (float scale : wanted) largest = __builtin_fabsf(scale) > __builtin_fabsf(largest) ? scale : largest;
    const uint16_t unit = half_away(largest / -128.0f);
    const float step = half_to_float(unit), inverse = inverse_of(step);
    for (int i = 0; i < kLanes; ++i) {
        const float scale = rounded1(wanted[i] * inverse, -128.0f, 127.0f);
        out[192 + i] = static_cast<uint8_t>(static_cast<int8_t>(scale));
        inverses[i] = inverse_of(step * scale);
    }
    put_half(out + 208, unit);
    uint8_t codes[256];
    for (int k = 0; k < 16; ++k) {
        store_bytes(reinterpret_cast<int8_t*>(s.codes), add_i(to_int(rounded(mul(load(s.x + k * kLanes), load(inverses)), set1(-32.0f), set1(31.0f))), set1_i(32)));
        for (int lane = 0; lane < kLanes; ++lane) codes[lane * 16 + k] = s.codes[lane];
    }
    for (int half = 0; half < 2; ++half) {
        const uint8_t* q = codes + 128 * half;
        for (int i = 0; i < 64; ++i) out[64 * half + i] = static_cast<uint8_t>((q[i] & 15) | q[i + 64] << 4);
        for (int i = 0; i < 32; ++i) out[128 + 32 * half + i] = static_cast<uint8_t>(q[i] >> 4 | q[i + 32] >> 4 << 2 | q[i + 64] >> 4 << 4 | q[i + 96] >> 4 << 6);
    }
}

// ── the types with one scale for 32 weights, and the float types ──

VERB float highest_magnitude(const float* x) {
    const int32_t bits = highest_i(max_i(abs_bits(load(x)), abs_bits(load(x + kLanes))));
    float highest;
    memcpy(&highest, &bits, 4);
    return highest;
}

static void encode_q8_0(const float* x, uint8_t* out) {
    const float scale = highest_magnitude(x) / 127.0f, inverse = inverse_of(scale);
    put_half(out, float_to_half(scale));
    for (int i = 0; i < 32; ++i) {
        const float scaled = x[i] * inverse, size = __builtin_fabsf(scaled);
        const int whole = static_cast<int>(size), up = whole + (size - static_cast<float>(whole) >= 0.5f ? 1 : 0), code = up > 127 ? 127 : up;
        out[2 + i] = static_cast<uint8_t>(scaled < 0.0f ? -code : code);
    }
}

static void encode_q4_0(const float* x, uint8_t* out) {
    const float highest = highest_magnitude(x);
    int at = 0;
    while (__builtin_fabsf(x[at]) < highest) ++at;
    const float scale = x[at] / -8.0f, inverse = inverse_of(scale);
    put_half(out, float_to_half(scale));
    uint8_t codes[32];
    for (int i = 0; i < 32; ++i) {
        const float code = x[i] * inverse + 8.5f;
        codes[i] = static_cast<uint8_t>(code < 0.0f ? 0.0f : code > 15.0f ? 15.0f : code);
    }
    for (int i = 0; i < 16; ++i) out[2 + i] = static_cast<uint8_t>(codes[i] | codes[i + 16] << 4);
}

VERB uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Whether every weight is one that the type can hold: within float16 where a scale is one, and F16 holds what is not finite as well.
VERB bool can_hold(Block type, const float* x, int count) {
    constexpr uint32_t largest = 0x477fe000;  // 65504
    if (type == Block::F32 || type == Block::BF16) return true;
    uint32_t wrong = 0;
    for (int i = 0; i < count; ++i) {
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        bits &= 0x7fffffff;
        wrong |= static_cast<uint32_t>(bits > largest) & static_cast<uint32_t>(type != Block::F16 || bits < 0x7f800000);
    }
    return wrong == 0;
}

// Encode the `count` weights, at most a run of them and whole blocks, that lie in the scratch; behind them there are zeros.
static void encode_run(Block type, Scratch& s, int count, uint8_t* out) {
    const float* x = s.weights;
    switch (type) {
        case Block::Q4_K: return encode_with_minimum(s, false, out, count / 256);
        case Block::Q5_K: return encode_with_minimum(s, true, out, count / 256);
        case Block::Q6_K:
            for (int i = 0; i < count; i += 256) encode_q6_k(s, x + i, out + i / 256 * 210);
            return;
        case Block::Q8_0:
            for (int i = 0; i < count; i += 32) encode_q8_0(x + i, out + i / 32 * 34);
            return;
        case Block::Q4_0:
            for (int i = 0; i < count; i += 32) encode_q4_0(x + i, out + i / 32 * 18);
            return;
        case Block::F16:
            for (int i = 0; i < count; ++i) put_half(out + 2 * i, float_to_half(x[i]));
            return;
        case Block::BF16:
            for (int i = 0; i < count; ++i) put_half(out + 2 * i, to_bf16(x[i]));
            return;
        default: memcpy(out, x, static_cast<size_t>(count) * sizeof(float));
    }
}

// Decode the `count` weights of a run; those behind them become zero.
static void decode_run(Block from, const uint8_t* weights, int count, Scratch& s) {
    const int bytes = from == Block::F32 ? 4 : 2;
    if (count < kRunWeights) {
        memset(s.raw, 0, sizeof s.raw);
        memcpy(s.raw, weights, static_cast<size_t>(count * bytes));
        weights = s.raw;
    }
    if (from == Block::F32) {
        memcpy(s.weights, weights, sizeof s.weights);
        return;
    }
    for (int i = 0; i < kRunWeights; i += kLanes) {
        uint16_t halves[kLanes];
        memcpy(halves, weights + 2 * i, sizeof halves);
        store(s.weights + i, from == Block::F16 ? load_half(halves) : load_bf16(halves));
    }
}

static bool encode(Block from, const uint8_t* weights, Block to, uint8_t* out, int64_t count, void* scratch) {
    static_assert(sizeof(Scratch) <= kScratchBytes);
    Scratch& s = *static_cast<Scratch*>(scratch);
    const BlockShape source = block_shape(static_cast<int>(from)), target = block_shape(static_cast<int>(to));
    for (int64_t at = 0; at < count; at += kRunWeights) {
        const int run = static_cast<int>(count - at < kRunWeights ? count - at : kRunWeights);
        decode_run(from, weights + at * source.bytes, run, s);
        if (!can_hold(to, s.weights, run)) return false;
        encode_run(to, s, run, out + at / target.weights * target.bytes);
    }
    return true;
}

}  // namespace camelid::CAMELID_ISA
