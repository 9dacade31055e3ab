// Trials of a block's residual: what a prediction will about cost, and what it costs when it is coded in full.

#pragma once

#include "enc_estimator.hpp"
#include "enc_kernels.hpp"
#include "enc_masking.hpp"
#include "enc_trellis.hpp"
#include "enc_worth.hpp"
#include "tile.hpp"

namespace ncodec::dct {

struct EncoderOptions {
  float lambda = 0.013f;  // bits per pixel against mean squared error (8-bit RGB)
  int least_log2 = 2, most_log2 = 6;
  bool optimised_levels = true;  // rate-distortion optimised quantisation
  int full_trials = 3;           // modes coded in full, of luma with either transform
  bool is_quick = false;         // few luma modes are looked at, one with transforms; luma is chosen before chroma
  bool is_thorough = false;      // many are looked at
  int binary_depth = 2;          // splits in two or three, one within the other, at most MAX_BINARY_DEPTH
  bool ternary = true;           // splits in three too
  float price = 2;               // of time: what a split saves by its time is more, if it is tried; 0: all are
  bool network = true;           // where the weights have one
  bool turned = true;            // planes are turned to the picture's own colours, but where tuned for eyes
  bool wiener = true;            // the last filter, but where tuned for eyes
  Tuning tuning;
  TrialLog* log = nullptr;
};

// Bits that a squared error of one 10-bit sample weighs, by the mean of what it does to R, G and B; samples of 4:2:0
// stand for four.
inline float weight_of(const EncoderOptions& options, const Tile& tile, int plane) {
  double square = 0;
  for (const auto& row : tile.colour) square += std::pow(row[plane] / 65536.0, 2) / 3;
  return options.lambda / 16.f * static_cast<float>(square) *
         static_cast<float>(1 << (2 * tile.syntax.geometry().shift(plane)));
}

// Of the part of a block that lies in the plane; `shift`: of the plane.
inline int64_t squared_error(const Plane& a, const Plane& b, const Block& block, int shift) {
  const int x = block.x >> shift, y = block.y >> shift;
  return kernels::squared_error(a.at(x, y), a.stride, b.at(x, y), b.stride,
                                std::min(block.width() >> shift, a.width - x),
                                std::min(block.height() >> shift, a.height - y));
}

class ResidualTrial {
 public:
  ResidualTrial(Tile& tile, const std::array<Plane, 3>& source, const EncoderOptions& options, const Masking& masking)
      : tile_(tile),
        source_(source),
        tuning_(options.tuning),
        masking_(masking),
        is_optimised_(options.optimised_levels),
        is_quick_(options.is_quick && options.optimised_levels),
        trellis_(options.is_quick ? 0.8f : Trellis::LEAST) {
    for (int p = 0; p < tile.syntax.geometry().planes; ++p) weight_[p] = weight_of(options, tile, p);
  }

  // Bits that a squared error of one sample of a block weighs.
  float weight(int plane, const Block& b) const { return weight_[plane] * masking_.weight(b); }

  // About what the residual of a prediction will cost (bits + weighted error).
  float estimate_cost(int plane, const Block& b, bool is_sine, const int16_t* prediction) const {
    float ratio[MAX_CODED * MAX_CODED], errors[MAX_CODED * MAX_CODED];
    transform(plane, b, is_sine, prediction, ratio);
    return kernels::estimate_cost(ratio, errors_of(plane, b, errors), quantiser(plane, b).place_bits.data(),
                                  coded_of(tile_.own_shape(plane, b)).area());
  }

  // The source's samples in the place of a block's.
  void place_source(int plane, const Block& b) {
    const Shape own = tile_.own_shape(plane, b);
    const int s = tile_.syntax.geometry().shift(plane);
    for (int y = 0; y < own.height(); ++y)
      std::memcpy(tile_.at(plane, b) + y * tile_.planes[plane].stride, source_[plane].at(b.x >> s, (b.y >> s) + y),
                  sizeof(int16_t) * own.width());
  }

  // Codes the residual of a prediction: levels, samples, units' energies. Returns the cost without the mode's.
  float code(const Prices& prices, int plane, const Block& b, bool has_luma, const int16_t* prediction) {
    Syntax& syntax = tile_.syntax;
    const Shape own = tile_.own_shape(plane, b);
    float ratio[MAX_CODED * MAX_CODED], buffer[MAX_CODED * MAX_CODED];
    const float beyond = transform(plane, b, syntax.unit(b).is_sine, prediction, ratio);
    const float* errors = errors_of(plane, b, buffer);
    int16_t* levels = syntax.levels(plane, b);
    clear(levels, own);
    const Surroundings around = syntax.surroundings(plane, b, has_luma);
    const auto flag_bits = [&](bool is_coded) {
      return estimate_bits(prices, [&](Estimator& e) { syntax.code_is_coded(e, plane, b, is_coded, around.energy); });
    };
    Trellis::Chosen chosen;
    if (is_optimised_)
      chosen = trellis_.quantise(ratio, errors, flag_bits(true) - flag_bits(false), levels, Syntax::LEVELS_STRIDE, own,
                                 around, prices);
    const bool is_coded = is_optimised_ ? chosen.sum > 0 : quantise_plainly(ratio, levels, Syntax::LEVELS_STRIDE, own);
    float bits;
    if (is_quick_) {  // as the trellis has it: a bit for each sign
      bits = flag_bits(is_coded);
      if (!is_coded && plane == 0) syntax.set_sine(b, false);
      if (is_coded) bits += chosen.cost - weighted_error(ratio, levels, errors, own);
      syntax.set_levels(plane, b, chosen);
    } else {
      const auto code = [&](Estimator& e) { tile_.code_residual(e, plane, b, is_coded, has_luma, prediction); };
      bits = estimate_bits(prices, code);
    }
    tile_.add_residual(plane, b, is_coded, prediction);
    if (tuning_.is_visual) return bits + beyond + weighted_error(ratio, levels, errors, own);
    const int s = syntax.geometry().shift(plane);
    return bits + weight_[plane] * static_cast<float>(squared_error(source_[plane], tile_.planes[plane], b, s));
  }

