// Arrays of residual blocks, all of one size, for any codec: payloads of specs/dct_blocks.md.
//
//   block --transform--> / step --RDOQ--> levels --> [coded?] levels.hpp --> bins
//                                            |
//   residual <--inverse transform-- x step <-+
//
// The blocks lie in rows of `width`: those to the left and above give the energy that contexts know.

#pragma once

#include "codec.hpp"

namespace ncodec::dct {

// How bins get their probabilities: from training, by frequency alone; from the mixed contexts as training left
// them; or from mixed contexts that adapt.
enum class Entropy : uint8_t { frequency, conditional, adaptive };

struct BlockFormat {
  int log2 = 3;              // of the side
  int quality_code = 60;
  int bit_depth = 8;         // of the samples: |residual| < 2^bit_depth
  Entropy entropy = Entropy::adaptive;
  Kind kind = Kind::dct;
  bool is_flat = false;      // every frequency has the step of log_step
  bool is_chroma = false;
};

// A model where `mix` gives a bin the probability of one context: that of its frequency.
inline void isolate(Model& model) {
  for (int i = 0; i < mixer::END; ++i) {
    const int which = i >= mixer::LAST && i < mixer::LEVELS_END ? 0 : i >= mixer::CODED && i < mixer::LIKELY ? 2 : 1;
    model.mixers[i].w = {};
    model.mixers[i].w[which] = 1 << 16;
  }
}

// The samples of a format: transforms and steps.
class BlockTransform {
 public:
  BlockTransform(const Parameters& parameters, const BlockFormat& format)
      : log2_(format.log2), shift_(SAMPLE_BITS - format.bit_depth), most_((1 << format.bit_depth) - 1), kind_(format.kind) {
    Steps all;
    if (format.is_flat) {
      Parameters flat = parameters;
      flat.matrix = {};
      all = steps_of(flat, format.quality_code);
    } else {
      all = steps_of(parameters, format.quality_code);
    }
    steps_ = all[format.is_chroma][log2_ - 2];
    scaled_steps_ = scale_steps(steps_, kind_, log2_);
  }

  int side() const { return 1 << log2_; }
  int coded() const { return 1 << coded_log2(log2_); }
  const std::vector<int32_t>& steps() const { return steps_; }

  // [side, side] coefficients * 2^FORWARD_BITS of 10-bit samples.
  void transform(const int16_t* block, int32_t* coefficients) const {
    int16_t samples[MAX_SIDE * MAX_SIDE];
    for (int i = 0; i < side() * side(); ++i) samples[i] = static_cast<int16_t>(block[i] * (1 << shift_));
    forward(samples, side(), coefficients, log2_, kind_);
  }

  // Exact. `levels` is [side, side]; those beyond `coded` are not read.
  void reconstruct(const int16_t* levels, int16_t* block) const {
    int16_t coefficients[MAX_SIDE * MAX_SIDE] = {};
    int rows = 0, columns = 0;
    for (int v = 0; v < coded(); ++v) {
      const int16_t* row = levels + v * side();
      for (int u = 0; u < coded(); ++u)
        if (row[u]) rows = v + 1, columns = std::max(columns, u + 1);
      kernels::scale(row, scaled_steps_.data() + v * coded(), coded(), 9 - coefficient_bits(log2_), coefficients + v * side());
    }
    if (!rows) {
      std::memset(block, 0, sizeof(int16_t) * side() * side());
      return;
    }
    inverse(coefficients, block, side(), log2_, kind_, rows, columns);
    const int half = 1 << shift_ >> 1;
    for (int i = 0; i < side() * side(); ++i) block[i] = static_cast<int16_t>(std::clamp((block[i] + half) >> shift_, -most_, most_));
  }

 private:
  int log2_, shift_, most_;
  Kind kind_;
  std::vector<int32_t> steps_, scaled_steps_;
};

// The contexts of blocks in rows.
class BlockSyntax {
 public:
  BlockSyntax(const BlockFormat& format, size_t width) : log2_(format.log2), plane_(format.is_chroma), width_(width), above_(width, 0) {}

  Surroundings surroundings() const {
    const int n = has_left() + has_above();
    const int sum = (has_left() ? left_ : 0) + (has_above() ? above_[column_] : 0);
    Surroundings around = {};
    around.plane = plane_;
    around.energy = n ? (2 * sum + n) / (2 * n) : 0;
    return around;
  }

