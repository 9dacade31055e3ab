// The inner loops over samples: plain loops that compilers turn into SIMD, in two versions where the
// machine has AVX2. Exact: the same integers from each.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "clones.hpp"

namespace ncodec::dct::kernels {

NCODEC_CLONES static void planar(const int16_t* left, const int16_t* top, int log2, int16_t* out) {
  const int side = 1 << log2, below = left[side], right = top[side];
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x)
      out[y * side + x] = static_cast<int16_t>(((side - 1 - x) * left[y] + (x + 1) * right + (side - 1 - y) * top[x] +
                                                (y + 1) * below + side) >> (log2 + 1));
}

NCODEC_CLONES static void angular(const int16_t* from, int angle, int side, int16_t* out) {
  for (int y = 0; y < side; ++y) {
    const int offset = ((y + 1) * angle) >> 5, fraction = ((y + 1) * angle) & 31;
    const int16_t* p = from + offset + 1;
    for (int x = 0; x < side; ++x)
      out[y * side + x] = static_cast<int16_t>(((32 - fraction) * p[x] + fraction * p[x + 1] + 16) >> 5);
  }
}

// Between samples by the four beside (H.266 8.4.5.2.13, table 25), of 1/64.
constexpr int8_t CUBIC[32][4] = {
    {0, 64, 0, 0},    {-1, 63, 2, 0},   {-2, 62, 4, 0},   {-2, 60, 7, -1},  {-2, 58, 10, -2}, {-3, 57, 12, -2}, {-4, 56, 14, -2}, {-4, 55, 15, -2},
    {-4, 54, 16, -2}, {-5, 53, 18, -2}, {-6, 52, 20, -2}, {-6, 49, 24, -3}, {-6, 46, 28, -4}, {-5, 44, 29, -4}, {-4, 42, 30, -4}, {-4, 39, 33, -4},
    {-4, 36, 36, -4}, {-4, 33, 39, -4}, {-4, 30, 42, -4}, {-4, 29, 44, -5}, {-4, 28, 46, -6}, {-3, 24, 49, -6}, {-2, 20, 52, -6}, {-2, 18, 53, -5},
    {-2, 16, 54, -4}, {-2, 15, 55, -4}, {-2, 14, 56, -4}, {-2, 12, 57, -3}, {-2, 10, 58, -2}, {-1, 7, 60, -2},  {0, 4, 62, -2},   {0, 2, 63, -1}};

NCODEC_CLONES static void angular_cubic(const int16_t* from, int angle, int side, int16_t* out) {
  for (int y = 0; y < side; ++y) {
    const int offset = ((y + 1) * angle) >> 5;
    const int8_t* c = CUBIC[((y + 1) * angle) & 31];
    const int16_t* p = from + offset;
    for (int x = 0; x < side; ++x)
      out[y * side + x] = static_cast<int16_t>(
          std::clamp((c[0] * p[x] + c[1] * p[x + 1] + c[2] * p[x + 2] + c[3] * p[x + 3] + 32) >> 6, 0, 1023));
  }
}

inline void transpose(int16_t* block, int side) {
  for (int y = 1; y < side; ++y)
    for (int x = 0; x < y; ++x) std::swap(block[y * side + x], block[x * side + y]);
}

NCODEC_CLONES static void line(const int16_t* in, int n, int slope, int mean_in, int mean_out, int16_t* out) {
  for (int i = 0; i < n; ++i)
    out[i] = static_cast<int16_t>(std::clamp(mean_out + ((slope * (in[i] - mean_in) + 128) >> 8), 0, 1023));
}

// Level times step, >> shift; clipped to what the inverse transform takes.
NCODEC_CLONES static void scale(const int16_t* levels, const int32_t* steps, int n, int shift, int16_t* out) {
  for (int i = 0; i < n; ++i) {
    const int64_t c = (int64_t{levels[i]} * steps[i] + (int64_t{1} << (shift - 1))) >> shift;
    out[i] = static_cast<int16_t>(std::clamp<int64_t>(c, -32768, 32767));
  }
}

