// What adapters add to a product, in float32. See ops.h for the order of the sums.

namespace camelid::CAMELID_ISA {

constexpr int kPanelVectors = kPanelColumns / kLanes;

template <Block Type, int Rows, int Tokens>
static void low_rank_down_tile(const Addition& a, int64_t row, int64_t end, int64_t token) {
    const int64_t columns = a.down.columns, whole = columns / kLanes * kLanes;
    const int rest = static_cast<int>(columns - whole);
    const uint8_t* w[Rows];
    for (int r = 0; r < Rows; ++r) w[r] = a.down.data + (row + r < end ? row + r : end - 1) * a.down.row_bytes;
    const float* x[Tokens];
    for (int t = 0; t < Tokens; ++t) x[t] = a.x + a.rows[token + t] * columns;
    F acc[Rows][Tokens];
    for (int r = 0; r < Rows; ++r)
        for (int t = 0; t < Tokens; ++t) acc[r][t] = set1(0.0f);
    for (int64_t k = 0; k < whole; k += kLanes) {
        F value[Rows];
        for (int r = 0; r < Rows; ++r) value[r] = load_weights<Type>(w[r], k);
        for (int t = 0; t < Tokens; ++t) {
            const F other = load(x[t] + k);
            for (int r = 0; r < Rows; ++r) acc[r][t] = fused(value[r], other, acc[r][t]);
        }
    }
    if (rest) {
        for (int r = 0; r < Rows; ++r) {
            const F value = load_last_weights<Type>(w[r], whole, rest);
            for (int t = 0; t < Tokens; ++t) acc[r][t] = fused(value, load_first(x[t] + whole, rest), acc[r][t]);
        }
    }
    for (int r = 0; r < Rows && row + r < end; ++r)
        for (int t = 0; t < Tokens; ++t) a.inner[(token + t) * a.down.rows + row + r] = a.scale * sum(acc[r][t]);
}

template <Block Type, int Tokens>
static void low_rank_up_tile(const Addition& a, int64_t panel, int64_t token) {
    const int64_t rank = a.down.rows, column = panel * kPanelColumns;
    const uint8_t* weights = a.up.data + panel * a.up.row_bytes;
    F acc[kPanelVectors][Tokens];
    for (int v = 0; v < kPanelVectors; ++v)
        for (int t = 0; t < Tokens; ++t) acc[v][t] = set1(0.0f);
    for (int64_t r = 0; r < rank; ++r)
        for (int v = 0; v < kPanelVectors; ++v) {
            const F value = load_weights<Type>(weights, r * kPanelColumns + v * kLanes);
            for (int t = 0; t < Tokens; ++t) acc[v][t] = fused(set1(a.inner[(token + t) * rank + r]), value, acc[v][t]);
        }
    for (int v = 0; v < kPanelVectors; ++v) {
        const int64_t left = a.columns - column - v * kLanes;
        const int n = left < kLanes ? static_cast<int>(left) : kLanes;
        if (n <= 0) return;
        for (int t = 0; t < Tokens; ++t) {
            float* out = a.out + a.rows[token + t] * a.columns + column + v * kLanes;
            store_first(out, add(load_first(out, n), acc[v][t]), n);
        }
    }
}

template <Block Type>
static void low_rank_down_typed(const Addition& a, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row += kFloatRows) {
        int64_t token = 0;
        for (; token + kFloatTokens <= a.tokens; token += kFloatTokens) low_rank_down_tile<Type, kFloatRows, kFloatTokens>(a, row, end, token);
        if constexpr (kFloatTokens > 1)
            for (; token < a.tokens; ++token) low_rank_down_tile<Type, kFloatRows, 1>(a, row, end, token);
    }
}

template <Block Type>
static void low_rank_up_typed(const Addition& a, int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
        int64_t token = 0;
        for (; token + kFloatTokens <= a.tokens; token += kFloatTokens) low_rank_up_tile<Type, kFloatTokens>(a, panel, token);
        if constexpr (kFloatTokens > 1)
            for (; token < a.tokens; ++token) low_rank_up_tile<Type, 1>(a, panel, token);
    }
}

static void low_rank_down(const Addition& a, int64_t begin, int64_t end) {
    switch (a.down.type) {
        case Block::F32: return low_rank_down_typed<Block::F32>(a, begin, end);
        case Block::F16: return low_rank_down_typed<Block::F16>(a, begin, end);
        default: return;  // bind.cpp lets no other type through
    }
}

static void low_rank_up(const Addition& a, int64_t begin, int64_t end) {
    switch (a.up.type) {
        case Block::F32: return low_rank_up_typed<Block::F32>(a, begin, end);
        case Block::F16: return low_rank_up_typed<Block::F16>(a, begin, end);
        default: return;
    }
}

}  // namespace camelid::CAMELID_ISA