  Bin coded(const Surroundings& around) const {
    const int k = plane_ * SIZES + log2_ - 2, neighbours = (has_left() && left_) + (has_above() && above_[column_]);
    return {place::CODED_A + k * 3 + neighbours, place::CODED_B + k * 8 + around.energy, place::CODED_C + k * 4, mixer::CODED + plane_};
  }

  // Codes a block, [side, side] levels, and goes on to the next.
  template <class Coder>
  void code(Coder& coder, int16_t* levels, bool is_coded) {
    const Surroundings around = surroundings();
    is_coded = coder.bin(is_coded, coded(around));
    const int sum = is_coded ? code_levels(coder, levels, 1 << log2_, log2_, around) : 0;
    left_ = above_[column_] = static_cast<uint8_t>(energy_of(sum, log2_));
    if (++column_ == width_) column_ = 0, ++row_;
  }

 private:
  bool has_left() const { return column_ > 0; }
  bool has_above() const { return row_ > 0; }

  int log2_, plane_;
  size_t width_, column_ = 0, row_ = 0;
  std::vector<uint8_t> above_;
  uint8_t left_ = 0;
};

inline Model block_model(const Parameters& parameters, const BlockFormat& format) {
  Model model = start_of(parameters, format.quality_code);
  if (format.entropy == Entropy::frequency) isolate(model);
  return model;
}

// Runs any coder of Encoder's kind over blocks; returns their levels, [n, side, side]. `weight`: bits that a squared error of 1 in a 10-bit sample is worth.
// `model` is the coder's own: levels are chosen for the model as it stands.
template <class Coder>
std::vector<int16_t> encode_blocks_with(Coder& coder, const Model& model, const int16_t* blocks, size_t n, size_t width,
                                 const BlockTransform& transform, const BlockFormat& format, float weight, bool optimised) {
  const int side = transform.side(), coded = transform.coded();
  std::vector<float> inverse_steps, error;
  for (const int step : transform.steps()) {
    const float s = static_cast<float>(step) / 32;  // half a step
    inverse_steps.push_back(std::ldexp(1.f / s, -FORWARD_BITS));
    error.push_back(weight * s * s);
  }
  std::vector<int16_t> out(n * side * side);
  BlockSyntax syntax(format, width);
  Trellis trellis;
  int32_t coefficients[MAX_SIDE * MAX_SIDE];
  float ratio[MAX_CODED * MAX_CODED];
  for (size_t i = 0; i < n; ++i) {
    int16_t* levels = out.data() + i * side * side;
    transform.transform(blocks + i * side * side, coefficients);
    float energy = 0;
    for (int v = 0; v < coded; ++v)
      for (int u = 0; u < coded; ++u) {
        const int k = v * coded + u;
        ratio[k] = static_cast<float>(coefficients[v * side + u]) * inverse_steps[k];
        energy += ratio[k] * ratio[k] * error[k];
      }
    const Surroundings around = syntax.surroundings();
    bool any = optimised ? trellis.quantise(ratio, error.data(), levels, side, format.log2, around, model)
                         : quantise_plainly(ratio, levels, side, format.log2);
    if (any && optimised) {  // is the block worth its levels?
      Estimator coded_bits(model), empty_bits(model);
      coded_bits.bin(1, syntax.coded(around)), empty_bits.bin(0, syntax.coded(around));
      code_levels(coded_bits, levels, side, format.log2, around);
      float left = 0;
      for (int v = 0; v < coded; ++v)
        for (int u = 0; u < coded; ++u) {
          const int k = v * coded + u;
          const float r = std::abs(ratio[k]) - std::abs(static_cast<float>(levels[v * side + u]));
          left += r * r * error[k];
        }
      if (empty_bits.bits + energy <= coded_bits.bits + left) {
        std::fill_n(levels, side * side, int16_t{0});
        any = false;
      }
    }
    syntax.code(coder, levels, any);
  }
  return out;
}

template <class Coder>
BinaryStatus decode_blocks_with(Coder& coder, int16_t* blocks, size_t n, size_t width, const BlockTransform& transform,
                                const BlockFormat& format) {
  const int side = transform.side();
  BlockSyntax syntax(format, width);
  int16_t levels[MAX_SIDE * MAX_SIDE];
  for (size_t i = 0; i < n; ++i) {
    std::fill_n(levels, side * side, int16_t{0});
    syntax.code(coder, levels, false);
    if (coder.status() != BinaryStatus::ok) return coder.status();
    transform.reconstruct(levels, blocks + i * side * side);
  }
  return coder.finish();
}

}  // namespace ncodec::dct
