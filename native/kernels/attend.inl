// Paged attention: pages of either kind, segments of pages, and merging segments. See ops.h for the order of the sums.

namespace camelid::CAMELID_ISA {

template <bool Half>
static void attend_floats(const Attention& a, const uint8_t* block, int count, bool alike, AttendScratch& s) {
    const uint8_t* values = block + a.cache.values_at;
    score<Half, kQueries>(a, block, 0, count, s);
    for (int q = 0; q < count; ++q)
        if (s.visible[q] > 0) soften(s.scores[q], s.visible[q], s.segment_softmax[q], s.correction[q]);
    if (alike) return add_values<Half, kQueries>(a.cache, values, s.visible[0], 0, count, s);
    for (int q = 0; q < count; ++q)
        if (s.visible[q] > 0) add_values<Half, 1>(a.cache, values, s.visible[q], q, q + 1, s);
}

static void attend_codes(const Attention& a, const uint8_t* block, int count, AttendScratch& s) {
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(block + a.cache.scales_at) + kPageTokens;
    int first = count;  // queries are in the order of their tokens: the first ones may see nothing of the page
    score_codes<kQueries>(a, block, 0, count, s);
    for (int q = count - 1; q >= 0 && s.visible[q] > 0; first = q--) {
        soften(s.scores[q], s.visible[q], s.segment_softmax[q], s.correction[q]);
        code_weights(scales, s.visible[q], s.scores[q], s.weight_codes[q], s.weight_steps[q]);
    }
    add_coded_values<kQueries>(a.cache, block, s.visible[count - 1], first, count, s);
}

VERB const uint8_t* block_of(const Attention& a, const AttendItem& item, int64_t page) {
    return block_at(a, item.token, page, item.head / (a.num_heads / a.cache.num_kv_heads));
}

// Attend to a page while the one that comes next is fetched.
static void attend_page(const Attention& a, const AttendItem& item, int64_t page, int64_t next, AttendScratch& s) {
    const int count = item.tokens * item.heads;
    bool alike = true;
    for (int q = 0; q < count; ++q) {
        const int64_t seen = a.positions[item.token + q / item.heads] - page * kPageTokens + 1;
        s.visible[q] = seen < kPageTokens ? static_cast<int>(seen) : kPageTokens;
        alike = alike && s.visible[q] == s.visible[0];
    }
    const uint8_t* block = block_of(a, item, page);
    s.ahead = block_of(a, item, next) - block;
    fetch_ahead<128>(block + a.cache.scales_at, s);
    if (a.cache.bits == 8) attend_codes(a, block, count, s);
    else if (a.cache.bits == 16) attend_floats<true>(a, block, count, alike, s);
    else attend_floats<false>(a, block, count, alike, s);
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
    for (int64_t page = begin; page < end; ++page) attend_page(a, item, page, page < last ? page + 1 : page, s);
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
    if (a.cache.bits == 8) code_queries(a, count, s);
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
