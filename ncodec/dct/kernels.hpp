// The inner loops of prediction and reconstruction: plain loops that compilers turn into SIMD, in two versions where
// the machine has AVX2. Exact: the same integers from each.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "clones.hpp"
#include "samples.hpp"
#include "transform_lanes.hpp"

namespace ncodec::dct::detail {

template <int WIDTH>
inline void angular_row(const int16_t* from, const int8_t* taps, int w, int16_t* out) {
  const Words first = splat(packed(taps[0], taps[1])), second = splat(packed(taps[2], taps[3]));
  for (int x = 0; x < w; x += WIDTH) {
    const int16_t* p = from + x;
    const Words a = load_row<WIDTH>(p), b = load_row<WIDTH>(p + 1), c = load_row<WIDTH>(p + 2),
                d = load_row<WIDTH>(p + 3);
    const Longs low = add(dot(pair_low(a, b), first), dot(pair_low(c, d), second));
    const Longs high = add(dot(pair_high(a, b), first), dot(pair_high(c, d), second));
    store_row<WIDTH>(out + x, clip(narrow<6>(add(low, constant(32)), add(high, constant(32))), 0, SAMPLE_MAX));
  }
}

}  // namespace ncodec::dct::detail

namespace ncodec::dct::kernels {

// Gradients (Sobel) along a line of samples and across it, to the next; a sample more lies to either side.
NCODEC_CLONES static void gradients_of_line(const int16_t* before, const int16_t* line, const int16_t* next, int n,
                                            int16_t* along, int16_t* across) {
  for (int i = 0; i < n; ++i) {
    along[i] = static_cast<int16_t>(before[i + 1] + 2 * line[i + 1] + next[i + 1] - before[i - 1] - 2 * line[i - 1] -
                                    next[i - 1]);
    across[i] =
        static_cast<int16_t>(next[i - 1] + 2 * next[i] + next[i + 1] - before[i - 1] - 2 * before[i] - before[i + 1]);
  }
}

// Of gradients (down and to the right): 32 + 32 gy / gx if |gx| >= |gy|, or else 97 + 32 gx / gy, of 0, 0 32; |gx| +
// |gy|. The quotients are those of integers: with |gx|, |gy| < 2^12 a float's is too near to be beyond the next.
NCODEC_CLONES static void slopes(const int16_t* gx, const int16_t* gy, int n, uint8_t* slopes, int16_t* strengths) {
  for (int i = 0; i < n; ++i) {
    const int x = gx[i], y = gy[i], wide = std::abs(x), high = std::abs(y);
    const int is_high = -(wide < high);  // without a jump
    const int over = y ^ ((x ^ y) & is_high), under = x ^ ((x ^ y) & is_high);
    const float quotient = 32 * static_cast<float>(over) / static_cast<float>(under + (under == 0));
    slopes[i] = static_cast<uint8_t>(static_cast<int>(quotient) + 32 + (65 & is_high));
    strengths[i] = static_cast<int16_t>(wide + high);
  }
}

// D37.
NCODEC_CLONES static void planar(const int16_t* left, const int16_t* top, const Shape& shape, int16_t* out) {
  const int w = shape.width(), h = shape.height(), log2_w = shape.log2_w, log2_h = shape.log2_h;
  const int below = left[h], right = top[w];
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      const int across = (w - 1 - x) * left[y] + (x + 1) * right, down = (h - 1 - y) * top[x] + (y + 1) * below;
      out[y * w + x] = static_cast<int16_t>(((across << log2_h) + (down << log2_w) + w * h) >> (log2_w + log2_h + 1));
    }
}

// D40: between samples by the four beside (H.266 8.4.5.2.13, table 25), of 1/64.
constexpr int8_t CUBIC[32][4] = {
    {0, 64, 0, 0},    {-1, 63, 2, 0},   {-2, 62, 4, 0},   {-2, 60, 7, -1},  {-2, 58, 10, -2}, {-3, 57, 12, -2},
    {-4, 56, 14, -2}, {-4, 55, 15, -2}, {-4, 54, 16, -2}, {-5, 53, 18, -2}, {-6, 52, 20, -2}, {-6, 49, 24, -3},
    {-6, 46, 28, -4}, {-5, 44, 29, -4}, {-4, 42, 30, -4}, {-4, 39, 33, -4}, {-4, 36, 36, -4}, {-4, 33, 39, -4},
    {-4, 30, 42, -4}, {-4, 29, 44, -5}, {-4, 28, 46, -6}, {-3, 24, 49, -6}, {-2, 20, 52, -6}, {-2, 18, 53, -5},
    {-2, 16, 54, -4}, {-2, 15, 55, -4}, {-2, 14, 56, -4}, {-2, 12, 57, -3}, {-2, 10, 58, -2}, {-1, 7, 60, -2},
    {0, 4, 62, -2},   {0, 2, 63, -1}};

// The same for what is to be smooth: [1 2 1] / 4 between two samples by the line.
struct Taps {
  int8_t gauss[32][4];
  constexpr Taps() : gauss{} {
    for (int f = 0; f < 32; ++f)
      for (int j = 0; j < 4; ++j)
        gauss[f][j] = static_cast<int8_t>((j == 1 ? 32 : j == 3 ? 0 : 16) + (j < 2 ? -1 : 1) * (f / 2));
  }
};
constexpr Taps TAPS;

