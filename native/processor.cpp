#include "processor.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace camelid {
namespace {

constexpr int64_t kTile = 32;             // weight rows that a thread takes at a time
constexpr int64_t kElementsApiece = 4096; // elementwise work below this is not worth sharing
constexpr int64_t kDownRows = 8, kUpPanels = 16;  // of an adapter: what a thread takes at a time
constexpr int64_t kWeightsApiece = 1 << 14;  // encoded by a thread at a time: whole blocks of every type
constexpr int64_t kItemsPerThread = 4;    // with fewer items of attention, long contexts are split as well


// Rows [begin, end) of a product's weight.
struct Tile {
    const Product* product;
    int64_t begin, end;

    const uint8_t* data() const { return product->weight.data + begin * product->weight.row_bytes; }
};

// Rows of `down`, or panels of `up`, that a thread takes at a time.
struct Part {
    const Addition* addition;
    int64_t begin, end;
};

void cut(const Addition& addition, int64_t size, int64_t step, std::vector<Part>& parts) {
    for (int64_t begin = 0; begin < size; begin += step) parts.push_back({&addition, begin, std::min(begin + step, size)});
}

// Tokens [begin, end) of one sequence cut into items of all segments, one for each group of query heads.
void cut_into_items(const Attention& a, int64_t begin, int64_t end, std::vector<AttendItem>& items) {
    const int64_t group = a.num_heads / a.cache.num_kv_heads;
    const int64_t heads = std::min<int64_t>(group, kMaxQueries), tokens = kMaxQueries / heads;
    for (int64_t token = begin; token < end; token += tokens)
        for (int64_t head = 0; head < a.num_heads; head += group)
            for (int64_t part = 0; part < group; part += heads) {
                const int64_t count = std::min(tokens, end - token);
                const int64_t segments = a.positions[token + count - 1] / (kPageTokens * kSegmentPages) + 1;
                items.push_back({token, static_cast<int>(count), head + part, static_cast<int>(std::min(heads, group - part)), 0, segments, nullptr});
            }
}

}  // namespace

Cache::Cache(const CacheShape& shape) : shape_(shape), memory_(static_cast<size_t>(shape.num_layers * shape.num_pages * shape.page_bytes())) {}

CacheLayer Cache::layer(int64_t index) const {
    uint8_t* data = memory_.as<uint8_t>(static_cast<size_t>(index * shape_.num_pages * shape_.page_bytes()));
    return {data, shape_.bits, shape_.num_kv_heads, shape_.head_dim, shape_.value_stride(), shape_.head_bytes(), shape_.values_at(), shape_.scales_at()};
}

void Cache::copy_pages(const int32_t* pairs, int64_t count) {
    const auto bytes = static_cast<size_t>(shape_.page_bytes());
    Buffer sources(static_cast<size_t>(count) * bytes);
    for (int64_t i = 0; i < shape_.num_layers; ++i) {
        uint8_t* data = layer(i).data;
        for (int64_t j = 0; j < count; ++j) std::memcpy(sources.as<uint8_t>(static_cast<size_t>(j) * bytes), data + static_cast<size_t>(pairs[2 * j]) * bytes, bytes);
        for (int64_t j = 0; j < count; ++j) std::memcpy(data + static_cast<size_t>(pairs[2 * j + 1]) * bytes, sources.as<uint8_t>(static_cast<size_t>(j) * bytes), bytes);
    }
}

void Cache::poison() { std::memset(memory_.as<uint8_t>(), 0xff, static_cast<size_t>(shape_.num_layers * shape_.num_pages * shape_.page_bytes())); }

Processor::Processor(const Kernels* kernels, Encode encode, int threads) : kernels_(kernels), encode_(encode), pool_(threads) {
    for (int i = 0; i < threads; ++i) scratch_.emplace_back(static_cast<size_t>(kScratchBytes));
}

Activations Processor::quantize(const float* x, int64_t tokens, int64_t columns) {
    slices_.reserve(static_cast<size_t>((columns + 255) / 256 * tokens) * sizeof(Slice));
    const Activations out{columns, tokens, slices_.as<Slice>()};
    pool_.run(tokens, std::max<int64_t>(1, kElementsApiece / columns), [&](int64_t begin, int64_t end, int) { kernels_->quantize(x, out, begin, end); });
    return out;
}

void Processor::multiply(const float* x, std::vector<Product>& products) {
    const std::lock_guard<std::mutex> lock(turn_);
    Activations activations{};
    std::vector<Tile> tiles;
    for (Product& product : products) {
        const bool quantized = block_shape(static_cast<int>(product.weight.type)).weights > 1;
        if (quantized && !activations.slices) activations = quantize(x, product.tokens, product.weight.columns);
        product.x = x;
        product.activations = activations;
        for (int64_t row = 0; row < product.weight.rows; row += kTile) tiles.push_back({&product, row, std::min(row + kTile, product.weight.rows)});
    }
    pool_.run(static_cast<int64_t>(tiles.size()), 1, [&](int64_t begin, int64_t end, int worker) {
        for (int64_t i = begin; i < end; ++i) {
            const Tile& tile = tiles[static_cast<size_t>(i)];
            const uint8_t* ahead = i + 1 < static_cast<int64_t>(tiles.size()) ? tiles[static_cast<size_t>(i + 1)].data() : tile.data();
            kernels_->multiply(*tile.product, tile.begin, tile.end, ahead, scratch(worker));
        }
    });
}

