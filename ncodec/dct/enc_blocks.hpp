// Residual blocks to the levels and bins of blocks.hpp.

#pragma once

#include "blocks.hpp"
#include "enc_trellis.hpp"

namespace ncodec::dct {

// [side, side] coefficients * 2^FORWARD_BITS of 10-bit samples, or [coded side, coded side].
template <bool ALL>
inline void transform_block(const int16_t* block, const BlockFormat& format, int32_t* coefficients) {
  const int side = 1 << format.log2, scale = 1 << (SAMPLE_BITS - format.bit_depth);
  int16_t samples[MAX_SIDE * MAX_SIDE];
  for (int i = 0; i < side * side; ++i) samples[i] = static_cast<int16_t>(block[i] * scale);
  forward<ALL>(samples, side, coefficients, format.shape(), {format.kind, format.kind});
}

// Chooses the levels of blocks.
class BlockQuantiser {
 public:
  // `weight`: bits that a squared error of one 10-bit sample weighs.
  BlockQuantiser(const Parameters& parameters, const BlockFormat& format, float weight, bool is_optimised)
      : format_(format),
        quantiser_(BlockReconstruction::block_steps(parameters, format), format.shape(), weight),
        is_optimised_(is_optimised) {}

  // For the model as it stands. `levels` (0 before) gets them; returns whether there are any.
  bool choose(const int16_t* block, const BlockSyntax& syntax, const Model& model, int16_t* levels) {
    const int side = 1 << format_.log2;
    int32_t coefficients[MAX_CODED * MAX_CODED];
    float ratio[MAX_CODED * MAX_CODED];
    transform_block<false>(block, format_, coefficients);
    quantiser_.scale(coefficients, ratio);
    if (!is_optimised_) return quantise_plainly(ratio, levels, side, format_.shape());
    const Surroundings around = syntax.surroundings();
    prices_.take(model);
    if (!trellis_.quantise(ratio, quantiser_.error.data(), levels, side, format_.shape(), around, prices_).sum)
      return false;
    if (is_worth_levels(ratio, levels, syntax, around)) return true;
    std::fill_n(levels, side * side, int16_t{0});
    return false;
  }

 private:
  bool is_worth_levels(const float* ratio, int16_t* levels, const BlockSyntax& syntax,
                       const Surroundings& around) const {
    const int side = 1 << format_.log2, coded = 1 << coded_log2(format_.log2);
    const float empty_bits = estimate_bits(prices_, [&](Estimator& e) { e.bin(0, syntax.coded(around)); });
    const float coded_bits = estimate_bits(prices_, [&](Estimator& e) {
      e.bin(1, syntax.coded(around));
      syntax.code_levels(e, levels, around);
    });
    float empty_error = 0, coded_error = 0;
    for (int v = 0; v < coded; ++v)
      for (int u = 0; u < coded; ++u) {
        const int k = v * coded + u;
        const float r = std::abs(ratio[k]) - std::abs(static_cast<float>(levels[v * side + u]));
        empty_error += ratio[k] * ratio[k] * quantiser_.error[k];
        coded_error += r * r * quantiser_.error[k];
      }
    return coded_bits + coded_error < empty_bits + empty_error;
  }

  BlockFormat format_;
  Quantiser quantiser_;
  bool is_optimised_;
  Prices prices_;
  Trellis trellis_;
};

// Runs any coder of Encoder's kind over blocks; returns their levels, [n, side, side]. `model` is the coder's own.
template <class Coder>
std::vector<int16_t> encode_blocks_with(Coder& coder, const Model& model, const int16_t* blocks, size_t n, size_t width,
                                        const BlockFormat& format, BlockQuantiser& quantiser) {
  const size_t area = size_t{1} << (2 * format.log2);
  std::vector<int16_t> levels(n * area);
  BlockSyntax syntax(format, width);
  for (size_t i = 0; i < n; ++i) {
    int16_t* of_block = levels.data() + i * area;
    const bool is_coded = quantiser.choose(blocks + i * area, syntax, model, of_block);
    syntax.code(coder, of_block, is_coded);
  }
  return levels;
}

}  // namespace ncodec::dct
