// Planes of 10 bits and `extra` ones, 4:4:4 or 4:2:0, or grey, to RGB or grey of 8 to 16 bits (specs/dct.md section 8).
// Exact.
//
//   RGB = 128 + colour x (planes - middle),  colour = that of the weights x the tile's turn

#pragma once

#include <algorithm>

#include "clones.hpp"
#include "samples.hpp"

namespace ncodec::dct {

using Colour = std::array<std::array<int32_t, 3>, 3>;  // [R, G, B][plane]: of 1/65536
constexpr int MOST_COLOUR = 1 << 18;                   // of the magnitudes in a row, together

// b, c, d of the quaternion (128, b, c, d) that turns the planes of the weights to those of a tile.
using Turn = std::array<int8_t, 3>;

// D56. Rows stay as long as they are, so their magnitudes are at most sqrt(3) MOST_COLOUR together.
inline Colour turned(const Colour& colour, const Turn& turn) {
  const int64_t a = 128, b = turn[0], c = turn[1], d = turn[2], n = a * a + b * b + c * c + d * d;
  const int64_t rotation[3][3] = {{a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)},
                                  {2 * (b * c + a * d), a * a - b * b + c * c - d * d, 2 * (c * d - a * b)},
                                  {2 * (b * d - a * c), 2 * (c * d + a * b), a * a - b * b - c * c + d * d}};
  Colour out;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      int64_t sum = n / 2;
      for (int k = 0; k < 3; ++k) sum += colour[i][k] * rotation[j][k];
      out[i][j] = static_cast<int32_t>(sum / n - (sum % n < 0));  // rounded down
    }
  return out;
}

namespace kernels {

// D57. |sums| < 2^30.
NCODEC_CLONES static void to_channel(const std::array<int32_t, 3>& row, const int16_t* p, const int16_t* q,
                                     const int16_t* r, int n, int extra, uint8_t* out) {
  const int shift = 18 + extra, middle = MIDDLE << extra, a = row[0], b = row[1], c = row[2];
  for (int i = 0; i < n; ++i) {
    const int sum = a * (p[i] - middle) + b * (q[i] - middle) + c * (r[i] - middle);
    out[i] = static_cast<uint8_t>(std::clamp(128 + ((sum + (1 << (shift - 1))) >> shift), 0, 255));
  }
}

NCODEC_CLONES static void interleave(const uint8_t* r, const uint8_t* g, const uint8_t* b, int n, uint8_t* out) {
  for (int i = 0; i < n; ++i) out[3 * i] = r[i], out[3 * i + 1] = g[i], out[3 * i + 2] = b[i];
}

inline void to_rgb(const Colour& colour, const int16_t* p, const int16_t* q, const int16_t* r, int n, int extra, int,
                   uint8_t* out) {
  constexpr int SOME = 256;
  uint8_t channels[3][SOME];
  for (int i = 0; i < n; i += SOME) {
    const int some = std::min(n - i, SOME);
    for (int c = 0; c < 3; ++c) to_channel(colour[c], p + i, q + i, r + i, some, extra, channels[c]);
    interleave(channels[0], channels[1], channels[2], some, out + 3 * i);
  }
}

inline void to_grey(const int16_t* y, int n, int extra, int, uint8_t* out) {  // D54
  for (int i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(std::min((y[i] + (2 << extra)) >> (2 + extra), 255));
}

inline void to_grey(const int16_t* y, int n, int extra, int largest, uint16_t* out) {  // D59
  const int64_t white = 1020 << extra;
  for (int i = 0; i < n; ++i)
    out[i] = static_cast<uint16_t>((std::min<int64_t>(y[i], white) * largest + white / 2) / white);
}

inline void to_rgb(const Colour& colour, const int16_t* p, const int16_t* q, const int16_t* r, int n, int extra,
                   int largest, uint16_t* out) {  // D60
  const int64_t white = int64_t{255} << (18 + extra), grey = int64_t{128} << (18 + extra);
  const int middle = MIDDLE << extra;
  for (int i = 0; i < n; ++i)
    for (const auto& row : colour) {
      const int64_t v = grey + row[0] * (p[i] - middle) + row[1] * (q[i] - middle) + row[2] * (r[i] - middle);
      *out++ = static_cast<uint16_t>((std::clamp<int64_t>(v, 0, white) * largest + white / 2) / white);
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
void to_picture(const std::array<Plane, 3>& planes, const Geometry& g, const Colour& colour, int extra, int width,
                int height, int largest, Out* out) {
  std::vector<int16_t> second(width), third(width);
  for (int y = 0; y < height; ++y, out += static_cast<ptrdiff_t>(width) * g.planes) {
    if (!g.has_chroma()) {
      kernels::to_grey(planes[0].at(0, y), width, extra, largest, out);
    } else if (g.chroma_shift == 0) {
      kernels::to_rgb(colour, planes[0].at(0, y), planes[1].at(0, y), planes[2].at(0, y), width, extra, largest, out);
    } else {
      upsample_row(planes[1], y, width, second.data());
      upsample_row(planes[2], y, width, third.data());
      kernels::to_rgb(colour, planes[0].at(0, y), second.data(), third.data(), width, extra, largest, out);
    }
  }
}

}  // namespace ncodec::dct
