// Trials of a block's residual: what a prediction will about cost, and what it costs when it is coded in full.

#pragma once

#include "enc_estimator.hpp"
#include "enc_kernels.hpp"
#include "enc_masking.hpp"
#include "enc_trellis.hpp"
#include "tile.hpp"

namespace ncodec::dct {

struct EncoderOptions {
  float lambda = 0.013f;  // bits per pixel against mean squared error (8-bit RGB)
  int least_log2 = 2, most_log2 = 6;
  bool optimised_levels = true;  // rate-distortion optimised quantisation
  int full_trials = 3;           // luma modes coded in full, at most 4
  Tuning tuning;
};

// What an error of a plane's samples weighs in the mean squared error of R, G and B (BT.601: an error of Cb moves G
// by 0.344 and B by 1.772, and so on).
constexpr float PLANE_WEIGHT[3] = {1.f, 1.086f, 0.825f};

// Bits that a squared error of one 10-bit sample weighs; samples of 4:2:0 stand for four.
inline float weight_of(const EncoderOptions& options, const Geometry& g, int plane) {
  return options.lambda / 16.f * PLANE_WEIGHT[plane] * static_cast<float>(1 << (2 * g.shift(plane)));
}

// Of the part of a block that lies in the plane; `shift`: of the plane.
inline int64_t squared_error(const Plane& a, const Plane& b, const Block& block, int shift) {
  const int x = block.x >> shift, y = block.y >> shift, side = block.side() >> shift;
  return kernels::squared_error(a.at(x, y), a.stride, b.at(x, y), b.stride, std::min(side, a.width - x),
                                std::min(side, a.height - y));
}

class ResidualTrial {
 public:
  ResidualTrial(Tile& tile, const std::array<Plane, 3>& source, const EncoderOptions& options, const Masking& masking)
      : tile_(tile),
        source_(source),
        tuning_(options.tuning),
        masking_(masking),
        is_optimised_(options.optimised_levels) {
    const Geometry& g = tile.syntax.geometry();
    for (int p = 0; p < g.planes; ++p) weight_[p] = weight_of(options, g, p);
  }

  // Bits that a squared error of one sample of a block weighs.
  float weight(int plane, const Block& b) const { return weight_[plane] * masking_.weight(b); }

  // About what the residual of a prediction will cost (bits + weighted error).
  float estimate_cost(int plane, const Block& b, bool is_sine, const int16_t* prediction) const {
    const int log2 = tile_.own_log2(plane, b);
    float ratio[MAX_CODED * MAX_CODED], errors[MAX_CODED * MAX_CODED];
    transform(plane, b, is_sine, prediction, ratio);
    return kernels::estimate_cost(ratio, errors_of(plane, b, errors), 1 << (2 * coded_log2(log2)));
  }

  // Codes the residual of a prediction: levels, samples, units' energies. Returns the cost without the mode's.
  float code(const Model& model, int plane, const Block& b, bool has_luma, const int16_t* prediction) {
    Syntax& syntax = tile_.syntax;
    const int log2 = tile_.own_log2(plane, b);
    float ratio[MAX_CODED * MAX_CODED], buffer[MAX_CODED * MAX_CODED];
    const float beyond = transform(plane, b, syntax.unit(b).is_sine, prediction, ratio);
    const float* errors = errors_of(plane, b, buffer);
    int16_t* levels = syntax.levels(plane, b);
    clear(levels, log2);
    const bool is_coded = is_optimised_ ? trellis_.quantise(ratio, errors, levels, Syntax::LEVELS_STRIDE, log2,
                                                            syntax.surroundings(plane, b, has_luma), model)
                                        : quantise_plainly(ratio, levels, Syntax::LEVELS_STRIDE, log2);
    const float bits =
        estimate_bits(model, [&](Estimator& e) { tile_.code_residual(e, plane, b, is_coded, has_luma, prediction); });
    tile_.add_residual(plane, b, is_coded, prediction);
    if (tuning_.is_visual) return bits + beyond + weighted_error(ratio, levels, errors, log2);
    const int s = syntax.geometry().shift(plane);
    return bits + weight_[plane] * static_cast<float>(squared_error(source_[plane], tile_.planes[plane], b, s));
  }

