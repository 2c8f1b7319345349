// The verbs that kernels are written in, for the instruction set that the including file was compiled for.
//
// Values: F, 16 floats; I, 16 int32; B, 64 bytes (uint8 codes, int8 activations, or int16 pairs). An instruction set with narrower
// registers holds them in several. Every verb gives the same bits everywhere.
//
// Everything lives in the namespace CAMELID_ISA and no standard header with templates is included: a template compiled here with wide
// instructions could be the copy that the linker keeps for everybody.
//
//   floats    load load_first store store_first set1 add sub mul div fused minimum maximum load_half load_bf16 half_to_float float_to_half
//             sum (the canonical tree) highest keep_first join (lanes 0-7 of both) zero_below fused1 exponent_bits (2^n)
//   integers  zero_i set1_i load_i store_i add_i sub_i shift_left min_i max_i abs_bits to_int (nearest even) to_float store_bytes
//   dots      load_bytes broadcast_quad
//             dot<Max>(acc, w, x)           acc += four products per lane; w uint8 <= Max (63 or 255), x int8 within +-127
//             dot_scaled<Max>(acc, w, x, s) the same times s: int16, one for every two bytes; s within +-128
//             With kSignedWide, both take w - 128 for w where Max is 255; dot_scaled then excludes w = 0.
//             dot_pairs(acc, a, b)          acc += two int16 products per lane
//             dot_sixteen(a, b)             16 int16 products, summed in pairs into lanes 0-7, the rest 0
//             spread(s)                     four int16 scales, each for 16 bytes
//   layouts   group_sums(v[8])  lane i: sum of lanes 0-7 of v[i]; lane 8 + i: sum of lanes 8-15 of v[i]
//             interleave(v)     lane 2i: lane i, lane 2i + 1: lane 8 + i
//             add_halves(v)     lane i: lane i + lane i + 8, for i < 8; the rest is anything
//             transpose(in, stride, out)  16 rows of 16 int32 into 16 columns of 16
//   codes     64 of them, from the bytes of a block
//             fields(p, low, high, mask)  32 bytes >> low & mask, then the same 32 bytes >> high & mask
//             nibbles_64(p, shift)        64 bytes >> shift & 15
//             nibbles_16(p, q)            16 bytes' low halves, their high halves, then the same of q
//             load_halves(p, q)           32 bytes each
//             fifth_bits(p, q)            32 bits each, 16 where one is set
//             or_bytes flip_signs (^ 0x80) times_power(a, n) (small codes << n) look_up(codes, table of 16, aligned to 16)
//             store_codes store_first_codes (the first 32)
//             six_bit_scales(p, out)      12 bytes (16 are read) to eight scales and eight minimums, int16, each twice
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
