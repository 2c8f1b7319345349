// The product for many tokens: 256 columns of a tile of weight rows are unpacked once, turned so that 16 rows are one vector, and met by
// all tokens. A panel holds, for each group of 16 rows, 64 vectors of four consecutive codes per row.

namespace camelid::CAMELID_ISA {

constexpr int kTileRows = 16 * kRowVectors;
constexpr int kPanelTokens = 256;  // tokens whose float sums are kept: with 32 rows, 32 KB

struct Panel {
    alignas(64) uint8_t codes[kRowVectors][64][64];
    alignas(64) int16_t scales[kRowVectors][16][32];      // 256: per sub-block and row, twice
    alignas(64) int16_t scale_pairs[kRowVectors][16][32]; // 256: per row, sub-blocks (2 i, 2 i + 1); 8 of scales, then 8 of minimums
    alignas(64) float d[kRowVectors][16][16];             // 256: d, then m, of the one block; 32: d of 8 blocks, then m
};

struct PanelScratch {
    Panel panel;
    alignas(64) uint8_t codes[16][256];
    alignas(64) int16_t scales[16][32];
    alignas(64) int16_t doubled[16][32];
    alignas(64) float d[16][16];
    alignas(64) float sums[kPanelTokens][kTileRows];
};

// Unpack `n` blocks of 16 rows and turn them. Past the end, the last row once more.
template <int Weights>
VERB void fill_group(const Product& p, const Layout& layout, int64_t row, int64_t end, int64_t block, int n, int group, PanelScratch& s) {
    for (int r = 0; r < 16; ++r) {
        const int64_t at = row + r < end ? row + r : end - 1;
        layout.unpack(p.weight.data + at * p.weight.row_bytes + block * layout.bytes, n, {s.codes[r], s.scales[r], s.d[r], s.d[r] + 8});
    }
    for (int i = 0; i < 4; ++i) transpose(s.codes[0] + 64 * i, 256, s.panel.codes[group][16 * i]);
    transpose(s.d, 64, s.panel.d[group]);
    if constexpr (Weights == 256) {
        transpose(s.scales, 64, s.panel.scale_pairs[group]);
        for (int r = 0; r < 16; ++r)
            for (int i = 0; i < 16; ++i) s.doubled[r][2 * i] = s.doubled[r][2 * i + 1] = s.scales[r][i];
        transpose(s.doubled, 64, s.panel.scales[group]);
    }
}

// One 256-weight block for a tile of rows and `Tokens` tokens.
template <int Max, int Tokens>
static void multiply_block_256(const Panel& panel, const Layout& layout, const Activations& a, int64_t token, int64_t block, float (*sums)[kTileRows]) {
    const int8_t* x = a.codes + token * a.code_stride + 256 * block;
    I acc[Tokens][kRowVectors];
    for (int t = 0; t < Tokens; ++t)
        for (int v = 0; v < kRowVectors; ++v) acc[t][v] = zero_i();
    for (int sub = 0; sub < 16; ++sub) {
        B scale[kRowVectors];
        for (int v = 0; v < kRowVectors; ++v) scale[v] = load_bytes(panel.scales[v][sub]);
        for (int i = 4 * sub; i < 4 * sub + 4; ++i) {
            B w[kRowVectors];
            for (int v = 0; v < kRowVectors; ++v) w[v] = load_bytes(panel.codes[v][i]);
            for (int t = 0; t < Tokens; ++t) {
                const B quad = broadcast_quad(x + t * a.code_stride + 4 * i);
                for (int v = 0; v < kRowVectors; ++v) acc[t][v] = dot_scaled<Max>(acc[t][v], w[v], quad, scale[v]);
            }
        }
    }
    for (int t = 0; t < Tokens; ++t) {
        const int64_t at = (token + t) * a.scale_stride + block;
        const F scale = set1(a.scales[at]);
        for (int v = 0; v < kRowVectors; ++v) {
            I total = acc[t][v], other = zero_i();
            if (layout.rest_shift >= 0) {
                for (int i = 0; i < 8; ++i)
                    other = dot_pairs(other, load_bytes(panel.scale_pairs[v][i]), broadcast_quad(a.sums16 + 16 * at + 2 * i));
                total = sub_i(total, shift_left(other, layout.rest_shift));
            }
            F sum = fused(mul(load(panel.d[v][0]), scale), to_float(total), load(sums[t] + 16 * v));
            if (layout.has_minimum) {
                other = zero_i();
                for (int i = 0; i < 8; ++i)
                    other = dot_pairs(other, load_bytes(panel.scale_pairs[v][8 + i]), broadcast_quad(a.sums16 + 16 * at + 2 * i));
                sum = fused(mul(load(panel.d[v][8]), scale), to_float(other), sum);
            }
            store(sums[t] + 16 * v, sum);
        }
    }
}

// Up to eight 32-weight blocks for a tile of rows and `Tokens` tokens.
template <int Max, int Tokens>
static void multiply_blocks_32(const Panel& panel, const Layout& layout, const Activations& a, int64_t token, int64_t block, int n, float (*sums)[kTileRows]) {
    for (int b = 0; b < n; ++b) {
        const int8_t* x = a.codes + token * a.code_stride + 32 * (block + b);
        I acc[Tokens][kRowVectors];
        for (int t = 0; t < Tokens; ++t)
            for (int v = 0; v < kRowVectors; ++v) acc[t][v] = zero_i();
        for (int i = 0; i < 8; ++i) {
            B w[kRowVectors];
            for (int v = 0; v < kRowVectors; ++v) w[v] = load_bytes(panel.codes[v][8 * b + i]);
            for (int t = 0; t < Tokens; ++t) {
                const B quad = broadcast_quad(x + t * a.code_stride + 4 * i);
                for (int v = 0; v < kRowVectors; ++v) acc[t][v] = dot<Max>(acc[t][v], w[v], quad);
            }
        }
        for (int t = 0; t < Tokens; ++t) {
            const int64_t at = (token + t) * a.scale_stride + block + b;
            const F scale = set1(a.scales[at]);
            const I x_sum = set1_i(a.sums32[at]);
            for (int v = 0; v < kRowVectors; ++v) {
                I total = acc[t][v];
                if (layout.rest_shift >= 0) total = sub_i(total, shift_left(x_sum, layout.rest_shift));
                F sum = fused(mul(load(panel.d[v][b]), scale), to_float(total), load(sums[t] + 16 * v));
                if (layout.has_minimum) sum = fused(mul(load(panel.d[v][8 + b]), scale), to_float(x_sum), sum);
                store(sums[t] + 16 * v, sum);
            }
        }
    }
}

template <int Max, int Weights, int Tokens>
VERB int64_t multiply_tokens(const Product& p, const Layout& layout, int64_t base, int64_t token, int64_t count, int64_t block, int n, PanelScratch& s) {
    for (; token + Tokens <= count; token += Tokens) {
        if constexpr (Weights == 256) multiply_block_256<Max, Tokens>(s.panel, layout, p.activations, base + token, block, s.sums + token);
        else multiply_blocks_32<Max, Tokens>(s.panel, layout, p.activations, base + token, block, n, s.sums + token);
    }
    return token;
}

VERB void write_tile(const Product& p, int64_t row, int64_t end, int64_t base, int64_t count, const PanelScratch& s) {
    for (int v = 0; v < kRowVectors; ++v) {
        const int64_t first_row = row + 16 * v;
        const int rows = static_cast<int>(end - first_row < 16 ? end - first_row : 16);
        if (rows <= 0) return;
        for (int64_t t = 0; t < count; ++t) {
            F y = load(s.sums[t] + 16 * v);
            if (p.bias) y = add(y, load_first(p.bias + first_row, rows));
            store_first(p.out + (base + t) * p.weight.rows + first_row, y, rows);
        }
    }
}

template <int Max, int Weights>
static void multiply_panel(const Product& p, const Layout& layout, int64_t begin, int64_t end, void* scratch) {
    constexpr int step = 256 / Weights;
    PanelScratch& s = *static_cast<PanelScratch*>(scratch);
    memset(&s, 0, sizeof s);  // the tail of a row is turned along, though not used
    const int64_t blocks = p.weight.columns / Weights;
    for (int64_t base = 0; base < p.tokens; base += kPanelTokens) {
        const int64_t count = p.tokens - base < kPanelTokens ? p.tokens - base : kPanelTokens;
        for (int64_t row = begin; row < end; row += kTileRows) {
            memset(s.sums, 0, static_cast<size_t>(count) * sizeof s.sums[0]);
            for (int64_t block = 0; block < blocks; block += step) {
                const int n = static_cast<int>(blocks - block < step ? blocks - block : step);
                for (int v = 0; v < kRowVectors; ++v) fill_group<Weights>(p, layout, row + 16 * v, end, block, n, v, s);
                int64_t token = multiply_tokens<Max, Weights, kTokens>(p, layout, base, 0, count, block, n, s);
                token = multiply_tokens<Max, Weights, 2>(p, layout, base, token, count, block, n, s);
                multiply_tokens<Max, Weights, 1>(p, layout, base, token, count, block, n, s);
            }
            write_tile(p, row, end, base, count, s);
        }
    }
}

}  // namespace camelid::CAMELID_ISA
