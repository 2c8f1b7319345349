// Bytes of a weight matrix side by side, sixteen rows at a time: ops.h, TURNED. Done once, so nothing here is fast or knows an instruction set.
#pragma once

#include "ops.h"

namespace camelid {

// Whether the matrix can lie turned: quantized, and every row whole slices.
bool can_turn(const Matrix& matrix);

// Write rows [begin, end) of a matrix as in the file into `out`, as many bytes; `begin` is a multiple of 16. Rows behind the last whole
// sixteen of the matrix stay as they are.
void turn(const Matrix& matrix, int64_t begin, int64_t end, uint8_t* out);

}  // namespace camelid
