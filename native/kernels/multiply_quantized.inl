// The product with quantized weights, for any number of tokens. A slice of 16 rows is taken apart once and met by all tokens: by one while
// its codes are in registers, by more as a panel in the nearest cache. Both add in the same order, so they give the same bits.

namespace camelid::CAMELID_ISA {

constexpr int kTileRows = 16 * kRowVectors;
constexpr int kPanelTokens = 256;  // tokens whose float sums are kept: with 32 rows, 32 KB

// A slice of 16 rows. kRowVectors of them are a tile.
struct Panel {
    alignas(64) Codes codes[kQuads];
    alignas(64) float scales[16][16];
    alignas(64) float minimums[16][16];
};

struct PanelScratch {
    Panel panels[kRowVectors];
    alignas(64) float sums[kPanelTokens * kTileRows];
    alignas(64) uint8_t copy[16 * kMaxSliceBytes];
};

template <class Type, class From>
static __attribute__((noinline)) void fill_panel(const From& rows, Panel& panel) {
    rows.fetch_first();
    Type::codes(rows, [&](int quad, B codes) __attribute__((always_inline)) {
        rows.fetch_ahead(quad);
        store_codes(panel.codes[quad], codes);
    });
    F scales[16], minimums[16];
    Type::scales(rows, scales, minimums);
    UNROLL
    for (int j = 0; j < 256 / Type::kSub; ++j) {
        store(panel.scales[j], scales[j]);
        if constexpr (Type::kHasMinimum) store(panel.minimums[j], minimums[j]);
    }
}

// How codes are met: all that a type leaves to be known once its slices are a panel.
template <int Most, int RestShift, int Sub, bool Minimum>
struct Meeting {
    static constexpr int kMost = Most, kRest = RestShift, kSub = Sub, kGroup = kProducts<Most> < Sub / 4 ? kProducts<Most> : Sub / 4;
    static constexpr bool kHasMinimum = Minimum;
};

template <class Type>
using MeetingOf = Meeting<Type::kMost <= 15 ? 15 : Type::kMost, kRestShift<Type>, Type::kSub, Type::kHasMinimum>;

// The integer sums of sub-block j, for `Tokens` slices of activations that follow each other.
template <class How, int Tokens>
VERB void dot_sub_block(const Panel* panels, const Slice* x, int j, I (*total)[kRowVectors]) {
#pragma GCC unroll 4
    for (int group = 0; group < How::kSub / 4 / How::kGroup; ++group) {
        P part[Tokens][kRowVectors];
#pragma GCC unroll 8
        for (int i = 0; i < How::kGroup; ++i) {
            const int quad = How::kSub / 4 * j + How::kGroup * group + i;
            W<How::kMost> w[kRowVectors];
            for (int v = 0; v < kRowVectors; ++v) w[v] = prepare<How::kMost>(load_bytes(panels[v].codes[quad]));
#pragma GCC unroll 8
            for (int t = 0; t < Tokens; ++t) {
                const B four = broadcast_quad(x[t].codes + 4 * quad);
                for (int v = 0; v < kRowVectors; ++v) part[t][v] = i == 0 ? products<How::kMost>(w[v], four) : add_products<How::kMost>(part[t][v], w[v], four);
            }
        }
#pragma GCC unroll 8
        for (int t = 0; t < Tokens; ++t)
            for (int v = 0; v < kRowVectors; ++v) total[t][v] = group == 0 ? widened(part[t][v]) : add_i(total[t][v], widened(part[t][v]));
    }
}

template <class How>
VERB I without_offset(I total, const Slice& x, int j) {
    if constexpr (How::kRest == kNoOffset) return total;
    else return sub_i(total, set1_i((How::kSub == 32 ? x.sums[j] : x.sums16[j]) * (1 << How::kRest)));
}

template <class How>
VERB F low(const Slice& x, int j) {
    if constexpr (How::kSub == 32) return set1(x.lows[j]);
    else return set1(x.scales[j / 2] * static_cast<float>(x.sums16[j]));
}

template <class How, int Tokens>
static void multiply_slice(const Panel* panels, const Slice* x, float* sums) {
    for (int j = 0; j < 256 / How::kSub; ++j) {
        I total[Tokens][kRowVectors];
        dot_sub_block<How, Tokens>(panels, x, j, total);
#pragma GCC unroll 8
        for (int t = 0; t < Tokens; ++t) {
            const F scale = set1(x[t].scales[How::kSub * j / 32]);
            for (int v = 0; v < kRowVectors; ++v) {
                const F dots = to_float(without_offset<How>(total[t][v], x[t], j));
                F sum = fused(mul(load(panels[v].scales[j]), scale), dots, load(sums + kTileRows * t + 16 * v));
                if constexpr (How::kHasMinimum) sum = fused(load(panels[v].minimums[j]), low<How>(x[t], j), sum);
                store(sums + kTileRows * t + 16 * v, sum);
            }
        }
    }
}

// The last tokens, fewer than kTokens.
template <class How, int Tokens = kTokens - 1>
static void multiply_rest(const Panel* panels, const Slice* x, int64_t count, float* sums) {
    if constexpr (Tokens > 0) {
        if (count == Tokens) return multiply_slice<How, Tokens>(panels, x, sums);
        multiply_rest<How, Tokens - 1>(panels, x, count, sums);
    }
}

template <class How>
static void multiply_tokens(const Panel* panels, const Slice* x, int64_t count, float* sums) {
    int64_t token = 0;
    for (; token + kTokens <= count; token += kTokens) multiply_slice<How, kTokens>(panels, x + token, sums + kTileRows * token);
    multiply_rest<How>(panels, x + token, count - token, sums + kTileRows * token);
}

// Write the sums of `count` tokens from `base` on, `stride` floats apart, for 16 rows or what is left of them.
VERB void write_sums(const Product& p, int64_t row, int64_t end, int64_t base, int64_t count, const float* sums, int stride) {
    const int rows = static_cast<int>(end - row < 16 ? end - row : 16);
    for (int64_t t = 0; t < count; ++t) {
        F y = load(sums + stride * t);
        if (p.bias) y = add(y, load_first(p.bias + row, rows));
        store_first(p.out + (base + t) * p.weight.rows + row, y, rows);
    }
}

// Call `use` with the slice of 16 rows from `row` on. While it is read, the one that comes next is fetched: that of the same rows, or at
// the end of them `next`.
template <class Type, class Use>
VERB void with_slice(const Product& p, int64_t row, int64_t end, int64_t slice, const uint8_t* next, uint8_t* copy, Use use) {
    const uint8_t* rows = p.weight.data + row * p.weight.row_bytes;
    if (p.weight.turned_from(row)) return use(Turned<Type>{rows + 16 * slice * kSliceBytes<Type>});
    const int64_t columns = p.weight.columns - 256 * slice;
    const uint8_t* at = rows + slice * kSliceBytes<Type>;
    use(whole<Type>(Rows(at, p.weight.row_bytes, columns > 256 ? at + kSliceBytes<Type> : next), static_cast<int>(end - row), columns, copy));
}

template <class Type>
static void multiply_tile(const Product& p, int64_t row, int64_t end, int64_t base, int64_t count, const uint8_t* ahead, PanelScratch& s) {
    memset(s.sums, 0, static_cast<size_t>(count) * sizeof(float) * kTileRows);
    for (int64_t slice = 0; 256 * slice < p.weight.columns; ++slice) {
        for (int v = 0; v < kRowVectors && row + 16 * v < end; ++v)
            with_slice<Type>(p, row + 16 * v, end, slice, ahead + 16 * v * p.weight.row_bytes, s.copy, [&](const auto& rows) { fill_panel<Type>(rows, s.panels[v]); });
        multiply_tokens<MeetingOf<Type>>(s.panels, p.activations.slices + slice * p.tokens + base, count, s.sums);
    }
    for (int v = 0; v < kRowVectors && row + 16 * v < end; ++v) write_sums(p, row + 16 * v, end, base, count, s.sums + 16 * v, kTileRows);
}

// ---- one token

// The integer sums of the sub-blocks whose quads alternate, and the float sum that they go into once they are whole.
template <class Type>
struct Meet {
    using How = MeetingOf<Type>;
    static constexpr int kQuadsApiece = How::kSub / 4, kSubBlocks = Type::kTogether / kQuadsApiece;
    const Slice& x;
    const F* scales;
    const F* minimums;
    F sum;
    int met = 0;
    P part[kSubBlocks];
    I total[kSubBlocks];

