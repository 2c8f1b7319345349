// Blocks of the file to codes and scales, for 16 rows and 256 columns at a time: a slice. One struct for each block type; products and
// `embed` start from these. Layouts: ggml-common.h of ggml; formats/block_decoders.py is the slow twin.
//
// `codes` hands its codes to `put(quad, codes)`; the quads of a sub-block come in order, and those of several sub-blocks may alternate. Every
// kTogether quads, the sub-blocks that were begun are whole.
//
// A code is uint8, at most kMost, and stands for (code - offset); a weight is scale * (code - offset) + minimum, with a scale and a
// minimum for every kSub weights. Everything comes out with the rows in lanes: quad i holds codes 4 i to 4 i + 3 of each row, scale[j] the
// j-th scale of each row. So the bytes are turned before they are taken apart, which moves the fewest of them.

namespace camelid::CAMELID_ISA {

constexpr int kNoOffset = -1;
constexpr int kQuads = 64;  // of four columns, in a slice

using Codes = uint8_t[64];  // a quad of 16 rows

// Shifts by numbers that the compiler knows are three times as fast as by others. (The portable verbs are loops, and would take minutes.)
#if defined(CAMELID_PORTABLE)
#define UNROLL
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

template <class Type>
constexpr BlockShape kShape = block_shape(static_cast<int>(Type::kType));

// Some instruction sets take wide codes with their sign, and then the offset is off already.
template <class Type>
constexpr int kRestShift = Type::kMost == 255 && kSignedWide ? kNoOffset : Type::kOffsetShift;

constexpr int kMaxSliceBytes = 8 * 34;

template <class Type>
constexpr int kSliceBytes = kShape<Type>.weights == 256 ? kShape<Type>.bytes : 8 * kShape<Type>.bytes;

// A slice of 16 rows as in the file, `stride` bytes apart: one block of 256 weights each, or eight of 32. Nothing outside of it is read.
// While it is read, the slices at `ahead` are fetched into the cache, line by line: in bursts they would hold up the rest.
struct Rows {
    const uint8_t* fourth[4];  // rows 0, 4, 8 and 12: a processor adds up to three strides for nothing
    const uint8_t* fourth_ahead[4];
    int64_t stride;

    INLINE Rows(const uint8_t* data, int64_t row_stride, const uint8_t* ahead) : stride(row_stride) {
        for (int i = 0; i < 4; ++i) {
            fourth[i] = settled(data + 4 * i * stride);
            fourth_ahead[i] = settled(ahead + 4 * i * stride);
        }
    }
    INLINE void fetch_first() const {}
    INLINE void fetch_ahead(int) const {}
    INLINE const uint8_t* row(int i) const { return fourth[i / 4] + i % 4 * stride; }
    // 16 bytes of each row from byte `at` on, as four columns.
    INLINE void columns(int at, B* out) const {
        if (at < 16 || at / 64 != (at - 16) / 64) {
            UNROLL
            for (int i = 0; i < 16; ++i) __builtin_prefetch(fourth_ahead[i / 4] + i % 4 * stride + at);
        }
        turn_columns(fourth, stride, at, out);
    }
    // The four bytes of each row at byte `at`.
    INLINE I column(int at) const {
        int32_t four[16];
        for (int i = 0; i < 16; ++i) memcpy(four + i, row(i) + at, 4);
        return load_i(four);
    }
    // The float16 of each row at byte `at`.
    INLINE F halves(int at) const {
        uint16_t halves[16];
        for (int i = 0; i < 16; ++i) memcpy(halves + i, row(i) + at, 2);
        return load_half(halves);
    }
};

// A slice of 16 rows that is turned already (ops.h). The slice behind it is the one that is read next, and is fetched line by line while
// this one is computed with: a core has a dozen lines under way at most, and more at once would hold up what it reads now.
template <class Type>
struct Turned {
    static constexpr int kBytes = 16 * kSliceBytes<Type>, kLines = (kBytes + 63) / 64, kFirst = 6;
    const uint8_t* data;

    INLINE void fetch(int begin, int end) const {
        UNROLL
        for (int line = begin; line < end; ++line) __builtin_prefetch(data + kBytes + 64 * line);
    }
    INLINE void fetch_first() const { fetch(0, kFirst); }
    INLINE void fetch_ahead(int quad) const { fetch(kFirst + quad * (kLines - kFirst) / kQuads, kFirst + (quad + 1) * (kLines - kFirst) / kQuads); }

