// One processor at work: the kernels of an instruction set, a pool of threads, and the memory that they share. It splits every operation
// into pieces. Shapes have been checked (bind.cpp); how the work is split never changes a bit of the result.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "encode.h"
#include "memory.h"
#include "ops.h"
#include "pool.h"

namespace camelid {

struct CacheShape {
    int64_t num_layers, num_pages, num_kv_heads, head_dim;
    int bits;  // of a number kept: 32, 16 or 8

    int64_t value_stride() const { return (head_dim + kLanes - 1) / kLanes * kLanes; }
    int64_t values_at() const { return kPageTokens * (bits == 8 ? head_dim + head_dim % 2 : head_dim * bits / 8); }
    int64_t scales_at() const { return values_at() + kPageTokens * value_stride() * bits / 8; }
    int64_t head_bytes() const { return scales_at() + (bits == 8 ? kPageTokens * 4 : 0); }
    int64_t page_bytes() const { return num_kv_heads * head_bytes(); }  // of one layer
};

// Keys and values of all layers: (layers, pages, kv heads) of the blocks that ops.h describes.
class Cache {
public:
    explicit Cache(const CacheShape& shape);

    const CacheShape& shape() const { return shape_; }
    CacheLayer layer(int64_t index) const;
    // Copy `count` pages in all layers, pairs of (from, to); every source is read before any target is written.
    void copy_pages(const int32_t* pairs, int64_t count);
    void poison();  // fill with NaN, so that a test sees whether an unwritten slot counts

private:
    CacheShape shape_;
    Buffer memory_;
};

// What one batch's attention needs in every layer, worked out once.
struct Step {
    int64_t tokens = 0;
    int64_t rotary = 0;
    std::vector<int32_t> positions;       // (T,)
    std::vector<int32_t> row_starts;      // (S + 1,)
    std::vector<int32_t> pages;           // (S, columns)
    std::vector<const int32_t*> tables;   // (T,) into `pages`
    std::vector<float> cosines, sines;    // (T, rotary / 2)
};

struct AttendShape {
    int64_t num_heads;
    float softmax_scale;
    bool interleaved;
};

class Processor {
public:
    Processor(const Kernels* kernels, Encode encode, int threads);

    const char* isa() const { return kernels_->name; }
    int threads() const { return pool_.threads(); }

    // Each product's `out` for the same x (T, columns).
    void multiply(const float* x, std::vector<Product>& products);
    // Each addition to its `out`; `inner` is handed out here.
    void add_low_rank(std::vector<Addition>& additions);
    void embed(const Matrix& table, const int32_t* ids, int64_t tokens, float* out);
    void norm(float* x, const float* delta, const float* weight, float* out, int64_t tokens, int64_t n, float epsilon);
    void gate(float* gate, const float* up, int64_t count);
    // Encode `count` weights, whole blocks. False for a weight that the type cannot hold.
    bool encode(Block from, const uint8_t* weights, Block to, uint8_t* out, int64_t count);
    void attend(const Cache& cache, int64_t layer, const Step& step, const AttendShape& shape, const float* q, const float* k,
                const float* v, float* out);

private:
    void* scratch(int worker) const { return scratch_[static_cast<size_t>(worker)].as<void>(); }
    Activations quantize(const float* x, int64_t tokens, int64_t columns);
    void attend_items(const Attention& attention, const Step& step);

    const Kernels* kernels_;
    Encode encode_;
    Pool pool_;
    std::mutex turn_;  // the buffers below serve one operation at a time
    std::vector<Buffer> scratch_;
    Buffer slices_, rotated_, partials_, inner_;
};

}  // namespace camelid
