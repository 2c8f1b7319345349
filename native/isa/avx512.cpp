// The kernels for AVX-512 F, BW, DQ and VL (Skylake-X).
// CMakeLists.txt gives this file its flags; nothing but `kernels_avx512` leaves it.
#define CAMELID_ISA avx512
#define CAMELID_ISA_NAME "avx512"

#include "../kernels/table.inl"

namespace camelid {
extern const Kernels kernels_avx512;
const Kernels kernels_avx512 = avx512::kKernels;
}  // namespace camelid
