// The product with F32, F16 and BF16 weights, in float32. See ops.h for the order of the sums.

namespace camelid::CAMELID_ISA {

template <Block Type>
VERB F load_weights(const uint8_t* row, int64_t k) {
    if constexpr (Type == Block::F32) return load(reinterpret_cast<const float*>(row) + k);
    else if constexpr (Type == Block::F16) return load_half(reinterpret_cast<const uint16_t*>(row) + k);
    else return load_bf16(reinterpret_cast<const uint16_t*>(row) + k);
}

// The last `n` < 16 weights of a row, padded with zeros.
template <Block Type>
VERB F load_last_weights(const uint8_t* row, int64_t k, int n) {
    constexpr int bytes = block_shape(static_cast<int>(Type)).bytes;
    alignas(64) uint8_t padded[64] = {};
    memcpy(padded, row + k * bytes, static_cast<size_t>(n * bytes));
    return load_weights<Type>(padded, 0);
}

template <Block Type, int Rows, int Tokens>
static void multiply_float_tile(const Product& p, int64_t row, int64_t end, int64_t token) {
    const int64_t columns = p.weight.columns, whole = columns / kLanes * kLanes;
    const int rest = static_cast<int>(columns - whole);
    const uint8_t* w[Rows];
    for (int r = 0; r < Rows; ++r) w[r] = p.weight.data + (row + r < end ? row + r : end - 1) * p.weight.row_bytes;
    const float* x = p.x + token * columns;
    F acc[Rows][Tokens];
    for (int r = 0; r < Rows; ++r)
        for (int t = 0; t < Tokens; ++t) acc[r][t] = set1(0.0f);
    for (int64_t k = 0; k < whole; k += kLanes) {
        F value[Rows];
        for (int r = 0; r < Rows; ++r) value[r] = load_weights<Type>(w[r], k);
        for (int t = 0; t < Tokens; ++t) {
            const F other = load(x + t * columns + k);
            for (int r = 0; r < Rows; ++r) acc[r][t] = fused(value[r], other, acc[r][t]);
        }
    }
    if (rest) {
        for (int r = 0; r < Rows; ++r) {
            const F value = load_last_weights<Type>(w[r], whole, rest);
            for (int t = 0; t < Tokens; ++t) acc[r][t] = fused(value, load_first(x + t * columns + whole, rest), acc[r][t]);
        }
    }
    for (int r = 0; r < Rows && row + r < end; ++r)
        for (int t = 0; t < Tokens; ++t) {
            const float y = sum(acc[r][t]);
            p.out[(token + t) * p.weight.rows + row + r] = p.bias ? y + p.bias[row + r] : y;
        }
}

template <Block Type>
static void multiply_float(const Product& p, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row += kFloatRows) {
        int64_t token = 0;
        for (; token + kFloatTokens <= p.tokens; token += kFloatTokens) multiply_float_tile<Type, kFloatRows, kFloatTokens>(p, row, end, token);
        if constexpr (kFloatTokens > 1)
            for (; token < p.tokens; ++token) multiply_float_tile<Type, kFloatRows, 1>(p, row, end, token);
    }
}

}  // namespace camelid::CAMELID_ISA
