// The encoders for AVX2, FMA and F16C. CMakeLists.txt gives this file its flags; nothing but `encode_avx2` leaves it.
#define CAMELID_ISA avx2

#include "encode.inl"

namespace camelid {
const Encode encode_avx2 = avx2::encode;
}  // namespace camelid
