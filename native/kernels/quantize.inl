// Activations to int8 with one scale for 32, and the sums of codes that minimums and offsets need. See ops.h.

namespace camelid::CAMELID_ISA {

// The scale for 32 values and what multiplies them. A NaN has the highest bits of all, so it reaches the scale.
VERB void choose_scale(F low, F high, float* scale, float* inverse) {
    const int32_t bits = highest_i(max_i(abs_bits(low), abs_bits(high)));
    float amax;
    memcpy(&amax, &bits, 4);
    *scale = amax / 127.0f;
    *inverse = amax == 0.0f ? 0.0f : 127.0f / amax;
}

VERB void quantize_sixteen(F x, F inverse, int8_t* codes) {
    store_bytes(codes, max_i(set1_i(-127), min_i(set1_i(127), to_int(mul(x, inverse)))));
}

VERB void add_codes(Slice& out) {
    for (int i = 0; i < 16; ++i) {
        int16_t sum = 0;
        for (int k = 0; k < 16; ++k) sum = static_cast<int16_t>(sum + out.codes[16 * i + k]);
        out.sums16[i] = sum;
    }
    for (int i = 0; i < 8; ++i) {
        out.sums[i] = out.sums16[2 * i] + out.sums16[2 * i + 1];
        out.lows[i] = out.scales[i] * static_cast<float>(out.sums[i]);
    }
}

// `blocks` of 32 values; the rest of the slice becomes zero.
static void quantize_slice(const float* x, int blocks, Slice& out) {
    if (blocks < 8) memset(&out, 0, sizeof out);
    for (int i = 0; i < blocks; ++i) {
        const F low = load(x + 32 * i), high = load(x + 32 * i + kLanes);
        float inverse;
        choose_scale(low, high, out.scales + i, &inverse);
        quantize_sixteen(low, set1(inverse), out.codes + 32 * i);
        quantize_sixteen(high, set1(inverse), out.codes + 32 * i + kLanes);
    }
    add_codes(out);
}

static void quantize(const float* x, const Activations& out, int64_t begin, int64_t end) {
    const int64_t blocks = out.columns / 32;
    for (int64_t t = begin; t < end; ++t)
        for (int64_t block = 0; block < blocks; block += 8)
            quantize_slice(x + t * out.columns + 32 * block, static_cast<int>(blocks - block < 8 ? blocks - block : 8), out.slices[block / 8 * out.tokens + t]);
}

}  // namespace camelid::CAMELID_ISA
