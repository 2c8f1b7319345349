#include "memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace camelid {
namespace {

constexpr size_t kLargePage = 2 << 20;

size_t rounded(size_t bytes) {
    const size_t unit = bytes >= kLargePage ? kLargePage : 4096;
    if (bytes > SIZE_MAX - unit) throw std::bad_alloc();
    return (bytes + unit - 1) / unit * unit;
}

}  // namespace

void Buffer::reserve(size_t bytes) {
    if (bytes <= bytes_) return;
    const size_t size = rounded(bytes);
    release();
    data_ = static_cast<uint8_t*>(::operator new(size, std::align_val_t(size >= kLargePage ? kLargePage : 4096)));
    bytes_ = size;
#if defined(__linux__)
    if (size >= kLargePage) madvise(data_, size, MADV_HUGEPAGE);  // a wish: it saves address translations
#endif
}

void Buffer::release() {
    if (data_) ::operator delete(data_, std::align_val_t(bytes_ >= kLargePage ? kLargePage : 4096));
    data_ = nullptr;
    bytes_ = 0;
}

}  // namespace camelid
