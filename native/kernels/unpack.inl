// Blocks of the file to codes, integer scales and float scales. Every product and `embed` start from these, so that a block type
// is one struct here and one row in the table at the end. Layouts: ggml-common.h of ggml; formats/block_decoders.py is the slow twin.
//
// A code is uint8 and stands for (code - offset); a weight is d * scale * (code - offset) + m * minimum, with scale and minimum for
// every 16 weights of a 256-weight block, and 1 for a 32-weight block. Codes are in the order of the weights, 64 to a vector: a quarter
// of a 256-weight block, or two 32-weight blocks.

namespace camelid::CAMELID_ISA {

constexpr int kNoOffset = -1;

// A float16 as it lies in the file, and its negative.
VERB uint16_t half_at(const uint8_t* p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return h;
}
VERB uint16_t minus_half_at(const uint8_t* p) { return half_at(p) ^ 0x8000; }

// ---- types with a scale for 32 weights

struct Q4_0 {
    static constexpr Block kType = Block::Q4_0;
    static constexpr int kOffsetShift = 3;
    static constexpr bool kHasMinimum = false, kIsWide = false;
    VERB B codes(const uint8_t* p, const uint8_t* q) { return nibbles_16(p + 2, q + 2); }
};

struct Q4_1 {
    static constexpr Block kType = Block::Q4_1;
    static constexpr int kOffsetShift = kNoOffset;
    static constexpr bool kHasMinimum = true, kIsWide = false;
    VERB B codes(const uint8_t* p, const uint8_t* q) { return nibbles_16(p + 4, q + 4); }
};

struct Q5_0 {
    static constexpr Block kType = Block::Q5_0;
    static constexpr int kOffsetShift = 4;
    static constexpr bool kHasMinimum = false, kIsWide = false;
    VERB B codes(const uint8_t* p, const uint8_t* q) { return or_bytes(nibbles_16(p + 6, q + 6), fifth_bits(p + 2, q + 2)); }
};

struct Q5_1 {
    static constexpr Block kType = Block::Q5_1;
    static constexpr int kOffsetShift = kNoOffset;
    static constexpr bool kHasMinimum = true, kIsWide = false;
    VERB B codes(const uint8_t* p, const uint8_t* q) { return or_bytes(nibbles_16(p + 8, q + 8), fifth_bits(p + 4, q + 4)); }
};

struct Q8_0 {
    static constexpr Block kType = Block::Q8_0;
    static constexpr int kOffsetShift = 7;
    static constexpr bool kHasMinimum = false, kIsWide = true;
    VERB B codes(const uint8_t* p, const uint8_t* q) { return flip_signs(load_halves(p + 2, q + 2)); }
};

// ggml's codebook of the non-linear 4-bit types, plus 128.
alignas(16) constexpr uint8_t kCodebook[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

struct IQ4_NL {
    static constexpr Block kType = Block::IQ4_NL;
    static constexpr int kOffsetShift = 7;
    static constexpr bool kHasMinimum = false, kIsWide = true;
    VERB B codes(const uint8_t* p, const uint8_t* q) { return look_up(nibbles_16(p + 2, q + 2), kCodebook); }
};

// ---- types with 16 scales for 256 weights: `scales` writes 16 scales and, where the type has them, 16 minimums; d and m as float16

struct Q2_K {
    static constexpr Block kType = Block::Q2_K;
    static constexpr int kOffsetShift = kNoOffset;
    static constexpr bool kHasMinimum = true, kIsWide = false;
    VERB B codes(const uint8_t* b, int quarter) {
        const int field = 4 * (quarter % 2);
        return fields(b + 16 + 32 * (quarter / 2), field, field + 2, 3);
    }
    VERB void scales(const uint8_t* __restrict b, int16_t* __restrict out, uint16_t* d, uint16_t* m) {
        *d = half_at(b + 80);
        *m = minus_half_at(b + 82);
        for (int i = 0; i < 16; ++i) {
            out[i] = b[i] & 15;
            out[16 + i] = b[i] >> 4;
        }
    }
};

struct Q3_K {
    static constexpr Block kType = Block::Q3_K;
    static constexpr int kOffsetShift = 2;
    static constexpr bool kHasMinimum = false, kIsWide = false;
    VERB B codes(const uint8_t* b, int quarter) {
        const int field = 4 * (quarter % 2);
        const B low = fields(b + 32 + 32 * (quarter / 2), field, field + 2, 3);
        return or_bytes(low, times_power(fields(b, 2 * quarter, 2 * quarter + 1, 1), 2));
    }
    VERB void scales(const uint8_t* __restrict b, int16_t* __restrict out, uint16_t* d, uint16_t*) {
        *d = half_at(b + 108);
        const uint8_t* packed = b + 96;
        for (int i = 0; i < 16; ++i) {
            const int low = (packed[i % 8] >> (4 * (i / 8))) & 15, high = (packed[8 + i % 4] >> (2 * (i / 4))) & 3;
            out[i] = static_cast<int16_t>((low | (high << 4)) - 32);
        }
    }
};

struct Q4_K {
    static constexpr Block kType = Block::Q4_K;
    static constexpr int kOffsetShift = kNoOffset;
    static constexpr bool kHasMinimum = true, kIsWide = false;
    VERB B codes(const uint8_t* b, int quarter) { return fields(b + 16 + 32 * quarter, 0, 4, 15); }
    VERB void scales(const uint8_t* b, int16_t* out, uint16_t* d, uint16_t* m) {
        *d = half_at(b);
        *m = minus_half_at(b + 2);
        six_bit_scales(b + 4, out);
    }
};

struct Q5_K {
    static constexpr Block kType = Block::Q5_K;
    static constexpr int kOffsetShift = kNoOffset;
    static constexpr bool kHasMinimum = true, kIsWide = false;
    VERB B codes(const uint8_t* b, int quarter) {
        const B fifth = fields(b + 16, 2 * quarter, 2 * quarter + 1, 1);
        return or_bytes(fields(b + 48 + 32 * quarter, 0, 4, 15), times_power(fifth, 4));
    }
    VERB void scales(const uint8_t* b, int16_t* out, uint16_t* d, uint16_t* m) { Q4_K::scales(b, out, d, m); }
};

struct Q6_K {
    static constexpr Block kType = Block::Q6_K;
    static constexpr int kOffsetShift = 5;
    static constexpr bool kHasMinimum = false, kIsWide = false;
    VERB B codes(const uint8_t* b, int quarter) {
        const int half = quarter / 2, upper = 4 * (quarter % 2);
        const B high = fields(b + 128 + 32 * half, upper, upper + 2, 3);
        return or_bytes(nibbles_64(b + 64 * half, upper), times_power(high, 4));
    }
    VERB void scales(const uint8_t* __restrict b, int16_t* __restrict out, uint16_t* d, uint16_t*) {
        *d = half_at(b + 208);
        for (int i = 0; i < 16; ++i) out[i] = static_cast<int8_t>(b[192 + i]);
    }
};

struct IQ4_XS {
    static constexpr Block kType = Block::IQ4_XS;
    static constexpr int kOffsetShift = 7;
    static constexpr bool kHasMinimum = false, kIsWide = true;
    VERB B codes(const uint8_t* b, int quarter) {
        const uint8_t* run = b + 8 + 32 * quarter;
        return look_up(nibbles_16(run, run + 16), kCodebook);
    }
    VERB void scales(const uint8_t* b, int16_t* out, uint16_t* d, uint16_t*) {
        *d = half_at(b);
        for (int i = 0; i < 8; ++i) {
            const int low = (b[4 + i / 2] >> (4 * (i % 2))) & 15, high = (b[2 + i / 4] >> (2 * (i % 4))) & 3;
            out[2 * i] = out[2 * i + 1] = static_cast<int16_t>((low | (high << 4)) - 32);
        }
    }
};

// ---- blocks to memory

// Where `unpack` puts n blocks: codes (n, weights), scales (n, 32) of 16 scales and 16 minimums (256-weight blocks only), d and m (n,).
struct Unpacked {
    uint8_t* codes;
    int16_t* scales;
    float* d;
    float* m;
};

constexpr int kPrefetchBytes = 2048;  // ahead of the block being unpacked; past the end of the weights it is harmless

VERB void prefetch(const uint8_t* block, int bytes) {
    for (int line = 0; line < bytes; line += 64) __builtin_prefetch(block + kPrefetchBytes + line);
}

template <class Type>
constexpr BlockShape kShape = block_shape(static_cast<int>(Type::kType));

// d, and m where the type has one, of a 32-weight block, as float16.
template <class Type>
VERB void half_scales(const uint8_t* block, uint16_t* d, uint16_t* m) {
    *d = half_at(block);
    if (Type::kHasMinimum) *m = half_at(block + 2);
}

template <class Type>
static void unpack_32(const uint8_t* blocks, int64_t n, const Unpacked& out) {
    constexpr int bytes = kShape<Type>.bytes;
    for (int64_t i = 0; i < n; ++i) {
        uint16_t d, m = 0;
        half_scales<Type>(blocks + bytes * i, &d, &m);
        out.d[i] = half_to_float(d);
        out.m[i] = half_to_float(m);
    }
    for (int64_t i = 0; i + 2 <= n; i += 2) {
        prefetch(blocks + bytes * i, 2 * bytes);
        store_codes(out.codes + 32 * i, Type::codes(blocks + bytes * i, blocks + bytes * (i + 1)));
    }
    const uint8_t* last = blocks + bytes * (n - 1);
    if (n % 2) store_first_codes(out.codes + 32 * (n - 1), Type::codes(last, last));
}

template <class Type>
static void unpack_256(const uint8_t* blocks, int64_t n, const Unpacked& out) {
    constexpr int bytes = kShape<Type>.bytes;
    for (int64_t i = 0; i < n; ++i) {
        prefetch(blocks + bytes * i, bytes);
        uint16_t d, m = 0;
        Type::scales(blocks + bytes * i, out.scales + 32 * i, &d, &m);
        out.d[i] = half_to_float(d);
        out.m[i] = half_to_float(m);
#pragma GCC unroll 4
        for (int quarter = 0; quarter < 4; ++quarter)
            store_codes(out.codes + 256 * i + 64 * quarter, Type::codes(blocks + bytes * i, quarter));
    }
}

struct Layout {
    int weights;
    int bytes;
    int offset_shift;  // offset = 1 << offset_shift, or kNoOffset
    int rest_shift;    // the same, for what the dots leave to be taken off
    bool has_minimum;
    void (*unpack)(const uint8_t* blocks, int64_t n, const Unpacked& out);
};

// Some instruction sets take wide codes with their sign, and then the offset is off already.
template <class Type>
constexpr int kRestShift = Type::kIsWide && kSignedWide ? kNoOffset : Type::kOffsetShift;

template <class Type>
VERB Layout layout() {
    constexpr BlockShape shape = kShape<Type>;
    Layout result{shape.weights, shape.bytes, Type::kOffsetShift, kRestShift<Type>, Type::kHasMinimum, nullptr};
    if constexpr (shape.weights == 32) result.unpack = unpack_32<Type>;
    else result.unpack = unpack_256<Type>;
    return result;
}

// The float types are not here: their products do not unpack.
static Layout layout_of(Block type) {
    switch (type) {
        case Block::Q4_0: return layout<Q4_0>();
        case Block::Q4_1: return layout<Q4_1>();
        case Block::Q5_0: return layout<Q5_0>();
        case Block::Q5_1: return layout<Q5_1>();
        case Block::Q8_0: return layout<Q8_0>();
        case Block::IQ4_NL: return layout<IQ4_NL>();
        case Block::Q2_K: return layout<Q2_K>();
        case Block::Q3_K: return layout<Q3_K>();
        case Block::Q4_K: return layout<Q4_K>();
        case Block::Q5_K: return layout<Q5_K>();
        case Block::Q6_K: return layout<Q6_K>();
        case Block::IQ4_XS: return layout<IQ4_XS>();
        default: return {};
    }
}

}  // namespace camelid::CAMELID_ISA
