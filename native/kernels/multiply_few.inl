// The product for few tokens: decoding. Codes go from the file's bytes through registers straight into the products, so that the weights
// are read once, front to back, and the time is that of reading them. Vectors run along k, in the order of the file.

namespace camelid::CAMELID_ISA {

constexpr int kFewTokens = 4;  // up to here the rows are streamed; beyond, they are turned into panels (multiply_panel.inl)
constexpr int kRows = 16;      // rows whose float sums are one vector

// A run of one row: 8 blocks of 256 weights, or 16 of 32.
template <class Type>
constexpr int kRunBlocks = kShape<Type>.weights == 256 ? 8 : 16;

// What the float sum of a run takes, for one token and 16 rows. Blocks of 256: (row, 8 of d * dx and 8 of I), then the same of m * dx
// and M. Blocks of 32: (row, 16 of d * dx), (row, 16 of I), and the same of m * dx and M.
struct Terms {
    alignas(64) float of[4][kRows][16];
};

struct FewScratch {
    alignas(64) int16_t scales[8 * 32];
    alignas(64) uint16_t d[16], m[16];  // float16
    Terms terms[kFewTokens];
    alignas(64) float turned[2][16][kRows], turned_low[2][16][kRows];
};

// I and M of n <= 8 blocks of 256 weights, in lanes 0-7. x and x_sums are the first token's.
template <class Type, int Tokens>
VERB void run_sums_256(const uint8_t* blocks, int n, const Activations& a, const int8_t* x, const int16_t* x_sums, FewScratch& s, I* sum, I* low) {
    constexpr int max = Type::kIsWide ? 255 : 63, bytes = kShape<Type>.bytes;
    I part[Tokens][8], low_part[Tokens][8];
    for (int t = 0; t < Tokens; ++t)
        for (int b = n; b < 8; ++b) part[t][b] = low_part[t][b] = zero_i();
    for (int b = 0; b < n; ++b) {
        const uint8_t* block = blocks + bytes * b;
        int16_t* scales = s.scales + 32 * b;
        prefetch(block, bytes);
        Type::scales(block, scales, s.d + b, s.m + b);
        I v[Tokens];
        for (int t = 0; t < Tokens; ++t) v[t] = zero_i();
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            const B codes = Type::codes(block, i), scale = spread(scales + 4 * i);
            for (int t = 0; t < Tokens; ++t) v[t] = dot_scaled<max>(v[t], codes, load_bytes(x + t * a.code_stride + 256 * b + 64 * i), scale);
        }
        for (int t = 0; t < Tokens; ++t) {
            const int16_t* sums = x_sums + 16 * (t * a.scale_stride + b);
            if constexpr (kRestShift<Type> >= 0) v[t] = sub_i(v[t], shift_left(dot_sixteen(scales, sums), kRestShift<Type>));
            part[t][b] = v[t];
            if constexpr (Type::kHasMinimum) low_part[t][b] = dot_sixteen(scales + 16, sums);
        }
    }
    for (int t = 0; t < Tokens; ++t) {
        sum[t] = add_halves(group_sums(part[t]));
        if constexpr (Type::kHasMinimum) low[t] = add_halves(group_sums(low_part[t]));
    }
}

// I and M of 16 blocks of 32 weights.
template <class Type, int Tokens>
VERB void run_sums_32(const uint8_t* blocks, const Activations& a, const int8_t* x, const int32_t* x_sums, FewScratch& s, I* sum, I* low) {
    constexpr int max = Type::kIsWide ? 255 : 63, bytes = kShape<Type>.bytes;
    I part[Tokens][8];
    for (int i = 0; i < 8; ++i) {
        const uint8_t* block = blocks + 2 * bytes * i;
        prefetch(block, 2 * bytes);
        half_scales<Type>(block, s.d + 2 * i, s.m + 2 * i);
        half_scales<Type>(block + bytes, s.d + 2 * i + 1, s.m + 2 * i + 1);
        const B codes = Type::codes(block, block + bytes);
        for (int t = 0; t < Tokens; ++t) part[t][i] = dot<max>(zero_i(), codes, load_bytes(x + t * a.code_stride + 64 * i));
    }
    for (int t = 0; t < Tokens; ++t) {
        sum[t] = interleave(group_sums(part[t]));
        low[t] = load_i(x_sums + t * a.scale_stride);
        if constexpr (kRestShift<Type> >= 0) sum[t] = sub_i(sum[t], shift_left(low[t], kRestShift<Type>));
    }
}

template <class Type>
VERB void put_terms(const FewScratch& s, F x_scales, I sum, I low, int row, Terms& terms) {
    constexpr bool joined = kShape<Type>.weights == 256;
    const F scale = mul(load_half(s.d), x_scales);
    store(terms.of[0][row], joined ? join(scale, to_float(sum)) : scale);
    if constexpr (!joined) store(terms.of[1][row], to_float(sum));
    if constexpr (!Type::kHasMinimum) return;
    const F low_scale = mul(load_half(s.m), x_scales);
    store(terms.of[2][row], joined ? join(low_scale, to_float(low)) : low_scale);
    if constexpr (!joined) store(terms.of[3][row], to_float(low));
}

