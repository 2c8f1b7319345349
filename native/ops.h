// The contract of every kernel: shapes, layouts, and the one order in which numbers are added.
//
// A kernel computes; it does not choose, allocate, log or fail. `processor.cpp` splits the work and hands out memory, `bind.cpp` has
// checked every shape, `isa/*.cpp` compile the kernels once per instruction set. Nothing here knows Python.
//
// CANONICAL ARITHMETIC. Every kernel, on every instruction set, for every number of rows and threads, gives the same bits. So:
//
// Quantized weights
//   * The activations of a row are quantized once, 32 by 32: amax = max |x|, scale dx = amax / 127,
//     q = round_to_nearest_even(x * (127 / amax)), all zero where amax is 0.
//   * For every sub-block that has a scale of its own (32 or 16 weights), in ascending order, one fused multiply-add, and one more for
//     types that have a minimum:
//       acc = fma((d * scale) * dx, float(sum_k (code[k] - offset) * q[k]), acc)
//       acc = fma(m * minimum, dx * float(sum_k q[k]), acc)             (m is -dmin for the K types; scale and minimum are 1 for others)
//     The integer sums are exact in int32, so their order is free; d * scale and m * minimum are exact in float32.
// F32, F16 and BF16 weights
//   * 16 lanes, lane = k mod 16, one fma per lane and step, k ascending, the last step padded with zeros; then the tree
//     of `sum`: lane i + lane i + 8, then + 4, + 2, + 1.
// A bias is added last. Norms use the same 16 lanes. `exp` is our own polynomial (kernels/math.inl).
// Adapters
//   * inner = scale * (the 16 lanes and the tree above, over down · x); acc = fma(inner[r], up[r], acc), r ascending from 0;
//     out = out + acc.
// Attention
//   * score = (sum over d ascending of fma(q[d], k[d])) * softmax_scale.
//   * Pages of 32 keys in ascending order: the maximum, exp, and the tree over (first 16 + last 16) weights; the accumulator is
//     scaled once per page and takes one fma per key in ascending order.
//   * 32 pages make a segment with its own (maximum, sum, accumulator); segments are merged in ascending order.
//   * Keys and values kept in 8 bits: scale = float16(amax / 127) for a token and head, code = round(x * (1 / scale)) within 127. A query
//     is rounded to 15 bits: step = amax / 16383, code = round(x * (16383 / amax)); score = (float(sum of products) * key scale) *
//     (step * softmax_scale). Weights times their values' scales are rounded to 15 bits for each page in the same way, and the
//     accumulator takes fma(float(sum of products), step, accumulator * correction) once per page.
// NaN stays NaN; which NaN is not promised. The rounding mode is to nearest and subnormals are kept (pool.cpp sees to both).
//
// ALIGNMENT AND ALIASING. No pointer needs alignment beyond its element's, except scratch (64 bytes). Outputs alias no input unless said.
#pragma once

#include <cstdint>

namespace camelid {

constexpr int kLanes = 16;         // lanes of the virtual float vector, on every instruction set
constexpr int kPanelColumns = 32;  // outputs whose `up` weights lie together in an adapter
constexpr int kPageTokens = 32;    // keys in a page; base.py's PAGE_TOKENS
constexpr int kSegmentPages = 32;  // pages whose softmax is computed on its own
constexpr int kMaxHeadDim = 1024;
constexpr int kMaxQueries = 16;                  // queries that share the loads of a page
constexpr int64_t kScratchBytes = 512 * 1024;    // what a kernel may use per thread

// Ids are GGML's own, as in formats/blocks.py.
enum class Block : int {
    F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13, Q6_K = 14,
    IQ4_NL = 20, IQ4_XS = 23, BF16 = 30,
};

struct BlockShape {
    int weights;  // 0: a type that is not computed with
    int bytes;
    int halves;   // float16s before the codes of a block of 32
};

constexpr BlockShape block_shape(int ggml_id) {
    switch (static_cast<Block>(ggml_id)) {
        case Block::F32: return {1, 4, 0};
        case Block::F16: return {1, 2, 0};
        case Block::BF16: return {1, 2, 0};
        case Block::Q4_0: return {32, 18, 1};
        case Block::Q4_1: return {32, 20, 2};
        case Block::Q5_0: return {32, 22, 1};
        case Block::Q5_1: return {32, 24, 2};
        case Block::Q8_0: return {32, 34, 1};
        case Block::IQ4_NL: return {32, 18, 1};
        case Block::Q2_K: return {256, 84, 0};
        case Block::Q3_K: return {256, 110, 0};
        case Block::Q4_K: return {256, 144, 0};
        case Block::Q5_K: return {256, 176, 0};
        case Block::Q6_K: return {256, 210, 0};
        case Block::IQ4_XS: return {256, 136, 0};
    }
    return {0, 0, 0};
}

// TURNED. Sixteen rows of a slice (256 columns) may lie side by side, then the same rows' next slice: the first four bytes of each row's
// slice, then the next four, and so on; the last two alone, if two are left over. Of types with blocks of 32, the float16s of all blocks
// come first, each of 16 rows together. Turned bytes are as many as others, and the same ones.
// Returns where byte `at` of the first of the rows lies.
constexpr int turned_at(BlockShape shape, int at) {
    if (shape.weights == 256) return 16 * at;
    const int block = at / shape.bytes, byte = at % shape.bytes, head = 2 * shape.halves;
    return byte < head ? 16 * (block * head + byte) : 16 * (8 * head + block * (shape.bytes - head) + byte - head);
}

// A weight matrix in place: rows of blocks, as in the file, or turned.
struct Matrix {
    const uint8_t* data;
    int64_t rows;
    int64_t columns;
    int64_t row_bytes;
    Block type;
    bool is_turned;  // as many rows as make whole sixteens; columns are whole slices

