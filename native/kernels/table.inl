// All kernels of one instruction set, in the order in which they build on each other, and the table of them.

#include "../ops.h"
#include "../simd.h"

#include "blocks.inl"
#include "quantize.inl"
#include "multiply_quantized.inl"
#include "multiply_float.inl"
#include "multiply.inl"
#include "low_rank.inl"
#include "embed.inl"
#include "math.inl"
#include "elementwise.inl"
#include "cache.inl"
#include "attend_page.inl"
#include "attend_codes.inl"
#include "attend.inl"

namespace camelid::CAMELID_ISA {

static_assert(sizeof(PanelScratch) <= kScratchBytes);

static constexpr Kernels kKernels = {CAMELID_ISA_NAME, quantize, multiply, embed, norm, gate, rotate_and_store, attend, merge, low_rank_down, low_rank_up};

}  // namespace camelid::CAMELID_ISA
