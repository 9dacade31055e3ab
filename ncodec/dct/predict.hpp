// Intra prediction of a block from the decoded samples around it, as in H.266 (8.4.5.2), and of chroma from luma (its
// linear model, the slope by least squares): specs/dct.md section 6. Exact.
//
//   corner | top ............ 2w         modes: 0 planar, 1 DC, 2 ... 66 directions (18 horizontal, 34 diagonal,
//   left   |  w x h                      50 vertical)
//    2h    |
//
// References that are not there take the value of the one before.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "kernels.hpp"

namespace ncodec::dct {

enum Mode : int { PLANAR = 0, DC = 1, HORIZONTAL = 18, DIAGONAL = 34, VERTICAL = 50, MODES = 67 };

// Displacement of a row, of 1/32 sample, by the steps from vertical (or horizontal); beyond 16 those of rectangles.
constexpr int ANGLE[31] = {0,  1,  2,  3,  4,  6,  8,  10, 12, 14,  16,  18,  20,  23,  26, 29,
                           32, 35, 39, 45, 51, 57, 64, 73, 86, 102, 128, 171, 256, 341, 512};

// D39: where a mode of a block points, -16 ... 30 steps from vertical or horizontal. The modes furthest towards the
// shorter side of a rectangle stand for as many beyond the last of the longer side.
struct Direction {
  bool is_vertical;
  int steps;

  Direction(int mode, const Shape& shape) {
    const int ratio = std::abs(shape.log2_w - shape.log2_h), turned = ratio > 1 ? 6 + 2 * ratio : 6 * ratio;
    if (shape.log2_w > shape.log2_h && mode < 2 + turned) mode += 65;
    if (shape.log2_w < shape.log2_h && mode > 66 - turned) mode -= 65;
    is_vertical = mode >= DIAGONAL;
    steps = is_vertical ? mode - VERTICAL : HORIZONTAL - mode;
  }
  int angle() const { return steps < 0 ? -ANGLE[-steps] : ANGLE[steps]; }
};

// The steps 0 ... 16 whose angle is nearest to one of 0 ... 32, the first of equals.
struct NearestSteps {
  int steps[33];

  NearestSteps() {
    for (int angle = 0, s = 0; angle <= 32; ++angle) {
      while (s < 16 && ANGLE[s + 1] - angle < angle - ANGLE[s]) ++s;
      steps[angle] = s;
    }
  }
  int operator()(int angle) const { return angle < 0 ? -steps[-angle] : steps[angle]; }
};
inline const NearestSteps NEAREST;

// The mode whose direction is at right angles to a gradient, by kernels::slopes.
struct ModeOfSlope {
  uint8_t modes[2 * 65];

