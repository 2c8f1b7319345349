// Which product for which weights.

namespace camelid::CAMELID_ISA {

static void multiply(const Product& p, int64_t begin, int64_t end, const uint8_t* ahead, void* scratch) {
    switch (p.weight.type) {
        case Block::F32: return multiply_float<Block::F32>(p, begin, end);
        case Block::F16: return multiply_float<Block::F16>(p, begin, end);
        case Block::BF16: return multiply_float<Block::BF16>(p, begin, end);
        default: return visit_quantized(p.weight.type, [&]<class Type>() { multiply_quantized<Type>(p, begin, end, ahead, scratch); });
    }
}

}  // namespace camelid::CAMELID_ISA