inline void angular(const int16_t* from, int angle, int w, int h, const int8_t (*taps)[4], int16_t* out) {
  for (int y = 1; y <= h; ++y, out += w) {
    const int16_t* p = from + ((y * angle) >> 5);
    if (w == 4) detail::angular_row<4>(p, taps[(y * angle) & 31], w, out);
    else detail::angular_row<detail::LANES>(p, taps[(y * angle) & 31], w, out);
  }
}

// D41, H.266's position-dependent combination: predictions are drawn to the borders beside them by weights of 1/64
// that fall with the distance.
inline int border_weight(int distance, int reach) {
  return 2 * distance >> reach > 5 ? 0 : 32 >> (2 * distance >> reach);
}

// Columns to what the direction meets at the other border,
NCODEC_CLONES static void ease_along(const int16_t* other, int inverse, int w, int h, int reach, int16_t* out) {
  for (int x = 0; x < std::min(3 << reach, w); ++x) {
    const int16_t* met = other + 1 + (((x + 1) * inverse + 256) >> 9);
    const int weight = border_weight(x, reach);
    for (int y = 0; y < h; ++y) {
      int16_t& p = out[y * w + x];
      p = static_cast<int16_t>(p + ((weight * (met[y] - p) + 32) >> 6));
    }
  }
}

// by the other border's differences from the corner,
NCODEC_CLONES static void ease_straight(const int16_t* other, int w, int h, int reach, int16_t* out) {
  for (int x = 0; x < std::min(3 << reach, w); ++x) {
    const int weight = border_weight(x, reach);
    for (int y = 0; y < h; ++y) {
      int16_t& p = out[y * w + x];
      p = static_cast<int16_t>(std::clamp(p + ((weight * (other[1 + y] - other[0]) + 32) >> 6), 0, SAMPLE_MAX));
    }
  }
}

// or to both borders.
NCODEC_CLONES static void ease_both(const int16_t* left, const int16_t* top, int w, int h, int reach, int16_t* out) {
  int across[MAX_SIDE];
  for (int x = 0; x < w; ++x) across[x] = border_weight(x, reach);
  for (int y = 0; y < h; ++y) {
    const int down = border_weight(y, reach), end = down ? w : std::min(w, 16);
    for (int x = 0; x < end; ++x) {
      int16_t& p = out[y * w + x];
      p = static_cast<int16_t>(p + ((across[x] * (left[y] - p) + down * (top[x] - p) + 32) >> 6));
    }
  }
}

// [height, width] to [width, height].
inline void transpose(const int16_t* in, int width, int height, int16_t* out) {
  using namespace detail;
  const int wide = std::min(width, LANES), high = std::min(height, LANES);
  for (int y = 0; y < height; y += high)
    for (int x = 0; x < width; x += wide) {
      Words rows[LANES];
      for (int i = 0; i < LANES; ++i) {
        const int16_t* row = in + (y + i) * width + x;
        rows[i] = i >= high ? zero() : wide < LANES ? load_half(row) : load(row);
      }
      int16_t* to = out + x * height + y;
      if (high < LANES) detail::transpose<4>(rows, to, height, wide);
      else detail::transpose<LANES>(rows, to, height, wide);
    }
}

// D44: luma and Cb to chroma.
NCODEC_CLONES static void plane(const int16_t* luma, const int16_t* cb, int n, int slope_l, int slope_b, int mean_l,
                                int mean_b, int mean_out, int16_t* out) {
  for (int i = 0; i < n; ++i) {
    const int more = (slope_l * (luma[i] - mean_l) + slope_b * (cb[i] - mean_b) + 128) >> 8;
    out[i] = static_cast<int16_t>(std::clamp(mean_out + more, 0, SAMPLE_MAX));
  }
}

// D33: half-steps times scaled step, >> shift; clipped to what the inverse transform takes.
NCODEC_INLINE int16_t scale(int level, int step, int shift) {
  const int64_t c = (int64_t{level} * step + (int64_t{1} << (shift - 1))) >> shift;
  return static_cast<int16_t>(std::clamp<int64_t>(c, -32768, 32767));
}

NCODEC_CLONES static void scale(const int16_t* levels, const int32_t* steps, int n, int shift, int16_t* out) {
  for (int i = 0; i < n; ++i) out[i] = scale(levels[i], steps[i], shift);
}

// The first `rows` frequencies of n samples.
NCODEC_CLONES static void project(const int16_t* samples, int n, const int8_t* matrix, int rows, int32_t* out) {
  for (int k = 0; k < rows; ++k) {
    int sum = 0;
    for (int i = 0; i < n; ++i) sum += samples[i] * matrix[k * n + i];
    out[k] = sum;
  }
}

// D42: the frequencies of a learned mode, [16][16] factors of 1/1024.
NCODEC_CLONES static void learned(const int16_t* inputs, const int16_t* matrix, int16_t* out) {
  for (int k = 0; k < 16; ++k) {
    int sum = 0;
    for (int i = 0; i < 16; ++i) sum += inputs[i] * matrix[k * 16 + i];
    out[k] = static_cast<int16_t>(std::clamp((sum + 512) >> 10, -32768, 32767));
  }
}

// D35.
NCODEC_CLONES static void add(const int16_t* prediction, const int16_t* residual, int width, int height, int16_t* out,
                              int stride) {
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      out[y * stride + x] =
          static_cast<int16_t>(std::clamp(prediction[y * width + x] + residual[y * width + x], 0, SAMPLE_MAX));
}

}  // namespace ncodec::dct::kernels
