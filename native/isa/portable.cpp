// The kernels for any processor: no vector instructions are assumed beyond the target's baseline.
// CMakeLists.txt gives this file its flags; nothing but `kernels_portable` leaves it.
#define CAMELID_PORTABLE
#define CAMELID_ISA portable
#define CAMELID_ISA_NAME "portable"

#include "../kernels/table.inl"

namespace camelid {
extern const Kernels kernels_portable;
const Kernels kernels_portable = portable::kKernels;
}  // namespace camelid
