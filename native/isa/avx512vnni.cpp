// The kernels for AVX-512 with VNNI (Cascade Lake, Zen 4): only the verb `dot` differs from avx512.
// CMakeLists.txt gives this file its flags; nothing but `kernels_avx512vnni` leaves it.
#define CAMELID_ISA avx512vnni
#define CAMELID_ISA_NAME "avx512vnni"

#include "../kernels/table.inl"

namespace camelid {
extern const Kernels kernels_avx512vnni;
const Kernels kernels_avx512vnni = avx512vnni::kKernels;
}  // namespace camelid
