// The door to Python: every dtype, shape and index is checked here, so that nothing below can be handed something impossible.
// Computing releases the interpreter's lock. The only file that includes nanobind. Types as Python sees them: _native.pyi.
//
// An operation is checked when it is asked for. A Processor then does it at once, a Queue when it is told to run: weights push the
// interpreter out of the caches, and what it does between two operations costs ten times as much as what it does before them all.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "dispatch.h"
#include "probes.h"
#include "processor.h"
#include "rope.h"
#include "turning.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace camelid {
namespace {

template <class T, int Dimensions>
using Array = nb::ndarray<T, nb::numpy, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;

void check(bool holds, const std::string& otherwise) {
    if (!holds) throw nb::value_error(otherwise.c_str());
}

std::string text(int64_t n) { return std::to_string(n); }

template <class A>
int64_t size(const A& array, size_t axis) { return static_cast<int64_t>(array.shape(axis)); }

template <class T>
void check_shape(const Array<T, 2>& array, int64_t rows, int64_t columns, const char* name) {
    check(size(array, 0) == rows && size(array, 1) == columns,
          std::string(name) + " must be (" + text(rows) + ", " + text(columns) + "), got (" + text(size(array, 0)) + ", " + text(size(array, 1)) + ")");
}

template <class T>
void check_length(const Array<T, 1>& array, int64_t length, const char* name) {
    check(size(array, 0) == length, std::string(name) + " must have " + text(length) + " elements, got " + text(size(array, 0)));
}

// A weight matrix that lies in someone else's array, usually a mapped file.
struct Weight {
    Array<const uint8_t, 2> rows;
    Matrix matrix;

