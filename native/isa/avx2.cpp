// The kernels for AVX2, FMA and F16C (Haswell, Zen).
// CMakeLists.txt gives this file its flags; nothing but `kernels_avx2` leaves it.
#define CAMELID_ISA avx2
#define CAMELID_ISA_NAME "avx2"

#include "../kernels/table.inl"

namespace camelid {
extern const Kernels kernels_avx2;
const Kernels kernels_avx2 = avx2::kKernels;
}  // namespace camelid