    INLINE void add(int quad, const W<How::kMost>& w) {
        const int j = quad / kQuadsApiece % kSubBlocks, at = quad % kQuadsApiece;
        const B four = broadcast_quad(x.codes + 4 * quad);
        part[j] = at % How::kGroup == 0 ? products<How::kMost>(w, four) : add_products<How::kMost>(part[j], w, four);
        if (at % How::kGroup == How::kGroup - 1) total[j] = at == How::kGroup - 1 ? widened(part[j]) : add_i(total[j], widened(part[j]));
        if (++met % Type::kTogether == 0) add_sub_blocks(met / kQuadsApiece - kSubBlocks);
    }
    INLINE void add_sub_blocks(int first) {
        UNROLL
        for (int k = 0; k < kSubBlocks; ++k) {
            const int j = first + k;
            sum = fused(mul(scales[j], set1(x.scales[How::kSub * j / 32])), to_float(without_offset<How>(total[k], x, j)), sum);
            if constexpr (How::kHasMinimum) sum = fused(minimums[j], low<How>(x, j), sum);
        }
    }
};

template <class Type, class From>
static __attribute__((noinline)) void meet_slice(const From& rows, const Slice& x, float* sums) {
    F scales[16], minimums[16];
    rows.fetch_first();
    Type::scales(rows, scales, minimums);
    Meet<Type> meet{x, scales, minimums, load(sums), 0, {}, {}};
    Type::codes(rows, [&](int quad, B codes) __attribute__((always_inline)) {
        rows.fetch_ahead(quad);
        meet.add(quad, prepare<MeetingOf<Type>::kMost>(codes));
    });
    store(sums, meet.sum);
}

template <class Type>
static void multiply_one(const Product& p, int64_t begin, int64_t end, const uint8_t* ahead, PanelScratch& s) {
    for (int64_t row = begin; row < end; row += 16) {
        const uint8_t* next = row + 16 < end ? p.weight.data + (row + 16) * p.weight.row_bytes : ahead;
        memset(s.sums, 0, sizeof(float) * 16);
        for (int64_t slice = 0; 256 * slice < p.weight.columns; ++slice)
            with_slice<Type>(p, row, end, slice, next, s.copy, [&](const auto& rows) { meet_slice<Type>(rows, p.activations.slices[slice], s.sums); });
        write_sums(p, row, end, 0, 1, s.sums, 16);
    }
}

// The types of most files. Others go by the panel for one token, too: each more costs seconds of compiling.
template <class Type>
constexpr bool kIsCommon = Type::kType == Block::Q4_K || Type::kType == Block::Q5_K || Type::kType == Block::Q6_K || Type::kType == Block::Q8_0 || Type::kType == Block::Q4_0;

template <class Type>
static void multiply_quantized(const Product& p, int64_t begin, int64_t end, const uint8_t* ahead, void* scratch) {
    if constexpr (kIsCommon<Type>)
        if (p.tokens == 1) return multiply_one<Type>(p, begin, end, ahead, *static_cast<PanelScratch*>(scratch));
    for (int64_t base = 0; base < p.tokens; base += kPanelTokens) {
        const int64_t count = p.tokens - base < kPanelTokens ? p.tokens - base : kPanelTokens;
        for (int64_t row = begin; row < end; row += kTileRows) {
            const uint8_t* next = row + kTileRows < end ? p.weight.data + (row + kTileRows) * p.weight.row_bytes : ahead;
            multiply_tile<Type>(p, row, end, base, count, next, *static_cast<PanelScratch*>(scratch));
        }
    }
}

}  // namespace camelid::CAMELID_ISA
