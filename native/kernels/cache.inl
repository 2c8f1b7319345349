// Rotation, and keys and values on their way into the cache. See ops.h for the layout of a block.

namespace camelid::CAMELID_ISA {

constexpr float kMaxCode = 127.0f;       // of keys and values kept in 8 bits
constexpr float kMaxFineCode = 16383.0f; // of what they are multiplied with: kMaxHeadDim products still fit into 32 bits
static_assert(127LL * 16383 * kMaxHeadDim < (1LL << 31));

struct StoreScratch {
    alignas(64) float key[kMaxHeadDim];
    alignas(64) int8_t codes[kMaxHeadDim + kLanes];
};
static_assert(sizeof(StoreScratch) <= kScratchBytes);

VERB void rotate_pair(const float* in, float* out, int64_t first, int64_t second, float cosine, float sine) {
    const float x = in[first], y = in[second];
    out[first] = fused1(x, cosine, -(y * sine));
    out[second] = fused1(y, cosine, x * sine);
}

static void rotate_head(const Attention& a, const float* __restrict in, float* __restrict out, const float* cosines, const float* sines) {
    const int64_t half = a.rotary / 2;
    if (a.interleaved)
        for (int64_t i = 0; i < half; ++i) rotate_pair(in, out, 2 * i, 2 * i + 1, cosines[i], sines[i]);
    else
        for (int64_t i = 0; i < half; ++i) rotate_pair(in, out, i, half + i, cosines[i], sines[i]);
    for (int64_t i = a.rotary; i < a.cache.head_dim; ++i) out[i] = in[i];
}

VERB uint8_t* block_at(const Attention& a, int64_t token, int64_t page, int64_t kv_head) {
    return a.cache.data + (a.tables[token][page] * a.cache.num_kv_heads + kv_head) * a.cache.head_bytes;
}

// ---- as floats

template <bool Half>
VERB void put(uint8_t* base, int64_t i, float x) {
    if constexpr (Half) reinterpret_cast<uint16_t*>(base)[i] = float_to_half(x);
    else reinterpret_cast<float*>(base)[i] = x;
}

template <bool Half>
VERB void store_floats(const CacheLayer& c, uint8_t* block, int64_t slot, const float* key, const float* value) {
    uint8_t* values = block + c.values_at;
    for (int64_t d = 0; d < c.head_dim; ++d) put<Half>(block, d * kPageTokens + slot, key[d]);
    for (int64_t d = 0; d < c.head_dim; ++d) put<Half>(values, slot * c.value_stride + d, value[d]);
    for (int64_t d = c.head_dim; d < c.value_stride; ++d) put<Half>(values, slot * c.value_stride + d, 0.0f);
}

// ---- as codes

VERB float highest_of(const float* x, int64_t n) {  // |x|; a NaN has the highest bits of all
    I bits = zero_i();
    for (int64_t d = 0; d < n; d += kLanes) bits = max_i(bits, abs_bits(load_first(x + d, static_cast<int>(n - d < kLanes ? n - d : kLanes))));
    const int32_t most = highest_i(bits);
    float amax;
    memcpy(&amax, &most, 4);
    return amax;
}

VERB I codes_of(F x, float inverse, float most) {
    const int32_t limit = static_cast<int32_t>(most);
    return max_i(set1_i(-limit), min_i(set1_i(limit), to_int(mul(x, set1(inverse)))));
}

// Round n numbers to codes, zeros behind them up to 16, and return their scale, which is a float16.
VERB uint16_t to_codes(const float* x, int64_t n, int8_t* codes) {
    const uint16_t half = float_to_half(highest_of(x, n) / kMaxCode);
    const float scale = half_to_float(half), inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
    for (int64_t d = 0; d < n; d += kLanes)
        store_bytes(codes + d, codes_of(load_first(x + d, static_cast<int>(n - d < kLanes ? n - d : kLanes)), inverse, kMaxCode));
    return half;
}

static void store_codes(const CacheLayer& c, uint8_t* block, int64_t slot, const float* key, const float* value, int8_t* codes) {
    int8_t *keys = reinterpret_cast<int8_t*>(block), *values = reinterpret_cast<int8_t*>(block + c.values_at);
    uint16_t* scales = reinterpret_cast<uint16_t*>(block + c.scales_at);
    scales[slot] = to_codes(key, c.head_dim, codes);
    for (int64_t d = 0; d < c.head_dim + c.head_dim % 2; ++d) keys[(d / 2 * kPageTokens + slot) * 2 + d % 2] = codes[d];
    scales[kPageTokens + slot] = to_codes(value, c.head_dim, codes);
    for (int64_t d = 0; d < c.value_stride; ++d) values[(slot / 2 * c.value_stride + d) * 2 + slot % 2] = codes[d];
}

static void store_token(const Attention& a, int64_t t, StoreScratch& s) {
    const CacheLayer& c = a.cache;
    const int64_t half = a.rotary / 2, slot = a.positions[t] % kPageTokens;
    for (int64_t head = 0; head < c.num_kv_heads; ++head) {
        const int64_t from = (t * c.num_kv_heads + head) * c.head_dim;
        uint8_t* block = block_at(a, t, a.positions[t] / kPageTokens, head);
        rotate_head(a, a.k + from, s.key, a.cosines + t * half, a.sines + t * half);
        if (c.bits == 8) store_codes(c, block, slot, s.key, a.v + from, s.codes);
        else if (c.bits == 16) store_floats<true>(c, block, slot, s.key, a.v + from);
        else store_floats<false>(c, block, slot, s.key, a.v + from);
    }
}

static void rotate_and_store(const Attention& a, int64_t begin, int64_t end, void* scratch) {
    const int64_t half = a.rotary / 2, width = a.num_heads * a.cache.head_dim;
    for (int64_t t = begin; t < end; ++t) {
        for (int64_t at = t * width; at < (t + 1) * width; at += a.cache.head_dim)
            rotate_head(a, a.q + at, a.rotated + at, a.cosines + t * half, a.sines + t * half);
        store_token(a, t, *static_cast<StoreScratch*>(scratch));
    }
}

}  // namespace camelid::CAMELID_ISA
