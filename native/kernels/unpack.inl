// Blocks of the file to codes, integer scales and float scales. Every product and `embed` start from these, so that a block type
// is one function here and one row in the table at the end. Layouts: ggml-common.h of ggml; formats/block_decoders.py is the slow twin.
//
// A code is uint8 and stands for (code - offset); a weight is d * scale * (code - offset) + m * minimum, with scale and minimum for
// every 16 weights of a 256-weight block, and 1 for a 32-weight block. Codes are in the order of the weights.
//
// Plain loops over bytes with fixed counts: compilers turn them into vector code for each instruction set.

namespace camelid::CAMELID_ISA {

// Where `unpack` puts n blocks: codes (n, weights), scales (n, 32) of 16 scales and 16 minimums (256-weight blocks only), d and m (n,).
struct Unpacked {
    uint8_t* codes;
    int16_t* scales;
    float* d;
    float* m;
};

struct Layout {
    int weights;
    int bytes;
    int offset_shift;  // offset = 1 << offset_shift; -1: none
    bool has_minimum;
    bool is_wide;      // codes above 63
    void (*unpack)(const uint8_t* blocks, int64_t n, const Unpacked& out);
};

VERB float half_at(const uint8_t* p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return half_to_float(h);
}

VERB void nibbles(const uint8_t* __restrict packed, uint8_t* __restrict low, uint8_t* __restrict high, int n) {
    for (int i = 0; i < n; ++i) {
        low[i] = packed[i] & 15;
        high[i] = packed[i] >> 4;
    }
}

// Bit i of a little-endian word to bit 4 of code i.
VERB void or_fifth_bits(const uint8_t* bits, uint8_t* codes) {
    for (int i = 0; i < 4; ++i) {
        uint64_t eight;
        memcpy(&eight, codes + 8 * i, 8);
        const uint64_t chosen = (bits[i] * 0x0101010101010101u) & 0x8040201008040201u;  // byte j keeps bit j
        eight |= ((chosen + 0x7f7f7f7f7f7f7f7fu) >> 3) & 0x1010101010101010u;           // and carries into bit 7 if it is set
        memcpy(codes + 8 * i, &eight, 8);
    }
}

struct Q4_0 {
    static void unpack(const uint8_t* b, uint8_t* codes, int16_t*, float* d, float*) {
        *d = half_at(b);
        nibbles(b + 2, codes, codes + 16, 16);
    }
};

struct Q4_1 {
    static void unpack(const uint8_t* b, uint8_t* codes, int16_t*, float* d, float* m) {
        *d = half_at(b);
        *m = half_at(b + 2);
        nibbles(b + 4, codes, codes + 16, 16);
    }
};

struct Q5_0 {
    static void unpack(const uint8_t* b, uint8_t* codes, int16_t*, float* d, float*) {
        *d = half_at(b);
        nibbles(b + 6, codes, codes + 16, 16);
        or_fifth_bits(b + 2, codes);
    }
};

struct Q5_1 {
    static void unpack(const uint8_t* b, uint8_t* codes, int16_t*, float* d, float* m) {
        *d = half_at(b);
        *m = half_at(b + 2);
        nibbles(b + 8, codes, codes + 16, 16);
        or_fifth_bits(b + 4, codes);
    }
};

struct Q8_0 {
    static void unpack(const uint8_t* b, uint8_t* __restrict codes, int16_t*, float* d, float*) {
        *d = half_at(b);
        for (int i = 0; i < 32; ++i) codes[i] = b[2 + i] ^ 0x80;
    }
};

// ggml's codebook of the non-linear 4-bit types, plus 128.
alignas(16) constexpr uint8_t kCodebook[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

struct IQ4_NL {
    static void unpack(const uint8_t* b, uint8_t* codes, int16_t*, float* d, float*) {
        *d = half_at(b);
        nibbles(b + 2, codes, codes + 16, 16);
        look_up(codes, 32, kCodebook);
    }
};

struct Q2_K {
    static void unpack(const uint8_t* __restrict b, uint8_t* __restrict codes, int16_t* __restrict scales, float* d, float* m) {
        *d = half_at(b + 80);
        *m = -half_at(b + 82);
        for (int i = 0; i < 16; ++i) {
            scales[i] = b[i] & 15;
            scales[16 + i] = b[i] >> 4;
        }
        for (int half = 0; half < 2; ++half)
            for (int field = 0; field < 4; ++field)
                for (int i = 0; i < 32; ++i) codes[128 * half + 32 * field + i] = (b[16 + 32 * half + i] >> (2 * field)) & 3;
    }
};

struct Q3_K {
    static void unpack(const uint8_t* __restrict b, uint8_t* __restrict codes, int16_t* __restrict scales, float* d, float*) {
        *d = half_at(b + 108);
        const uint8_t* packed = b + 96;
        for (int i = 0; i < 16; ++i) {
            const int low = (packed[i % 8] >> (4 * (i / 8))) & 15, high = (packed[8 + i % 4] >> (2 * (i / 4))) & 3;
            scales[i] = static_cast<int16_t>((low | (high << 4)) - 32);
        }
        for (int run = 0; run < 8; ++run)
            for (int i = 0; i < 32; ++i) {
                const int low = (b[32 + 32 * (run / 4) + i] >> (2 * (run % 4))) & 3, third = (b[i] >> run) & 1;
                codes[32 * run + i] = static_cast<uint8_t>(low | (third << 2));
            }
    }
};

// Eight scales and eight minimums of 6 bits in 12 bytes, each written twice: once for every 16 weights.
VERB void six_bit_scales(const uint8_t* packed, int16_t* scales) {
    uint32_t first, second, last;
    memcpy(&first, packed, 4);
    memcpy(&second, packed + 4, 4);
    memcpy(&last, packed + 8, 4);
    uint8_t bytes[16];
    const uint32_t words[4] = {first & 0x3f3f3f3f, (last & 0x0f0f0f0f) | ((first >> 2) & 0x30303030),
                               second & 0x3f3f3f3f, ((last >> 4) & 0x0f0f0f0f) | ((second >> 2) & 0x30303030)};
    memcpy(bytes, words, 16);
    for (int i = 0; i < 32; ++i) scales[i] = bytes[i / 2];
}

struct Q4_K {
    static void unpack(const uint8_t* b, uint8_t* codes, int16_t* scales, float* d, float* m) {
        *d = half_at(b);
        *m = -half_at(b + 2);
        six_bit_scales(b + 4, scales);
        for (int pair = 0; pair < 4; ++pair) nibbles(b + 16 + 32 * pair, codes + 64 * pair, codes + 64 * pair + 32, 32);
    }
};

struct Q5_K {
    static void unpack(const uint8_t* __restrict b, uint8_t* __restrict codes, int16_t* scales, float* d, float* m) {
        *d = half_at(b);
        *m = -half_at(b + 2);
        six_bit_scales(b + 4, scales);
        for (int pair = 0; pair < 4; ++pair) {
            nibbles(b + 48 + 32 * pair, codes + 64 * pair, codes + 64 * pair + 32, 32);
            for (int i = 0; i < 32; ++i) codes[64 * pair + i] |= ((b[16 + i] >> (2 * pair)) & 1) << 4;
            for (int i = 0; i < 32; ++i) codes[64 * pair + 32 + i] |= ((b[16 + i] >> (2 * pair + 1)) & 1) << 4;
        }
    }
};

struct Q6_K {
    static void unpack(const uint8_t* __restrict b, uint8_t* __restrict codes, int16_t* __restrict scales, float* d, float*) {
        *d = half_at(b + 208);
        for (int i = 0; i < 16; ++i) scales[i] = static_cast<int8_t>(b[192 + i]);
        for (int half = 0; half < 2; ++half) {
            const uint8_t* low = b + 64 * half;
            const uint8_t* high = b + 128 + 32 * half;
            uint8_t* out = codes + 128 * half;
            for (int i = 0; i < 32; ++i) {
                out[i] = static_cast<uint8_t>((low[i] & 15) | ((high[i] & 3) << 4));
                out[32 + i] = static_cast<uint8_t>((low[32 + i] & 15) | (((high[i] >> 2) & 3) << 4));
                out[64 + i] = static_cast<uint8_t>((low[i] >> 4) | (((high[i] >> 4) & 3) << 4));
                out[96 + i] = static_cast<uint8_t>((low[32 + i] >> 4) | ((high[i] >> 6) << 4));
            }
        }
    }
};

struct IQ4_XS {
    static void unpack(const uint8_t* b, uint8_t* codes, int16_t* scales, float* d, float*) {
        *d = half_at(b);
        for (int i = 0; i < 8; ++i) {
            const int low = (b[4 + i / 2] >> (4 * (i % 2))) & 15, high = (b[2 + i / 4] >> (2 * (i % 4))) & 3;
            scales[2 * i] = scales[2 * i + 1] = static_cast<int16_t>((low | (high << 4)) - 32);
        }
        for (int run = 0; run < 8; ++run) nibbles(b + 8 + 16 * run, codes + 32 * run, codes + 32 * run + 16, 16);
        look_up(codes, 256, kCodebook);
    }
};

constexpr int kPrefetchBytes = 2048;  // ahead of the block being unpacked; past the end of the weights it is harmless

template <class Type, int Weights, int Bytes>
static void unpack_blocks(const uint8_t* blocks, int64_t n, const Unpacked& out) {
    for (int64_t i = 0; i < n; ++i) {
        for (int line = 0; line < Bytes; line += 64) __builtin_prefetch(blocks + Bytes * i + kPrefetchBytes + line);
        Type::unpack(blocks + Bytes * i, out.codes + Weights * i, out.scales + 32 * i, out.d + i, out.m + i);
    }
}

template <Block Type, class Unpacker>
VERB constexpr Layout layout(int offset_shift, bool has_minimum, bool is_wide) {
    constexpr BlockShape shape = block_shape(static_cast<int>(Type));
    return {shape.weights, shape.bytes, offset_shift, has_minimum, is_wide, unpack_blocks<Unpacker, shape.weights, shape.bytes>};
}

// The float types are not here: their products do not unpack.
static Layout layout_of(Block type) {
    switch (type) {
        case Block::Q4_0: return layout<Block::Q4_0, Q4_0>(3, false, false);
        case Block::Q4_1: return layout<Block::Q4_1, Q4_1>(-1, true, false);
        case Block::Q5_0: return layout<Block::Q5_0, Q5_0>(4, false, false);
        case Block::Q5_1: return layout<Block::Q5_1, Q5_1>(-1, true, false);
        case Block::Q8_0: return layout<Block::Q8_0, Q8_0>(7, false, true);
        case Block::IQ4_NL: return layout<Block::IQ4_NL, IQ4_NL>(7, false, true);
        case Block::Q2_K: return layout<Block::Q2_K, Q2_K>(-1, true, false);
        case Block::Q3_K: return layout<Block::Q3_K, Q3_K>(2, false, false);
        case Block::Q4_K: return layout<Block::Q4_K, Q4_K>(-1, true, false);
        case Block::Q5_K: return layout<Block::Q5_K, Q5_K>(-1, true, false);
        case Block::Q6_K: return layout<Block::Q6_K, Q6_K>(5, false, false);
        case Block::IQ4_XS: return layout<Block::IQ4_XS, IQ4_XS>(7, false, true);
        default: return {0, 0, -1, false, false, nullptr};
    }
}

}  // namespace camelid::CAMELID_ISA
