// What training found (specs/dct.md section 2): steps and matrices of quantisation over the curve, starting states,
// filters; and the steps and the model that a quality makes of them. All integers.

#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "colour.hpp"
#include "levels.hpp"
#include "transform.hpp"

namespace ncodec::dct {

constexpr int ANCHORS = 8;         // qualities 1 ... 8
constexpr int QUALITY_STEPS = 20;  // quality codes between two of them
constexpr int MAX_QUALITY_CODE = (ANCHORS - 1) * QUALITY_STEPS;

constexpr int FILTER_CLASSES = 25, ACTIVITIES = 5;  // of filter.hpp
constexpr int LUMA_PAIRS = 12, CHROMA_PAIRS = 6, CROSS_PAIRS = 4;
constexpr int CHROMA_WEIGHTS = CHROMA_PAIRS + CROSS_PAIRS + 1;

template <class T, size_t... Sizes>
struct Nested;
template <class T>
struct Nested<T> {
  using Type = T;
};
template <class T, size_t N, size_t... Sizes>
struct Nested<T, N, Sizes...> {
  using Type = std::array<typename Nested<T, Sizes...>::Type, N>;
};
template <class T, size_t... Sizes>
using Array = typename Nested<T, Sizes...>::Type;

class Network;  // network.hpp

constexpr int LEARNED_SHAPES = 6, LEARNED_MATRICES = 8, LEARNED_OUTPUTS = 16, LEARNED_INPUTS = 16;
using Learned = Array<int16_t, LEARNED_SHAPES, LEARNED_MATRICES, LEARNED_OUTPUTS, LEARNED_INPUTS>;

struct Parameters {
  Colour colour;                                // that tiles which are not turned have
  Array<int16_t, ANCHORS, 3> log_step;          // [quality][plane]: of 1/256 octave
  Array<int8_t, ANCHORS, 2, SIZES, 64> matrix;  // [quality][chroma?][size][8x8]: of 1/32 octave
  Array<uint8_t, ANCHORS, 6> strength;  // beta, tc of luma, of chroma, clipping of luma, of chroma: of 1/64 step
  Array<int8_t, ANCHORS, FILTER_CLASSES, LUMA_PAIRS> luma_filter;       // of 1/128
  Array<int8_t, ANCHORS, 2, ACTIVITIES, CHROMA_WEIGHTS> chroma_filter;  // [quality][Cb, Cr][activity]: of 1/128
  Learned learned;                                                      // matrices of learned.hpp, of 1/1024
  std::vector<int8_t> start;               // [2][contexts::COUNT]: of 1/16 stretch, at quality 1 and 8
  std::vector<uint8_t> confidence;         // [contexts::COUNT]: bins that the start is worth
  std::vector<int16_t> weights;            // [mixers::COUNT][3]: of 2^14
  std::shared_ptr<const Network> network;  // if there is one
};

// Parameters between the qualities that have them (D5).
class Interpolation {
 public:
  explicit Interpolation(int quality_code)
      : anchor_(std::min(quality_code / QUALITY_STEPS, ANCHORS - 2)),
        fraction_(quality_code - anchor_ * QUALITY_STEPS) {}

  // Of the number that `pick` takes of each quality's parameters; rounded to nearest.
  template <class T, class Pick>
  int operator()(const std::array<T, ANCHORS>& of_quality, Pick pick) const {
    const int sum = pick(of_quality[anchor_]) * (QUALITY_STEPS - fraction_) + pick(of_quality[anchor_ + 1]) * fraction_;
    return (sum + (sum < 0 ? -QUALITY_STEPS / 2 : QUALITY_STEPS / 2)) / QUALITY_STEPS;
  }