    // Whether the sixteen rows from `row` on, a multiple of 16, are turned.
    bool turned_from(int64_t row) const { return is_turned && row + 16 <= rows; }
};

// 256 columns of one row's quantized activations; behind the end of the row there are zeros.
struct Slice {
    int8_t codes[256];   // within [-127, 127]
    float scales[8];     // for 32 codes
    float lows[8];       // scale times the sum of 32 codes
    int32_t sums[8];     // of 32 codes
    int16_t sums16[16];  // of 16 codes
};
static_assert(sizeof(Slice) % 64 == 0);

// Quantized activations of T rows: (slices of a row, T), so that what a product reads together lies together.
struct Activations {
    int64_t columns;
    int64_t tokens;
    Slice* slices;
};

// y = x * W^T + bias for T rows. Quantized types read `activations`, the float types `x`.
struct Product {
    Matrix weight;
    const float* bias;   // (rows,) or null
    float* out;          // (T, rows)
    int64_t tokens;
    const float* x;      // (T, columns)
    Activations activations;
};

// What an adapter adds to some rows of a product's output: out[rows[i]] += up · (scale * (down · x[rows[i]])). F32 or F16.
struct Addition {
    Matrix down;          // (rank, columns of x)
    Matrix up;            // a row for each panel of kPanelColumns outputs: (rank, kPanelColumns), zeros behind the last output
    float scale;
    const int32_t* rows;  // (tokens,), none twice in all additions to one output
    int64_t tokens;
    int64_t columns;      // of out
    const float* x;       // (T, columns of x)
    float* out;           // (T, columns)
    float* inner;         // (tokens, rank)
};

// One layer of the cache: a block for each page and kv head. Where numbers are kept as floats it holds the keys as (head_dim, 32), then
// the values as (32, value_stride). Where they are kept as codes of 8 bits, pairs that are multiplied together lie together: keys
// (head_dim / 2, rounded up; 32; 2), values (16; value_stride; 2), then 32 scales of keys and 32 of values in float16.
struct CacheLayer {
    uint8_t* data;
    int bits;              // of a number kept: 32, 16 or 8
    int64_t num_kv_heads;
    int64_t head_dim;
    int64_t value_stride;  // head_dim rounded up to 16
    int64_t head_bytes;    // of a block
    int64_t values_at;     // bytes into a block
    int64_t scales_at;
};

// What `attend` works on. Token t of the batch is at positions[t] and belongs to a sequence whose pages are tables[t].
struct Attention {
    CacheLayer cache;
    int64_t num_heads;
    float softmax_scale;
    bool interleaved;      // which elements rotate together: (2i, 2i + 1) or (i, i + rotary / 2)
    int64_t rotary;        // elements of a head that rotate, even
    const float* cosines;  // (T, rotary / 2)
    const float* sines;
    const int32_t* positions;
    const int32_t* const* tables;
    const float* q;        // (T, num_heads * head_dim)
    const float* k;        // (T, num_kv_heads * head_dim)
    const float* v;
    float* rotated;        // (T, num_heads * head_dim)
    float* out;            // (T, num_heads * head_dim)
};

// Queries that share keys: `tokens` consecutive tokens of one sequence times `heads` query heads of one kv head.
struct AttendItem {
    int64_t token;
    int tokens;
    int64_t head;   // the first query head
    int heads;      // tokens * heads <= kMaxQueries
    int64_t segment;
    int64_t segments;
    float* partial; // null: these are all the segments, write `out`; else (tokens * heads, 2 + value_stride) of maximum, sum, accumulator
};

// The kernels of one instruction set. Ranges are half open.
struct Kernels {
    const char* name;
    // Quantize rows [begin, end) of x (T, columns, a multiple of 32) into `out`.
    void (*quantize)(const float* x, const Activations& out, int64_t begin, int64_t end);
    // Compute rows [begin, end) of the weight for all tokens; at the end fetch the rows at `ahead`, which come next, into the cache.
    void (*multiply)(const Product& product, int64_t begin, int64_t end, const uint8_t* ahead, void* scratch);
    // Dequantize row ids[i] of the table into row i of out (T, columns), for i in [begin, end).
    void (*embed)(const Matrix& table, const int32_t* ids, float* out, int64_t begin, int64_t end, void* scratch);
    // out = norm(x) * weight for rows [begin, end) of n elements; with `delta`, x += delta first. out may be x only without delta.
    void (*norm)(float* x, const float* delta, const float* weight, float* out, int64_t n, float epsilon, int64_t begin, int64_t end);
    // gate = silu(gate) * up for elements [begin, end).
    void (*gate)(float* gate, const float* up, int64_t begin, int64_t end);
    // Rotate q into `rotated`, rotate k, and write k and v to the cache, for tokens [begin, end).
    void (*rotate_and_store)(const Attention& attention, int64_t begin, int64_t end, void* scratch);
    // Attend for one item.
    void (*attend)(const Attention& attention, const AttendItem& item, void* scratch);
    // Merge `count` partials of an item (its `partial` is the first, `stride` floats apart) and write `out`.
    void (*merge)(const Attention& attention, const AttendItem& item, int64_t count, int64_t stride, void* scratch);
    // Compute rows [begin, end) of `down` for all tokens into `inner`.
    void (*low_rank_down)(const Addition& addition, int64_t begin, int64_t end);
    // Add panels [begin, end) of `up` · inner to `out`.
    void (*low_rank_up)(const Addition& addition, int64_t begin, int64_t end);
};

}  // namespace camelid