    Weight(Array<const uint8_t, 2> bytes, int ggml_id, int64_t columns, bool is_turned) : rows(std::move(bytes)) {
        const BlockShape shape = block_shape(ggml_id);
        check(shape.weights > 0, "no kernels for the block type " + text(ggml_id));
        check(columns > 0 && columns % shape.weights == 0, "a row of " + text(columns) + " weights is not a whole number of blocks of " + text(shape.weights));
        check(size(rows, 1) == columns / shape.weights * shape.bytes,
              "a row of " + text(columns) + " weights has " + text(columns / shape.weights * shape.bytes) + " bytes, got " + text(size(rows, 1)));
        matrix = {rows.data(), size(rows, 0), columns, size(rows, 1), static_cast<Block>(ggml_id), is_turned};
        check(!is_turned || can_turn(matrix), "only quantized rows of whole slices of 256 lie turned, not " + text(columns) + " weights of type " + text(ggml_id));
    }
};

void turn_rows(const Weight& weight, int64_t begin, const Array<uint8_t, 2>& out) {
    const Matrix& matrix = weight.matrix;
    check(can_turn(matrix) && !matrix.is_turned, "only quantized rows of whole slices of 256 can be turned, and once");
    const int64_t end = begin + size(out, 0);
    check(begin >= 0 && begin % 16 == 0 && end <= matrix.rows && (end % 16 == 0 || end == matrix.rows),
          "rows " + text(begin) + " to " + text(end) + " of " + text(matrix.rows) + " are not whole sixteens");
    check_shape(out, end - begin, matrix.row_bytes, "out");
    const nb::gil_scoped_release unlocked;
    turn(matrix, begin, end, out.data());
}

CacheShape checked_cache_shape(int64_t layers, int64_t pages, int64_t kv_heads, int64_t head_dim, int bits) {
    check(layers > 0 && pages > 0 && kv_heads > 0, "a cache needs at least one layer, page and head");
    check(head_dim > 0 && head_dim <= kMaxHeadDim, "head_dim must be 1-" + text(kMaxHeadDim) + ", got " + text(head_dim));
    check(bits == 8 || bits == 16 || bits == 32, "a cache keeps numbers of 8, 16 or 32 bits, got " + text(bits));
    const double bytes = static_cast<double>(layers) * static_cast<double>(pages) * static_cast<double>(kv_heads) * static_cast<double>(kPageTokens * 8 * (head_dim + kLanes));
    if (bytes > 0x1p62) throw std::bad_alloc();
    return {layers, pages, kv_heads, head_dim, bits};
}

void copy_pages(Cache& cache, const Array<const int32_t, 2>& pairs) {
    const int64_t count = size(pairs, 0), num_pages = cache.shape().num_pages;
    check_shape(pairs, count, 2, "page_copies");
    for (int64_t i = 0; i < 2 * count; ++i) {
        const int32_t page = pairs.data()[i];
        check(page >= 0 && page < num_pages, "page_copies names page " + text(page) + " of " + text(num_pages));
    }
    const nb::gil_scoped_release unlocked;
    cache.copy_pages(pairs.data(), count);
}

// A step and how many pages its table was checked against.
struct CheckedStep : Step {
    int64_t num_pages = 0;
};

void check_rows(const CheckedStep& step) {
    const auto& starts = step.row_starts;
    check(!starts.empty() && starts.front() == 0 && starts.back() == step.tokens, "row_starts must run from 0 to " + text(step.tokens));
    for (size_t s = 0; s + 1 < starts.size(); ++s) {
        check(starts[s] <= starts[s + 1], "row_starts must ascend");
        for (int64_t t = starts[s]; t < starts[s + 1]; ++t) {
            const int64_t expected = t == starts[s] ? step.positions[static_cast<size_t>(t)] : step.positions[static_cast<size_t>(t - 1)] + int64_t{1};
            check(step.positions[static_cast<size_t>(t)] == expected && expected >= 0, "the positions of a sequence must be consecutive and not negative");
        }
    }
}

void check_pages(CheckedStep& step, int64_t columns) {
    step.tables.resize(static_cast<size_t>(step.tokens));
    for (size_t s = 0; s + 1 < step.row_starts.size(); ++s) {
        if (step.row_starts[s] == step.row_starts[s + 1]) continue;
        const int32_t* table = step.pages.data() + static_cast<int64_t>(s) * columns;
        const int64_t last = step.positions[static_cast<size_t>(step.row_starts[s + 1] - 1)] / kPageTokens;
        check(last < columns, "sequence " + text(static_cast<int64_t>(s)) + " needs " + text(last + 1) + " pages, and the table has " + text(columns));
        for (int64_t page = 0; page <= last; ++page)
            check(table[page] >= 0 && table[page] < step.num_pages, "the page table names page " + text(table[page]) + " of " + text(step.num_pages));
        for (int64_t t = step.row_starts[s]; t < step.row_starts[s + 1]; ++t) step.tables[static_cast<size_t>(t)] = table;
    }
}

void make_step(CheckedStep* self, const Array<const int32_t, 1>& positions, const Array<const int32_t, 1>& row_starts,
               const Array<const int32_t, 2>& page_table, int64_t num_pages, const Array<const double, 1>& inverse_frequencies, double amplitude) {
    CheckedStep step;
    step.tokens = size(positions, 0);
    step.num_pages = num_pages;
    check(size(row_starts, 0) >= 1 && size(page_table, 0) == size(row_starts, 0) - 1,
          "row_starts must have one element more than page_table has rows, got " + text(size(row_starts, 0)) + " and " + text(size(page_table, 0)));
    step.positions.assign(positions.data(), positions.data() + positions.size());
    step.row_starts.assign(row_starts.data(), row_starts.data() + row_starts.size());
    step.pages.assign(page_table.data(), page_table.data() + page_table.size());
    check_rows(step);
    check_pages(step, size(page_table, 1));
    const int64_t half = size(inverse_frequencies, 0);
    for (int64_t i = 0; i < half; ++i) check(std::fabs(inverse_frequencies.data()[i]) <= 16.0, "an inverse frequency must be finite and at most 16");
    step.rotary = 2 * half;
    step.cosines.resize(static_cast<size_t>(step.tokens * half));
    step.sines.resize(step.cosines.size());
    rope_table(step.positions.data(), step.tokens, inverse_frequencies.data(), half, amplitude, step.cosines.data(), step.sines.data());
    new (self) CheckedStep(std::move(step));  // a moved vector keeps its memory: `tables` still points into `pages`
}

const Kernels* checked_kernels(const std::string& isa) {
    const Kernels* kernels = find_kernels(isa);
    std::string names;
    for (const std::string& name : available_isas()) names += (names.empty() ? "" : ", ") + name;
    check(kernels != nullptr, "isa must be one of " + names + " on this machine, got '" + isa + "'");
    return kernels;
}

void make_processor(Processor* self, int threads, const std::string& isa) {
    check(threads >= 1 && threads <= 1024, "threads must be 1-1024, got " + text(threads));
    const Kernels* kernels = checked_kernels(isa);
    new (self) Processor(kernels, find_encode(*kernels), threads);
}

// What is to be done once the checks are passed. It keeps what it works on: destroying it takes the interpreter's lock.
using Action = std::function<void(Processor&)>;

void perform(Processor& processor, Action action) {
    const nb::gil_scoped_release unlocked;
    action(processor);
}

// Operations that wait to be done together, in the order in which they came.
struct Queue {
    Processor& processor;
    std::vector<Action> actions;
};

void perform(Queue& queue, Action action) { queue.actions.push_back(std::move(action)); }

void run(Queue& queue) {
    const std::vector<Action> actions = std::move(queue.actions);  // gone afterwards, whatever happens
    queue.actions.clear();
    const nb::gil_scoped_release unlocked;
    for (const Action& action : actions) action(queue.processor);
}

template <class Self>
void linear(Self& self, const Array<const float, 2>& x, const std::vector<const Weight*>& weights,
            const std::vector<std::optional<Array<const float, 1>>>& biases, const std::vector<Array<float, 2>>& outs) {
    check(weights.size() == outs.size() && (biases.empty() || biases.size() == weights.size()), "weights, biases and outs must be as many");
    const int64_t tokens = size(x, 0);
    std::vector<Product> products;
    std::vector<Array<const uint8_t, 2>> kept;
    for (size_t i = 0; i < weights.size(); ++i) {
        check(weights[i] != nullptr, "a weight must not be None");
        const Matrix& matrix = weights[i]->matrix;
        check_shape(x, tokens, matrix.columns, "x");
        check_shape(outs[i], tokens, matrix.rows, "out");
        const float* bias = nullptr;
        if (i < biases.size() && biases[i]) {
            check_length(*biases[i], matrix.rows, "bias");
            bias = biases[i]->data();
        }
        products.push_back({matrix, bias, outs[i].data(), tokens, x.data(), {}});
        kept.push_back(weights[i]->rows);
    }
    if (tokens == 0 || products.empty()) return;
    perform(self, [x, products, kept, biases, outs](Processor& processor) mutable { processor.multiply(x.data(), products); });
}

void check_addition(const Weight* down, const Weight* up, const Array<const int32_t, 1>& rows, const Array<const float, 2>& x, const Array<float, 2>& out) {
    check(down != nullptr && up != nullptr, "a weight must not be None");
    const auto is_float = [](const Weight* weight) { return weight->matrix.type == Block::F32 || weight->matrix.type == Block::F16; };
    check(is_float(down) && is_float(up), "the weights of an adapter are F32 or F16");
    check(size(x, 0) == size(out, 0) && size(x, 1) == down->matrix.columns, "x must have " + text(size(out, 0)) + " rows of " + text(down->matrix.columns));
    check(up->matrix.columns == down->matrix.rows * kPanelColumns && up->matrix.rows == (size(out, 1) + kPanelColumns - 1) / kPanelColumns,
          "up must hold " + text(size(out, 1)) + " outputs of rank " + text(down->matrix.rows) + " in panels of " + text(kPanelColumns));
    for (size_t i = 0; i < rows.size(); ++i)
        check(rows.data()[i] >= 0 && rows.data()[i] < size(x, 0), "the row " + text(rows.data()[i]) + " is not one of " + text(size(x, 0)));
}

template <class Self>
void add_low_rank(Self& self, const Array<const float, 2>& x, const std::vector<const Weight*>& downs, const std::vector<const Weight*>& ups,
                  const std::vector<float>& scales, const std::vector<Array<const int32_t, 1>>& rows, const std::vector<Array<float, 2>>& outs) {
    const size_t count = downs.size();
    check(ups.size() == count && scales.size() == count && rows.size() == count && outs.size() == count, "downs, ups, scales, rows and outs must be as many");
    std::vector<Addition> additions;
    std::vector<Array<const uint8_t, 2>> kept;
    for (size_t i = 0; i < count; ++i) {
        check_addition(downs[i], ups[i], rows[i], x, outs[i]);
        if (rows[i].size() > 0) additions.push_back({downs[i]->matrix, ups[i]->matrix, scales[i], rows[i].data(), size(rows[i], 0), size(outs[i], 1), x.data(), outs[i].data(), nullptr});
        kept.insert(kept.end(), {downs[i]->rows, ups[i]->rows});
    }
    if (additions.empty()) return;
    perform(self, [x, additions, kept, rows, outs](Processor& processor) mutable { processor.add_low_rank(additions); });
}

template <class Self>
void embed(Self& self, const Array<const int32_t, 1>& ids, const Weight& table, const Array<float, 2>& out) {
    check_shape(out, size(ids, 0), table.matrix.columns, "out");
    for (int64_t i = 0; i < size(ids, 0); ++i)
        check(ids.data()[i] >= 0 && ids.data()[i] < table.matrix.rows, "the id " + text(ids.data()[i]) + " is not in a table of " + text(table.matrix.rows) + " rows");
    perform(self, [ids, matrix = table.matrix, kept = table.rows, out](Processor& processor) { processor.embed(matrix, ids.data(), size(ids, 0), out.data()); });
}

template <class Self>
void norm(Self& self, const Array<float, 2>& x, const std::optional<Array<const float, 2>>& delta, const Array<const float, 1>& weight,
          float epsilon, const Array<float, 2>& out) {
    check(size(x, 1) > 0, "x must have columns");
    check_shape(out, size(x, 0), size(x, 1), "out");
    check_length(weight, size(x, 1), "weight");
    if (delta) check_shape(*delta, size(x, 0), size(x, 1), "delta");
    perform(self, [x, delta, weight, epsilon, out](Processor& processor) {
        processor.norm(x.data(), delta ? delta->data() : nullptr, weight.data(), out.data(), size(x, 0), size(x, 1), epsilon);
    });
}

template <class Self>
void gate(Self& self, const Array<float, 2>& gate, const Array<const float, 2>& up) {
    check_shape(up, size(gate, 0), size(gate, 1), "up");
    perform(self, [gate, up](Processor& processor) { processor.gate(gate.data(), up.data(), static_cast<int64_t>(gate.size())); });
}

bool encode(Processor& self, const Array<const uint8_t, 2>& rows, int from, int to, const Array<uint8_t, 2>& out) {
    const BlockShape source = block_shape(from), target = block_shape(to);
    check(source.weights == 1 && is_float_type(static_cast<Block>(from)), "weights of the block type " + text(from) + " are no floats");
    check(target.weights > 0 && is_encodable(static_cast<Block>(to)), "weights cannot be encoded as the block type " + text(to));
    const int64_t columns = size(rows, 1) / source.bytes;
    check(columns * source.bytes == size(rows, 1) && columns % target.weights == 0, "a row of " + text(size(rows, 1)) + " bytes is no whole number of blocks");
    check_shape(out, size(rows, 0), columns / target.weights * target.bytes, "out");
    const nb::gil_scoped_release unlocked;
    return self.encode(static_cast<Block>(from), rows.data(), static_cast<Block>(to), out.data(), size(rows, 0) * columns);
}

template <class Self>
void attend(Self& self, const Array<const float, 2>& q, const Array<const float, 2>& k, const Array<const float, 2>& v, Cache& cache,
            int64_t layer, const CheckedStep& step, int64_t num_heads, double softmax_scale, bool interleaved, const Array<float, 2>& out) {
    const CacheShape& shape = cache.shape();
    check(layer >= 0 && layer < shape.num_layers, "layer must be 0-" + text(shape.num_layers - 1) + ", got " + text(layer));
    check(num_heads > 0 && num_heads % shape.num_kv_heads == 0, text(num_heads) + " heads cannot share " + text(shape.num_kv_heads) + " key/value heads");
    check(step.rotary <= shape.head_dim, "more rotary dimensions than a head has: " + text(step.rotary) + " of " + text(shape.head_dim));
    check(step.num_pages == shape.num_pages, "the step was made for another cache");
    check_shape(q, step.tokens, num_heads * shape.head_dim, "q");
    check_shape(k, step.tokens, shape.num_kv_heads * shape.head_dim, "k");
    check_shape(v, step.tokens, shape.num_kv_heads * shape.head_dim, "v");
    check_shape(out, step.tokens, num_heads * shape.head_dim, "out");
    const AttendShape heads{num_heads, static_cast<float>(softmax_scale), interleaved};
    perform(self, [q, k, v, &cache, layer, &step, heads, out, kept = std::make_pair(nb::find(cache), nb::find(step))](Processor& processor) {
        processor.attend(cache, layer, step, heads, q.data(), k.data(), v.data(), out.data());
    });
}

void check_probe(int threads, double seconds) {
    check(threads >= 1 && threads <= 1024, "threads must be 1-1024, got " + text(threads));
    check(seconds >= 0.001 && seconds <= 60.0, "seconds must be 0.001-60");
}

double probe_arithmetic(const std::string& isa, const std::string& kind, int threads, double seconds) {
    checked_kernels(isa);
    check_probe(threads, seconds);
    for (const ArithmeticProbe& probe : arithmetic_probes()) {
        if (isa != probe.isa || kind != probe.kind) continue;
        const nb::gil_scoped_release unlocked;
        return measure_arithmetic(probe, threads, seconds);
    }
    throw nb::value_error(("there is no probe of " + kind + " for " + isa).c_str());
}

double probe_reading(const std::string& isa, int threads, int64_t bytes, int64_t ahead, double seconds) {
    checked_kernels(isa);
    check_probe(threads, seconds);
    check(bytes >= int64_t{threads} * 4096 && bytes <= int64_t{1} << 40, "bytes must be 4096 for each thread or more, got " + text(bytes));
    check(ahead >= 0 && ahead <= 65536, "ahead must be 0-65536, got " + text(ahead));
    const nb::gil_scoped_release unlocked;
    return measure_reading(isa, threads, bytes, ahead, seconds);
}

std::vector<std::vector<std::string>> probes() {
    std::vector<std::vector<std::string>> rows;
    for (const ArithmeticProbe& probe : arithmetic_probes()) rows.push_back({probe.isa, probe.kind, probe.instructions});
    return rows;
}

template <class Self>
void define_operations(nb::class_<Self>& type) {
    type.def("linear", linear<Self>, nb::arg("x").noconvert(), "weights"_a, "biases"_a, nb::arg("outs").noconvert())
        .def("add_low_rank", add_low_rank<Self>, nb::arg("x").noconvert(), "downs"_a, "ups"_a, "scales"_a, nb::arg("rows").noconvert(), nb::arg("outs").noconvert())
        .def("embed", embed<Self>, nb::arg("ids").noconvert(), "table"_a, nb::arg("out").noconvert())
        .def("norm", norm<Self>, nb::arg("x").noconvert(), nb::arg("delta").noconvert().none(), nb::arg("weight").noconvert(), "epsilon"_a, nb::arg("out").noconvert())
        .def("gate", gate<Self>, nb::arg("gate").noconvert(), nb::arg("up").noconvert())
        .def("attend", attend<Self>, nb::arg("q").noconvert(), nb::arg("k").noconvert(), nb::arg("v").noconvert(), "cache"_a, "layer"_a, "step"_a,
             "num_heads"_a, "softmax_scale"_a, "interleaved"_a, nb::arg("out").noconvert());
}

}  // namespace

