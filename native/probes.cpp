#include "probes.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <system_error>
#include <thread>

#include "memory.h"

namespace camelid {
namespace {

// ARITHMETIC. Each loop has as many independent accumulators as it takes to hide the latency of one (4-5 cycles, two ports).

#if defined(__x86_64__)

// Registers 16-31 are not named as clobbered: this file is compiled for the baseline, which has none of them.
#define CLOBBERED "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
                  "xmm12", "xmm13", "xmm14", "xmm15"
#define TIMES_12(step) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11) step(12) step(13) step(14) step(15)
#define TIMES_24(step) step(8) step(9) step(10) step(11) step(12) step(13) step(14) step(15) step(16) step(17) step(18) step(19) \
                       step(20) step(21) step(22) step(23) step(24) step(25) step(26) step(27) step(28) step(29) step(30) step(31)

// The operands are small numbers, so that no sum overflows into infinity or becomes subnormal, whatever the loop's length.
#define LOOP(name, prepare, steps, finish)                                                          \
    void name(int64_t turns) {                                                                      \
        static const float kOperands[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};        \
        __asm__ volatile(prepare "1:\n\t" steps "dec %0\n\t" "jnz 1b\n\t" finish                    \
                         : "+r"(turns) : "r"(kOperands) : CLOBBERED);                               \
    }

#define SSE2_INT8(n) "movdqa %%xmm0, %%xmm2\n\t" "pmaddwd %%xmm1, %%xmm2\n\t" "paddd %%xmm2, %%xmm" #n "\n\t"
#define SSE2_FP32(n) "movaps %%xmm0, %%xmm2\n\t" "mulps %%xmm1, %%xmm2\n\t" "addps %%xmm2, %%xmm" #n "\n\t"
#define AVX2_INT8(n) "vpmaddubsw %%ymm0, %%ymm1, %%ymm2\n\t" "vpaddw %%ymm2, %%ymm" #n ", %%ymm" #n "\n\t"
#define AVX2_FP32(n) "vfmadd231ps %%ymm0, %%ymm1, %%ymm" #n "\n\t"
#define AVX512_INT8(n) "vpmaddubsw %%zmm0, %%zmm1, %%zmm2\n\t" "vpaddw %%zmm2, %%zmm" #n ", %%zmm" #n "\n\t"
#define AVX512_FP32(n) "vfmadd231ps %%zmm0, %%zmm1, %%zmm" #n "\n\t"
#define VNNI_INT8(n) "vpdpbusd %%zmm0, %%zmm1, %%zmm" #n "\n\t"

#define ZERO_XMM(n) "pxor %%xmm" #n ", %%xmm" #n "\n\t"
#define ZERO_YMM(n) "vpxor %%ymm" #n ", %%ymm" #n ", %%ymm" #n "\n\t"
#define ZERO_ZMM(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n\t"
#define LOAD_XMM "movups (%1), %%xmm0\n\t" "movaps %%xmm0, %%xmm1\n\t"
#define LOAD_YMM "vmovups (%1), %%ymm0\n\t" "vmovaps %%ymm0, %%ymm1\n\t"
#define LOAD_ZMM "vmovups (%1), %%zmm0\n\t" "vmovaps %%zmm0, %%zmm1\n\t"

LOOP(sse2_int8, LOAD_XMM TIMES_12(ZERO_XMM), TIMES_12(SSE2_INT8), "")
LOOP(sse2_fp32, LOAD_XMM TIMES_12(ZERO_XMM), TIMES_12(SSE2_FP32), "")
LOOP(avx2_int8, LOAD_YMM TIMES_12(ZERO_YMM), TIMES_12(AVX2_INT8), "vzeroupper\n\t")
LOOP(avx2_fp32, LOAD_YMM TIMES_12(ZERO_YMM), TIMES_12(AVX2_FP32), "vzeroupper\n\t")
LOOP(avx512_int8, LOAD_ZMM TIMES_24(ZERO_ZMM), TIMES_24(AVX512_INT8), "vzeroupper\n\t")
LOOP(avx512_fp32, LOAD_ZMM TIMES_24(ZERO_ZMM), TIMES_24(AVX512_FP32), "vzeroupper\n\t")
LOOP(vnni_int8, LOAD_ZMM TIMES_24(ZERO_ZMM), TIMES_24(VNNI_INT8), "vzeroupper\n\t")

const ArithmeticProbe kArithmetic[] = {
    {"portable", "int8", "pmaddwd xmm + paddd", 12 * 8, sse2_int8},
    {"portable", "fp32", "mulps xmm + addps", 12 * 4, sse2_fp32},
    {"avx2", "int8", "vpmaddubsw ymm + vpaddw", 12 * 32, avx2_int8},
    {"avx2", "fp32", "vfmadd231ps ymm", 12 * 8, avx2_fp32},
    {"avx512", "int8", "vpmaddubsw zmm + vpaddw", 24 * 64, avx512_int8},
    {"avx512", "fp32", "vfmadd231ps zmm", 24 * 16, avx512_fp32},
    {"avx512vnni", "int8", "vpdpbusd zmm", 24 * 64, vnni_int8},
    {"avx512vnni", "fp32", "vfmadd231ps zmm", 24 * 16, avx512_fp32},
};

#elif defined(__aarch64__)

#define CLOBBERED "cc", "memory", "v0", "v1", "v2", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23"
#define TIMES_12(step) step(4) step(5) step(6) step(7) step(16) step(17) step(18) step(19) step(20) step(21) step(22) step(23)
#define LOOP(name, steps)                                                                                                 \
    void name(int64_t turns) {                                                                                            \
        __asm__ volatile("fmov v0.4s, #1.0\n\t" "fmov v1.4s, #1.0\n\t" TIMES_12(ZERO) "1:\n\t" steps                       \
                         "subs %0, %0, #1\n\t" "b.ne 1b\n\t" : "+r"(turns) : : CLOBBERED);                                \
    }
#define ZERO(n) "movi v" #n ".4s, #0\n\t"
#define NEON_INT8(n) "smull v2.8h, v0.8b, v1.8b\n\t" "sadalp v" #n ".4s, v2.8h\n\t"
#define NEON_FP32(n) "fmla v" #n ".4s, v0.4s, v1.4s\n\t"

LOOP(neon_int8, TIMES_12(NEON_INT8))
LOOP(neon_fp32, TIMES_12(NEON_FP32))

const ArithmeticProbe kArithmetic[] = {
    {"portable", "int8", "smull + sadalp", 12 * 8, neon_int8},
    {"portable", "fp32", "fmla 4s", 12 * 4, neon_fp32},
};

#endif

// READING. Each reads a whole number of runs of 512 bytes.

constexpr int64_t kRunBytes = 512;
using Read = void (*)(const uint8_t* data, int64_t bytes, int64_t ahead);

#if defined(__x86_64__)
#define LOAD_QUARTER_RUN_XMM(a) "movdqu " #a "+0(%0), %%xmm0\n\t" "movdqu " #a "+16(%0), %%xmm1\n\t" "movdqu " #a "+32(%0), %%xmm2\n\t" \
                                "movdqu " #a "+48(%0), %%xmm3\n\t" "movdqu " #a "+64(%0), %%xmm4\n\t" "movdqu " #a "+80(%0), %%xmm5\n\t" \
                                "movdqu " #a "+96(%0), %%xmm6\n\t" "movdqu " #a "+112(%0), %%xmm7\n\t"
#define LOAD_RUN_XMM LOAD_QUARTER_RUN_XMM(0) LOAD_QUARTER_RUN_XMM(128) LOAD_QUARTER_RUN_XMM(256) LOAD_QUARTER_RUN_XMM(384)
#define LOAD_RUN_ZMM "vmovdqu64 (%0), %%zmm0\n\t" "vmovdqu64 64(%0), %%zmm1\n\t" "vmovdqu64 128(%0), %%zmm2\n\t" "vmovdqu64 192(%0), %%zmm3\n\t" \
                     "vmovdqu64 256(%0), %%zmm4\n\t" "vmovdqu64 320(%0), %%zmm5\n\t" "vmovdqu64 384(%0), %%zmm6\n\t" "vmovdqu64 448(%0), %%zmm7\n\t"
#define LOAD_HALF_RUN_YMM(a) "vmovdqu " #a "+0(%0), %%ymm0\n\t" "vmovdqu " #a "+32(%0), %%ymm1\n\t" "vmovdqu " #a "+64(%0), %%ymm2\n\t" \
                             "vmovdqu " #a "+96(%0), %%ymm3\n\t" "vmovdqu " #a "+128(%0), %%ymm4\n\t" "vmovdqu " #a "+160(%0), %%ymm5\n\t" \
                             "vmovdqu " #a "+192(%0), %%ymm6\n\t" "vmovdqu " #a "+224(%0), %%ymm7\n\t"
#define FETCH_RUN "prefetcht0 (%2)\n\t" "prefetcht0 64(%2)\n\t" "prefetcht0 128(%2)\n\t" "prefetcht0 192(%2)\n\t" "prefetcht0 256(%2)\n\t" \
                  "prefetcht0 320(%2)\n\t" "prefetcht0 384(%2)\n\t" "prefetcht0 448(%2)\n\t" "add $512, %2\n\t"
#define READER(name, loads, finish)                                                                                                             \
    void name(const uint8_t* data, int64_t bytes, int64_t ahead) {                                                                      \
        const uint8_t* end = data + bytes;                                                                                              \
        const uint8_t* fetched = data + ahead;                                                                                          \
        if (ahead)                                                                                                                      \
            __asm__ volatile("1:\n\t" FETCH_RUN loads "add $512, %0\n\t" "cmp %1, %0\n\t" "jb 1b\n\t" finish                \
                             : "+r"(data), "+r"(end), "+r"(fetched) : : CLOBBERED);                                                     \
        else                                                                                                                            \
            __asm__ volatile("1:\n\t" loads "add $512, %0\n\t" "cmp %1, %0\n\t" "jb 1b\n\t" finish                          \
                             : "+r"(data), "+r"(end), "+r"(fetched) : : CLOBBERED);                                                     \
    }

READER(read_zmm, LOAD_RUN_ZMM, "vzeroupper\n\t")
READER(read_ymm, LOAD_HALF_RUN_YMM(0) LOAD_HALF_RUN_YMM(256), "vzeroupper\n\t")
READER(read_xmm, LOAD_RUN_XMM, "")
#else
void read_plain(const uint8_t* data, int64_t bytes, int64_t ahead) {
    uint64_t sums[8] = {};
    for (int64_t at = 0; at < bytes; at += 64) {
        if (ahead) __builtin_prefetch(data + at + ahead);
        uint64_t words[8];
        std::memcpy(words, data + at, 64);
        for (int i = 0; i < 8; ++i) sums[i] ^= words[i];
    }
    const volatile uint64_t sink = sums[0] ^ sums[1] ^ sums[2] ^ sums[3] ^ sums[4] ^ sums[5] ^ sums[6] ^ sums[7];
    (void)sink;
}
#endif

Read reader(const std::string& isa) {
#if defined(__x86_64__)
    if (isa.rfind("avx512", 0) == 0) return read_zmm;
    return isa == "avx2" ? read_ymm : read_xmm;
#else
    (void)isa;
    return read_plain;
#endif
}

// THREADS. Each takes its own time, from its first turn to its last: they need not end together.

using Turn = std::function<double(int thread)>;  // do a millisecond or so of work, return how much it was

double measure(int threads, double seconds, const Turn& turn) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> rates(static_cast<size_t>(threads));
    std::atomic<int> ready{0};
    std::atomic<bool> go{false}, stop{false};
    const auto work = [&](int thread) {
        turn(thread);  // wakes the wide units and touches what is to be read
        ++ready;
        while (!go) std::this_thread::yield();
        const auto start = Clock::now();
        double done = 0;
        do done += turn(thread);
        while (!stop);
        rates[static_cast<size_t>(thread)] = done / std::chrono::duration<double>(Clock::now() - start).count();
    };
    std::vector<std::thread> crew;
    const auto finish = [&] {
        go = stop = true;
        for (std::thread& thread : crew) thread.join();
    };
    try {
        for (int i = 0; i < threads; ++i) crew.emplace_back(work, i);
    } catch (const std::system_error&) {  // the system gives no more threads
        finish();
        throw;
    }
    while (ready < threads) std::this_thread::yield();
    go = true;
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    finish();
    double sum = 0;
    for (const double rate : rates) sum += rate;
    return sum;
}

}  // namespace

const std::vector<ArithmeticProbe>& arithmetic_probes() {
#if defined(__x86_64__) || defined(__aarch64__)
    static const std::vector<ArithmeticProbe> probes(std::begin(kArithmetic), std::end(kArithmetic));
#else
    static const std::vector<ArithmeticProbe> probes;
#endif
    return probes;
}

double measure_arithmetic(const ArithmeticProbe& probe, int threads, double seconds) {
    constexpr int64_t kTurns = 20'000;  // a fraction of a millisecond
    return measure(threads, seconds, [&](int) {
        probe.run(kTurns);
        return static_cast<double>(kTurns * probe.macs);
    });
}

double measure_reading(const std::string& isa, int threads, int64_t bytes, int64_t ahead, double seconds) {
    const int64_t part = bytes / threads / kRunBytes * kRunBytes;
    const Buffer memory(static_cast<size_t>(part * threads + ahead));
    std::memset(memory.as<uint8_t>(), 1, memory.bytes());  // pages that were never written are all the same one
    const Read read = reader(isa);
    return measure(threads, seconds, [&](int thread) {
        read(memory.as<uint8_t>(static_cast<size_t>(part * thread)), part, ahead);
        return static_cast<double>(part);
    });
}

}  // namespace camelid
