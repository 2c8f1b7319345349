// The encoders for any processor. CMakeLists.txt gives this file its flags; nothing but `encode_portable` leaves it.
#define CAMELID_PORTABLE
#define CAMELID_ISA portable

#include "encode.inl"

namespace camelid {
const Encode encode_portable = portable::encode;
}  // namespace camelid
