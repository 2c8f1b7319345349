// One page of keys and values that are kept in 8 bits. Whole numbers are multiplied, so their sums are exact and any order gives the same
// bits: two products to a lane, which is twice as many as floats allow where the processor adds them up by itself (VNNI).

namespace camelid::CAMELID_ISA {

VERB I broadcast_pair(const int16_t* p) {
    int32_t pair;
    memcpy(&pair, p, 4);
    return set1_i(pair);
}

// Round the queries of an item, once for all its pages. The scale of the scores goes into their step.
static void code_queries(const Attention& a, int count, AttendScratch& s) {
    const int64_t n = a.cache.head_dim;
    for (int q = 0; q < count; ++q) {
        const float amax = highest_of(s.query[q], n), inverse = amax == 0.0f ? 0.0f : kMaxFineCode / amax;
        s.query_steps[q] = amax / kMaxFineCode * a.softmax_scale;
        for (int64_t d = 0; d < n; d += kLanes)
            store_words(s.query_codes[q] + d, codes_of(load_first(s.query[q] + d, static_cast<int>(n - d < kLanes ? n - d : kLanes)), inverse, kMaxFineCode));
    }
}

// Scores of 32 keys for the queries from `i` on, N at a time, as `score` of floats does it.
template <int N>
VERB void score_codes(const Attention& a, const uint8_t* block, int i, int count, AttendScratch& s) {
    const int8_t* keys = reinterpret_cast<const int8_t*>(block);
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(block + a.cache.scales_at);
    for (; i + N <= count; i += N) {
        I acc[N][2];
        for (int q = 0; q < N; ++q) acc[q][0] = acc[q][1] = zero_i();
        for (int64_t d = 0; d < a.cache.head_dim; d += 2) {
            fetch_ahead<2 * kPageTokens>(block + d * kPageTokens, s);
            const I low = load_pairs(keys + d * kPageTokens), high = load_pairs(keys + d * kPageTokens + 2 * kLanes);
            for (int q = 0; q < N; ++q) {
                const I x = broadcast_pair(s.query_codes[i + q] + d);
                acc[q][0] = add_pairs(acc[q][0], low, x);
                acc[q][1] = add_pairs(acc[q][1], high, x);
            }
        }
        const F low = load_half(scales), high = load_half(scales + kLanes);
        for (int q = 0; q < N; ++q) {
            const F step = set1(s.query_steps[i + q]);
            store(s.scores[i + q], mul(mul(to_float(acc[q][0]), low), step));
            store(s.scores[i + q] + kLanes, mul(mul(to_float(acc[q][1]), high), step));
        }
    }
    if constexpr (N > 1) score_codes<N / 2>(a, block, i, count, s);
}

// A query's weights times the scales of their values, rounded. Slots that it does not see count nothing, whatever their scale.
VERB void code_weights(const uint16_t* scales, int visible, const float* weights, int16_t* codes, float& step) {
    const F none = set1(0.0f);
    const F low = keep_first(mul(load(weights), load_half(scales)), visible, none);
    const F high = keep_first(mul(load(weights + kLanes), load_half(scales + kLanes)), visible - kLanes, none);
    const int32_t bits = highest_i(max_i(abs_bits(low), abs_bits(high)));
    float amax;
    memcpy(&amax, &bits, 4);
    const float inverse = amax == 0.0f ? 0.0f : kMaxFineCode / amax;
    step = amax / kMaxFineCode;
    store_words(codes, codes_of(low, inverse, kMaxFineCode));
    store_words(codes + kLanes, codes_of(high, inverse, kMaxFineCode));
}

// acc = acc * correction + weights * values for the queries from `i` on, N at a time, 16 * Wide elements at a time, over `pairs` of slots.
template <int N, int Wide>
VERB void add_coded_values(const CacheLayer& c, const int8_t* values, int pairs, int i, int count, AttendScratch& s) {
    for (; i + N <= count; i += N) {
        for (int64_t d = 0; d < c.value_stride; d += Wide * kLanes) {
            I acc[N][Wide];
            for (int q = 0; q < N; ++q)
                for (int w = 0; w < Wide; ++w) acc[q][w] = zero_i();
            for (int pair = 0; pair < pairs; ++pair) {
                const int8_t* at = values + (pair * c.value_stride + d) * 2;
                I value[Wide];
                fetch_ahead<2 * Wide * kLanes>(reinterpret_cast<const uint8_t*>(at), s);
                for (int w = 0; w < Wide; ++w) value[w] = load_pairs(at + 2 * w * kLanes);
                for (int q = 0; q < N; ++q) {
                    const I x = broadcast_pair(s.weight_codes[i + q] + 2 * pair);
                    for (int w = 0; w < Wide; ++w) acc[q][w] = add_pairs(acc[q][w], value[w], x);
                }
            }
            for (int q = 0; q < N; ++q)
                for (int w = 0; w < Wide; ++w) {
                    float* at = s.segment + (i + q) * c.value_stride + d + w * kLanes;
                    store(at, fused(to_float(acc[q][w]), set1(s.weight_steps[i + q]), mul(load(at), set1(s.correction[i + q]))));
                }
        }
    }
    if constexpr (N > 1) add_coded_values<N / 2, Wide>(c, values, pairs, i, count, s);
}

template <int N>
VERB void add_coded_values(const CacheLayer& c, const uint8_t* block, int visible, int i, int count, AttendScratch& s) {
    const int8_t* values = reinterpret_cast<const int8_t*>(block + c.values_at);
    const int pairs = (visible + 1) / 2;
    if (c.value_stride % (2 * kLanes) == 0) add_coded_values<N, 2>(c, values, pairs, i, count, s);
    else add_coded_values<N, 1>(c, values, pairs, i, count, s);
}

}  // namespace camelid::CAMELID_ISA
