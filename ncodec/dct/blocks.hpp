// Arrays of residual blocks, all of one size, for any codec: payloads of specs/dct_blocks.md.
//
//   block --transform--> / step --RDOQ--> levels --> [coded?] levels.hpp --> bins          (enc_blocks.hpp)
//                                            |
//   residual <--inverse transform-- x step <-+
//
// The blocks lie in rows of `width`: those to the left and above give the energy that contexts know.

#pragma once

#include "tile.hpp"

namespace ncodec::dct {

// How bins get their probabilities: from training, by frequency alone; from the mixed contexts as training left
// them; or from mixed contexts that adapt.
enum class Entropy : uint8_t { frequency, conditional, adaptive };

struct BlockFormat {
  int log2 = 3;  // of the side
  int quality_code = 60;
  int bit_depth = 8;  // of the samples: |residual| < 2^bit_depth
  Entropy entropy = Entropy::adaptive;
  Kind kind = Kind::dct;
  bool is_flat = false;  // every frequency has the step of log_step
  bool is_chroma = false;

  Shape shape() const { return square_of(log2); }
};

// A model where `mix` gives a bin the probability of one context: that of its frequency.
inline void isolate(Model& model) {
  const auto keep = [&](int first, int end, int which) {
    for (int i = first; i < end; ++i) {
      model.mixers[i].w = {};
      model.mixers[i].w[which] = 1 << 16;
    }
  };
  keep(0, mixers::COUNT, 1);
  keep(mixers::LAST.first, mixers::LAST.end(), 2);
  keep(mixers::CODED.first, mixers::CODED.end(), 2);
}

inline Model block_model(const Parameters& parameters, const BlockFormat& format) {
  Model model = start_of(parameters, format.quality_code);
  if (format.entropy == Entropy::frequency) isolate(model);
  return model;
}

// Levels to samples in a format.
class BlockReconstruction {
 public:
  BlockReconstruction(const Parameters& parameters, const BlockFormat& format)
      : shape_(format.shape()),
        shift_(SAMPLE_BITS - format.bit_depth),
        most_((1 << format.bit_depth) - 1),
        kind_(format.kind),
        scaled_steps_(scale_steps(block_steps(parameters, format), kind_, shape_)) {}

  static std::vector<int32_t> block_steps(const Parameters& parameters, const BlockFormat& format) {
    if (!format.is_flat) return steps_of(parameters, format.quality_code, format.is_chroma, format.shape());
    Parameters flat = parameters;
    flat.matrix = {};
    return steps_of(flat, format.quality_code, format.is_chroma, format.shape());
  }

  // Exact. `levels` is [side, side]; those beyond the coded frequencies are not read.
  void reconstruct(const int16_t* levels, int16_t* block) const {
    const int side = shape_.width(), coded = coded_of(shape_).width();
    int16_t coefficients[MAX_SIDE * MAX_SIDE] = {};
    int rows = 0, columns = 0;
    for (int v = 0; v < coded; ++v) {
      const int16_t* row = levels + v * side;
      for (int u = 0; u < coded; ++u)
        if (row[u]) rows = v + 1, columns = std::max(columns, u + 1);
      kernels::scale(row, scaled_steps_.data() + v * coded, coded, 9 - coefficient_bits(shape_),
                     coefficients + v * side);
    }
    if (!rows) {
      std::memset(block, 0, sizeof(int16_t) * side * side);
      return;
    }
    inverse(coefficients, block, side, shape_, {kind_, kind_}, rows, columns);
    const int half = 1 << shift_ >> 1;
    for (int i = 0; i < side * side; ++i)
      block[i] = static_cast<int16_t>(std::clamp((block[i] + half) >> shift_, -most_, most_));
  }

 private:
  Shape shape_;
  int shift_, most_;
  Kind kind_;
  std::vector<int32_t> scaled_steps_;
};

// The bins of blocks in rows.
class BlockSyntax {
 public:
  BlockSyntax(const BlockFormat& format, size_t width)
      : shape_(format.shape()), plane_(format.is_chroma), width_(width), above_(width, 0) {}

  Surroundings surroundings() const {
    const int n = has_left() + has_above();
    const int sum = (has_left() ? left_ : 0) + (has_above() ? above_[column_] : 0);
    Surroundings around;
    around.plane = plane_;
    around.energy = n ? (2 * sum + n) / (2 * n) : 0;
    return around;
  }

  Bin coded(const Surroundings& around) const {
    const int size = shape_.size(), coded_beside = (has_left() && left_) + (has_above() && above_[column_]);
    return {contexts::CODED_A(plane_, size, coded_beside), contexts::CODED_B(plane_, size, around.energy),
            contexts::CODED_C(plane_, size, 0), mixers::CODED(plane_)};
  }

  // Codes a block, [side, side] levels, and goes on to the next.
  template <class Coder>
  void code(Coder& coder, int16_t* levels, bool is_coded) {
    const Surroundings around = surroundings();
    is_coded = coder.bin(is_coded, coded(around));
    const int sum = is_coded ? code_levels(coder, levels, around) : 0;
    left_ = above_[column_] = static_cast<uint8_t>(energy_of(sum, shape_));
    if (++column_ == width_) column_ = 0, ++row_;
  }

  // Without samples beside it, signs are as likely as not.
  template <class Coder>
  int code_levels(Coder& coder, int16_t* levels, const Surroundings& around) const {
    Places places;
    const int sum = code_magnitudes(coder, levels, shape_.width(), shape_, around, places);
    for_each_sign(levels, shape_.width(), places, [&](Place, int level) { return coder.bypass(level < 0); });
    return sum;
  }

 private:
  bool has_left() const { return column_ > 0; }
  bool has_above() const { return row_ > 0; }

  Shape shape_;
  int plane_;
  size_t width_, column_ = 0, row_ = 0;
  std::vector<uint8_t> above_;
  uint8_t left_ = 0;
};

template <class Coder>
BinaryStatus decode_blocks_with(Coder& coder, int16_t* blocks, size_t n, size_t width,
                                const BlockReconstruction& samples, const BlockFormat& format) {
  const int side = 1 << format.log2;
  BlockSyntax syntax(format, width);
  int16_t levels[MAX_SIDE * MAX_SIDE];
  for (size_t i = 0; i < n; ++i) {
    std::fill_n(levels, side * side, int16_t{0});
    syntax.code(coder, levels, false);
    if (coder.status() != BinaryStatus::ok) return coder.status();
    samples.reconstruct(levels, blocks + i * side * side);
  }
  return coder.finish();
}

}  // namespace ncodec::dct