 private:
  using Quantisers = std::array<std::array<Quantiser, SIZES>, 3>;

  const Quantiser& quantiser(int plane, const Block& b) const {
    std::unique_ptr<Quantisers>& found = quantisers_[tile_.syntax.offset(b) + MAX_OFFSET];
    if (!found) {
      found = std::make_unique<Quantisers>();
      for (int p = 0; p < tile_.syntax.geometry().planes; ++p)
        for (int log2 = MIN_LOG2; log2 <= MAX_LOG2; ++log2)
          (*found)[p][log2 - MIN_LOG2] =
              Quantiser(tile_.steps(tile_.syntax.offset(b))[p][log2 - MIN_LOG2], weight_[p], sensitivities(p, log2));
    }
    return (*found)[plane][tile_.own_log2(plane, b) - MIN_LOG2];
  }

  std::vector<float> sensitivities(int plane, int log2) const {
    std::vector<float> out;
    if (!tuning_.is_visual) return out;
    const int coded = 1 << coded_log2(log2), side = 1 << (log2 + tile_.syntax.geometry().shift(plane));  // of luma
    for (int v = 0; v < coded; ++v)
      for (int u = 0; u < coded; ++u) out.push_back(sensitivity_of(tuning_, plane, v, u, side));
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

  static float weighted_error(const float* ratio, const int16_t* levels, const float* errors, int log2) {
    const int coded = 1 << coded_log2(log2);
    float sum = 0;
    for (int v = 0; v < coded; ++v)
      for (int u = 0; u < coded; ++u) {
        const float r = ratio[v * coded + u] - static_cast<float>(levels[v * Syntax::LEVELS_STRIDE + u]);
        sum += r * r * errors[v * coded + u];
      }
    return sum;
  }

  // What the frequencies weigh that are not coded.
  float error_beyond(int plane, const Block& b, const int32_t* coefficients, int log2) const {
    const int side = 1 << log2, coded = 1 << coded_log2(log2);
    if (!tuning_.is_visual || coded == side) return 0;
    float sum = 0;
    for (int v = 0; v < side; ++v)
      for (int u = v < coded ? coded : 0; u < side; ++u) {
        const float c = std::ldexp(static_cast<float>(coefficients[v * side + u]), -FORWARD_BITS);
        sum += c * c;
      }
    return sum * weight(plane, b) * std::exp2(tuning_.sensitivity[plane][6]);
  }

  // Coefficients of source less prediction, in half-steps: [coded side, coded side]. Returns `error_beyond`.
  float transform(int plane, const Block& b, bool is_sine, const int16_t* prediction, float* ratio) const {
    const int s = tile_.syntax.geometry().shift(plane), log2 = b.log2 - s, side = 1 << log2;
    int16_t residual[MAX_SIDE * MAX_SIDE];
    int32_t coefficients[MAX_SIDE * MAX_SIDE];
    kernels::subtract(source_[plane].at(b.x >> s, b.y >> s), source_[plane].stride, prediction, side, residual);
    forward(residual, side, coefficients, log2, tile_.kind_of(plane, log2, is_sine));
    quantiser(plane, b).scale(coefficients, log2, ratio);
    return error_beyond(plane, b, coefficients, log2);
  }

  static void clear(int16_t* levels, int log2) {
    const int side = 1 << coded_log2(log2);
    for (int j = 0; j < side; ++j) std::memset(levels + j * Syntax::LEVELS_STRIDE, 0, sizeof(int16_t) * side);
  }

  Tile& tile_;
  const std::array<Plane, 3>& source_;
  const Tuning tuning_;
  const Masking& masking_;
  bool is_optimised_;
  std::array<float, 3> weight_;
  mutable std::array<std::unique_ptr<Quantisers>, 2 * MAX_OFFSET + 1> quantisers_;  // made when they are asked for
  Trellis trellis_;
};

}  // namespace ncodec::dct