  ModeOfSlope() {
    for (int slope = -32; slope <= 32; ++slope) {
      modes[32 + slope] = static_cast<uint8_t>(VERTICAL + NEAREST(slope));
      modes[97 + slope] = static_cast<uint8_t>(HORIZONTAL - NEAREST(slope));
    }
  }
  int operator[](int slope) const { return modes[slope]; }
};
inline const ModeOfSlope MODE_OF_SLOPE;

struct References {
  int16_t left[2 * MAX_SIDE + 1], top[2 * MAX_SIDE + 1];  // [0] is the corner in both
  int n_left, n_top;                                      // how many of each were there, without the corner
};

// D36, of the block at (x, y): n_top and n_left samples are decoded of those above and to the left of it.
inline void gather(const Plane& plane, int x, int y, const Shape& shape, int n_left, int n_top, References& r) {
  r.n_top = n_top, r.n_left = n_left;
  if (r.n_top) std::memcpy(r.top + 1, plane.at(x, y - 1), sizeof(int16_t) * r.n_top);
  for (int i = 0; i < r.n_left; ++i) r.left[1 + i] = *plane.at(x - 1, y + i);
  const int16_t corner = n_left && n_top ? *plane.at(x - 1, y - 1) : r.n_left ? r.left[1] : r.n_top ? r.top[1] : MIDDLE;
  r.left[0] = r.top[0] = corner;
  const int16_t after_top = r.top[r.n_top], after_left = r.left[r.n_left];
  std::fill(r.top + 1 + r.n_top, r.top + 1 + 2 * shape.width(), after_top);
  std::fill(r.left + 1 + r.n_left, r.left + 1 + 2 * shape.height(), after_left);
}

// D41: how far borders reach into planar, DC, horizontal and vertical blocks.
inline int reach_of(const Shape& shape) { return (shape.log2_area() - 2) / 4; }

// DC (D38): the mean of the longer side, or of both.
inline void predict_dc(const References& r, const Shape& shape, int16_t* out) {
  const int w = shape.width(), h = shape.height();
  int sum = 0, n = 0;
  if (w >= h) sum += std::accumulate(r.top + 1, r.top + 1 + w, 0), n += w;
  if (h >= w) sum += std::accumulate(r.left + 1, r.left + 1 + h, 0), n += h;
  std::fill(out, out + shape.area(), static_cast<int16_t>((sum + n / 2) / n));
}

// A direction (D40): along `main`, the references above, or, transposed, to the left.
inline void predict_direction(const References& r, int mode, const Shape& shape, int16_t* out) {
  const Direction direction(mode, shape);
  const bool is_vertical = direction.is_vertical;
  const Shape along = is_vertical ? shape : shape.transposed();
  const int w = along.width(), h = along.height(), angle = direction.angle();
  const int inverse = angle ? (16384 + std::abs(angle) / 2) / std::abs(angle) : 0;  // of 1/512
  const int16_t* main = is_vertical ? r.top : r.left;
  const int16_t* other = is_vertical ? r.left : r.top;
  int16_t buffer[MAX_SIDE * MAX_SIDE];
  int16_t* turned = is_vertical ? out : buffer;
  int16_t line[3 * MAX_SIDE + 16];
  int16_t* from = line + MAX_SIDE;
  std::memcpy(from, main, sizeof(int16_t) * (2 * w + 1));
  std::fill(from + 2 * w + 1, from + 2 * w + 16, from[2 * w]);
  if (angle < 0)
    for (int i = -1; i >= (h * angle) >> 5; --i) from[i] = other[std::min((-i * inverse + 256) >> 9, h)];
  constexpr int SHARP[5] = {16, 14, 2, 0, 0};  // steps from vertical that are interpolated sharply, by size
  const bool is_sharp = std::abs(direction.steps) <= SHARP[shape.log2_area() / 2 - MIN_LOG2];
  kernels::angular(from, angle, w, h, is_sharp ? kernels::CUBIC : kernels::TAPS.gauss, turned);
  if (angle == 0) {
    kernels::ease_straight(other, w, h, reach_of(shape), turned);
  } else if (angle > 0) {
    int reach = 2;
    while (reach >= 0 && 3 * inverse << reach > 512 * h) --reach;
    if (reach >= 0) kernels::ease_along(other, inverse, w, h, reach, turned);
  }
  if (!is_vertical) kernels::transpose(turned, w, h, out);
}

// [height, width] samples.
inline void predict(const References& r, int mode, const Shape& shape, int16_t* out) {
  if (mode >= 2) return predict_direction(r, mode, shape, out);
  if (mode == PLANAR) kernels::planar(r.left + 1, r.top + 1, shape, out);
  if (mode == DC) predict_dc(r, shape, out);
  kernels::ease_both(r.left + 1, r.top + 1, shape.width(), shape.height(), reach_of(shape), out);
}

// What linear chroma is predicted from: a block's samples, [height, width], and those beside it.
struct Regressor {
  References border;
  int16_t samples[MAX_SIDE * MAX_SIDE];
};

// D44: chroma = mean + a (luma - mean luma) + b (Cb - mean Cb), fitted to the border. For Cb, b is 0.
inline void predict_linear(const References& chroma, const Regressor& luma, const Regressor* cb, const Shape& shape,
                           int16_t* out) {
  int64_t n = 0, sum_l = 0, sum_b = 0, sum_c = 0, ll = 0, lb = 0, bb = 0, lc = 0, bc = 0;
  const auto add = [&](const int16_t* l, const int16_t* b, const int16_t* c, int side) {
    for (int i = 1; i <= side; ++i) {
      sum_l += l[i], sum_c += c[i], ll += l[i] * l[i], lc += l[i] * c[i];
      if (b) sum_b += b[i], lb += l[i] * b[i], bb += b[i] * b[i], bc += b[i] * c[i];
    }
    n += side;
  };
  if (chroma.n_top) add(luma.border.top, cb ? cb->border.top : nullptr, chroma.top, shape.width());
  if (chroma.n_left) add(luma.border.left, cb ? cb->border.left : nullptr, chroma.left, shape.height());
  if (!n) {
    std::fill(out, out + shape.area(), static_cast<int16_t>(MIDDLE));
    return;
  }
  // D45: covariances, of n samples; variances of about one step are added, so that flat borders give no slope.
  ll += 4 * n - sum_l * sum_l / n, lb -= sum_l * sum_b / n, bb += 4 * n - sum_b * sum_b / n;
  lc -= sum_l * sum_c / n, bc -= sum_b * sum_c / n;
  const int64_t determinant = ll * bb - lb * lb;
  const auto slope = [&](int64_t numerator) {  // of 1/256
    return static_cast<int>(std::clamp<int64_t>(256 * numerator / determinant, -1024, 1024));
  };
  const int mean_l = static_cast<int>(sum_l / n), mean_b = static_cast<int>(sum_b / n);
  const int mean_c = static_cast<int>(sum_c / n);
  kernels::plane(luma.samples, (cb ? *cb : luma).samples, shape.area(), slope(lc * bb - bc * lb),
                 slope(bc * ll - lc * lb), mean_l, mean_b, mean_c, out);
}

}  // namespace ncodec::dct
