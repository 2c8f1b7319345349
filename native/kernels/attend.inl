// Rotation, the cache, and paged attention. See ops.h for the layout of a page and for the order of the sums.

namespace camelid::CAMELID_ISA {

struct Softmax {  // of one query over the keys so far
    float highest, sum;
};

constexpr int kMaxAccumulators = kMaxQueries * kMaxHeadDim;

struct AttendScratch {
    alignas(64) float scores[kMaxQueries][kPageTokens];
    alignas(64) float segment[kMaxAccumulators];  // (queries, value_stride)
    alignas(64) float total[kMaxAccumulators];
    alignas(64) float key[kMaxHeadDim];
    Softmax segment_softmax[kMaxQueries], total_softmax[kMaxQueries];
    float correction[kMaxQueries];
    int visible[kMaxQueries];  // keys of the page that the query sees; none if not positive
    const float* query[kMaxQueries];
};
static_assert(sizeof(AttendScratch) <= kScratchBytes);

constexpr float kNegativeInfinity = -__builtin_inff();

// ---- rotation and storing

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

template <bool Half>
VERB int64_t head_bytes(const CacheLayer& c) {
    return kPageTokens * (c.head_dim + c.value_stride) * (Half ? 2 : 4);
}

template <bool Half>
VERB uint8_t* page_at(const Attention& a, int64_t token, int64_t page, int64_t kv_head) {
    return a.cache.data + (a.tables[token][page] * a.cache.num_kv_heads + kv_head) * head_bytes<Half>(a.cache);
}

template <bool Half>
VERB void put(uint8_t* base, int64_t i, float x) {
    if constexpr (Half) reinterpret_cast<uint16_t*>(base)[i] = float_to_half(x);
    else reinterpret_cast<float*>(base)[i] = x;
}

template <bool Half>
static void store_token(const Attention& a, int64_t t, float* key) {
    const CacheLayer& c = a.cache;
    const int64_t half = a.rotary / 2, slot = a.positions[t] % kPageTokens;
    for (int64_t head = 0; head < c.num_kv_heads; ++head) {
        const int64_t from = (t * c.num_kv_heads + head) * c.head_dim;
        uint8_t* keys = page_at<Half>(a, t, a.positions[t] / kPageTokens, head);
        uint8_t* values = keys + kPageTokens * c.head_dim * (Half ? 2 : 4);
        rotate_head(a, a.k + from, key, a.cosines + t * half, a.sines + t * half);
        for (int64_t d = 0; d < c.head_dim; ++d) put<Half>(keys, d * kPageTokens + slot, key[d]);
        for (int64_t d = 0; d < c.head_dim; ++d) put<Half>(values, slot * c.value_stride + d, a.v[from + d]);
        for (int64_t d = c.head_dim; d < c.value_stride; ++d) put<Half>(values, slot * c.value_stride + d, 0.0f);
    }
}

static void rotate_and_store(const Attention& a, int64_t begin, int64_t end, void* scratch) {
    AttendScratch& s = *static_cast<AttendScratch*>(scratch);
    const int64_t half = a.rotary / 2, width = a.num_heads * a.cache.head_dim;
    for (int64_t t = begin; t < end; ++t) {
        for (int64_t at = t * width; at < (t + 1) * width; at += a.cache.head_dim)
            rotate_head(a, a.q + at, a.rotated + at, a.cosines + t * half, a.sines + t * half);
        if (a.cache.is_half) store_token<true>(a, t, s.key);
        else store_token<false>(a, t, s.key);
    }
}

// ---- one page

template <bool Half>
VERB F load_cached(const uint8_t* base, int64_t i) {
    if constexpr (Half) return load_half(reinterpret_cast<const uint16_t*>(base) + i);
    else return load(reinterpret_cast<const float*>(base) + i);
}

// Scores of 32 keys for the queries from `i` on, N at a time. Slots that are not yet written are computed with; `soften` drops them.
template <bool Half, int N>
VERB void score(const Attention& a, const uint8_t* keys, int i, int count, AttendScratch& s) {
    for (; i + N <= count; i += N) {
        F acc[N][2];
        for (int q = 0; q < N; ++q) acc[q][0] = acc[q][1] = set1(0.0f);
        for (int64_t d = 0; d < a.cache.head_dim; ++d) {
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
    correction = exp1(softmax.highest - now);
    softmax = {now, fused1(softmax.sum, correction, sum(add(weight, other)))};
    store(scores, weight);
    store(scores + kLanes, other);
}

// acc = acc * correction + weights * values for the queries from `i` on, N at a time, which all see `visible` keys.
template <bool Half, int N>
VERB void add_values(const CacheLayer& c, const uint8_t* values, int visible, int i, int count, AttendScratch& s) {
    for (; i + N <= count; i += N) {
        for (int64_t d = 0; d < c.value_stride; d += kLanes) {
            F acc[N];
            for (int q = 0; q < N; ++q) acc[q] = mul(load(s.segment + (i + q) * c.value_stride + d), set1(s.correction[i + q]));
            for (int j = 0; j < visible; ++j) {
                const F value = load_cached<Half>(values, j * c.value_stride + d);
                for (int q = 0; q < N; ++q) acc[q] = fused(set1(s.scores[i + q][j]), value, acc[q]);
            }
            for (int q = 0; q < N; ++q) store(s.segment + (i + q) * c.value_stride + d, acc[q]);
        }
    }
    if constexpr (N > 1) add_values<Half, N / 2>(c, values, visible, i, count, s);
}

template <bool Half>
static void attend_page(const Attention& a, const AttendItem& item, int64_t page, AttendScratch& s) {
    const int count = item.tokens * item.heads;
    bool alike = true;
    for (int q = 0; q < count; ++q) {
        const int64_t seen = a.positions[item.token + q / item.heads] - page * kPageTokens + 1;
        s.visible[q] = seen < kPageTokens ? static_cast<int>(seen) : kPageTokens;
        alike = alike && s.visible[q] == s.visible[0];
    }
    const uint8_t* keys = page_at<Half>(a, item.token, page, item.head / (a.num_heads / a.cache.num_kv_heads));
    const uint8_t* values = keys + kPageTokens * a.cache.head_dim * (Half ? 2 : 4);
    score<Half, kQueries>(a, keys, 0, count, s);
    for (int q = 0; q < count; ++q)
        if (s.visible[q] > 0) soften(s.scores[q], s.visible[q], s.segment_softmax[q], s.correction[q]);
    if (alike) return add_values<Half, kQueries>(a.cache, values, s.visible[0], 0, count, s);
    for (int q = 0; q < count; ++q)
        if (s.visible[q] > 0) add_values<Half, 1>(a.cache, values, s.visible[q], q, q + 1, s);
}

// ---- segments

VERB int64_t last_page(const Attention& a, const AttendItem& item) { return a.positions[item.token + item.tokens - 1] / kPageTokens; }

VERB int64_t num_segments(const Attention& a, const AttendItem& item, int query) {
    return a.positions[item.token + query / item.heads] / (kPageTokens * kSegmentPages) + 1;
}

static void attend_segment(const Attention& a, const AttendItem& item, int64_t segment, AttendScratch& s) {
    const int count = item.tokens * item.heads;
    memset(s.segment, 0, static_cast<size_t>(count * a.cache.value_stride) * sizeof(float));
    for (int q = 0; q < count; ++q) s.segment_softmax[q] = {kNegativeInfinity, 0.0f};
    const int64_t last = last_page(a, item), begin = segment * kSegmentPages;
    const int64_t end = begin + kSegmentPages <= last ? begin + kSegmentPages : last + 1;
    for (int64_t page = begin; page < end; ++page) {
        if (a.cache.is_half) attend_page<true>(a, item, page, s);
        else attend_page<false>(a, item, page, s);
    }
}

// Add a later segment to an earlier one.
VERB void merge_into(Softmax& total, float* acc, const Softmax& segment, const float* other, int64_t n) {
    const float now = total.highest > segment.highest ? total.highest : segment.highest;
    const float mine = exp1(total.highest - now), its = exp1(segment.highest - now);
    total = {now, fused1(total.sum, mine, segment.sum * its)};
    for (int64_t d = 0; d < n; d += kLanes) store(acc + d, fused(load(acc + d), set1(mine), mul(load(other + d), set1(its))));
}

VERB void write_query(const Attention& a, const AttendItem& item, int query, const float* acc, float total) {
    const int64_t dim = a.cache.head_dim, token = item.token + query / item.heads, head = item.head + query % item.heads;
    float* out = a.out + (token * a.num_heads + head) * dim;
    for (int64_t d = 0; d < dim; d += kLanes)
        store_first(out + d, div(load(acc + d), set1(total)), static_cast<int>(dim - d < kLanes ? dim - d : kLanes));
}

static void write_partial(const Attention& a, const AttendItem& item, const AttendScratch& s) {
    const int64_t stride = a.cache.value_stride;
    for (int q = 0; q < item.tokens * item.heads; ++q) {
        float* at = item.partial + q * (2 + stride);
        at[0] = s.segment_softmax[q].highest;
        at[1] = s.segment_softmax[q].sum;
        memcpy(at + 2, s.segment + q * stride, static_cast<size_t>(stride) * sizeof(float));
    }
}

static void attend(const Attention& a, const AttendItem& item, void* scratch) {
    AttendScratch& s = *static_cast<AttendScratch*>(scratch);
    const int count = item.tokens * item.heads;
    const int64_t stride = a.cache.value_stride;
    for (int q = 0; q < count; ++q)
        s.query[q] = a.rotated + ((item.token + q / item.heads) * a.num_heads + item.head + q % item.heads) * a.cache.head_dim;
    if (item.partial) {
        attend_segment(a, item, item.segment, s);
        return write_partial(a, item, s);
    }
    for (int64_t segment = 0; segment < item.segments; ++segment) {
        attend_segment(a, item, segment, s);
        for (int q = 0; q < count; ++q) {
            if (segment >= num_segments(a, item, q)) continue;
            float *total = s.total + q * stride, *part = s.segment + q * stride;
            if (segment > 0) {
                merge_into(s.total_softmax[q], total, s.segment_softmax[q], part, stride);
                continue;
            }
            s.total_softmax[q] = s.segment_softmax[q];
            memcpy(total, part, static_cast<size_t>(stride) * sizeof(float));
        }
    }
    for (int q = 0; q < count; ++q) write_query(a, item, q, s.total + q * stride, s.total_softmax[q].sum);
}

static void merge(const Attention& a, const AttendItem& item, int64_t count, int64_t stride, void*) {
    for (int q = 0; q < item.tokens * item.heads; ++q) {
        float* first = item.partial + q * (2 + a.cache.value_stride);
        Softmax total = {first[0], first[1]};
        for (int64_t segment = 1; segment < count && segment < num_segments(a, item, q); ++segment) {
            const float* other = first + segment * stride;
            merge_into(total, first + 2, {other[0], other[1]}, other + 2, a.cache.value_stride);
        }
        write_query(a, item, q, first + 2, total.sum);
    }
}

}  // namespace camelid::CAMELID_ISA
