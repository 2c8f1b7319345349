// The verbs that kernels are written in, for the instruction set that the including file was compiled for.
//
// Values: F, 16 floats; I, 16 int32; B, 64 bytes (uint8 codes, int8 activations, or int16 pairs). An instruction set with narrower
// registers holds them in several. Every verb gives the same bits everywhere.
//
// Everything lives in the namespace CAMELID_ISA and no standard header with templates is included: a template compiled here with wide
// instructions could be the copy that the linker keeps for everybody.
//
//   floats    load load_first store store_first set1 add sub mul div fused minimum maximum load_half load_bf16 half_to_float float_to_half
//             sum (the canonical tree) highest keep_first zero_below fused1 exponent_bits (2^n)
//   integers  zero_i set1_i load_i store_i add_i sub_i shift_left min_i max_i abs_bits to_int (nearest even) to_float store_bytes
//   dots      load_bytes broadcast_quad
//             dot<Max>(acc, w, x)           acc += four products per lane; w uint8 <= Max, x int8 within +-127
//             dot_scaled<Max>(acc, w, x, s) the same times s: int16, one for every two bytes; s within +-128
//             dot_pairs(acc, a, b)          acc += two int16 products per lane
//             dot_sixteen(a, b)             16 int16 products, summed in pairs into lanes 0-7, the rest 0
//             spread(s)                     four int16 scales, each for 16 bytes
//   layouts   group_sums(v[8])  lane i: sum of lanes 0-7 of v[i]; lane 8 + i: sum of lanes 8-15 of v[i]
//             interleave(v)     lane 2i: lane i, lane 2i + 1: lane 8 + i
//             add_halves(v)     lane i: lane i + lane i + 8, for i < 8; the rest is anything
//             transpose(in, stride, out)  16 rows of 16 int32 into 16 columns of 16
//             look_up(codes, n, table)    codes[i] = table[codes[i]], a table of 16; n a multiple of 32
#pragma once

#include <cstdint>
#include <cstring>

#define VERB static inline __attribute__((always_inline))

#if defined(CAMELID_PORTABLE)
#include "simd/portable.inl"
#elif defined(__AVX512F__)
#include "simd/avx512.inl"
#elif defined(__AVX2__)
#include "simd/avx2.inl"
#else
#error "no verbs for this instruction set"
#endif
