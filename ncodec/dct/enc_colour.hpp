// RGB or grey of 8 to 16 bits to the samples that an encoder codes.

#pragma once

#include <algorithm>
#include <cstring>

#include "samples.hpp"

namespace ncodec::dct {

struct Picture {
  const uint8_t* samples;  // [height, width, channels], of two bytes each where there are more than 8 bits
  int width, height, channels;
  ptrdiff_t row, pixel;  // strides, in bytes
  int bit_depth = 8;

  // Channel c of a row in steps of 10-bit samples, four of which are one of 8 bits. The last row and the last pixel of
  // it are repeated, up to n.
  void row_of(int y, int c, int n, float* out) const {
    const uint8_t* p = samples + row * std::min(y, height - 1);
    const int there = std::min(n, width);
    if (bit_depth == 8) {
      for (int x = 0; x < there; ++x) out[x] = 4.f * p[pixel * x + c];
    } else {
      for (int x = 0; x < there; ++x) {
        uint16_t value;
        std::memcpy(&value, p + pixel * x + 2 * c, 2);
        out[x] = 1020.f * value / static_cast<float>((1 << bit_depth) - 1);
      }
    }
    std::fill(out + there, out + n, out[there - 1]);
  }
};

inline int16_t round_sample(float v) {
  return static_cast<int16_t>(std::clamp(static_cast<int>(v + 0.5f), 0, SAMPLE_MAX));
}

inline void from_grey(const Picture& picture, const Plane& out) {
  std::vector<float> grey(out.width);
  for (int y = 0; y < out.height; ++y) {
    picture.row_of(y, 0, out.width, grey.data());
    for (int x = 0; x < out.width; ++x) *out.at(x, y) = round_sample(grey[x]);
  }
}

// The determinant without row i and column j, with its sign.
inline double cofactor_of(const Colour& colour, int i, int j) {
  const auto &p = colour[(i + 1) % 3], &q = colour[(i + 2) % 3];
  const double a = p[(j + 1) % 3], b = p[(j + 2) % 3], c = q[(j + 1) % 3], d = q[(j + 2) % 3];
  return (a * d - b * c) / (65536.0 * 65536.0);
}

constexpr double LEAST_DETERMINANT = 1 / 64.0;
inline double determinant_of(const Colour& colour) {
  double sum = 0;
  for (int j = 0; j < 3; ++j) sum += colour[0][j] / 65536.0 * cofactor_of(colour, 0, j);
  return sum;
}

// What makes planes of R, G and B.
inline std::array<std::array<float, 3>, 3> inverse_of(const Colour& colour) {
  const double determinant = determinant_of(colour);
  std::array<std::array<float, 3>, 3> out;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) out[i][j] = static_cast<float>(cofactor_of(colour, j, i) / determinant);
  return out;
}

// Chroma of 4:2:0 is the mean of four.
inline void from_rgb(const Picture& picture, const Colour& colour, const std::array<Plane, 3>& planes,
                     int chroma_shift) {
  const int width = planes[0].width, step = 1 << chroma_shift;
  const auto m = inverse_of(colour);
  std::vector<float> buffer(static_cast<size_t>(width) * (3 + 2 * step));
  float *const r = buffer.data(), *const g = r + width, *const b = g + width;
  float* const chroma[2] = {b + width, b + width + step * width};  // rows, as many as make one of chroma
  for (int y = 0; y < planes[0].height; ++y) {
    for (int c = 0; c < 3; ++c) picture.row_of(y, c, width, r + c * width);
    const auto sample = [&](int p, int x) {
      return m[p][0] * (r[x] - MIDDLE) + m[p][1] * (g[x] - MIDDLE) + m[p][2] * (b[x] - MIDDLE) + MIDDLE;
    };
    int16_t* const luma = planes[0].at(0, y);
    for (int x = 0; x < width; ++x) luma[x] = round_sample(sample(0, x));
    for (int c = 0; c < 2; ++c) {
      float* const row = chroma[c] + y % step * width;
      for (int x = 0; x < width; ++x) row[x] = sample(1 + c, x);
      if ((y + 1) % step) continue;
      int16_t* const out = planes[c + 1].at(0, y / step);
      const float* const p = chroma[c];
      if (step == 1) {
        for (int x = 0; x < width; ++x) out[x] = round_sample(p[x]);
      } else {
        for (int x = 0; x < width / 2; ++x)
          out[x] = round_sample((p[2 * x] + p[2 * x + 1] + p[width + 2 * x] + p[width + 2 * x + 1]) / 4);
      }
    }
  }
}

// The samples of a picture at the size of a tile.
inline void from_picture(const Picture& picture, const Geometry& g, const Colour& colour, Samples& out) {
  if (g.has_chroma()) {
    from_rgb(picture, colour, out.planes, g.chroma_shift);
  } else {
    from_grey(picture, out.planes[0]);
  }
}

}  // namespace ncodec::dct
