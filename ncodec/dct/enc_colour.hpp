// 8-bit RGB or grey to the samples that an encoder codes.

#pragma once

#include <algorithm>

#include "samples.hpp"

namespace ncodec::dct {

struct Picture8 {
  const uint8_t* samples;  // [height, width, channels]
  int width, height, channels;
  ptrdiff_t row, pixel;  // strides, in bytes

  const uint8_t* at(int x, int y) const {
    return samples + row * std::min(y, height - 1) + pixel * std::min(x, width - 1);
  }
};

inline int16_t round_sample(float v) {
  return static_cast<int16_t>(std::clamp(static_cast<int>(v + 0.5f), 0, SAMPLE_MAX));
}

// Grey, its last row and column repeated.
inline void from_grey(const Picture8& picture, const Plane& out) {
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x) *out.at(x, y) = static_cast<int16_t>(4 * *picture.at(x, y));
}

// RGB, its last row and column repeated. Chroma of 4:2:0 is the mean of four.
inline void from_rgb(const Picture8& picture, const std::array<Plane, 3>& planes, int chroma_shift) {
  const int width = planes[0].width, height = planes[0].height;
  std::vector<float> chroma[2];
  for (auto& plane : chroma) plane.resize(static_cast<size_t>(width) * height);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const uint8_t* p = picture.at(x, y);
      const float r = 4.f * p[0], g = 4.f * p[1], b = 4.f * p[2], luma = 0.299f * r + 0.587f * g + 0.114f * b;
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
inline void from_picture(const Picture8& picture, const Geometry& g, Samples& out) {
  if (g.has_chroma()) {
    from_rgb(picture, out.planes, g.chroma_shift);
  } else {
    from_grey(picture, out.planes[0]);
  }
}

}  // namespace ncodec::dct
