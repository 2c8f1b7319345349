// Activations to int8 with one scale per block, and the sums of codes that minimums and offsets need. See ops.h.

namespace camelid::CAMELID_ISA {

// The scale for `n` values (a multiple of 16) and what multiplies them. A NaN has the highest bits of all, so it reaches the scale.
VERB void choose_scale(const float* x, int n, float* scale, float* inverse) {
    I most = zero_i();
    for (int i = 0; i < n; i += kLanes) most = max_i(most, abs_bits(load(x + i)));
    int32_t lanes[kLanes], bits = 0;
    store_i(lanes, most);
    for (int32_t lane : lanes) bits = lane > bits ? lane : bits;
    float amax;
    memcpy(&amax, &bits, 4);
    *scale = amax / 127.0f;
    *inverse = amax == 0.0f ? 0.0f : 127.0f / amax;
}

VERB void quantize_sixteen(const float* x, float inverse, int8_t* codes) {
    const I rounded = to_int(mul(load(x), set1(inverse)));
    store_bytes(codes, max_i(set1_i(-127), min_i(set1_i(127), rounded)));
}

VERB int sum_codes(const int8_t* codes, int n) {
    int total = 0;
    for (int i = 0; i < n; ++i) total += codes[i];
    return total;
}

static void quantize_row_256(const float* x, const Activations& out, int64_t t) {
    for (int64_t block = 0; block < out.columns / 256; ++block) {
        int8_t* codes = out.codes + t * out.code_stride + 256 * block;
        float inverse;
        choose_scale(x + 256 * block, 256, out.scales + t * out.scale_stride + block, &inverse);
        int16_t* sums = out.sums16 + (t * out.scale_stride + block) * 16;
        for (int i = 0; i < 16; ++i) {
            quantize_sixteen(x + 256 * block + 16 * i, inverse, codes + 16 * i);
            sums[i] = static_cast<int16_t>(sum_codes(codes + 16 * i, 16));
        }
    }
}

static void quantize_row_32(const float* x, const Activations& out, int64_t t) {
    for (int64_t block = 0; block < out.columns / 32; ++block) {
        int8_t* codes = out.codes + t * out.code_stride + 32 * block;
        float inverse;
        choose_scale(x + 32 * block, 32, out.scales + t * out.scale_stride + block, &inverse);
        quantize_sixteen(x + 32 * block, inverse, codes);
        quantize_sixteen(x + 32 * block + 16, inverse, codes + 16);
        out.sums32[t * out.scale_stride + block] = sum_codes(codes, 32);
    }
}

static void clear_padding(const Activations& out, int64_t t) {
    const int64_t blocks = out.columns / out.block, stride = out.scale_stride;
    memset(out.codes + t * out.code_stride + out.columns, 0, static_cast<size_t>(out.code_stride - out.columns));
    memset(out.scales + t * stride + blocks, 0, static_cast<size_t>(stride - blocks) * 4);
    if (out.block == 32) memset(out.sums32 + t * stride + blocks, 0, static_cast<size_t>(stride - blocks) * 4);
    if (out.block == 256) memset(out.sums16 + (t * stride + blocks) * 16, 0, static_cast<size_t>(stride - blocks) * 32);
}

static void quantize(const float* x, const Activations& out, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
        clear_padding(out, t);
        (out.block == 256 ? quantize_row_256 : quantize_row_32)(x + t * out.columns, out, t);
    }
}

}  // namespace camelid::CAMELID_ISA