void Processor::add_low_rank(std::vector<Addition>& additions) {
    const std::lock_guard<std::mutex> lock(turn_);
    int64_t count = 0;
    for (const Addition& a : additions) count += a.tokens * a.down.rows;
    inner_.reserve(static_cast<size_t>(count) * sizeof(float));
    float* inner = inner_.as<float>();
    std::vector<Part> downs, ups;
    for (Addition& a : additions) {
        a.inner = inner;
        inner += a.tokens * a.down.rows;
        cut(a, a.down.rows, kDownRows, downs);
        cut(a, a.up.rows, kUpPanels, ups);
    }
    pool_.run(static_cast<int64_t>(downs.size()), 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) kernels_->low_rank_down(*downs[static_cast<size_t>(i)].addition, downs[static_cast<size_t>(i)].begin, downs[static_cast<size_t>(i)].end);
    });
    pool_.run(static_cast<int64_t>(ups.size()), 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) kernels_->low_rank_up(*ups[static_cast<size_t>(i)].addition, ups[static_cast<size_t>(i)].begin, ups[static_cast<size_t>(i)].end);
    });
}

void Processor::embed(const Matrix& table, const int32_t* ids, int64_t tokens, float* out) {
    const std::lock_guard<std::mutex> lock(turn_);
    pool_.run(tokens, std::max<int64_t>(1, kElementsApiece / table.columns), [&](int64_t begin, int64_t end, int worker) {
        kernels_->embed(table, ids, out, begin, end, scratch(worker));
    });
}

void Processor::norm(float* x, const float* delta, const float* weight, float* out, int64_t tokens, int64_t n, float epsilon) {
    pool_.run(tokens, std::max<int64_t>(1, kElementsApiece / n), [&](int64_t begin, int64_t end, int) {
        kernels_->norm(x, delta, weight, out, n, epsilon, begin, end);
    });
}

void Processor::gate(float* gate, const float* up, int64_t count) {
    pool_.run(count, kElementsApiece, [&](int64_t begin, int64_t end, int) { kernels_->gate(gate, up, begin, end); });
}

bool Processor::encode(Block from, const uint8_t* weights, Block to, uint8_t* out, int64_t count) {
    const std::lock_guard<std::mutex> lock(turn_);
    const BlockShape source = block_shape(static_cast<int>(from)), target = block_shape(static_cast<int>(to));
    std::atomic<bool> holds{true};
    pool_.run(count, kWeightsApiece, [&](int64_t begin, int64_t end, int worker) {
        uint8_t* at = out + begin / target.weights * target.bytes;
        if (!encode_(from, weights + begin * source.bytes, to, at, end - begin, scratch(worker))) holds.store(false);
    });
    return holds.load();
}

void Processor::attend(const Cache& cache, int64_t layer, const Step& step, const AttendShape& shape, const float* q, const float* k,
                       const float* v, float* out) {
    const std::lock_guard<std::mutex> lock(turn_);
    rotated_.reserve(static_cast<size_t>(step.tokens * shape.num_heads * cache.shape().head_dim) * sizeof(float));
    const Attention attention{cache.layer(layer), shape.num_heads, shape.softmax_scale, shape.interleaved, step.rotary,
                              step.cosines.data(), step.sines.data(), step.positions.data(), step.tables.data(), q, k, v,
                              rotated_.as<float>(), out};
    pool_.run(step.tokens, 4, [&](int64_t begin, int64_t end, int worker) { kernels_->rotate_and_store(attention, begin, end, scratch(worker)); });
    attend_items(attention, step);
}

void Processor::attend_items(const Attention& attention, const Step& step) {
    std::vector<AttendItem> items;
    for (size_t s = 0; s + 1 < step.row_starts.size(); ++s) cut_into_items(attention, step.row_starts[s], step.row_starts[s + 1], items);
    const int64_t stride = kMaxQueries * (2 + attention.cache.value_stride);  // floats of a partial
    std::vector<AttendItem> pieces;
    const bool split = static_cast<int64_t>(items.size()) < kItemsPerThread * threads();
    int64_t num_partials = 0;
    for (const AttendItem& item : items) num_partials += split && item.segments > 1 ? item.segments : 0;
    partials_.reserve(static_cast<size_t>(num_partials * stride) * sizeof(float));
    float* next = partials_.as<float>();
    for (AttendItem& item : items) {
        if (!split || item.segments == 1) {
            pieces.push_back(item);
            continue;
        }
        item.partial = next;
        for (int64_t segment = 0; segment < item.segments; ++segment, next += stride) {
            AttendItem piece = item;
            piece.segment = segment;
            piece.partial = next;
            pieces.push_back(piece);
        }
    }
    pool_.run(static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end, int worker) {
        for (int64_t i = begin; i < end; ++i) kernels_->attend(attention, pieces[static_cast<size_t>(i)], scratch(worker));
    });
    if (num_partials == 0) return;
    pool_.run(static_cast<int64_t>(items.size()), 1, [&](int64_t begin, int64_t end, int worker) {
        for (int64_t i = begin; i < end; ++i) {
            const AttendItem& item = items[static_cast<size_t>(i)];
            if (item.partial) kernels_->merge(attention, item, item.segments, stride, scratch(worker));
        }
    });
}

}  // namespace camelid
