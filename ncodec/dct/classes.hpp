// The classes of 4x4 luma blocks that the filter goes by (specs/dct.md section 7, after H.266 8.8.5.3): 5 levels of
// activity x 5 kinds of direction, each turned or mirrored to a common orientation. Exact.

#pragma once

#include <vector>

#include "kernels.hpp"
#include "parameters.hpp"

namespace ncodec::dct {

namespace kernels {

// D49: |2 c - a - b| in four directions, of every other sample, summed over the 4x4 blocks of a row of them.
// `rows` are y - 1 ... y + 4 with a border of 1 to the left and right; sums: [blocks, 4].
NCODEC_CLONES static void gradients(const int16_t* const rows[6], int blocks, int32_t* sums) {
  for (int b = 0; b < blocks; ++b) {
    int v = 0, h = 0, d = 0, e = 0;
    for (int y = 1; y < 5; ++y) {
      const int16_t *up = rows[y - 1] + 4 * b, *c = rows[y] + 4 * b, *down = rows[y + 1] + 4 * b;
      for (int x = (y - 1) & 1; x < 4; x += 2) {
        const int twice = 2 * c[x];
        v += std::abs(twice - up[x] - down[x]);
        h += std::abs(twice - c[x - 1] - c[x + 1]);
        d += std::abs(twice - up[x - 1] - down[x + 1]);
        e += std::abs(twice - up[x + 1] - down[x - 1]);
      }
    }
    sums[4 * b] = v, sums[4 * b + 1] = h, sums[4 * b + 2] = d, sums[4 * b + 3] = e;
  }
}

}  // namespace kernels

constexpr int FILTER_BORDER = 4;

// A plane with its border repeated FILTER_BORDER samples outwards.
class Padded {
 public:
  explicit Padded(const Plane& plane)
      : stride_(plane.width + 2 * FILTER_BORDER),
        samples_(static_cast<size_t>(stride_) * (plane.height + 2 * FILTER_BORDER)) {
    for (int y = -FILTER_BORDER; y < plane.height + FILTER_BORDER; ++y) {
      const int16_t* from = plane.at(0, std::clamp(y, 0, plane.height - 1));
      int16_t* to = row(y);
      std::memcpy(to, from, sizeof(int16_t) * plane.width);
      std::fill(to - FILTER_BORDER, to, from[0]);
      std::fill(to + plane.width, to + plane.width + FILTER_BORDER, from[plane.width - 1]);
    }
  }
  int16_t* row(int y) { return samples_.data() + static_cast<ptrdiff_t>(y + FILTER_BORDER) * stride_ + FILTER_BORDER; }
  const int16_t* row(int y) const { return const_cast<Padded*>(this)->row(y); }

 private:
  int stride_;
  std::vector<int16_t> samples_;
};

struct BlockClass {
  uint8_t number;  // activity * 5 + direction
  bool is_swapped, is_mirrored;
  uint8_t activity() const { return number / 5; }
};

// D49. `g`: gradients vertical, horizontal, diagonal, antidiagonal; `step`: of luma's quantisation, of 1/16.
inline BlockClass class_of_gradients(const int64_t g[4], int step) {
  const int64_t hv_high = std::max(g[0], g[1]), hv_low = std::min(g[0], g[1]);
  const int64_t d_high = std::max(g[2], g[3]), d_low = std::min(g[2], g[3]);
  const bool is_diagonal = d_high * hv_low > hv_high * d_low;
  const int64_t strong = is_diagonal ? d_high : hv_high, weak = is_diagonal ? d_low : hv_low;
  int direction = 0;
  if (strong > 2 * weak) direction = (is_diagonal ? 1 : 3) + (2 * strong > 9 * weak);
  // Mean second difference against the step: 96 differences in a sum of two directions.
  const int64_t ratio = (g[0] + g[1]) * 16 / step;
  const int activity = ratio < 12 ? 0 : ratio < 28 ? 1 : ratio < 60 ? 2 : ratio < 130 ? 3 : 4;
  return {static_cast<uint8_t>(activity * 5 + direction), g[1] > g[0], g[3] > g[2]};
}

// Classes of the 4x4 blocks of a plane, [height / 4, width / 4]; step(x, y) is luma's at a sample.
template <class Step>
std::vector<BlockClass> classify(const Padded& luma, int width, int height, Step step) {
  const int wide = width / 4, high = height / 4;
  std::vector<int32_t> sums(static_cast<size_t>(wide) * high * 4);
  for (int j = 0; j < high; ++j) {
    const int16_t* rows[6];
    for (int i = 0; i < 6; ++i) rows[i] = luma.row(4 * j - 1 + i);
    kernels::gradients(rows, wide, sums.data() + static_cast<size_t>(j) * wide * 4);
  }
  std::vector<BlockClass> classes(static_cast<size_t>(wide) * high);
  for (int j = 0; j < high; ++j)
    for (int i = 0; i < wide; ++i) {
      int64_t g[4] = {0, 0, 0, 0};  // twice its own block, once each of the four beside it
      const auto add = [&](int y, int x, int times) {
        const int32_t* s =
            &sums[(static_cast<size_t>(std::clamp(y, 0, high - 1)) * wide + std::clamp(x, 0, wide - 1)) * 4];
        for (int k = 0; k < 4; ++k) g[k] += times * s[k];
      };
      add(j, i, 2), add(j - 1, i, 1), add(j + 1, i, 1), add(j, i - 1, 1), add(j, i + 1, 1);
      classes[static_cast<size_t>(j) * wide + i] = class_of_gradients(g, step(4 * i, 4 * j));
    }
  return classes;
}

}  // namespace ncodec::dct
