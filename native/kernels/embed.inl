// Rows of an embedding table as float32, with the same bits as formats/blocks.py's `decode`: each product and difference is rounded.

namespace camelid::CAMELID_ISA {

template <Block Type>
static void decode_float_row(const uint8_t* row, int64_t columns, float* out) {
    int64_t k = 0;
    for (; k + kLanes <= columns; k += kLanes) store(out + k, load_weights<Type>(row, k));
    const int rest = static_cast<int>(columns - k);
    if (rest) store_first(out + k, load_last_weights<Type>(row, k, rest), rest);
}

// One of sixteen rows.
template <class Type, class From>
static void decode_slice(const From& rows, int lane, int64_t columns, Panel& panel, float* out) {
    constexpr float offset = Type::kOffsetShift == kNoOffset ? 0.0f : static_cast<float>(1 << (Type::kOffsetShift & 7));
    fill_panel<Type>(rows, panel);
    for (int64_t i = 0; i < columns; ++i) {
        const int64_t j = i / Type::kSub;
        const float value = panel.scales[j][lane] * (static_cast<float>(panel.codes[i / 4][4 * lane + i % 4]) - offset);
        out[i] = Type::kHasMinimum ? value + panel.minimums[j][lane] : value;
    }
}

template <class Type>
static void decode_quantized_row(const Matrix& table, int64_t row, float* out, void* scratch) {
    PanelScratch& s = *static_cast<PanelScratch*>(scratch);
    for (int64_t k = 0; k < table.columns; k += 256) {
        const int64_t left = table.columns - k, count = left < 256 ? left : 256;
        const int lane = static_cast<int>(row % 16);
        if (table.turned_from(row - lane)) {
            const uint8_t* at = table.data + (row - lane) * table.row_bytes + k / 16 * kSliceBytes<Type>;
            decode_slice<Type>(Turned<Type>{at}, lane, count, s.panels[0], out + k);
        } else {
            const uint8_t* at = table.data + row * table.row_bytes + k / 256 * kSliceBytes<Type>;
            decode_slice<Type>(whole<Type>(Rows(at, 0, at), 16, left, s.copy), 0, count, s.panels[0], out + k);  // sixteen times the same row
        }
    }
}

static void decode_row(const Matrix& table, int64_t index, float* out, void* scratch) {
    const uint8_t* row = table.data + index * table.row_bytes;
    const int64_t columns = table.columns;
    switch (table.type) {
        case Block::F32: return decode_float_row<Block::F32>(row, columns, out);
        case Block::F16: return decode_float_row<Block::F16>(row, columns, out);
        case Block::BF16: return decode_float_row<Block::BF16>(row, columns, out);
        default: return visit_quantized(table.type, [&]<class Type>() { decode_quantized_row<Type>(table, index, out, scratch); });
    }
}

static void embed(const Matrix& table, const int32_t* ids, float* out, int64_t begin, int64_t end, void* scratch) {
    for (int64_t i = begin; i < end; ++i) decode_row(table, ids[i], out + i * table.columns, scratch);
}

}  // namespace camelid::CAMELID_ISA