// Turn the terms so that 16 rows are one vector: `factors` and `sums` of block b are then at [b].
template <class Type>
VERB void turn(const float (*of)[kRows][16], float (*turned)[16][kRows], const float (**factors)[kRows], const float (**sums)[kRows]) {
    constexpr bool joined = kShape<Type>.weights == 256;
    transpose(of[0], 64, turned[0]);
    if constexpr (!joined) transpose(of[1], 64, turned[1]);
    *factors = turned[0];
    *sums = joined ? turned[0] + 8 : turned[1];
}

// acc plus n blocks of 16 rows, one fused multiply-add after the other.
template <class Type>
VERB F add_terms(FewScratch& s, const Terms& terms, int n, F acc) {
    const float (*factors)[kRows], (*sums)[kRows];
    if constexpr (!Type::kHasMinimum) {
        turn<Type>(terms.of, s.turned, &factors, &sums);
        for (int b = 0; b < n; ++b) acc = fused(load(factors[b]), load(sums[b]), acc);
        return acc;
    }
    const float (*low_factors)[kRows], (*lows)[kRows];
    turn<Type>(terms.of, s.turned, &factors, &sums);
    turn<Type>(terms.of + 2, s.turned_low, &low_factors, &lows);
    for (int b = 0; b < n; ++b) {
        acc = fused(load(factors[b]), load(sums[b]), acc);
        acc = fused(load(low_factors[b]), load(lows[b]), acc);
    }
    return acc;
}

// Fewer than 16 blocks of 32 weights are copied first: whole runs are read, and nothing behind a row may be touched.
template <class Type>
VERB const uint8_t* whole_run(const uint8_t* blocks, int n, uint8_t* copy) {
    constexpr int bytes = kShape<Type>.bytes;
    if (n == 16) return blocks;
    memset(copy, 0, 16 * bytes);
    memcpy(copy, blocks, static_cast<size_t>(n * bytes));
    return copy;
}

// Put the terms of blocks [block, block + n) of row `row` of the group, for tokens from `token` on.
template <class Type, int Tokens>
VERB void multiply_run(const uint8_t* blocks, int64_t block, int n, const Activations& a, int64_t token, int row, FewScratch& s) {
    constexpr int weights = kShape<Type>.weights;
    const int8_t* x = a.codes + token * a.code_stride + weights * block;
    const int64_t at = token * a.scale_stride + block;
    I sum[Tokens], low[Tokens];
    if constexpr (weights == 256) {
        run_sums_256<Type, Tokens>(blocks, n, a, x, a.sums16 + 16 * at, s, sum, low);
    } else {
        uint8_t copy[16 * kShape<Type>.bytes];
        run_sums_32<Type, Tokens>(whole_run<Type>(blocks, n, copy), a, x, a.sums32 + at, s, sum, low);
    }
    for (int t = 0; t < Tokens; ++t) put_terms<Type>(s, load(a.scales + at + t * a.scale_stride), sum[t], low[t], row, s.terms[t]);
}

template <class Type, int Tokens>
static void multiply_rows(const Product& p, int64_t row, int64_t end, int64_t token, FewScratch& s) {
    const int64_t blocks = p.weight.columns / kShape<Type>.weights;
    const int rows = static_cast<int>(end - row < kRows ? end - row : kRows);
    F acc[Tokens];
    for (int t = 0; t < Tokens; ++t) acc[t] = set1(0.0f);
    for (int64_t block = 0; block < blocks; block += kRunBlocks<Type>) {
        const int n = static_cast<int>(blocks - block < kRunBlocks<Type> ? blocks - block : kRunBlocks<Type>);
        const uint8_t* at = p.weight.data + row * p.weight.row_bytes + block * kShape<Type>.bytes;
        for (int r = 0; r < rows; ++r) multiply_run<Type, Tokens>(at + r * p.weight.row_bytes, block, n, p.activations, token, r, s);
        for (int t = 0; t < Tokens; ++t) acc[t] = add_terms<Type>(s, s.terms[t], n, acc[t]);
    }
    for (int t = 0; t < Tokens; ++t) {
        if (p.bias) acc[t] = add(acc[t], load_first(p.bias + row, rows));
        store_first(p.out + (token + t) * p.weight.rows + row, acc[t], rows);
    }
}

template <class Type>
static void multiply_few(const Product& p, int64_t begin, int64_t end, void* scratch) {
    FewScratch& s = *static_cast<FewScratch*>(scratch);
    memset(&s, 0, sizeof s);  // lanes behind the end of a row, or of the rows, are computed with, though not used
    for (int64_t row = begin; row < end; row += kRows) {
        int64_t token = 0;
        for (; token + kFewTokens <= p.tokens; token += kFewTokens) multiply_rows<Type, kFewTokens>(p, row, end, token, s);
        for (; token < p.tokens; ++token) multiply_rows<Type, 1>(p, row, end, token, s);
    }
}

}  // namespace camelid::CAMELID_ISA
