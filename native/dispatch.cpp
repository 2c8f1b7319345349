#include "dispatch.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace camelid {

extern const Kernels kernels_portable;
#if defined(__x86_64__)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
extern const Kernels kernels_avx512vnni;
#endif

namespace {

bool always() { return true; }

#if defined(__x86_64__)
struct Registers {
    unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf) {
    Registers r;
    if (!__get_cpuid_count(leaf, 0, &r.a, &r.b, &r.c, &r.d)) return {};
    return r;
}

bool has(unsigned word, unsigned bit) { return (word >> bit) & 1; }

// Whether the system saves all the registers in `mask` when it switches threads (XCR0, Intel's manual volume 1, 13.3).
bool system_saves(unsigned mask) {
    if (!has(cpuid(1).c, 27)) return false;  // OSXSAVE
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & mask) == mask;
}

bool runs_avx2() {
    const Registers one = cpuid(1), seven = cpuid(7);
    return system_saves(0x06) && has(one.c, 12) && has(one.c, 28) && has(one.c, 29) && has(seven.b, 5);  // FMA, AVX, F16C, AVX2
}

bool runs_avx512() {
    const Registers seven = cpuid(7);  // F, DQ, BW, VL
    return runs_avx2() && system_saves(0xe6) && has(seven.b, 16) && has(seven.b, 17) && has(seven.b, 30) && has(seven.b, 31);
}

bool runs_avx512vnni() { return runs_avx512() && has(cpuid(7).c, 11); }
#endif

struct Choice {
    const Kernels* kernels;
    Encode encode;
    bool (*runs_here)();
};

const Choice kChoices[] = {
    {&kernels_portable, encode_portable, always},
#if defined(__x86_64__)
    {&kernels_avx2, encode_avx2, runs_avx2},
    {&kernels_avx512, encode_avx512, runs_avx512},
    {&kernels_avx512vnni, encode_avx512, runs_avx512vnni},
#endif
};

}  // namespace

std::vector<std::string> built_isas() {
    std::vector<std::string> names;
    for (const Choice& choice : kChoices) names.emplace_back(choice.kernels->name);
    return names;
}

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const Choice& choice : kChoices)
        if (choice.runs_here()) names.emplace_back(choice.kernels->name);
    return names;
}

const Kernels* find_kernels(const std::string& name) {
    for (const Choice& choice : kChoices)
        if (name == choice.kernels->name && choice.runs_here()) return choice.kernels;
    return nullptr;
}

Encode find_encode(const Kernels& kernels) {
    for (const Choice& choice : kChoices)
        if (choice.kernels == &kernels) return choice.encode;
    return encode_portable;
}

}  // namespace camelid
