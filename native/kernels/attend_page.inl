// One page of keys and values that are kept as floats, and the softmax of all kinds of pages.

namespace camelid::CAMELID_ISA {

struct Softmax {  // of one query over the keys so far
    float highest, sum;
};

constexpr int kMaxAccumulators = kMaxQueries * kMaxHeadDim;

struct AttendScratch {
    alignas(64) float scores[kMaxQueries][kPageTokens];
    alignas(64) float segment[kMaxAccumulators];  // (queries, value_stride)
    alignas(64) float total[kMaxAccumulators];
    alignas(64) int16_t query_codes[kMaxQueries][kMaxHeadDim];
    alignas(64) int16_t weight_codes[kMaxQueries][kPageTokens];
    float query_steps[kMaxQueries], weight_steps[kMaxQueries];
    Softmax segment_softmax[kMaxQueries], total_softmax[kMaxQueries];
    float correction[kMaxQueries];
    int visible[kMaxQueries];  // keys of the page that the query sees; none if not positive
    const float* query[kMaxQueries];
    int64_t ahead;             // bytes from the block at work to the one that comes next
};
static_assert(sizeof(AttendScratch) <= kScratchBytes);

constexpr float kNegativeInfinity = -__builtin_inff();

template <bool Half>
VERB F load_cached(const uint8_t* base, int64_t i) {
    if constexpr (Half) return load_half(reinterpret_cast<const uint16_t*>(base) + i);
    else return load(reinterpret_cast<const float*>(base) + i);
}

// Fetch what lies where `now` does in the block that comes next, into the nearest cache: pages lie anywhere, so the processor cannot guess,
// and all at once would leave nothing under way for what is computed meanwhile.
template <int Bytes>
VERB void fetch_ahead(const uint8_t* now, const AttendScratch& s) {
    for (int at = 0; at < Bytes; at += 64) __builtin_prefetch(now + s.ahead + at);
}

// Scores of 32 keys for the queries from `i` on, N at a time. Slots that are not yet written are computed with; `soften` drops them.
template <bool Half, int N>
VERB void score(const Attention& a, const uint8_t* keys, int i, int count, AttendScratch& s) {
    for (; i + N <= count; i += N) {
        F acc[N][2];
        for (int q = 0; q < N; ++q) acc[q][0] = acc[q][1] = set1(0.0f);
        for (int64_t d = 0; d < a.cache.head_dim; ++d) {
            fetch_ahead<kPageTokens * (Half ? 2 : 4)>(keys + d * kPageTokens * (Half ? 2 : 4), s);
            const F low = load_cached<Half>(keys, d * kPageTokens), high = load_cached<Half>(keys, d * kPageTokens + kLanes);
            for (int q = 0; q < N; ++q) {
                const F x = set1(s.query[i + q][d]);
                acc[q][0] = fused(x, low, acc[q][0]);
                acc[q][1] = fused(x, high, acc[q][1]);
            }
        }
        for (int q = 0; q < N; ++q) {
            store(s.scores[i + q], mul(acc[q][0], set1(a.softmax_scale)));
            store(s.scores[i + q] + kLanes, mul(acc[q][1], set1(a.softmax_scale)));
        }
    }
    if constexpr (N > 1) score<Half, N / 2>(a, keys, i, count, s);
}

// Turn a query's scores into weights relative to the new maximum, and say by how much the older ones shrink.
VERB void soften(float* scores, int visible, Softmax& softmax, float& correction) {
    const F lowest = set1(kNegativeInfinity), none = set1(0.0f);
    const F low = keep_first(load(scores), visible, lowest), high = keep_first(load(scores + kLanes), visible - kLanes, lowest);
    const float page = highest(maximum(low, high));
    const float now = softmax.highest > page ? softmax.highest : page;
    const F weight = keep_first(exp(sub(low, set1(now))), visible, none);
    const F other = keep_first(exp(sub(high, set1(now))), visible - kLanes, none);
    correction = now == softmax.highest ? 1.0f : exp1(softmax.highest - now);
    softmax = {now, fused1(softmax.sum, correction, sum(add(weight, other)))};
    store(scores, weight);
    store(scores + kLanes, other);
}

// acc = acc * correction + weights * values for the queries from `i` on, which all see `visible` keys: N at a time, 16 * Wide elements at a
// time, so that enough sums are under way to hide how long one takes.
template <bool Half, int N, int Wide>
VERB void add_values(const CacheLayer& c, const uint8_t* values, int visible, int i, int count, AttendScratch& s) {
    for (; i + N <= count; i += N) {
        for (int64_t d = 0; d < c.value_stride; d += Wide * kLanes) {
            F acc[N][Wide];
            for (int q = 0; q < N; ++q)
                for (int w = 0; w < Wide; ++w) acc[q][w] = mul(load(s.segment + (i + q) * c.value_stride + d + w * kLanes), set1(s.correction[i + q]));
            for (int j = 0; j < visible; ++j) {
                F value[Wide];
                fetch_ahead<Wide * kLanes * (Half ? 2 : 4)>(values + (j * c.value_stride + d) * (Half ? 2 : 4), s);
                for (int w = 0; w < Wide; ++w) value[w] = load_cached<Half>(values, j * c.value_stride + d + w * kLanes);
                for (int q = 0; q < N; ++q) {
                    const F x = set1(s.scores[i + q][j]);
                    for (int w = 0; w < Wide; ++w) acc[q][w] = fused(x, value[w], acc[q][w]);
                }
            }
            for (int q = 0; q < N; ++q)
                for (int w = 0; w < Wide; ++w) store(s.segment + (i + q) * c.value_stride + d + w * kLanes, acc[q][w]);
        }
    }
    if constexpr (N > 1) add_values<Half, N / 2, Wide>(c, values, visible, i, count, s);
}

template <bool Half, int N>
VERB void add_values(const CacheLayer& c, const uint8_t* values, int visible, int i, int count, AttendScratch& s) {
    if (c.value_stride % (2 * kLanes) == 0) add_values<Half, N, 2>(c, values, visible, i, count, s);
    else add_values<Half, N, 1>(c, values, visible, i, count, s);
}

}  // namespace camelid::CAMELID_ISA
