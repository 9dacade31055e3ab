// Intra prediction of a block from the decoded samples around it, as in HEVC (H.265 8.4.4.2), and of chroma from
// luma (the linear model of H.266 8.4.5.2.14, its slope by least squares): specs/dct.md section 6. Exact.
//
//   corner | top ......... w + h         modes: 0 planar, 1 DC, 2 ... 34 directions (10 horizontal, 18 diagonal,
//   left   |  w x h                      26 vertical)
//  h + w   |
//
// References that are not there take the value of the one before.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "kernels.hpp"

namespace ncodec::dct {

enum Mode : int { PLANAR = 0, DC = 1, HORIZONTAL = 10, DIAGONAL = 18, VERTICAL = 26, MODES = 35 };

// Displacement of a row, of 1/32 sample.
constexpr int ANGLE[MODES] = {0,   0,   32,  26,  21,  17, 13, 9,  5, 2, 0, -2, -5, -9, -13, -17, -21, -26,
                              -32, -26, -21, -17, -13, -9, -5, -2, 0, 2, 5, 9,  13, 17, 21,  26,  32};
// 8192 / angle, for the modes 11 ... 25 that also look at the other side.
constexpr int INVERSE_ANGLE[15] = {-4096, -1638, -910, -630, -482, -390,  -315, -256,
                                   -315,  -390,  -482, -630, -910, -1638, -4096};

struct NearestModes {
  uint8_t horizontal[65], vertical[65];  // of angle + 32: the first of the nearest

  NearestModes() {
    for (int angle = -32; angle <= 32; ++angle) {
      horizontal[angle + 32] = nearest(2, DIAGONAL, angle);
      vertical[angle + 32] = nearest(DIAGONAL, MODES - 1, angle);
    }
  }

