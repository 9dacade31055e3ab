// Intra prediction of a block from the decoded samples around it, as in HEVC (H.265 8.4.4.2), and of chroma from
// luma (the linear model of H.266 8.4.5.2.14, its slope by least squares): specs/dct.md section 6. Exact.
//
//   corner | top ............ 2N         modes: 0 planar, 1 DC, 2 ... 34 directions (10 horizontal, 18 diagonal,
//   left   |  N x N                      26 vertical)
//    2N    |
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

// A block's sides.
struct Shape {
  int log2_w, log2_h;
  int width() const { return 1 << log2_w; }
  int height() const { return 1 << log2_h; }
};

// Displacement of a row, of 1/32 sample, by the steps from vertical (or horizontal); beyond 16 the wide ones of
// rectangles.
constexpr int ANGLE[31] = {0,  1,  2,  3,  4,  6,  8,  10, 12, 14, 16,  18,  20,  23,  26, 29,
                           32, 35, 39, 45, 51, 57, 64, 73, 86, 102, 128, 171, 256, 341, 512};

// D922: a mode of a block as steps from vertical or horizontal, -16 ... 30. Modes that point along the shorter side of
// a rectangle stand for as many beyond the other end.
struct Direction {
  bool is_vertical;
  int steps;

  Direction(int mode, const Shape& shape) {
    const int ratio = shape.log2_w - shape.log2_h;
    if (ratio > 0 && mode < (ratio > 1 ? 8 + 2 * ratio : 8)) mode += 65;
    if (ratio < 0 && mode > (ratio < -1 ? 60 + 2 * ratio : 60)) mode -= 65;
    is_vertical = mode >= DIAGONAL;
    steps = is_vertical ? mode - VERTICAL : HORIZONTAL - mode;
  }
  int angle() const { return steps < 0 ? -ANGLE[-steps] : ANGLE[steps]; }
};

struct NearestSteps {
  int8_t steps[33];  // of an angle 0 ... 32: the first of the nearest

  NearestSteps() {
    for (int angle = 0; angle <= 32; ++angle) {
      int best = 0;
      for (int s = 1; s <= 16; ++s)
        if (std::abs(ANGLE[s] - angle) < std::abs(ANGLE[best] - angle)) best = s;
      steps[angle] = static_cast<int8_t>(best);
    }
  }
  int operator()(int angle) const { return angle < 0 ? -steps[-angle] : steps[angle]; }
};
inline const NearestSteps NEAREST;

// The mode whose direction is at right angles to a gradient (down and to the right; not 0, 0).
inline int mode_along(int gx, int gy) {
  return std::abs(gx) >= std::abs(gy) ? VERTICAL + NEAREST(32 * gy / gx) : HORIZONTAL - NEAREST(32 * gx / gy);
}

struct References {
  int16_t left[2 * MAX_SIDE + 1], top[2 * MAX_SIDE + 1];  // [0] is the corner in both
  int n_left, n_top;                                      // how many of each were there, without the corner
};

// D32. `has_*`: is the block there decoded already? The parts outside the plane never are.
inline void gather(const Plane& plane, int x, int y, int side, bool has_left, bool has_top, bool has_corner,
                   bool has_below_left, bool has_above_right, References& r) {
  r.n_top = has_top ? side + (has_above_right ? std::clamp(plane.width - x - side, 0, side) : 0) : 0;
  r.n_left = has_left ? side + (has_below_left ? std::clamp(plane.height - y - side, 0, side) : 0) : 0;
  if (r.n_top) std::memcpy(r.top + 1, plane.at(x, y - 1), sizeof(int16_t) * r.n_top);
  for (int i = 0; i < r.n_left; ++i) r.left[1 + i] = *plane.at(x - 1, y + i);
  const int16_t corner = has_corner ? *plane.at(x - 1, y - 1) : r.n_left ? r.left[1] : r.n_top ? r.top[1] : MIDDLE;
  r.left[0] = r.top[0] = corner;
  const int16_t after_top = r.top[r.n_top], after_left = r.left[r.n_left];
  std::fill(r.top + 1 + r.n_top, r.top + 1 + 2 * side, after_top);
  std::fill(r.left + 1 + r.n_left, r.left + 1 + 2 * side, after_left);
}

