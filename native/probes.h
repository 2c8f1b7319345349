// What this machine can do at most: bytes read and multiply-adds made in a second. The roofs that measurements are held against.
//
// The arithmetic loops touch registers only and are written in assembly, so that what is measured is what stands here: a first version
// in C showed a third of the truth. They know nothing of the kernels, which may neither help nor bend their own measure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace camelid {

struct ArithmeticProbe {
    const char* isa;           // as in dispatch.h
    const char* kind;          // "int8" or "fp32"
    const char* instructions;  // what one step of the loop is
    int64_t macs;              // multiply-adds of one turn of the loop
    void (*run)(int64_t turns);
};

// The loops that this build has, whether or not the processor runs them.
const std::vector<ArithmeticProbe>& arithmetic_probes();

// Multiply-adds a second of `threads` threads that run `probe` side by side for `seconds`.
double measure_arithmetic(const ArithmeticProbe& probe, int threads, double seconds);

// Bytes a second that `threads` threads read, each its own part of `bytes` of memory, again and again for `seconds`. `isa` decides how wide
// the loads are; `ahead` is how many bytes ahead is prefetched, 0 for not at all. Throws std::bad_alloc.
double measure_reading(const std::string& isa, int threads, int64_t bytes, int64_t ahead, double seconds);

}  // namespace camelid
