// Learned prediction of luma (specs/dct.md D16 to D43): a block's low frequencies are linear in the samples around it.
//
//   top, left --less their mean--> 16 inputs --matrix--> 4x4 frequencies --inverse transform, plus mean--> prediction
//
// A matrix is of a mode and of shapes that are at least as wide as high. Of a block that is *turned* top and left
// change places and the prediction is transposed: it is higher than wide, or square and of the second half of the
// modes.

#pragma once

#include "parameters.hpp"
#include "predict.hpp"

namespace ncodec::dct {

constexpr int LEARNED_SIDE = 4;      // of the frequencies
constexpr int MAX_LEARNED_LOG2 = 4;  // sides up to 16

// How many modes a shape has, which are numbered from MODES on.
inline int learned_modes(const Shape& shape) {
  if (shape.most() > MAX_LEARNED_LOG2) return 0;
  return shape.log2_w == shape.log2_h ? 2 * LEARNED_MATRICES : LEARNED_MATRICES;
}

// 0 ... 5: 4x4, 8x4, 16x4, 8x8, 16x8, 16x16, and those turned.
inline int learned_shape(const Shape& shape) {
  const int least = shape.least() - MIN_LOG2, most = shape.most() - MIN_LOG2;
  return least * (5 - least) / 2 + most;
}

inline Kinds learned_kinds(const Shape& shape) {
  const auto along = [](int log2) { return log2 == MIN_LOG2 ? Kind::dst : Kind::dct; };
  return {along(shape.log2_w), along(shape.log2_h)};
}

// What learned modes see of a block's surroundings, for both orientations.
class LearnedBorder {
 public:
  LearnedBorder(const References& r, const Shape& shape) : shape_(shape) {
    const int w = shape.width(), h = shape.height();
    const int sum = std::accumulate(r.top + 1, r.top + 1 + w, 0) + std::accumulate(r.left + 1, r.left + 1 + h, 0);
    mean_ = (sum + (w + h) / 2) / (w + h);
    fill(r.left + 1, h, fill(r.top + 1, w, inputs_[0].data()));
    fill(r.top + 1, w, fill(r.left + 1, h, inputs_[1].data()));
  }

  int mean() const { return mean_; }
  const int16_t* inputs(bool is_turned) const { return inputs_[is_turned].data(); }
  bool is_turned(int mode) const { return shape_.log2_w < shape_.log2_h || mode >= MODES + LEARNED_MATRICES; }

  // D42: [vertical][horizontal] frequencies, exchanged if the mode is turned.
  void frequencies(const Learned& learned, int mode, int16_t* out) const {
    const auto& matrix = learned[learned_shape(shape_)][(mode - MODES) % LEARNED_MATRICES];
    kernels::learned(inputs(is_turned(mode)), matrix[0].data(), out);
  }

 private:
  // Sides of 16 in pairs.
  int16_t* fill(const int16_t* samples, int side, int16_t* out) const {
    if (side < 1 << MAX_LEARNED_LOG2) {
      for (int i = 0; i < side; ++i) *out++ = static_cast<int16_t>(samples[i] - mean_);
    } else {
      for (int i = 0; i < side; i += 2) *out++ = static_cast<int16_t>(((samples[i] + samples[i + 1] + 1) >> 1) - mean_);
    }
    return out;
  }

  Shape shape_;
  int mean_;
  std::array<std::array<int16_t, LEARNED_INPUTS>, 2> inputs_ = {};
};

// [height, width] samples.
inline void predict_learned(const References& r, const Learned& learned, int mode, const Shape& shape, int16_t* out) {
  constexpr int MAX_AREA = 1 << (2 * MAX_LEARNED_LOG2);
  const LearnedBorder border(r, shape);
  const bool is_turned = border.is_turned(mode);
  const Shape wide = is_turned ? shape.transposed() : shape;
  int16_t frequencies[LEARNED_SIDE * LEARNED_SIDE], coefficients[LEARNED_SIDE << MAX_LEARNED_LOG2], buffer[MAX_AREA];
  border.frequencies(learned, mode, frequencies);
  for (int v = 0; v < LEARNED_SIDE; ++v)
    std::copy_n(frequencies + v * LEARNED_SIDE, LEARNED_SIDE, coefficients + v * wide.width());
  int16_t* residual = is_turned ? buffer : out;
  inverse(coefficients, residual, wide.width(), wide, learned_kinds(wide), LEARNED_SIDE, LEARNED_SIDE);
  for (int i = 0; i < shape.area(); ++i)
    residual[i] = static_cast<int16_t>(std::clamp(border.mean() + residual[i], 0, SAMPLE_MAX));
  if (is_turned) kernels::transpose(residual, wide.width(), wide.height(), out);
}

}  // namespace ncodec::dct
