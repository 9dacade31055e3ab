// YCbCr (BT.601, full range) of 10 bits and `extra` ones, 4:4:4 or 4:2:0, or grey, to RGB or grey of 8 to 16 bits
// (specs/dct.md section 8). Exact.

#pragma once

#include <algorithm>

#include "clones.hpp"
#include "samples.hpp"

namespace ncodec::dct {

namespace kernels {

// D56. Y + of Cr, Cb: 2^16 times 1.402, 1.772, 0.344136, 0.714136. |sums| < 2^30.
NCODEC_CLONES static void to_rgb(const int16_t* y, const int16_t* cb, const int16_t* cr, int n, int extra,
                                 uint8_t* out) {
  const int shift = 18 + extra, half = 1 << (shift - 1), middle = MIDDLE << extra;
  for (int i = 0; i < n; ++i) {
    const int luma = y[i] * 65536, b = cb[i] - middle, r = cr[i] - middle;
    out[3 * i] = static_cast<uint8_t>(std::clamp((luma + 91881 * r + half) >> shift, 0, 255));
    out[3 * i + 1] = static_cast<uint8_t>(std::clamp((luma - 22553 * b - 46802 * r + half) >> shift, 0, 255));
    out[3 * i + 2] = static_cast<uint8_t>(std::clamp((luma + 116130 * b + half) >> shift, 0, 255));
  }
}

inline void to_grey(const int16_t* y, int n, int extra, int, uint8_t* out) {  // D54
  for (int i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(std::min((y[i] + (2 << extra)) >> (2 + extra), 255));
}

inline void to_grey(const int16_t* y, int n, int extra, int largest, uint16_t* out) {  // D58
  const int64_t white = 1020 << extra;
  for (int i = 0; i < n; ++i)
    out[i] = static_cast<uint16_t>((std::min<int64_t>(y[i], white) * largest + white / 2) / white);
}

inline void to_rgb(const int16_t* y, const int16_t* cb, const int16_t* cr, int n, int extra, int, uint8_t* out) {
  to_rgb(y, cb, cr, n, extra, out);
}

inline void to_rgb(const int16_t* y, const int16_t* cb, const int16_t* cr, int n, int extra, int largest,
                   uint16_t* out) {  // D59
  const int64_t white = int64_t{255} << (18 + extra);
  const int middle = MIDDLE << extra;
  const auto scaled = [&](int v) {
    return static_cast<uint16_t>((std::clamp<int64_t>(v, 0, white) * largest + white / 2) / white);
  };
  for (int i = 0; i < n; ++i) {
    const int luma = y[i] * 65536, b = cb[i] - middle, r = cr[i] - middle;
    out[3 * i] = scaled(luma + 91881 * r);
    out[3 * i + 1] = scaled(luma - 22553 * b - 46802 * r);
    out[3 * i + 2] = scaled(luma + 116130 * b);
  }
}

}  // namespace kernels

// D55: rows of 4:2:0 chroma to full size: 3/4 of the nearer sample and 1/4 of the farther, both ways.
inline void upsample_row(const Plane& plane, int y, int width, int16_t* out) {
  const int near = y >> 1, far = std::clamp(near + (y & 1 ? 1 : -1), 0, plane.height - 1);
  const int16_t *a = plane.at(0, near), *b = plane.at(0, far);
  for (int x = 0; x < width; ++x) {
    const int i = std::min(x >> 1, plane.width - 1), j = std::clamp(i + (x & 1 ? 1 : -1), 0, plane.width - 1);
    out[x] = static_cast<int16_t>((9 * a[i] + 3 * a[j] + 3 * b[i] + b[j] + 8) >> 4);
  }
}

// `out`: [height, width, 3] or, of grey, [height, width], 0 … largest (255 of uint8_t). What is beyond is cut off (D4).
template <class Out>
void to_picture(const std::array<Plane, 3>& planes, const Geometry& g, int extra, int width, int height, int largest,
                Out* out) {
  std::vector<int16_t> cb(width), cr(width);
  for (int y = 0; y < height; ++y, out += static_cast<ptrdiff_t>(width) * g.planes) {
    if (!g.has_chroma()) {
      kernels::to_grey(planes[0].at(0, y), width, extra, largest, out);
    } else if (g.chroma_shift == 0) {
      kernels::to_rgb(planes[0].at(0, y), planes[1].at(0, y), planes[2].at(0, y), width, extra, largest, out);
    } else {
      upsample_row(planes[1], y, width, cb.data());
      upsample_row(planes[2], y, width, cr.data());
      kernels::to_rgb(planes[0].at(0, y), cb.data(), cr.data(), width, extra, largest, out);
    }
  }
}

}  // namespace ncodec::dct