NB_MODULE(_native, module) {
    nb::set_leak_warnings(false);  // a program that ends on an error leaves objects behind; it has better things to print
    module.def("available_isas", available_isas);
    module.def("built_isas", built_isas);
    module.def("arithmetic_probes", probes);
    module.def("probe_arithmetic", probe_arithmetic, "isa"_a, "kind"_a, "threads"_a, "seconds"_a);
    module.def("probe_reading", probe_reading, "isa"_a, "threads"_a, "num_bytes"_a, "ahead"_a, "seconds"_a);
    nb::class_<Weight>(module, "Weight")
        .def(nb::init<Array<const uint8_t, 2>, int, int64_t, bool>(), nb::arg("rows").noconvert(), "ggml_id"_a, "columns"_a, "is_turned"_a = false)
        .def_prop_ro("can_turn", [](const Weight& self) { return can_turn(self.matrix); })
        .def("turn", turn_rows, "begin"_a, nb::arg("out").noconvert());
    nb::class_<Cache>(module, "Cache")
        .def("__init__", [](Cache* self, int64_t layers, int64_t pages, int64_t kv_heads, int64_t head_dim, int bits) {
            new (self) Cache(checked_cache_shape(layers, pages, kv_heads, head_dim, bits));
        }, "num_layers"_a, "num_pages"_a, "num_kv_heads"_a, "head_dim"_a, "bits"_a)
        .def_static("page_bytes", [](int64_t layers, int64_t kv_heads, int64_t head_dim, int bits) {
            return layers * checked_cache_shape(layers, 1, kv_heads, head_dim, bits).page_bytes();
        }, "num_layers"_a, "num_kv_heads"_a, "head_dim"_a, "bits"_a)
        .def("copy_pages", copy_pages, nb::arg("pairs").noconvert())
        .def("view", [](Cache& self) {
            const CacheShape& shape = self.shape();
            const auto layers = static_cast<size_t>(shape.num_layers), pages = static_cast<size_t>(shape.num_pages);
            return nb::ndarray<uint8_t, nb::numpy>(self.layer(0).data, {layers, pages, static_cast<size_t>(shape.page_bytes())});
        }, nb::rv_policy::reference_internal)
        .def("poison", &Cache::poison);
    nb::class_<CheckedStep>(module, "Step")
        .def("__init__", make_step, nb::arg("positions").noconvert(), nb::arg("row_starts").noconvert(), nb::arg("page_table").noconvert(),
             "num_pages"_a, nb::arg("inverse_frequencies").noconvert(), "amplitude"_a);
    nb::class_<Processor> processor(module, "Processor");
    processor.def("__init__", make_processor, "threads"_a, "isa"_a)
        .def_prop_ro("threads", &Processor::threads)
        .def_prop_ro("isa", &Processor::isa)
        .def("encode", encode, nb::arg("rows").noconvert(), "from_id"_a, "to_id"_a, nb::arg("out").noconvert());
    define_operations(processor);
    nb::class_<Queue> queue(module, "Queue");
    queue.def("__init__", [](Queue* self, Processor& on) { new (self) Queue{on, {}}; }, "processor"_a, nb::keep_alive<1, 2>()).def("run", run);
    define_operations(queue);
}

}  // namespace camelid
