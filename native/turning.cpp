#include "turning.h"

#include <cstring>

namespace camelid {
namespace {

// `bytes` at `at` of the slices of sixteen rows, together.
void gather(const uint8_t* rows, int64_t row_bytes, int at, int bytes, uint8_t* out) {
    for (int row = 0; row < 16; ++row) std::memcpy(out + row * bytes, rows + row * row_bytes + at, static_cast<size_t>(bytes));
}

void turn_slice(BlockShape shape, const uint8_t* rows, int64_t row_bytes, uint8_t* out) {
    const int blocks = 256 / shape.weights, head = 2 * shape.halves;
    for (int block = 0; block < blocks; ++block) {
        const int begin = block * shape.bytes, end = begin + shape.bytes;
        for (int at = begin; at < begin + head; at += 2) gather(rows, row_bytes, at, 2, out + turned_at(shape, at));
        for (int at = begin + head; at < end; at += 4) gather(rows, row_bytes, at, end - at < 4 ? end - at : 4, out + turned_at(shape, at));
    }
}

}  // namespace

bool can_turn(const Matrix& matrix) { return block_shape(static_cast<int>(matrix.type)).weights > 1 && matrix.columns % 256 == 0; }

void turn(const Matrix& matrix, int64_t begin, int64_t end, uint8_t* out) {
    const BlockShape shape = block_shape(static_cast<int>(matrix.type));
    const int64_t slices = matrix.columns / 256, slice_bytes = matrix.row_bytes / slices;
    for (int64_t row = begin; row < end; row += 16) {
        const uint8_t* rows = matrix.data + row * matrix.row_bytes;
        uint8_t* to = out + (row - begin) * matrix.row_bytes;
        if (row + 16 > matrix.rows) {
            std::memcpy(to, rows, static_cast<size_t>((end - row) * matrix.row_bytes));
            continue;
        }
        for (int64_t slice = 0; slice < slices; ++slice) turn_slice(shape, rows + slice * slice_bytes, matrix.row_bytes, to + 16 * slice * slice_bytes);
    }
}

}  // namespace camelid
