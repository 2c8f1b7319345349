// Which product for which weights and how many tokens. All give the same bits, so the choice is only one of speed.

namespace camelid::CAMELID_ISA {

constexpr int kFewTokens = 4;  // up to here the rows are streamed, beyond they are turned into panels

template <int Max, int Weights>
VERB void multiply_quantized(const Product& p, const Layout& layout, int64_t begin, int64_t end, void* scratch) {
    if (p.tokens <= kFewTokens) multiply_rows<Max, Weights>(p, layout, begin, end, scratch);
    else multiply_panel<Max, Weights>(p, layout, begin, end, scratch);
}

static void multiply(const Product& p, int64_t begin, int64_t end, void* scratch) {
    switch (p.weight.type) {
        case Block::F32: return multiply_float<Block::F32>(p, begin, end);
        case Block::F16: return multiply_float<Block::F16>(p, begin, end);
        case Block::BF16: return multiply_float<Block::BF16>(p, begin, end);
        default: break;
    }
    const Layout layout = layout_of(p.weight.type);
    if (layout.weights == 256 && !layout.is_wide) multiply_quantized<63, 256>(p, layout, begin, end, scratch);
    else if (layout.weights == 256) multiply_quantized<255, 256>(p, layout, begin, end, scratch);
    else if (!layout.is_wide) multiply_quantized<63, 32>(p, layout, begin, end, scratch);
    else multiply_quantized<255, 32>(p, layout, begin, end, scratch);
}

}  // namespace camelid::CAMELID_ISA
