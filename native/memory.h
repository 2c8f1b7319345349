// Memory for kernels: aligned, on large pages where the system gives them, never initialized.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace camelid {

// A block of memory that grows by being thrown away: what was in it is lost.
class Buffer {
public:
    Buffer() = default;
    explicit Buffer(size_t bytes) { reserve(bytes); }
    ~Buffer() { release(); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    Buffer(Buffer&& other) noexcept : data_(other.data_), bytes_(other.bytes_) { other.data_ = nullptr, other.bytes_ = 0; }

    // Have at least `bytes`. Throws std::bad_alloc.
    void reserve(size_t bytes);

    template <class T>
    T* as(size_t offset_bytes = 0) const { return reinterpret_cast<T*>(data_ + offset_bytes); }
    size_t bytes() const { return bytes_; }

private:
    void release();

    uint8_t* data_ = nullptr;
    size_t bytes_ = 0;
};

}  // namespace camelid