// DC (D36): of rectangles, the mean of the longer side.
inline void predict_dc(const References& r, const Shape& shape, int16_t* out) {
  const int w = shape.width(), h = shape.height();
  int sum = 0, n = 0;
  if (w >= h) sum += std::accumulate(r.top + 1, r.top + 1 + w, 0), n += w;
  if (h >= w) sum += std::accumulate(r.left + 1, r.left + 1 + h, 0), n += h;
  std::fill(out, out + w * h, static_cast<int16_t>((sum + n / 2) / n));
}

// A direction (D37): along `main`, the references above, or, transposed, to the left.
inline void predict_direction(const References& r, int mode, const Shape& shape, int16_t* out) {
  const Direction direction(mode, shape);
  const bool is_vertical = direction.is_vertical;
  const int16_t* main = is_vertical ? r.top : r.left;
  const int16_t* other = is_vertical ? r.left : r.top;
  const int w = is_vertical ? shape.width() : shape.height(), h = is_vertical ? shape.height() : shape.width();
  const int angle = direction.angle(), inverse = angle ? (16384 + std::abs(angle) / 2) / std::abs(angle) : 0;
  int16_t line[4 * MAX_SIDE];
  int16_t* from = line + MAX_SIDE;
  std::memcpy(from, main, sizeof(int16_t) * (2 * w + 1));
  std::fill(from + 2 * w + 1, from + 2 * w + 16, from[2 * w]);
  if (angle < 0)
    for (int i = -1; i >= (h * angle) >> 5; --i) from[i] = other[std::min((-i * inverse + 256) >> 9, h)];
  const int size = (shape.log2_w + shape.log2_h) / 2, distance = std::abs(direction.steps);
  const bool is_gauss = distance > (size == 2 ? 30 : size == 3 ? 14 : size == 4 ? 2 : 0);
  kernels::angular(from, angle, w, h, is_gauss ? kernels::TAPS.gauss : kernels::CUBIC, out);
#ifndef NOPDPC
  if (angle == 0) {
    kernels::ease_straight(other, w, h, std::min((shape.log2_w + shape.log2_h - 2) / 4, 2), out);
  } else if (angle > 0) {
    int reach = 2;
    while (reach >= 0 && (3 * inverse << reach) > 512 * h) --reach;
    if (reach >= 0) kernels::ease(other, inverse, w, h, reach, out);
  }
#endif
  if (!is_vertical) kernels::transpose(out, w);
}

// [h, w] samples, rows of w.
inline void predict(const References& r, int mode, const Shape& shape, int16_t* out) {
  if (mode >= 2) return predict_direction(r, mode, shape, out);
  if (mode == PLANAR) kernels::planar(r.left + 1, r.top + 1, shape.log2_w, shape.log2_h, out);
  if (mode == DC) predict_dc(r, shape, out);
  kernels::ease_both(r.left + 1, r.top + 1, shape.width(), shape.height(), (shape.log2_w + shape.log2_h - 2) / 4, out);
}

// D38: chroma = mean + slope (luma - mean luma), fitted to the border. `luma` has the block's decoded luma at
// chroma's resolution, [side, side]; `luma_border` likewise the samples beside `chroma`'s.
inline void predict_from_luma(const References& chroma, const References& luma_border, const int16_t* luma, int log2,
                              int16_t* out) {
  const int side = 1 << log2;
  int64_t n = 0, sum_l = 0, sum_c = 0, sum_ll = 0, sum_lc = 0;
  const auto add = [&](const int16_t* l, const int16_t* c) {
    for (int i = 1; i <= side; ++i) {
      sum_l += l[i], sum_c += c[i];
      sum_ll += l[i] * l[i], sum_lc += l[i] * c[i];
    }
    n += side;
  };
  if (chroma.n_top) add(luma_border.top, chroma.top);
  if (chroma.n_left) add(luma_border.left, chroma.left);
  if (!n) {
    std::fill(out, out + side * side, static_cast<int16_t>(MIDDLE));
    return;
  }
  // D39, of 1/256; a variance of about one step is added to that of luma, so that flat borders give no slope.
  const int64_t covariance = n * sum_lc - sum_l * sum_c, variance = n * sum_ll - sum_l * sum_l + n * n * 4;
  const int slope = static_cast<int>(std::clamp<int64_t>(covariance * 256 / variance, -1024, 1024));
  const int mean_l = static_cast<int>(sum_l / n), mean_c = static_cast<int>(sum_c / n);
  kernels::line(luma, side * side, slope, mean_l, mean_c, out);
}

}  // namespace ncodec::dct
