// 8-bit RGB or grey <-> 10-bit YCbCr (BT.601, full range) or grey, 4:4:4 or 4:2:0. Towards RGB: exact.

#pragma once

#include <array>
#include <vector>

#include "predict.hpp"

namespace ncodec::dct {

struct Picture8 {
  const uint8_t* samples;  // [height, width, channels]
  int width, height, channels;
  ptrdiff_t row, pixel;    // strides, in bytes
};

namespace kernels {

// Y + of Cr, Cb: 2^16 times 1.402, 1.772, 0.344136, 0.714136. |sums| < 2^28.
NCODEC_CLONES static void to_rgb(const int16_t* y, const int16_t* cb, const int16_t* cr, int n, uint8_t* out) {
  constexpr int HALF = 1 << 17;
  for (int i = 0; i < n; ++i) {
    const int luma = y[i] * 65536, b = cb[i] - MIDDLE, r = cr[i] - MIDDLE;
    out[3 * i] = static_cast<uint8_t>(std::clamp((luma + 91881 * r + HALF) >> 18, 0, 255));
    out[3 * i + 1] = static_cast<uint8_t>(std::clamp((luma - 22553 * b - 46802 * r + HALF) >> 18, 0, 255));
    out[3 * i + 2] = static_cast<uint8_t>(std::clamp((luma + 116130 * b + HALF) >> 18, 0, 255));
  }
}

}  // namespace kernels

inline int16_t round_sample(float v) { return static_cast<int16_t>(std::clamp(static_cast<int>(v + 0.5f), 0, SAMPLE_MAX)); }

// The picture's planes at the size of `planes`, its last row and column repeated. Encoder only.
inline void from_picture(const Picture8& picture, std::array<Plane, 3>& planes, int count, int chroma_shift) {
  const int width = planes[0].width, height = planes[0].height;
  std::vector<float> cb, cr;
  if (count == 3) cb.resize(static_cast<size_t>(width) * height), cr.resize(cb.size());
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const uint8_t* p = picture.samples + picture.row * std::min(y, picture.height - 1) + picture.pixel * std::min(x, picture.width - 1);
      if (count == 1) {
        *planes[0].at(x, y) = static_cast<int16_t>(4 * p[0]);
        continue;
      }
      const float r = 4.f * p[0], g = 4.f * p[1], b = 4.f * p[2], luma = 0.299f * r + 0.587f * g + 0.114f * b;
      *planes[0].at(x, y) = round_sample(luma);
      cb[static_cast<size_t>(y) * width + x] = (b - luma) / 1.772f + MIDDLE;
      cr[static_cast<size_t>(y) * width + x] = (r - luma) / 1.402f + MIDDLE;
    }
  for (int c = 1; c < count; ++c) {
    const std::vector<float>& full = c == 1 ? cb : cr;
    const int step = 1 << chroma_shift;
    for (int y = 0; y < planes[c].height; ++y)
      for (int x = 0; x < planes[c].width; ++x) {
        const float* p = full.data() + static_cast<size_t>(y * step) * width + x * step;
        *planes[c].at(x, y) = round_sample(step == 1 ? p[0] : (p[0] + p[1] + p[width] + p[width + 1]) / 4);
      }
  }
}

// Rows of 4:2:0 chroma to full size: 3/4 of the nearer sample and 1/4 of the farther, both ways.
inline void upsample_row(const Plane& plane, int y, int width, int16_t* out) {
  const int near = y >> 1, far = std::clamp(near + (y & 1 ? 1 : -1), 0, plane.height - 1);
  const int16_t *a = plane.at(0, near), *b = plane.at(0, far);
  for (int x = 0; x < width; ++x) {
    const int i = std::min(x >> 1, plane.width - 1), j = std::clamp(i + (x & 1 ? 1 : -1), 0, plane.width - 1);
    out[x] = static_cast<int16_t>((9 * a[i] + 3 * a[j] + 3 * b[i] + b[j] + 8) >> 4);
  }
}

// `out`: [height, width, 3] or, for one plane, [height, width]; rows of `stride` bytes.
inline void to_picture(const std::array<Plane, 3>& planes, int count, int chroma_shift, int width, int height, uint8_t* out,
                       ptrdiff_t stride) {
  std::vector<int16_t> cb(width), cr(width);
  for (int y = 0; y < height; ++y, out += stride) {
    if (count == 1) {
      const int16_t* p = planes[0].at(0, y);
      for (int x = 0; x < width; ++x) out[x] = static_cast<uint8_t>(std::min((p[x] + 2) >> 2, 255));
    } else if (chroma_shift == 0) {
      kernels::to_rgb(planes[0].at(0, y), planes[1].at(0, y), planes[2].at(0, y), width, out);
    } else {
      upsample_row(planes[1], y, width, cb.data());
      upsample_row(planes[2], y, width, cr.data());
      kernels::to_rgb(planes[0].at(0, y), cb.data(), cr.data(), width, out);
    }
  }
}

}  // namespace ncodec::dct