    INLINE const uint8_t* at(int byte) const { return data + turned_at(kShape<Type>, byte); }
    INLINE void columns(int byte, B* out) const {
        UNROLL
        for (int i = 0; i < 4; ++i) out[i] = load_bytes(at(byte) + 64 * i);
    }
    INLINE I column(int byte) const { return dwords(load_bytes(at(byte))); }
    INLINE F halves(int byte) const { return load_half(reinterpret_cast<const uint16_t*>(at(byte))); }
};

VERB B low_nibbles(B v) { return field(v, 0, 15); }
VERB B high_nibbles(B v) { return field(v, 4, 15); }
VERB B four_bits(I v, int at) {  // bits `at` to at + 3 of each dword, one to a byte: the product puts bit i at 8 i too
    return bytes(and_i(mul_i(and_i(shift_right(v, at), 15), set1_i(0x204081)), 0x01010101));
}
VERB B with_bits(B low, B high, int shift) { return or_bytes(low, times_power(high, shift)); }

// The j-th of the bytes that lie in columns of four.
VERB I byte_of(const B* v, int j) { return and_i(shift_right(dwords(v[j / 4]), 8 * (j % 4)), 255); }
VERB I signed_byte_of(const B* v, int j) { return shift_right(shift_left(dwords(v[j / 4]), 24 - 8 * (j % 4)), 24); }

// ---- 32-weight blocks: float16 scales, and minimums behind them, before the codes

template <Block Which, int Most, int Shift, bool Minimum>
struct Small {
    static constexpr Block kType = Which;
    static constexpr int kMost = Most, kOffsetShift = Shift, kSub = 32, kTogether = 16;
    static constexpr bool kHasMinimum = Minimum;
    static constexpr int kBytes = block_shape(static_cast<int>(Which)).bytes;

