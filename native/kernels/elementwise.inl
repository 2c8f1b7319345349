// Norm and gate.

namespace camelid::CAMELID_ISA {

static float sum_of_squares(const float* x, int64_t n) {
    F acc = set1(0.0f);
    for (int64_t i = 0; i < n; i += kLanes) {
        const F v = load_first(x + i, static_cast<int>(n - i < kLanes ? n - i : kLanes));
        acc = fused(v, v, acc);
    }
    return sum(acc);
}

static void norm_row(float* x, const float* delta, const float* weight, float* out, int64_t n, float epsilon) {
    if (delta)
        for (int64_t i = 0; i < n; ++i) x[i] += delta[i];
    const float scale = 1.0f / __builtin_sqrtf(sum_of_squares(x, n) / static_cast<float>(n) + epsilon);
    for (int64_t i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

static void norm(float* x, const float* delta, const float* weight, float* out, int64_t n, float epsilon, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) norm_row(x + row * n, delta ? delta + row * n : nullptr, weight, out + row * n, n, epsilon);
}

static void gate(float* gate, const float* up, int64_t begin, int64_t end) {
    const F one = set1(1.0f), zero = set1(0.0f);
    for (int64_t i = begin; i < end; i += kLanes) {
        const int n = static_cast<int>(end - i < kLanes ? end - i : kLanes);
        const F z = load_first(gate + i, n);
        const F silu = div(z, add(one, exp(sub(zero, z))));
        store_first(gate + i, mul(silu, load_first(up + i, n)), n);
    }
}

}  // namespace camelid::CAMELID_ISA
