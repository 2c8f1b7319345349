// The product for few tokens: four weight rows are unpacked chunk by chunk into the first-level cache and met by every token.
// Vectors run along k, in the order of the file, so that the weights are read once, front to back.

namespace camelid::CAMELID_ISA {

constexpr int kRows = 4;       // rows whose chains of fused multiply-adds overlap
constexpr int kChunkSums = 16; // float sums of a chunk: 8 blocks of 256 weights, or 16 of 32

struct RowScratch {
    alignas(64) uint8_t codes[2048];
    alignas(64) int16_t scales[8 * 32];
    alignas(64) float d[kChunkSums], m[kChunkSums];
    alignas(64) float terms[kRows][4][4][kChunkSums];  // row, token: scale of I, I, scale of M, M
};

// A chunk's integer sums for one token of a 256-weight type: I and M of blocks 0-7 in lanes 0-7.
template <int Max>
VERB void sums_256(const RowScratch& s, const Layout& layout, const int8_t* x, const int16_t* x_sums, int n, I* sum, I* minimum) {
    I part[8], low[8];
    for (int b = 0; b < 8; ++b) part[b] = low[b] = zero_i();
    for (int b = 0; b < n; ++b) {
        const int16_t* scales = s.scales + 32 * b;
        I v = zero_i();
        for (int i = 0; i < 4; ++i)
            v = dot_scaled<Max>(v, load_bytes(s.codes + 256 * b + 64 * i), load_bytes(x + 256 * b + 64 * i), spread(scales + 4 * i));
        if (layout.offset_shift >= 0) v = sub_i(v, shift_left(dot_sixteen(scales, x_sums + 16 * b), layout.offset_shift));
        part[b] = v;
        if (layout.has_minimum) low[b] = dot_sixteen(scales + 16, x_sums + 16 * b);
    }
    *sum = add_halves(group_sums(part));
    if (layout.has_minimum) *minimum = add_halves(group_sums(low));
}

// The same for a 32-weight type: blocks 0-15 in lanes 0-15.
template <int Max>
VERB void sums_32(const RowScratch& s, const Layout& layout, const int8_t* x, const int32_t* x_sums, I* sum, I* minimum) {
    I part[8];
    for (int i = 0; i < 8; ++i) part[i] = dot<Max>(zero_i(), load_bytes(s.codes + 64 * i), load_bytes(x + 64 * i));
    *sum = interleave(group_sums(part));
    *minimum = load_i(x_sums);
    if (layout.offset_shift >= 0) *sum = sub_i(*sum, shift_left(*minimum, layout.offset_shift));
}

template <int Max, int Weights>
VERB void chunk_terms(RowScratch& s, const Layout& layout, const Activations& a, int64_t t, int64_t block, int n, float (*terms)[kChunkSums]) {
    const int8_t* x = a.codes + t * a.code_stride + block * Weights;
    const int64_t at = t * a.scale_stride + block;
    I sum, minimum;
    if constexpr (Weights == 256) sums_256<Max>(s, layout, x, a.sums16 + 16 * at, n, &sum, &minimum);
    else sums_32<Max>(s, layout, x, a.sums32 + at, &sum, &minimum);
    const F scale = load_first(a.scales + at, n);
    store(terms[0], mul(load(s.d), scale));
    store(terms[1], to_float(sum));
    if (!layout.has_minimum) return;
    store(terms[2], mul(load(s.m), scale));
    store(terms[3], to_float(minimum));
}

template <int Tokens>
VERB void add_terms(const RowScratch& s, bool has_minimum, int n, float (*acc)[Tokens]) {
    for (int b = 0; b < n; ++b)
        for (int r = 0; r < kRows; ++r)
            for (int t = 0; t < Tokens; ++t) {
                acc[r][t] = fused1(s.terms[r][t][0][b], s.terms[r][t][1][b], acc[r][t]);
                if (has_minimum) acc[r][t] = fused1(s.terms[r][t][2][b], s.terms[r][t][3][b], acc[r][t]);
            }
}

template <int Max, int Weights, int Tokens>
static void multiply_four_rows(const Product& p, const Layout& layout, int64_t row, int64_t end, int64_t token, RowScratch& s) {
    constexpr int chunk = Weights == 256 ? 8 : 16;
    const int64_t blocks = p.weight.columns / Weights;
    float acc[kRows][Tokens] = {};
    for (int64_t block = 0; block < blocks; block += chunk) {
        const int n = static_cast<int>(blocks - block < chunk ? blocks - block : chunk);
        for (int r = 0; r < kRows; ++r) {  // past the end, the last row once more
            const int64_t at = row + r < end ? row + r : end - 1;
            layout.unpack(p.weight.data + at * p.weight.row_bytes + block * layout.bytes, n, {s.codes, s.scales, s.d, s.m});
            for (int t = 0; t < Tokens; ++t) chunk_terms<Max, Weights>(s, layout, p.activations, token + t, block, n, s.terms[r][t]);
        }
        if (layout.has_minimum) add_terms<Tokens>(s, true, n, acc);
        else add_terms<Tokens>(s, false, n, acc);
    }
    for (int r = 0; r < kRows && row + r < end; ++r)
        for (int t = 0; t < Tokens; ++t)
            p.out[(token + t) * p.weight.rows + row + r] = p.bias ? acc[r][t] + p.bias[row + r] : acc[r][t];
}

template <int Max, int Weights>
static void multiply_rows(const Product& p, const Layout& layout, int64_t begin, int64_t end, void* scratch) {
    RowScratch& s = *static_cast<RowScratch*>(scratch);
    memset(&s, 0, sizeof s);  // the tail of a chunk is computed with, though not used
    for (int64_t row = begin; row < end; row += kRows) {
        int64_t token = 0;
        for (; token + 4 <= p.tokens; token += 4) multiply_four_rows<Max, Weights, 4>(p, layout, row, end, token, s);
        for (; token < p.tokens; ++token) multiply_four_rows<Max, Weights, 1>(p, layout, row, end, token, s);
    }
}

}  // namespace camelid::CAMELID_ISA
