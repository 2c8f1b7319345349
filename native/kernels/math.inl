// exp, in float32, with the same bits everywhere.

namespace camelid::CAMELID_ISA {

// e^x = 2^n * e^r with n = round(x / ln 2) and |r| <= ln 2 / 2; ln 2 is split in two so that n * ln 2 loses nothing.
// The polynomial is the Taylor series of e^r to r^7, whose remainder, r^8 / 8!, is below 2^-27: the error stays below 1 ulp.
// 2^n is applied as 2^(n - 1) * 2, so that the largest results are finite and larger ones overflow to infinity. Below e^-86.6 the
// result is 0. NaN stays NaN.
VERB F exp(F x) {
    const F low = set1(-86.6f), high = set1(89.0f);
    const F clamped = minimum(high, maximum(low, x));  // both return their second argument for a NaN
    const F magic = set1(0x1.8p23f);
    const F n = sub(fused(clamped, set1(0x1.715476p+0f), magic), magic);
    F r = fused(n, set1(-0x1.62e4p-1f), clamped);
    r = fused(n, set1(-0x1.7f7d1cp-20f), r);
    F p = set1(1.0f / 5040.0f);
    p = fused(p, r, set1(1.0f / 720.0f));
    p = fused(p, r, set1(1.0f / 120.0f));
    p = fused(p, r, set1(1.0f / 24.0f));
    p = fused(p, r, set1(1.0f / 6.0f));
    p = fused(p, r, set1(0.5f));
    p = fused(p, r, set1(1.0f));
    p = fused(p, r, set1(1.0f));
    const F power = exponent_bits(sub_i(to_int(n), set1_i(1)));
    return zero_below(x, low, mul(mul(p, power), set1(2.0f)));
}

VERB float exp1(float x) {
    float lanes[kLanes];
    store(lanes, exp(set1(x)));
    return lanes[0];
}

}  // namespace camelid::CAMELID_ISA
