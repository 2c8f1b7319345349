// The verbs that kernels are written in, for the instruction set that the including file was compiled for.
//
// Values: F, 16 floats; I, 16 int32; B, 64 bytes (uint8 codes, int8 activations, or int16 pairs). An instruction set with narrower
// registers holds them in several. Every verb gives the same bits everywhere.
//
// Everything lives in the namespace CAMELID_ISA and no standard header with templates is included: a template compiled here with wide
// instructions could be the copy that the linker keeps for everybody.
//
//   floats    load load_first store store_first set1 add sub mul div fused minimum maximum load_half load_bf16 half_to_float float_to_half
//             sum (the canonical tree) highest keep_first zero_below where_less(a, b, yes, no) root fused1 exponent_bits (2^n)
//   integers  zero_i set1_i load_i add_i sub_i mul_i shift_left shift_right (of signed numbers) and_i min_i max_i highest_i
//             abs_bits to_int (nearest even) to_float store_bytes
//   bytes     load_bytes store_codes broadcast_quad (four bytes, 16 times) dwords bytes (the same bits as int32, and back)
//             or_bytes flip_signs (^ 0x80) times_power(a, n) (codes << n; bits that leave a byte may be the next one's lower n) look_up(codes, table of 16, aligned to 16)
//             field(v, shift, mask)       v >> shift & mask in each byte; shift + bits of mask <= 8
//             shifted_down(v, n)          v >> n in each byte; the n upper bits may be anything
//             pick_bits(mask, yes, no)    the bits of `yes` where the mask has ones, of `no` elsewhere, in each byte
//             low_halves high_halves      the float16 in the low or the high half of each dword, as floats
//             turn_columns(fourth, stride, at, out[4])   16 bytes of each of 16 rows; out[i] has the i-th dword of each. Row r is at
//                                         fourth[r / 4] + r % 4 * stride + at
//   dots      of codes (uint8, at most Max) with activations (int8, within +-127), four products to a lane
//             prepare<Max>(codes)         what `products` takes; with kSignedWide, codes - 128 where Max is 255
//             products<Max> add_products<Max>   sums in a type P that may be narrow: at most kProducts<Max> of them may be added up
//             widened(p)                  a P as I
//   pairs     two signed numbers of 16 bits in each of 16 lanes: load_pairs (from bytes) add_pairs(sum, a, b) (sum + a0 * b0 + a1 * b1)
//             store_words (the low half of each lane)
#pragma once

#include <cstdint>
#include <cstring>

#define INLINE inline __attribute__((always_inline))
#define VERB static INLINE

// A value, now: GCC likes to put off additions, and then it keeps what is to be added in memory.
template <class Value>
VERB Value settled(Value value) {
#if defined(CAMELID_PORTABLE)
    return value;
#else
    if constexpr (sizeof(Value) == 8) asm("" : "+r"(value));
#if defined(__AVX512F__)
    else asm("" : "+v"(value));
#else
    else asm("" : "+x"(value));
#endif
    return value;
#endif
}

#if defined(CAMELID_PORTABLE)
#include "simd/portable.inl"
#elif defined(__AVX512F__)
#include "simd/avx512.inl"
#elif defined(__AVX2__)
#include "simd/avx2.inl"
#else
#error "no verbs for this instruction set"
#endif