NCODEC_CLONES static void add(const int16_t* prediction, const int16_t* residual, int side, int16_t* out, int stride) {
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x)
      out[y * stride + x] =
          static_cast<int16_t>(std::clamp(prediction[y * side + x] + residual[y * side + x], 0, 1023));
}

NCODEC_CLONES static void subtract(const int16_t* samples, int stride, const int16_t* prediction, int side, int16_t* out) {
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x)
      out[y * side + x] = static_cast<int16_t>(samples[y * stride + x] - prediction[y * side + x]);
}

NCODEC_CLONES static int64_t squared_error(const int16_t* a, int a_stride, const int16_t* b, int b_stride, int width, int height) {
  int64_t total = 0;
  for (int y = 0; y < height; ++y) {
    int row = 0;  // < 64 * 2^20
    for (int x = 0; x < width; ++x) {
      const int d = a[y * a_stride + x] - b[y * b_stride + x];
      row += d * d;
    }
    total += row;
  }
  return total;
}

// About bits + weighted error of coefficients in half-steps: each is dropped, or costs some bits and log2 of it.
NCODEC_CLONES static float guess_cost(const float* ratio, const float* error, int n) {
  float total = 0;
  for (int i = 0; i < n; ++i) {
    const float r = std::abs(ratio[i]);
    // log2 by the line between powers of 2 that the bits of a float are
    union { float f; int32_t i; } bits = {1 + r};
    const float log2 = static_cast<float>(bits.i - 0x3F800000) * (1.f / (1 << 23));
    total += std::min(r * r * error[i], 3 + 1.75f * log2 + error[i] * (1.f / 3));
  }
  return total;
}

// Sum of absolute Hadamard coefficients of a - b over 8x8 blocks (4x4 for side 4), of about the size of the
// orthonormal transform's: the encoder's guess at the rate. Half the difference, so that 16 bits hold 64 of them.
template <int N>
inline int hadamard(const int16_t* d) {
  int16_t m[N * N];
  for (int i = 0; i < N * N; ++i) m[i] = d[i];
  for (int step = N / 2; step; step /= 2)  // vertically, N columns at once
    for (int y = 0; y < N; ++y)
      if (!(y & step))
        for (int x = 0; x < N; ++x) {
          const int16_t a = m[y * N + x], b = m[(y + step) * N + x];
          m[y * N + x] = static_cast<int16_t>(a + b), m[(y + step) * N + x] = static_cast<int16_t>(a - b);
        }
  int16_t t[N * N];
  for (int y = 0; y < N; ++y)
    for (int x = 0; x < N; ++x) t[x * N + y] = m[y * N + x];
  for (int step = N / 2; step; step /= 2)
    for (int y = 0; y < N; ++y)
      if (!(y & step))
        for (int x = 0; x < N; ++x) {
          const int16_t a = t[y * N + x], b = t[(y + step) * N + x];
          t[y * N + x] = static_cast<int16_t>(a + b), t[(y + step) * N + x] = static_cast<int16_t>(a - b);
        }
  int sum = 0;
  for (int i = 0; i < N * N; ++i) sum += std::abs(static_cast<int>(t[i]));
  return sum;
}

NCODEC_CLONES static int satd(const int16_t* a, int stride, const int16_t* b, int side) {
  int total = 0;
  if (side == 4) {
    int16_t d[16];
    for (int y = 0; y < 4; ++y)
      for (int x = 0; x < 4; ++x) d[y * 4 + x] = static_cast<int16_t>((a[y * stride + x] - b[y * 4 + x]) >> 1);
    return hadamard<4>(d) / 2;
  }
  for (int v = 0; v < side; v += 8)
    for (int u = 0; u < side; u += 8) {
      int16_t d[64];
      for (int y = 0; y < 8; ++y)
        for (int x = 0; x < 8; ++x)
          d[y * 8 + x] = static_cast<int16_t>((a[(v + y) * stride + u + x] - b[(v + y) * side + u + x]) >> 1);
      total += hadamard<8>(d) / 4;
    }
  return total;
}

}  // namespace ncodec::dct::kernels