 private:
  const Quantiser& quantiser(int plane, const Block& b) const {
    const int offset = tile_.syntax.offset(b);
    const Shape own = tile_.own_shape(plane, b);
    Quantiser& found = quantisers_[offset + MAX_OFFSET][plane][own.log2_h - MIN_LOG2][own.log2_w - MIN_LOG2];
    if (found.inverse.empty())
      found = Quantiser(tile_.steps(plane, own, offset, false), own, weight_[plane], sensitivities(plane, b));
    return found;
  }

  std::vector<float> sensitivities(int plane, const Block& b) const {
    std::vector<float> out;
    if (!tuning_.is_visual) return out;
    const Shape coded = coded_of(tile_.own_shape(plane, b));
    for (int v = 0; v < coded.height(); ++v)
      for (int u = 0; u < coded.width(); ++u)
        out.push_back(sensitivity_of(tuning_, plane, v, u, b.width(), b.height()));
    return out;
  }

  // What squared errors of half-steps weigh in a block, by frequency; in `buffer`, or as they are kept.
  const float* errors_of(int plane, const Block& b, float* buffer) const {
    const std::vector<float>& errors = quantiser(plane, b).error;
    if (!tuning_.is_visual) return errors.data();
    const float weight = masking_.weight(b);
    for (size_t k = 0; k < errors.size(); ++k) buffer[k] = weight * errors[k];
    return buffer;
  }

  static float weighted_error(const float* ratio, const int16_t* levels, const float* errors, const Shape& own) {
    const int width = coded_of(own).width(), height = coded_of(own).height();
    float sum = 0;
    for (int v = 0; v < height; ++v)
      for (int u = 0; u < width; ++u) {
        const float r = ratio[v * width + u] - static_cast<float>(levels[v * Syntax::LEVELS_STRIDE + u]);
        sum += r * r * errors[v * width + u];
      }
    return sum;
  }

  // What the frequencies weigh that are not coded: the residual's energy less theirs that are.
  float error_beyond(int plane, const Block& b, const int16_t* residual, const int32_t* coefficients,
                     const Shape& own) const {
    const Shape coded = coded_of(own);
    if (!tuning_.is_visual || coded == own) return 0;
    const float scale = std::exp2(-forward_bits(own));
    float sum = 0;
    for (int i = 0; i < own.area(); ++i) sum += static_cast<float>(residual[i] * residual[i]);
    for (int i = 0; i < coded.area(); ++i) {
      const float c = scale * static_cast<float>(coefficients[i]);
      sum -= c * c;
    }
    return std::max(sum, 0.f) * weight(plane, b) * std::exp2(tuning_.sensitivity[plane][6]);
  }

  // Coefficients of source less prediction, in half-steps: [coded height, coded width]. Returns `error_beyond`.
  float transform(int plane, const Block& b, bool is_sine, const int16_t* prediction, float* ratio) const {
    const int s = tile_.syntax.geometry().shift(plane);
    const Shape own = b.shape.shrunk(s);
    int16_t residual[MAX_SIDE * MAX_SIDE];
    int32_t coefficients[MAX_CODED * MAX_CODED];
    kernels::subtract(source_[plane].at(b.x >> s, b.y >> s), source_[plane].stride, prediction, own.width(),
                      own.height(), residual);
    forward(residual, own.width(), coefficients, own, tile_.kinds_of(plane, own, is_sine));
    quantiser(plane, b).scale(coefficients, ratio);
    return error_beyond(plane, b, residual, coefficients, own);
  }

  static void clear(int16_t* levels, const Shape& own) {
    const Shape coded = coded_of(own);
    for (int j = 0; j < coded.height(); ++j)
      std::memset(levels + j * Syntax::LEVELS_STRIDE, 0, sizeof(int16_t) * coded.width());
  }

  Tile& tile_;
  const std::array<Plane, 3>& source_;
  const Tuning tuning_;
  const Masking& masking_;
  bool is_optimised_, is_quick_;
  std::array<float, 3> weight_;
  // [offset][plane][height][width], made when they are asked for
  mutable Array<Quantiser, 2 * MAX_OFFSET + 1, 3, SIZES, SIZES> quantisers_;
  Trellis trellis_;
};

}  // namespace ncodec::dct
