// What an encoder quantises with: how much errors weigh, and the plain quantiser that optimisation is measured against.

#pragma once

#include <cmath>
#include <limits>

#include "enc_kernels.hpp"
#include "enc_transform.hpp"
#include "parameters.hpp"

namespace ncodec::dct {

constexpr float NEVER = std::numeric_limits<float>::max();  // a cost

// Of the coded frequencies of a block, [coded height, coded width].
struct Quantiser {
  std::vector<float> inverse;     // half-steps of a coefficient as `forward` gives it
  std::vector<float> error;       // bits that a squared error of one half-step weighs
  std::vector<float> place_bits;  // about how much more a level costs here that is not 0 than one that is

  Quantiser() = default;
  // `weight`: bits that a squared error of one sample weighs; `sensitivity`: times that, by frequency (empty: 1).
  Quantiser(const std::vector<int32_t>& steps, const Shape& shape, float weight,
            const std::vector<float>& sensitivity = {}) {
    // Fitted to how often levels are 0: the finer the steps, the more are not.
    const Shape coded = coded_of(shape);
    const float coarseness = std::log2(static_cast<float>(steps[0]) / 32);
    const float whole_side = 1 + 0.42f * coarseness, beyond_first = std::max(0.3f * (coarseness - 4), 0.f);
    for (size_t k = 0; k < steps.size(); ++k) {
      const float half_step = static_cast<float>(steps[k]) / 32;
      inverse.push_back(std::exp2(-forward_bits(shape)) / half_step);
      error.push_back(weight * half_step * half_step * (sensitivity.empty() ? 1 : sensitivity[k]));
      const auto x = static_cast<float>(k & (coded.width() - 1)), y = static_cast<float>(k >> coded.log2_w);
      place_bits.push_back((k ? beyond_first : 0) + whole_side * (x / static_cast<float>(coded.width()) +
                                                                  y / static_cast<float>(coded.height())));
    }
  }

  // `ratio`: coefficients in half-steps.
  void scale(const int32_t* coefficients, float* ratio) const {
    kernels::scale(coefficients, inverse.data(), static_cast<int>(inverse.size()), ratio);
  }
};

// Each coefficient to the nearest level with a dead zone, one after the other. `levels` (cleared before) gets
// half-steps; returns whether there are any.
class PlainQuantiser {
 public:
  PlainQuantiser(const float* ratio, int16_t* levels, int stride, const Shape& shape)
      : ratio_(ratio), levels_(levels), stride_(stride), shape_(shape) {}

  bool quantise() {
    for (int g = groups_in(shape_) - 1; g >= 0; --g) {
      const Place group = SCAN.groups_of(shape_)[g];
      const int state_before = state_;
      bool is_coded = g == 0 && any_;
      is_coded |= run(group, false);
      state_ = state_before;
      if (is_coded) run(group, true);
    }
    return any_;
  }

 private:
  // Over the levels of a group, returning whether there are any; `writes` after the first look.
  bool run(Place group, bool writes) {
    bool any_here = false;
    for (int k = 15; k >= 0; --k) {
      const Place at = SCAN.place(group, k);
      const float signed_ratio = ratio_[at.y * coded_of(shape_).width() + at.x], r = std::abs(signed_ratio);
      const int odd = state_ & 1;
      const int level = std::min(static_cast<int>((r + static_cast<float>(odd)) / 2 + 1.f / 3), LEVEL_MAX);
      if (!level && !any_ && !writes) continue;  // above the last: the state waits
      if (level) any_ = any_here = true;
      if (writes && level)
        levels_[at.y * stride_ + at.x] = static_cast<int16_t>(signed_ratio < 0 ? odd - 2 * level : 2 * level - odd);
      if (any_) state_ = NEXT_STATE[state_][level & 1];
    }
    return any_here;
  }

  const float* ratio_;
  int16_t* levels_;
  int stride_;
  Shape shape_;
  bool any_ = false;
  int state_ = 0;
};

inline bool quantise_plainly(const float* ratio, int16_t* levels, int stride, const Shape& shape) {
  return PlainQuantiser(ratio, levels, stride, shape).quantise();
}

}  // namespace ncodec::dct
