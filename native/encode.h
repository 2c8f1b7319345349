// Weights into blocks: what makes a quantized model. No part of running one, so it has a table of its own.
#pragma once

#include "ops.h"

namespace camelid {

constexpr bool is_float_type(Block type) { return type == Block::F32 || type == Block::F16 || type == Block::BF16; }
constexpr bool is_encodable(Block type) {
    return is_float_type(type) || type == Block::Q8_0 || type == Block::Q4_0 || type == Block::Q4_K || type == Block::Q5_K || type == Block::Q6_K;
}

// Encode `count` weights of a float type, whole blocks, into blocks of an encodable one, with the bytes of formats/block_encoders.py.
// False, with `out` half written, for a weight that `to` cannot hold. `scratch` is kScratchBytes, aligned to 64.
using Encode = bool (*)(Block from, const uint8_t* weights, Block to, uint8_t* out, int64_t count, void* scratch);

// One for each instruction set; VNNI adds nothing to AVX-512 here.
extern const Encode encode_portable, encode_avx2, encode_avx512;

}  // namespace camelid
