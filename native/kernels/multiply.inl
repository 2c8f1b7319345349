// Which product for which weights and how many tokens. All give the same bits, so the choice is only one of speed.

namespace camelid::CAMELID_ISA {

template <class Type>
static void multiply_quantized(const Product& p, int64_t begin, int64_t end, void* scratch) {
    if (p.tokens <= kFewTokens) return multiply_few<Type>(p, begin, end, scratch);
    multiply_panel<Type::kIsWide ? 255 : 63, kShape<Type>.weights>(p, layout<Type>(), begin, end, scratch);
}

static void multiply(const Product& p, int64_t begin, int64_t end, void* scratch) {
    switch (p.weight.type) {
        case Block::F32: return multiply_float<Block::F32>(p, begin, end);
        case Block::F16: return multiply_float<Block::F16>(p, begin, end);
        case Block::BF16: return multiply_float<Block::BF16>(p, begin, end);
        case Block::Q4_0: return multiply_quantized<Q4_0>(p, begin, end, scratch);
        case Block::Q4_1: return multiply_quantized<Q4_1>(p, begin, end, scratch);
        case Block::Q5_0: return multiply_quantized<Q5_0>(p, begin, end, scratch);
        case Block::Q5_1: return multiply_quantized<Q5_1>(p, begin, end, scratch);
        case Block::Q8_0: return multiply_quantized<Q8_0>(p, begin, end, scratch);
        case Block::IQ4_NL: return multiply_quantized<IQ4_NL>(p, begin, end, scratch);
        case Block::Q2_K: return multiply_quantized<Q2_K>(p, begin, end, scratch);
        case Block::Q3_K: return multiply_quantized<Q3_K>(p, begin, end, scratch);
        case Block::Q4_K: return multiply_quantized<Q4_K>(p, begin, end, scratch);
        case Block::Q5_K: return multiply_quantized<Q5_K>(p, begin, end, scratch);
        case Block::Q6_K: return multiply_quantized<Q6_K>(p, begin, end, scratch);
        case Block::IQ4_XS: return multiply_quantized<IQ4_XS>(p, begin, end, scratch);
    }
}

}  // namespace camelid::CAMELID_ISA