    template <class From>
    VERB void scales(const From& rows, F* scale, F* minimum) {
        UNROLL
        for (int block = 0; block < 8; ++block) {
            scale[block] = rows.halves(block * kBytes);
            if constexpr (Minimum) minimum[block] = rows.halves(block * kBytes + 2);
        }
    }
    // Codes of four bits, 16 to 16 bytes, from byte `at` of a block.
    template <class From, class Put>
    VERB void nibbles(const From& rows, int at, Put put) {
        UNROLL
        for (int block = 0; block < 8; ++block) {
            B v[4];
            rows.columns(block * kBytes + at, v);
            UNROLL
            for (int i = 0; i < 8; ++i) put(8 * block + i, field(v[i % 4], 4 * (i / 4), 15));
        }
    }
    // The same with fifth bits before them: four bytes, a bit for each code.
    template <class From, class Put>
    VERB void fives(const From& rows, int at, Put put) {
        UNROLL
        for (int block = 0; block < 8; ++block) {
            B v[4];
            const I fifth = rows.column(block * kBytes + at);
            rows.columns(block * kBytes + at + 4, v);
            UNROLL
            for (int i = 0; i < 8; ++i) put(8 * block + i, with_bits(field(v[i % 4], 4 * (i / 4), 15), four_bits(fifth, 4 * i), 4));
        }
    }
};

struct Q4_0 : Small<Block::Q4_0, 15, 3, false> {
    template <class From, class Put>
    VERB void codes(const From& rows, Put put) { nibbles(rows, 2, put); }
};

struct Q4_1 : Small<Block::Q4_1, 15, kNoOffset, true> {
    template <class From, class Put>
    VERB void codes(const From& rows, Put put) { nibbles(rows, 4, put); }
};

struct Q5_0 : Small<Block::Q5_0, 31, 4, false> {
    template <class From, class Put>
    VERB void codes(const From& rows, Put put) { fives(rows, 2, put); }
};

struct Q5_1 : Small<Block::Q5_1, 31, kNoOffset, true> {
    template <class From, class Put>
    VERB void codes(const From& rows, Put put) { fives(rows, 4, put); }
};

struct Q8_0 : Small<Block::Q8_0, 255, 7, false> {
    template <class From, class Put>
    VERB void codes(const From& rows, Put put) {
        UNROLL
        for (int part = 0; part < 16; ++part) {
            B v[4];
            rows.columns(kBytes * (part / 2) + 2 + 16 * (part % 2), v);
            UNROLL
            for (int i = 0; i < 4; ++i) put(4 * part + i, flip_signs(v[i]));
        }
    }
};

// ggml's codebook of the non-linear 4-bit types, plus 128.
alignas(16) constexpr uint8_t kCodebook[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

struct IQ4_NL : Small<Block::IQ4_NL, 255, 7, false> {
    template <class From, class Put>
    VERB void codes(const From& rows, Put put) {
        nibbles(rows, 2, [&](int i, B v) __attribute__((always_inline)) { put(i, look_up(v, kCodebook)); });
    }
};

// ---- 256-weight blocks: d, and -dmin, as float16, times small integers

template <Block Which, int Most, int Shift, int Sub, bool Minimum>
struct Large {
    static constexpr Block kType = Which;
    static constexpr int kMost = Most, kOffsetShift = Shift, kSub = Sub, kTogether = Sub / 2;
    static constexpr bool kHasMinimum = Minimum;
};

VERB F minus(F v) { return sub(set1(-0.0f), v); }

struct Q2_K : Large<Block::Q2_K, 3, kNoOffset, 16, true> {
    template <class From, class Put>
    VERB void codes(const From& rows, Put put) {
        B v[16];
        UNROLL
        for (int i = 0; i < 4; ++i) rows.columns(16 + 16 * i, v + 4 * i);
        UNROLL
        for (int i = 0; i < kQuads; ++i) put(i, field(v[8 * (i / 32) + i % 8], 2 * (i / 8 % 4), 3));
    }
    template <class From>
    VERB void scales(const From& rows, F* scale, F* minimum) {
        B packed[4];
        rows.columns(0, packed);
        const B last = bytes(rows.column(80));
        const F d = low_halves(last), m = minus(high_halves(last));
        UNROLL
        for (int j = 0; j < 16; ++j) {
            scale[j] = mul(d, to_float(and_i(byte_of(packed, j), 15)));
            minimum[j] = mul(m, to_float(shift_right(byte_of(packed, j), 4)));
        }
    }
};

struct Q3_K : Large<Block::Q3_K, 7, 2, 16, false> {
    template <class From, class Put>
    VERB void codes(const From& rows, Put put) {
        B top[8], low[16];
        UNROLL
        for (int i = 0; i < 2; ++i) rows.columns(16 * i, top + 4 * i);
        UNROLL
        for (int i = 0; i < 4; ++i) rows.columns(32 + 16 * i, low + 4 * i);
        UNROLL
        for (int i = 0; i < kQuads; ++i) put(i, with_bits(field(low[8 * (i / 32) + i % 8], 2 * (i / 8 % 4), 3), field(top[i % 8], i / 8, 1), 2));
    }
    template <class From>
    VERB void scales(const From& rows, F* scale, F*) {
        B v[4];
        rows.columns(92, v);     // 12 bytes of scales in v[1] to v[3]: low halves in eight bytes, then the two bits above
        const F d = rows.halves(108);
        B six[4];
        UNROLL
        for (int i = 0; i < 4; ++i) six[i] = with_bits(i < 2 ? low_nibbles(v[1 + i]) : high_nibbles(v[i - 1]), field(v[3], 2 * i, 3), 4);
        UNROLL
        for (int j = 0; j < 16; ++j) scale[j] = mul(d, to_float(sub_i(byte_of(six, j), set1_i(32))));
    }
};

struct Q4_K : Large<Block::Q4_K, 15, kNoOffset, 32, true> {
    template <class From, class Put>
    VERB void codes(const From& rows, Put put) {
        runs(rows, 16, [&](int quad, B nibbles) __attribute__((always_inline)) { put(quad, low_nibbles(nibbles)); });
    }
    // Runs of 32 bytes: 32 low halves, then 32 high halves. What is handed to `put` are the lower four bits; the upper ones may be anything.
    template <class From, class Put>
    VERB void runs(const From& rows, int at, Put put) {
        UNROLL
        for (int run = 0; run < 4; ++run) {
            B v[8];
            UNROLL
            for (int i = 0; i < 2; ++i) rows.columns(at + 32 * run + 16 * i, v + 4 * i);
            UNROLL
            for (int i = 0; i < 8; ++i) {
                put(16 * run + i, v[i]);
                put(16 * run + 8 + i, shifted_down(v[i], 4));
            }
        }
    }
    // d, dmin, and 12 bytes of six-bit numbers: four scales, four minimums, then their rest in halves and in the top bits before them.
    template <class From>
    VERB void scales(const From& rows, F* scale, F* minimum) {
        B v[4];
        rows.columns(0, v);
        const F d = low_halves(v[0]), m = minus(high_halves(v[0]));
        const B scale_bytes[2] = {field(v[1], 0, 63), with_bits(low_nibbles(v[3]), field(v[1], 6, 3), 4)};
        const B minimum_bytes[2] = {field(v[2], 0, 63), with_bits(high_nibbles(v[3]), field(v[2], 6, 3), 4)};
        UNROLL
        for (int j = 0; j < 8; ++j) {
            scale[j] = mul(d, to_float(byte_of(scale_bytes, j)));
            minimum[j] = mul(m, to_float(byte_of(minimum_bytes, j)));
        }
    }
};

struct Q5_K : Large<Block::Q5_K, 31, kNoOffset, 32, true> {
    template <class From, class Put>
    VERB void codes(const From& rows, Put put) {
        B fifth[8];
        UNROLL
        for (int i = 0; i < 2; ++i) rows.columns(16 + 16 * i, fifth + 4 * i);
        Q4_K::runs(rows, 48, [&](int quad, B nibbles) __attribute__((always_inline)) {
            const int bit = quad / 8;  // of `fifth`
            const B moved = bit < 4 ? times_power(fifth[quad % 8], 4 - bit) : shifted_down(fifth[quad % 8], bit - 4);
            put(quad, pick_bits(15, nibbles, field(moved, 0, 16)));
        });
    }
    template <class From>
    VERB void scales(const From& rows, F* scale, F* minimum) { Q4_K::scales(rows, scale, minimum); }
};

struct Q6_K : Large<Block::Q6_K, 63, 5, 16, false> {
    static constexpr int kTogether = 32;  // so few registers hold what is not yet met
    template <class From, class Put>
    VERB void codes(const From& rows, Put put) {
        UNROLL
        for (int quarter = 0; quarter < 4; ++quarter) {
            const int half = quarter / 2, at = quarter % 2;
            B first[4], second[4], top[4];
            rows.columns(64 * half + 16 * at, first);
            rows.columns(64 * half + 16 * at + 32, second);
            rows.columns(128 + 32 * half + 16 * at, top);
            UNROLL
            for (int i = 0; i < 4; ++i) {  // a byte of `top` has the upper two bits of four codes
                const int quad = 32 * half + 4 * at + i;
                const B even = field(top[i], 0, 0x33), odd = field(top[i], 2, 0x33);
                put(quad, pick_bits(15, first[i], times_power(even, 4)));
                put(quad + 8, pick_bits(15, second[i], times_power(odd, 4)));
                put(quad + 16, pick_bits(15, shifted_down(first[i], 4), even));
                put(quad + 24, pick_bits(15, shifted_down(second[i], 4), odd));
            }
        }
    }
    template <class From>
    VERB void scales(const From& rows, F* scale, F*) {
        B v[4];
        rows.columns(192, v);
        const F d = rows.halves(208);
        UNROLL
        for (int j = 0; j < 16; ++j) scale[j] = mul(d, to_float(signed_byte_of(v, j)));
    }
};

struct IQ4_XS : Large<Block::IQ4_XS, 255, 7, 32, false> {
    template <class From, class Put>
    VERB void codes(const From& rows, Put put) {
        UNROLL
        for (int run = 0; run < 8; ++run) {
            B v[4];
            rows.columns(8 + 16 * run, v);
            UNROLL
            for (int i = 0; i < 8; ++i) put(8 * run + i, look_up(field(v[i % 4], 4 * (i / 4), 15), kCodebook));
        }
    }
    template <class From>
    VERB void scales(const From& rows, F* scale, F*) {
        B v[4];
        rows.columns(0, v);  // d, eight pairs of high bits, eight low halves
        const F d = low_halves(v[0]);
        UNROLL
        for (int j = 0; j < 8; ++j) {
            const I low = and_i(shift_right(dwords(v[1]), 4 * j), 15), high = and_i(shift_right(dwords(v[0]), 16 + 2 * j), 3);
            scale[j] = mul(d, to_float(sub_i(add_i(low, shift_left(high, 4)), set1_i(32))));
        }
    }
};

// ---- slices that are not whole

// The slice as it is, if `count` rows and `columns` columns of it exist; else a copy, with zeros and with the last row again where there
// is nothing.
template <class Type>
VERB Rows whole(const Rows& rows, int count, int64_t columns, uint8_t* copy) {
    if (count >= 16 && columns >= 256) return rows;
    const int64_t bytes = columns >= 256 ? kSliceBytes<Type> : columns / 32 * kShape<Type>.bytes;
    memset(copy, 0, 16 * kSliceBytes<Type>);
    for (int row = 0; row < 16; ++row) memcpy(copy + row * kSliceBytes<Type>, rows.row(row < count ? row : count - 1), static_cast<size_t>(bytes));
    return {copy, kSliceBytes<Type>, copy};
}

// Call `visit` with the struct of a quantized block type.
template <class Visit>
VERB void visit_quantized(Block type, Visit visit) {
    switch (type) {
        case Block::Q4_0: return visit.template operator()<Q4_0>();
        case Block::Q4_1: return visit.template operator()<Q4_1>();
        case Block::Q5_0: return visit.template operator()<Q5_0>();
        case Block::Q5_1: return visit.template operator()<Q5_1>();
        case Block::Q8_0: return visit.template operator()<Q8_0>();
        case Block::IQ4_NL: return visit.template operator()<IQ4_NL>();
        case Block::Q2_K: return visit.template operator()<Q2_K>();
        case Block::Q3_K: return visit.template operator()<Q3_K>();
        case Block::Q4_K: return visit.template operator()<Q4_K>();
        case Block::Q5_K: return visit.template operator()<Q5_K>();
        case Block::Q6_K: return visit.template operator()<Q6_K>();
        case Block::IQ4_XS: return visit.template operator()<IQ4_XS>();
        default: return;  // F32, F16 and BF16 are no blocks
    }
}

}  // namespace camelid::CAMELID_ISA
