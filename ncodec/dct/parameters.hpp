// What training found: steps and matrices of quantisation over the curve, starting states, filters; and the tables
// that a quality makes of them. All integers.

#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "syntax.hpp"
#include "transform.hpp"

namespace ncodec::dct {

constexpr int ANCHORS = 8;         // qualities 1 ... 8
constexpr int QUALITY_STEPS = 20;  // quality codes between two of them
constexpr int MAX_QUALITY_CODE = (ANCHORS - 1) * QUALITY_STEPS;

struct Parameters {
  std::array<std::array<int16_t, 3>, ANCHORS> log_step;                   // [quality][plane], of 1/256 octave
  std::array<std::array<std::array<std::array<int8_t, 64>, SIZES>, 2>, ANCHORS> matrix;  // [quality][luma?][size][8x8], of 1/32 octave
  std::array<std::array<uint8_t, 6>, ANCHORS> strength;  // beta, tc of luma, of chroma, clipping of luma, of chroma: of 1/64 step
  std::array<std::array<std::array<int8_t, 12>, 25>, ANCHORS> luma_filter;                     // filter.hpp: of 1/128
  std::array<std::array<std::array<std::array<int8_t, 11>, 5>, 2>, ANCHORS> chroma_filter;
  std::vector<int8_t> start;        // [2][place::END]: of 1/16 stretch, at quality 1 and 8
  std::vector<uint8_t> confidence;  // [place::END]: bins that the start is worth
  std::vector<int16_t> weights;     // [mixer::END][3]: of 2^14
};

inline int between(int low, int high, int fraction) {  // rounded to nearest
  const int sum = low * (QUALITY_STEPS - fraction) + high * fraction;
  return (sum + (sum < 0 ? -QUALITY_STEPS / 2 : QUALITY_STEPS / 2)) / QUALITY_STEPS;
}

// 2^(x / 2048) of 1/16, x clamped to [0, 2048 * 14): a cubic within 2e-4 of 2^f.
inline int exp2_of(int x) {
  x = std::clamp(x, 0, 2048 * 14 - 1);
  const int64_t f = int64_t{x & 2047} << 19;  // of 2^30
  constexpr int64_t ONE = int64_t{1} << 30, C1 = 747247505, C2 = 241534262, C3 = 84960057;
  static_assert(ONE + C1 + C2 + C3 == 2 * ONE, "the pieces meet");
  const int64_t m = ONE + ((f * (C1 + ((f * (C2 + ((f * C3) >> 30))) >> 30))) >> 30);
  const int shift = 26 - (x >> 11);  // 1/16: 2^30 becomes 2^4
  return static_cast<int>((m + (int64_t{1} << (shift - 1))) >> shift);
}

// The frequencies that a matrix names, for coded sides 4 and 8, 16, 32; between them it is bilinear.
constexpr uint8_t GRID[3][8] = {{0, 1, 2, 3, 4, 5, 6, 7}, {0, 1, 2, 3, 5, 8, 11, 15}, {0, 1, 2, 4, 7, 12, 20, 31}};

struct GridPlace {
  int before, sixteenths;
};

inline GridPlace grid_place(int frequency, int log2) {
  const uint8_t* grid = GRID[std::clamp(log2 - 3, 0, 2)];
  int g = 7;
  while (grid[g] > frequency) --g;
  return {g, g < 7 ? (frequency - grid[g]) * 16 / (grid[g + 1] - grid[g]) : 0};
}

// Quantisation steps of one block kind: of 1/16, in samples of an orthonormal transform. [v * coded side + u]
using Steps = std::array<std::array<std::vector<int32_t>, SIZES>, 3>;

inline Steps steps_of(const Parameters& parameters, int quality_code) {
  const int anchor = std::min(quality_code / QUALITY_STEPS, ANCHORS - 2), fraction = quality_code - anchor * QUALITY_STEPS;
  Steps steps;
  for (int plane = 0; plane < 3; ++plane)
    for (int size = 0; size < SIZES; ++size) {
      const int log2 = size + 2, side = 1 << coded_log2(log2);
      const int base = between(parameters.log_step[anchor][plane], parameters.log_step[anchor + 1][plane], fraction) * 8;
      int grid[64];
      for (int i = 0; i < 64; ++i)
        grid[i] = 64 * between(parameters.matrix[anchor][plane > 0][size][i], parameters.matrix[anchor + 1][plane > 0][size][i], fraction);
      auto& out = steps[plane][size];
      out.resize(static_cast<size_t>(side) * side);
      for (int v = 0; v < side; ++v)
        for (int u = 0; u < side; ++u) {
          const auto [gv, fv] = grid_place(v, log2);
          const auto [gu, fu] = grid_place(u, log2);
          const int* g = grid + gv * 8 + gu;
          const int right = gu < 7, below = gv < 7 ? 8 : 0;
          const int top = g[0] * (16 - fu) + g[right] * fu, bottom = g[below] * (16 - fu) + g[below + right] * fu;
          const int offset = (top * (16 - fv) + bottom * fv) >> 8;
          out[static_cast<size_t>(v) * side + u] = exp2_of(base + offset);
        }
    }
  return steps;
}

}  // namespace ncodec::dct
