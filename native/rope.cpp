#include "rope.h"

// The C library's sin and cos differ in the last bit from one machine to the next (it too picks code at run time), and a double that
// lies near the middle between two floats would then round to either. So: our own, with plain IEEE operations and -ffp-contract=off.

namespace camelid {
namespace {

// pi / 2 in three parts of 33, 33 and 53 bits: n times one of the first two is exact for |n| < 2^20 (Cody and Waite 1980).
constexpr double kHalfPi1 = 0x1.921fb544p+0, kHalfPi2 = 0x1.0b4611a6p-34, kHalfPi3 = 0x1.3198a2e037073p-69;
constexpr double kPerHalfPi = 0x1.45f306dc9c883p-1;
constexpr double kRound = 0x1.8p52;  // adding and subtracting it rounds to an integer

// Taylor series on |x| <= pi / 4: the first term left out is below 2^-58 of the result.
double sine_near_zero(double x) {
    const double z = x * x;
    double p = -1.0 / 1307674368000.0;
    p = p * z + 1.0 / 6227020800.0;
    p = p * z - 1.0 / 39916800.0;
    p = p * z + 1.0 / 362880.0;
    p = p * z - 1.0 / 5040.0;
    p = p * z + 1.0 / 120.0;
    p = p * z - 1.0 / 6.0;
    return x + x * z * p;
}

double cosine_near_zero(double x) {
    const double z = x * x;
    double p = 1.0 / 20922789888000.0;
    p = p * z - 1.0 / 87178291200.0;
    p = p * z + 1.0 / 479001600.0;
    p = p * z - 1.0 / 3628800.0;
    p = p * z + 1.0 / 40320.0;
    p = p * z - 1.0 / 720.0;
    p = p * z + 1.0 / 24.0;
    return 1.0 - 0.5 * z + z * z * p;
}

void sine_cosine(double angle, double* sine, double* cosine) {
    const double n = angle * kPerHalfPi + kRound - kRound;
    const double x = ((angle - n * kHalfPi1) - n * kHalfPi2) - n * kHalfPi3;
    const double s = sine_near_zero(x), c = cosine_near_zero(x);
    switch (static_cast<int64_t>(n) & 3) {
        case 0: *sine = s, *cosine = c; break;
        case 1: *sine = c, *cosine = -s; break;
        case 2: *sine = -s, *cosine = -c; break;
        default: *sine = -c, *cosine = s;
    }
}

}  // namespace

void rope_table(const int32_t* positions, int64_t tokens, const double* frequencies, int64_t num_frequencies, double amplitude,
                float* cosines, float* sines) {
    for (int64_t t = 0; t < tokens; ++t)
        for (int64_t i = 0; i < num_frequencies; ++i) {
            double s, c;
            sine_cosine(positions[t] * frequencies[i], &s, &c);
            cosines[t * num_frequencies + i] = static_cast<float>(c * amplitude);
            sines[t * num_frequencies + i] = static_cast<float>(s * amplitude);
        }
}

}  // namespace camelid
