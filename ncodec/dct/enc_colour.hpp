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

  // Channel c of a pixel in steps of 10-bit samples, four of which are one of 8 bits.
  float at(int x, int y, int c) const {
    const uint8_t* p = samples + row * std::min(y, height - 1) + pixel * std::min(x, width - 1);
    if (bit_depth == 8) return 4.f * p[c];
    uint16_t value;
    std::memcpy(&value, p + 2 * c, 2);
    return 1020.f * value / static_cast<float>((1 << bit_depth) - 1);
  }
};

inline int16_t round_sample(float v) {
  return static_cast<int16_t>(std::clamp(static_cast<int>(v + 0.5f), 0, SAMPLE_MAX));
}

// Grey, its last row and column repeated.
inline void from_grey(const Picture& picture, const Plane& out) {
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x) *out.at(x, y) = round_sample(picture.at(x, y, 0));
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

// RGB, its last row and column repeated. Chroma of 4:2:0 is the mean of four.
inline void from_rgb(const Picture& picture, const Colour& colour, const std::array<Plane, 3>& planes,
                     int chroma_shift) {
  const int width = planes[0].width, height = planes[0].height;
  const auto m = inverse_of(colour);
  std::vector<float> chroma[2];
  for (auto& plane : chroma) plane.resize(static_cast<size_t>(width) * height);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const size_t i = static_cast<size_t>(y) * width + x;
      const float r = picture.at(x, y, 0) - MIDDLE, g = picture.at(x, y, 1) - MIDDLE, b = picture.at(x, y, 2) - MIDDLE;
      const auto sample = [&](int p) { return m[p][0] * r + m[p][1] * g + m[p][2] * b + MIDDLE; };
      *planes[0].at(x, y) = round_sample(sample(0));
      for (int c = 0; c < 2; ++c) chroma[c][i] = sample(1 + c);
    }
  const int step = 1 << chroma_shift;
  for (int c = 0; c < 2; ++c) {
    const Plane& out = planes[c + 1];
    for (int y = 0; y < out.height; ++y)
      for (int x = 0; x < out.width; ++x) {
        const float* p = chroma[c].data() + static_cast<size_t>(y * step) * width + x * step;
        *out.at(x, y) = round_sample(step == 1 ? p[0] : (p[0] + p[1] + p[width] + p[width + 1]) / 4);
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
