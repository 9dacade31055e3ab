// How much an error is seen, by where it is and by its frequency: what an encoder that tunes for eyes minimises.
//
//   luma -> means of 4x4 -> variance of 5x5 of these -> visibility 1 / (2 variance + constant), its mean over 8x8
//        -> weight of errors there (no bits), and of 32x32 the offset of the steps (coded)
//
// Busy places hide errors (texture masking); the variance is that of the scale where structural similarity is judged
// most (SSIMULACRA2: a quarter of the size). By frequency the eye's sensitivity peaks near 1/20 cycle a sample.

#pragma once

#include <cmath>
#include <vector>

#include "syntax.hpp"

namespace ncodec::dct {

// What an encoder weighs errors by, beside their squares (ncodec/dct/parameters.py).
struct Tuning {
  bool is_visual = false;  // if not, by their squares alone
  float weight_slope = 0;  // log2 of an error's weight, an octave of visibility
  float offset_slope = 0;  // octaves of the step, an octave of visibility
  float constant = 64;     // beside the variance, of 8-bit samples
  float usual = 0;         // log2 of the visibility that leaves steps as they are
  // log2 of the weight of an error at 1/128, 1/64, ... 1/2 cycle a sample of luma; of luma, Cb, Cr
  std::array<std::array<float, 7>, 3> sensitivity = {};
};

// Of a frequency (v, u) of a block of width x height samples of luma.
inline float sensitivity_of(const Tuning& tuning, int plane, int v, int u, int width, int height) {
  const auto& s = tuning.sensitivity[plane];
  const float down = static_cast<float>(v) / static_cast<float>(2 * height),
              across = static_cast<float>(u) / static_cast<float>(2 * width);
  const float cycles = std::sqrt(down * down + across * across);
  const float place = std::clamp(std::log2(std::max(cycles, 1e-6f)) + 7, 0.f, 6.f);
  const int before = std::min(static_cast<int>(place), 5);
  return std::exp2(s[before] + (place - static_cast<float>(before)) * (s[before + 1] - s[before]));
}

class Masking {
 public:
  static constexpr int UNIT_SIDE = 8;  // samples

  Masking(const Plane& luma, const Tuning& tuning) : wide_((luma.width + 7) / 8), high_((luma.height + 7) / 8) {
    if (!tuning.is_visual) return;
    visibility_ = visibility_of(luma, tuning.constant);
    for (const float v : visibility_)
      weights_.push_back(std::exp2(tuning.weight_slope * (std::log2(v) - tuning.usual)));
    offset_slope_ = tuning.offset_slope;
    usual_ = tuning.usual;
  }

  // Of errors in a block, 1 in the mean of usual places.
  float weight(const Block& b) const { return weights_.empty() ? 1 : mean(weights_, b); }

  // The sum of f(unit) over the units of a block, each by its weight.
  template <class F>
  float sum(const Block& b, F f) const {
    float total = 0;
    for (int y = b.y; y < b.y + b.height() && y / UNIT_SIDE < high_; y += UNIT_SIDE)
      for (int x = b.x; x < b.x + b.width() && x / UNIT_SIDE < wide_; x += UNIT_SIDE)
        total += weights_[static_cast<size_t>(y / UNIT_SIDE) * wide_ + x / UNIT_SIDE] * f(Block{x, y, square_of(3)});
    return total;
  }

  // Of the steps in a block, in quarters of an octave.
  int offset(const Block& b) const {
    if (weights_.empty()) return 0;
    const float octaves = -offset_slope_ * (std::log2(mean(visibility_, b)) - usual_);
    return std::clamp(static_cast<int>(std::lround(4 * octaves)), -MAX_OFFSET, MAX_OFFSET);
  }

 private:
  float mean(const std::vector<float>& values, const Block& b) const {
    float sum = 0;
    int n = 0;
    for (int y = b.y / UNIT_SIDE; y < std::min((b.y + b.height() + 7) / UNIT_SIDE, high_); ++y)
      for (int x = b.x / UNIT_SIDE; x < std::min((b.x + b.width() + 7) / UNIT_SIDE, wide_); ++x, ++n)
        sum += values[static_cast<size_t>(y) * wide_ + x];
    return sum / static_cast<float>(n);
  }

  // Of units: 1 / (2 variance + constant).
  std::vector<float> visibility_of(const Plane& luma, float constant) const {
    const int w = luma.width / 4, h = luma.height / 4;
    std::vector<float> small(static_cast<size_t>(w) * h);  // of 8 bits
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x) {
        int sum = 0;
        for (int j = 0; j < 4; ++j)
          for (int i = 0; i < 4; ++i) sum += *luma.at(4 * x + i, 4 * y + j);
        small[static_cast<size_t>(y) * w + x] = static_cast<float>(sum) / 64;
      }
    std::vector<float> out(static_cast<size_t>(wide_) * high_, 0);
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x) {
        float sum = 0, squares = 0, n = 0;
        for (int j = std::max(y - 2, 0); j <= std::min(y + 2, h - 1); ++j)
          for (int i = std::max(x - 2, 0); i <= std::min(x + 2, w - 1); ++i, ++n) {
            const float v = small[static_cast<size_t>(j) * w + i];
            sum += v, squares += v * v;
          }
        const float mean = sum / n, variance = std::max(squares / n - mean * mean, 0.f);
        out[static_cast<size_t>(y / 2) * wide_ + x / 2] += 1 / (2 * variance + constant) / 4;
      }
    return out;
  }

  int wide_, high_;
  std::vector<float> visibility_, weights_;
  float offset_slope_ = 0, usual_ = 0;
};

}  // namespace ncodec::dct
