// The inner loops of prediction and reconstruction: plain loops that compilers turn into SIMD, in two versions where
// the machine has AVX2. Exact: the same integers from each.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "clones.hpp"
#include "samples.hpp"

namespace ncodec::dct::kernels {

// D35.
NCODEC_CLONES static void planar(const int16_t* left, const int16_t* top, const Shape& shape, int16_t* out) {
  const int w = shape.width(), h = shape.height(), log2_w = shape.log2_w, log2_h = shape.log2_h;
  const int below = left[h], right = top[w];
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      const int across = (w - 1 - x) * left[y] + (x + 1) * right, down = (h - 1 - y) * top[x] + (y + 1) * below;
      out[y * w + x] = static_cast<int16_t>(((across << log2_h) + (down << log2_w) + w * h) >> (log2_w + log2_h + 1));
    }
}

// D37: between two samples by the line.
NCODEC_CLONES static void angular(const int16_t* from, int angle, int width, int height, int16_t* out) {
  for (int y = 0; y < height; ++y) {
    const int offset = ((y + 1) * angle) >> 5, fraction = ((y + 1) * angle) & 31;
    const int16_t* p = from + offset + 1;
    for (int x = 0; x < width; ++x)
      out[y * width + x] = static_cast<int16_t>(((32 - fraction) * p[x] + fraction * p[x + 1] + 16) >> 5);
  }
}

// D37: between samples by the four beside (H.266 8.4.5.2.13, table 25), of 1/64.
constexpr int8_t CUBIC[32][4] = {
    {0, 64, 0, 0},    {-1, 63, 2, 0},   {-2, 62, 4, 0},   {-2, 60, 7, -1},  {-2, 58, 10, -2}, {-3, 57, 12, -2},
    {-4, 56, 14, -2}, {-4, 55, 15, -2}, {-4, 54, 16, -2}, {-5, 53, 18, -2}, {-6, 52, 20, -2}, {-6, 49, 24, -3},
    {-6, 46, 28, -4}, {-5, 44, 29, -4}, {-4, 42, 30, -4}, {-4, 39, 33, -4}, {-4, 36, 36, -4}, {-4, 33, 39, -4},
    {-4, 30, 42, -4}, {-4, 29, 44, -5}, {-4, 28, 46, -6}, {-3, 24, 49, -6}, {-2, 20, 52, -6}, {-2, 18, 53, -5},
    {-2, 16, 54, -4}, {-2, 15, 55, -4}, {-2, 14, 56, -4}, {-2, 12, 57, -3}, {-2, 10, 58, -2}, {-1, 7, 60, -2},
    {0, 4, 62, -2},   {0, 2, 63, -1}};

NCODEC_CLONES static void angular_cubic(const int16_t* from, int angle, int width, int height, int16_t* out) {
  for (int y = 0; y < height; ++y) {
    const int offset = ((y + 1) * angle) >> 5;
    const int8_t* c = CUBIC[((y + 1) * angle) & 31];
    const int16_t* p = from + offset;
    for (int x = 0; x < width; ++x)
      out[y * width + x] = static_cast<int16_t>(
          std::clamp((c[0] * p[x] + c[1] * p[x + 1] + c[2] * p[x + 2] + c[3] * p[x + 3] + 32) >> 6, 0, SAMPLE_MAX));
  }
}

// [height, width] to [width, height].
inline void transpose(const int16_t* in, int width, int height, int16_t* out) {
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) out[x * height + y] = in[y * width + x];
}

// D38: luma to chroma.
NCODEC_CLONES static void line(const int16_t* in, int n, int slope, int mean_in, int mean_out, int16_t* out) {
  for (int i = 0; i < n; ++i)
    out[i] = static_cast<int16_t>(std::clamp(mean_out + ((slope * (in[i] - mean_in) + 128) >> 8), 0, SAMPLE_MAX));
}

// D29: half-steps times scaled step, >> shift; clipped to what the inverse transform takes.
NCODEC_CLONES static void scale(const int16_t* levels, const int32_t* steps, int n, int shift, int16_t* out) {
  for (int i = 0; i < n; ++i) {
    const int64_t c = (int64_t{levels[i]} * steps[i] + (int64_t{1} << (shift - 1))) >> shift;
    out[i] = static_cast<int16_t>(std::clamp<int64_t>(c, -32768, 32767));
  }
}

// D31.
NCODEC_CLONES static void add(const int16_t* prediction, const int16_t* residual, int width, int height, int16_t* out,
                              int stride) {
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      out[y * stride + x] =
          static_cast<int16_t>(std::clamp(prediction[y * width + x] + residual[y * width + x], 0, SAMPLE_MAX));
}

}  // namespace ncodec::dct::kernels
