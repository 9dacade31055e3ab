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
NCODEC_CLONES static void planar(const int16_t* left, const int16_t* top, int log2_w, int log2_h, int16_t* out) {
  const int w = 1 << log2_w, h = 1 << log2_h, below = left[h], right = top[w];
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x)
      out[y * w + x] = static_cast<int16_t>(((((w - 1 - x) * left[y] + (x + 1) * right) << log2_h) +
                                             (((h - 1 - y) * top[x] + (y + 1) * below) << log2_w) + w * h) >>
                                            (log2_w + log2_h + 1));
}

// D37: between samples by the four beside (H.266 8.4.5.2.13, table 25), of 1/64.
constexpr int8_t CUBIC[32][4] = {
    {0, 64, 0, 0},    {-1, 63, 2, 0},   {-2, 62, 4, 0},   {-2, 60, 7, -1},  {-2, 58, 10, -2}, {-3, 57, 12, -2},
    {-4, 56, 14, -2}, {-4, 55, 15, -2}, {-4, 54, 16, -2}, {-5, 53, 18, -2}, {-6, 52, 20, -2}, {-6, 49, 24, -3},
    {-6, 46, 28, -4}, {-5, 44, 29, -4}, {-4, 42, 30, -4}, {-4, 39, 33, -4}, {-4, 36, 36, -4}, {-4, 33, 39, -4},
    {-4, 30, 42, -4}, {-4, 29, 44, -5}, {-4, 28, 46, -6}, {-3, 24, 49, -6}, {-2, 20, 52, -6}, {-2, 18, 53, -5},
    {-2, 16, 54, -4}, {-2, 15, 55, -4}, {-2, 14, 56, -4}, {-2, 12, 57, -3}, {-2, 10, 58, -2}, {-1, 7, 60, -2},
    {0, 4, 62, -2},   {0, 2, 63, -1}};

struct Taps {
  int8_t linear[32][4], gauss[32][4];
  constexpr Taps() : linear{}, gauss{} {
    for (int f = 0; f < 32; ++f) {
      linear[f][1] = static_cast<int8_t>(64 - 2 * f), linear[f][2] = static_cast<int8_t>(2 * f);
      gauss[f][0] = static_cast<int8_t>(16 - f / 2), gauss[f][1] = static_cast<int8_t>(32 - f / 2);
      gauss[f][2] = static_cast<int8_t>(16 + f / 2), gauss[f][3] = static_cast<int8_t>(f / 2);
    }
  }
};
constexpr Taps TAPS;

NCODEC_CLONES static void angular(const int16_t* from, int angle, int w, int h, const int8_t (*taps)[4], int16_t* out) {
  for (int y = 0; y < h; ++y) {
    const int offset = ((y + 1) * angle) >> 5;
    const int8_t* c = taps[((y + 1) * angle) & 31];
    const int16_t* p = from + offset;
    for (int x = 0; x < w; ++x)
      out[y * w + x] = static_cast<int16_t>(
          std::clamp((c[0] * p[x] + c[1] * p[x + 1] + c[2] * p[x + 2] + c[3] * p[x + 3] + 32) >> 6, 0, SAMPLE_MAX));
  }
}

// D924 (H.266's PDPC): the columns beside the other border are eased into it, by weights that fall with the distance.
NCODEC_CLONES static void ease(const int16_t* other, int inverse, int w, int h, int reach, int16_t* out) {
  for (int x = 0; x < std::min(3 << reach, w); ++x) {
    const int16_t* seen = other + 1 + (((x + 1) * inverse + 256) >> 9);
    const int weight = 32 >> (2 * x >> reach);
    for (int y = 0; y < h; ++y)
      out[y * w + x] = static_cast<int16_t>(out[y * w + x] + ((weight * (seen[y] - out[y * w + x]) + 32) >> 6));
  }
}

NCODEC_CLONES static void ease_straight(const int16_t* other, int w, int h, int reach, int16_t* out) {
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < std::min(3 << reach, w); ++x) {
      const int weight = 32 >> (2 * x >> reach);
      out[y * w + x] = static_cast<int16_t>(
          std::clamp(out[y * w + x] + ((weight * (other[1 + y] - other[0]) + 32) >> 6), 0, SAMPLE_MAX));
    }
}

NCODEC_CLONES static void ease_both(const int16_t* left, const int16_t* top, int w, int h, int reach, int16_t* out) {
  int16_t across[64];
  for (int x = 0; x < w; ++x) across[x] = static_cast<int16_t>(2 * x >> reach > 5 ? 0 : 32 >> (2 * x >> reach));
  for (int y = 0; y < h; ++y) {
    const int down = 2 * y >> reach > 5 ? 0 : 32 >> (2 * y >> reach);
    int16_t* row = out + y * w;
    for (int x = 0; x < (down ? w : std::min(w, 16)); ++x)
      row[x] = static_cast<int16_t>(row[x] + ((across[x] * (left[y] - row[x]) + down * (top[x] - row[x]) + 32) >> 6));
  }
}

inline void transpose(int16_t* block, int side) {
  for (int y = 1; y < side; ++y)
    for (int x = 0; x < y; ++x) std::swap(block[y * side + x], block[x * side + y]);
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
NCODEC_CLONES static void add(const int16_t* prediction, const int16_t* residual, int side, int16_t* out, int stride) {
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x)
      out[y * stride + x] =
          static_cast<int16_t>(std::clamp(prediction[y * side + x] + residual[y * side + x], 0, SAMPLE_MAX));
}

}  // namespace ncodec::dct::kernels