  static uint8_t nearest(int first, int last, int angle) {
    int best = first;
    for (int mode = first + 1; mode <= last; ++mode)
      if (std::abs(ANGLE[mode] - angle) < std::abs(ANGLE[best] - angle)) best = mode;
    return static_cast<uint8_t>(best);
  }
};
inline const NearestModes NEAREST;

// The mode whose direction is at right angles to a gradient (down and to the right; not 0, 0).
inline int mode_along(int gx, int gy) {
  return std::abs(gx) >= std::abs(gy) ? NEAREST.vertical[32 * gy / gx + 32] : NEAREST.horizontal[32 * gx / gy + 32];
}

struct References {
  int16_t left[2 * MAX_SIDE + 1], top[2 * MAX_SIDE + 1];  // [0] is the corner in both; w + h more of each
  int n_left, n_top;                                      // how many of each were there, without the corner
};

// D32, of the block at (x, y): n_top and n_left samples are decoded of the `n` above and to the left of it.
inline void gather(const Plane& plane, int x, int y, int n, int n_left, int n_top, References& r) {
  r.n_top = n_top, r.n_left = n_left;
  if (r.n_top) std::memcpy(r.top + 1, plane.at(x, y - 1), sizeof(int16_t) * r.n_top);
  for (int i = 0; i < r.n_left; ++i) r.left[1 + i] = *plane.at(x - 1, y + i);
  const int16_t corner = n_left && n_top ? *plane.at(x - 1, y - 1) : r.n_left ? r.left[1] : r.n_top ? r.top[1] : MIDDLE;
  r.left[0] = r.top[0] = corner;
  const int16_t after_top = r.top[r.n_top], after_left = r.left[r.n_left];
  std::fill(r.top + 1 + r.n_top, r.top + 1 + n, after_top);
  std::fill(r.left + 1 + r.n_left, r.left + 1 + n, after_left);
}

// D34, H.265 8.4.4.2.3: [1 2 1] along the border, or, for large flat ones, a straight line.
inline void smooth(const References& r, const Shape& shape, References& out) {
  const int n = shape.width() + shape.height(), middle = n / 2, corner = r.top[0];
  constexpr int FLAT = 1 << (SAMPLE_BITS - 5);
  out.n_left = r.n_left, out.n_top = r.n_top;
  if (shape.least() >= 5 && std::abs(corner + r.top[n] - 2 * r.top[middle]) < FLAT &&
      std::abs(corner + r.left[n] - 2 * r.left[middle]) < FLAT) {
    for (int i = 0; i <= n; ++i) {
      out.top[i] = static_cast<int16_t>(((n - i) * corner + i * r.top[n] + middle) / n);
      out.left[i] = static_cast<int16_t>(((n - i) * corner + i * r.left[n] + middle) / n);
    }
    return;
  }
  out.top[0] = out.left[0] = static_cast<int16_t>((r.left[1] + 2 * corner + r.top[1] + 2) >> 2);
  for (int i = 1; i < n; ++i) {
    out.top[i] = static_cast<int16_t>((r.top[i - 1] + 2 * r.top[i] + r.top[i + 1] + 2) >> 2);
    out.left[i] = static_cast<int16_t>((r.left[i - 1] + 2 * r.left[i] + r.left[i + 1] + 2) >> 2);
  }
  out.top[n] = r.top[n], out.left[n] = r.left[n];
}

// D33.
inline bool wants_smooth(int mode, const Shape& shape) {
  const int log2 = shape.log2_area() >> 1;
  if (log2 == 2 || mode == DC) return false;
  if (mode == PLANAR) return true;
  const int distance = std::min(std::abs(mode - HORIZONTAL), std::abs(mode - VERTICAL));
  return distance > (log2 == 3 ? 7 : log2 == 4 ? 1 : 0);
}

// DC, its first row and column eased into the border (D36).
inline void predict_dc(const References& r, const Shape& shape, bool eases, int16_t* out) {
  const int width = shape.width(), height = shape.height();
  int sum = (width + height) / 2;
  for (int i = 1; i <= width; ++i) sum += r.top[i];
  for (int i = 1; i <= height; ++i) sum += r.left[i];
  const int mean = sum / (width + height);
  std::fill(out, out + shape.area(), static_cast<int16_t>(mean));
  if (!eases) return;
  out[0] = static_cast<int16_t>((r.left[1] + 2 * mean + r.top[1] + 2) >> 2);
  for (int i = 1; i < width; ++i) out[i] = static_cast<int16_t>((r.top[i + 1] + 3 * mean + 2) >> 2);
  for (int i = 1; i < height; ++i) out[i * width] = static_cast<int16_t>((r.left[i + 1] + 3 * mean + 2) >> 2);
}

// A direction (D37): along `main`, the references above, or, transposed, to the left.
inline void predict_direction(const References& r, int mode, const Shape& shape, bool is_cubic, bool eases,
                              int16_t* out) {
  const int angle = ANGLE[mode], n = shape.width() + shape.height();
  const bool is_vertical = mode >= DIAGONAL;
  const Shape along = is_vertical ? shape : shape.transposed();
  const int width = along.width(), height = along.height();
  int16_t buffer[MAX_SIDE * MAX_SIDE];
  int16_t* turned = is_vertical ? out : buffer;
  const int16_t* main = is_vertical ? r.top : r.left;
  const int16_t* other = is_vertical ? r.left : r.top;
  int16_t line[3 * MAX_SIDE + 16];
  int16_t* from = line + MAX_SIDE;
  std::memcpy(from, main, sizeof(int16_t) * (n + 1));
  std::fill(from + n + 1, from + n + 16, from[n]);
  if (angle < 0) {
    const int inverse = INVERSE_ANGLE[mode - 11], last = (height * angle) >> 5;
    for (int i = -1; i >= last; --i) from[i] = other[std::min((i * inverse + 128) >> 8, n)];
  }
  if (is_cubic) {
    kernels::angular_cubic(from, angle, width, height, turned);
  } else {
    kernels::angular(from, angle, width, height, turned);
  }
  if (angle == 0 && eases)
    for (int i = 0; i < height; ++i)
      turned[i * width] = static_cast<int16_t>(std::clamp(main[1] + ((other[i + 1] - other[0]) >> 1), 0, SAMPLE_MAX));
  if (!is_vertical) kernels::transpose(turned, width, height, out);
}

// [height, width] samples. `smoothed` is what `smooth` makes of `plain`, where the mode wants it.
inline void predict(const References& plain, const References& smoothed, int mode, const Shape& shape, bool is_luma,
                    int16_t* out) {
  const bool is_smooth = wants_smooth(mode, shape), eases = is_luma && shape.most() < 5;
  const References& r = is_smooth ? smoothed : plain;
  if (mode == PLANAR) {
    kernels::planar(r.left + 1, r.top + 1, shape, out);
  } else if (mode == DC) {
    predict_dc(r, shape, eases, out);
  } else {
    predict_direction(r, mode, shape, is_luma && !is_smooth, eases, out);
  }
}

// D38: chroma = mean + slope (luma - mean luma), fitted to the border. `luma` has the block's decoded luma at
// chroma's resolution, [height, width]; `luma_border` likewise the samples beside `chroma`'s.
inline void predict_from_luma(const References& chroma, const References& luma_border, const int16_t* luma,
                              const Shape& shape, int16_t* out) {
  int64_t n = 0, sum_l = 0, sum_c = 0, sum_ll = 0, sum_lc = 0;
  const auto add = [&](const int16_t* l, const int16_t* c, int side) {
    for (int i = 1; i <= side; ++i) {
      sum_l += l[i], sum_c += c[i];
      sum_ll += l[i] * l[i], sum_lc += l[i] * c[i];
    }
    n += side;
  };
  if (chroma.n_top) add(luma_border.top, chroma.top, shape.width());
  if (chroma.n_left) add(luma_border.left, chroma.left, shape.height());
  if (!n) {
    std::fill(out, out + shape.area(), static_cast<int16_t>(MIDDLE));
    return;
  }
  // D39, of 1/256; a variance of about one step is added to that of luma, so that flat borders give no slope.
  const int64_t covariance = n * sum_lc - sum_l * sum_c, variance = n * sum_ll - sum_l * sum_l + n * n * 4;
  const int slope = static_cast<int>(std::clamp<int64_t>(covariance * 256 / variance, -1024, 1024));
  const int mean_l = static_cast<int>(sum_l / n), mean_c = static_cast<int>(sum_c / n);
  kernels::line(luma, shape.area(), slope, mean_l, mean_c, out);
}

}  // namespace ncodec::dct
