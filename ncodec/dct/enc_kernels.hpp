// The inner loops of the encoder's choices, as those of kernels.hpp.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "clones.hpp"
#include "transform_lanes.hpp"

namespace ncodec::dct::detail {

template <int N>
inline void butterflies(Words* m) {  // down the columns
  for (int step = N / 2; step; step /= 2)
    for (int y = 0; y < N; ++y)
      if (!(y & step)) {
        const Words a = m[y], b = m[y + step];
        m[y] = add_words(a, b), m[y + step] = sub_words(a, b);
      }
}

// Of N rows of 8 differences: of one block of 8x8 or two of 4x4.
template <int N>
inline Longs hadamard(Words (&m)[8]) {
  int16_t transposed[8 * LANES];
  butterflies<N>(m);
  transpose<LANES>(m, transposed, LANES, 8);
  for (int y = 0; y < 8; ++y) m[y] = load(transposed + LANES * y);
  for (int y = 0; y < 8; y += N) butterflies<N>(m + y);
  Longs sum = constant(0);
  for (const Words& row : m) sum = add(sum, dot(magnitude(row), splat(packed(1, 1))));
  return sum;
}

template <int N, int WIDTH>
inline int satd_of(const int16_t* a, int stride, const int16_t* b, int width, int height) {
  Longs total = constant(0);
  for (int v = 0; v < height; v += N)
    for (int u = 0; u < width; u += WIDTH) {
      Words m[8];
      for (int y = 0; y < 8; ++y)
        m[y] = y < N ? shift_down<1>(sub_words(load_row<WIDTH>(a + (v + y) * stride + u),
                                               load_row<WIDTH>(b + (v + y) * width + u)))
                     : zero();
      total = add(total, hadamard<N>(m));
    }
  return sum_of(total) / (N / 2);
}

}  // namespace ncodec::dct::detail

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
inline int satd(const int16_t* a, int stride, const int16_t* b, int width, int height) {
  if (width == 4) return detail::satd_of<4, 4>(a, stride, b, width, height);
  return height == 4 ? detail::satd_of<4, 8>(a, stride, b, width, height)
                     : detail::satd_of<8, 8>(a, stride, b, width, height);
}

}  // namespace ncodec::dct::kernels
