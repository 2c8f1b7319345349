// Rows of an embedding table as float32, with the same bits as formats/blocks.py's `decode`: each product and difference is rounded.

namespace camelid::CAMELID_ISA {

template <Block Type>
static void decode_float_row(const uint8_t* row, int64_t columns, float* out) {
    int64_t k = 0;
    for (; k + kLanes <= columns; k += kLanes) store(out + k, load_weights<Type>(row, k));
    const int rest = static_cast<int>(columns - k);
    if (rest) store_first(out + k, load_last_weights<Type>(row, k, rest), rest);
}

VERB void decode_sixteen(const uint8_t* codes, float scale, float offset, float minimum, bool has_minimum, float* out) {
    for (int i = 0; i < 16; ++i) {
        const float value = scale * (static_cast<float>(codes[i]) - offset);
        out[i] = has_minimum ? value - minimum : value;
    }
}

static void decode_quantized_row(const Layout& layout, const uint8_t* row, int64_t columns, float* out) {
    alignas(64) uint8_t codes[256];
    int16_t scales[32];
    float d, m = 0.0f;
    for (int i = 0; i < 32; ++i) scales[i] = 1;  // and so they stay for 32-weight blocks
    const float offset = layout.offset_shift < 0 ? 0.0f : static_cast<float>(1 << layout.offset_shift);
    for (int64_t block = 0; block < columns / layout.weights; ++block) {
        layout.unpack(row + block * layout.bytes, 1, {codes, scales, &d, &m});
        float* at = out + block * layout.weights;
        for (int i = 0; i < layout.weights / 16; ++i)
            decode_sixteen(codes + 16 * i, d * static_cast<float>(scales[i]), offset, -m * static_cast<float>(scales[16 + i]), layout.has_minimum, at + 16 * i);
    }
}

static void embed(const Matrix& table, const int32_t* ids, float* out, int64_t begin, int64_t end, void*) {
    for (int64_t i = begin; i < end; ++i) {
        const uint8_t* row = table.data + ids[i] * table.row_bytes;
        float* at = out + i * table.columns;
        switch (table.type) {
            case Block::F32: decode_float_row<Block::F32>(row, table.columns, at); break;
            case Block::F16: decode_float_row<Block::F16>(row, table.columns, at); break;
            case Block::BF16: decode_float_row<Block::BF16>(row, table.columns, at); break;
            default: decode_quantized_row(layout_of(table.type), row, table.columns, at);
        }
    }
}

}  // namespace camelid::CAMELID_ISA