 private:
  int anchor_, fraction_;
};

// 2^(x / 2048) of 1/16, x clamped to [0, 2048 * 14): a cubic within 2e-4 of 2^f (D6).
inline int exp2_of(int x) {
  x = std::clamp(x, 0, 2048 * 14 - 1);
  const int64_t f = int64_t{x & 2047} << 19;  // of 2^30
  constexpr int64_t ONE = int64_t{1} << 30, C1 = 747247505, C2 = 241534262, C3 = 84960057;
  static_assert(ONE + C1 + C2 + C3 == 2 * ONE, "the pieces meet");
  const int64_t m = ONE + ((f * (C1 + ((f * (C2 + ((f * C3) >> 30))) >> 30))) >> 30);
  const int shift = 26 - (x >> 11);  // 1/16: 2^30 becomes 2^4
  return static_cast<int>((m + (int64_t{1} << (shift - 1))) >> shift);
}

inline int log_step_of(const Parameters& parameters, const Interpolation& at, int plane) {
  return 8 * at(parameters.log_step, [&](const auto& of_plane) { return of_plane[plane]; });
}

// The frequencies that a matrix names, for sides 4 and 8, 16, 32 and 64; between them it is bilinear.
constexpr uint8_t GRID[3][8] = {{0, 1, 2, 3, 4, 5, 6, 7}, {0, 1, 2, 3, 5, 8, 11, 15}, {0, 1, 2, 4, 7, 12, 20, 31}};

struct GridPlace {
  int before, sixteenths;
};

// `sixteenths`: of a frequency of the matrix of a size, `log2` of its side.
inline GridPlace grid_place(int sixteenths, int log2) {
  const uint8_t* grid = GRID[std::clamp(log2 - 3, 0, 2)];
  int g = 7;
  while (16 * grid[g] > sixteenths) --g;
  return {g, g < 7 ? (sixteenths - 16 * grid[g]) / (grid[g + 1] - grid[g]) : 0};
}

// What squares add to the logarithm of their steps: -MAX_OFFSET ... MAX_OFFSET quarters of an octave, of 1/2048 octave.
constexpr int MAX_OFFSET = 12, OFFSET_UNIT = 512;

// Half an octave, of 1/2048: what the coefficients of shapes that are odd are enlarged by (specs/dct_transforms.md).
constexpr int ODD_UNIT = 1024;

// Quantisation steps of one plane and shape (D7), `more` / 2048 octaves coarser: of 1/16, in samples of an orthonormal
// transform, [coded height, coded width]. The matrix is that of a square of about the same area.
inline std::vector<int32_t> steps_of(const Parameters& parameters, int quality_code, int plane, const Shape& shape,
                                     int more = 0) {
  const Interpolation at(quality_code);
  const int base = log_step_of(parameters, at, plane) + more, log2 = shape.log2_side();
  const Shape coded = coded_of(shape);
  int grid[64];
  for (int i = 0; i < 64; ++i)
    grid[i] = 64 * at(parameters.matrix, [&](const auto& m) { return m[plane > 0][log2 - MIN_LOG2][i]; });
  std::vector<int32_t> steps;
  steps.reserve(coded.area());
  for (int v = 0; v < coded.height(); ++v)
    for (int u = 0; u < coded.width(); ++u) {
      const auto [gv, fv] = grid_place(v << (4 + log2 - shape.log2_h), log2);
      const auto [gu, fu] = grid_place(u << (4 + log2 - shape.log2_w), log2);
      const int* g = grid + gv * 8 + gu;
      const int right = gu < 7, below = gv < 7 ? 8 : 0;
      const int top = g[0] * (16 - fu) + g[right] * fu, bottom = g[below] * (16 - fu) + g[below + right] * fu;
      steps.push_back(exp2_of(base + ((top * (16 - fv) + bottom * fv) >> 8)));
    }
  return steps;
}

// The contexts and mixers that a quality starts with (D8).
inline Model start_of(const Parameters& parameters, int quality_code) {
  Model model;
  model.contexts.resize(contexts::COUNT);
  model.mixers.resize(mixers::COUNT);
  for (int i = 0; i < contexts::COUNT; ++i) {
    const int low = parameters.start[i], high = parameters.start[contexts::COUNT + i];
    const int stretch = (low * 16 * (MAX_QUALITY_CODE - quality_code) + high * 16 * quality_code) / MAX_QUALITY_CODE;
    model.contexts[i].p = LOGISTIC.squash[stretch + 2048];
    model.contexts[i].n = parameters.confidence[i];
  }
  for (int i = 0; i < mixers::COUNT; ++i)
    for (int k = 0; k < 3; ++k) model.mixers[i].w[k] = parameters.weights[3 * i + k] * 4;
  return model;
}

}  // namespace ncodec::dct
