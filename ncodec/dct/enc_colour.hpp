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

// RGB, its last row and column repeated. Chroma of 4:2:0 is the mean of four.
inline void from_rgb(const Picture& picture, const std::array<Plane, 3>& planes, int chroma_shift) {
  const int width = planes[0].width, height = planes[0].height;
  std::vector<float> chroma[2];
  for (auto& plane : chroma) plane.resize(static_cast<size_t>(width) * height);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const float r = picture.at(x, y, 0), g = picture.at(x, y, 1), b = picture.at(x, y, 2);
      const float luma = 0.299f * r + 0.587f * g + 0.114f * b;
      *planes[0].at(x, y) = round_sample(luma);
      chroma[0][static_cast<size_t>(y) * width + x] = (b - luma) / 1.772f + MIDDLE;
      chroma[1][static_cast<size_t>(y) * width + x] = (r - luma) / 1.402f + MIDDLE;
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
inline void from_picture(const Picture& picture, const Geometry& g, Samples& out) {
  if (g.has_chroma()) {
    from_rgb(picture, out.planes, g.chroma_shift);
  } else {
    from_grey(picture, out.planes[0]);
  }
}

}  // namespace ncodec::dct
