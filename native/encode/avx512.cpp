// The encoders for AVX-512, with or without VNNI. CMakeLists.txt gives this file its flags; nothing but `encode_avx512` leaves it.
#define CAMELID_ISA avx512

#include "encode.inl"

namespace camelid {
const Encode encode_avx512 = avx512::encode;
}  // namespace camelid
