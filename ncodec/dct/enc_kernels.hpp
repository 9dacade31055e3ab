// The inner loops of the encoder's choices, as those of kernels.hpp.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "clones.hpp"

namespace ncodec::dct::kernels {

NCODEC_CLONES static void subtract(const int16_t* samples, int stride, const int16_t* prediction, int width, int height,
                                   int16_t* out) {
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      out[y * width + x] = static_cast<int16_t>(samples[y * stride + x] - prediction[y * width + x]);
}

NCODEC_CLONES static int64_t squared_error(const int16_t* a, int a_stride, const int16_t* b, int b_stride, int width,
                                           int height) {
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

NCODEC_CLONES static void scale(const int32_t* in, const float* factors, int n, float* out) {
  for (int i = 0; i < n; ++i) out[i] = static_cast<float>(in[i]) * factors[i];
}

// About bits + weighted error of coefficients in half-steps: each is dropped, or costs bits for its place and log2 of
// it.
NCODEC_CLONES static float estimate_cost(const float* ratio, const float* error, const float* place_bits, int n) {
  float total = 0;
  for (int i = 0; i < n; ++i) {
    const float r = std::abs(ratio[i]);
    // log2 by the line between powers of 2 that the bits of a float are
    union {
      float f;
      int32_t i;
    } bits = {1 + r};
    const float log2 = static_cast<float>(bits.i - 0x3F800000) * (1.f / (1 << 23));
    total += std::min(r * r * error[i], place_bits[i] + 1.75f * log2 + error[i] * (1.f / 3));
  }
  return total;
}

// Sum of absolute Hadamard coefficients of a - b over 8x8 blocks (4x4 where a side is 4), of about the size of the
// orthonormal transform's: the encoder's guess at the rate. Half the difference, so that 16 bits hold 64 of them.
template <int N>
NCODEC_INLINE void butterflies(int16_t (&m)[N * N]) {  // down the columns, N of them at once
  for (int step = N / 2; step; step /= 2)
    for (int y = 0; y < N; ++y)
      if (!(y & step))
        for (int x = 0; x < N; ++x) {
          const int16_t a = m[y * N + x], b = m[(y + step) * N + x];
          m[y * N + x] = static_cast<int16_t>(a + b), m[(y + step) * N + x] = static_cast<int16_t>(a - b);
        }
}

template <int N>
inline int hadamard(const int16_t* d) {
  int16_t m[N * N], transposed[N * N];
  for (int i = 0; i < N * N; ++i) m[i] = d[i];
  butterflies<N>(m);
  for (int y = 0; y < N; ++y)
    for (int x = 0; x < N; ++x) transposed[x * N + y] = m[y * N + x];
  butterflies<N>(transposed);
  int sum = 0;
  for (int i = 0; i < N * N; ++i) sum += std::abs(static_cast<int>(transposed[i]));
  return sum;
}

template <int N>
NCODEC_INLINE int satd_of(const int16_t* a, int stride, const int16_t* b, int width, int height) {
  int total = 0;
  for (int v = 0; v < height; v += N)
    for (int u = 0; u < width; u += N) {
      int16_t d[N * N];
      for (int y = 0; y < N; ++y)
        for (int x = 0; x < N; ++x)
          d[y * N + x] = static_cast<int16_t>((a[(v + y) * stride + u + x] - b[(v + y) * width + u + x]) >> 1);
      total += hadamard<N>(d) / (N / 2);
    }
  return total;
}

NCODEC_CLONES static int satd(const int16_t* a, int stride, const int16_t* b, int width, int height) {
  return std::min(width, height) == 4 ? satd_of<4>(a, stride, b, width, height)
                                      : satd_of<8>(a, stride, b, width, height);
}

}  // namespace ncodec::dct::kernels
