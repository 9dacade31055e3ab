// What follows the reconstruction of a whole tile. Exact.
//
//   samples -> deblocking (H.265 8.7.2) -> filter by class (after H.266 8.8.5) -> samples
//
// The filter adds to each sample a weighted sum of clipped differences from its neighbours, taken in pairs on
// opposite sides. Luma's weights depend on the class of its 4x4 block: 5 levels of activity x 5 kinds of direction,
// turned or mirrored to a common orientation. Chroma's see luma, and what luma's filter did. Weights, clipping and
// thresholds were learned; a square of 64x64 may go without.

#pragma once

#include <cmath>
#include <vector>

#include "tile.hpp"

namespace ncodec::dct {

namespace kernels {

// One edge of four lines; `across` and `along` are the strides. beta, tc as in H.265.
inline void deblock_edge(int16_t* q, ptrdiff_t across, ptrdiff_t along, int beta, int tc) {
  const auto at = [&](int line, int i) -> int { return q[line * along + i * across]; };
  const auto curve = [&](int line, int side) {
    return side < 0 ? std::abs(at(line, -3) - 2 * at(line, -2) + at(line, -1)) : std::abs(at(line, 2) - 2 * at(line, 1) + at(line, 0));
  };
  const int dp0 = curve(0, -1), dp3 = curve(3, -1), dq0 = curve(0, 1), dq3 = curve(3, 1);
  if (dp0 + dp3 + dq0 + dq3 >= beta) return;
  const auto is_flat = [&](int line, int d) {
    return 2 * d < beta >> 2 && std::abs(at(line, -4) - at(line, -1)) + std::abs(at(line, 0) - at(line, 3)) < beta >> 3 &&
           std::abs(at(line, -1) - at(line, 0)) < (5 * tc + 1) >> 1;
  };
  const bool strong = is_flat(0, dp0 + dq0) && is_flat(3, dp3 + dq3);
  const int side = (beta + (beta >> 1)) >> 3;
  const bool more_p = dp0 + dp3 < side, more_q = dq0 + dq3 < side;
  for (int line = 0; line < 4; ++line) {
    int16_t* s = q + line * along;
    const int p3 = s[-4 * across], p2 = s[-3 * across], p1 = s[-2 * across], p0 = s[-across];
    const int q0 = s[0], q1 = s[across], q2 = s[2 * across], q3 = s[3 * across];
    const auto put = [&](int i, int v) { s[i * across] = static_cast<int16_t>(std::clamp(v, 0, SAMPLE_MAX)); };
    if (strong) {
      const auto near = [&](int v, int old) { return std::clamp(v, old - 2 * tc, old + 2 * tc); };
      put(-1, near((p2 + 2 * p1 + 2 * p0 + 2 * q0 + q1 + 4) >> 3, p0));
      put(-2, near((p2 + p1 + p0 + q0 + 2) >> 2, p1));
      put(-3, near((2 * p3 + 3 * p2 + p1 + p0 + q0 + 4) >> 3, p2));
      put(0, near((p1 + 2 * p0 + 2 * q0 + 2 * q1 + q2 + 4) >> 3, q0));
      put(1, near((p0 + q0 + q1 + q2 + 2) >> 2, q1));
      put(2, near((p0 + q0 + q1 + 3 * q2 + 2 * q3 + 4) >> 3, q2));
      continue;
    }
    int delta = (9 * (q0 - p0) - 3 * (q1 - p1) + 8) >> 4;
    if (std::abs(delta) >= 10 * tc) continue;
    delta = std::clamp(delta, -tc, tc);
    put(-1, p0 + delta), put(0, q0 - delta);
    if (more_p) put(-2, p1 + std::clamp((((p2 + p0 + 1) >> 1) - p1 + delta) >> 1, -(tc >> 1), tc >> 1));
    if (more_q) put(1, q1 + std::clamp((((q2 + q0 + 1) >> 1) - q1 - delta) >> 1, -(tc >> 1), tc >> 1));
  }
}

// |2 c - a - b| in four directions, of every other sample, summed over the 4x4 blocks of a row of them.
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

// out += (weight * (clip(a - c) + clip(b - c))) for a row of samples.
NCODEC_CLONES static void accumulate(const int16_t* c, const int16_t* a, const int16_t* b, const int16_t* weight, int n, int clip,
                                     int32_t* out) {
  const auto low = static_cast<int16_t>(-clip), high = static_cast<int16_t>(clip);
  for (int i = 0; i < n; ++i) {
    const auto u = std::min(std::max(static_cast<int16_t>(a[i] - c[i]), low), high);
    const auto v = std::min(std::max(static_cast<int16_t>(b[i] - c[i]), low), high);
    out[i] += static_cast<int16_t>(u + v) * weight[i];
  }
}

NCODEC_CLONES static void finish(const int16_t* c, const int32_t* sum, int n, int16_t* out) {
  for (int i = 0; i < n; ++i) out[i] = static_cast<int16_t>(std::clamp(c[i] + ((sum[i] + 64) >> 7), 0, SAMPLE_MAX));
}

}  // namespace kernels

// Pairs on opposite sides, one of each: (x, y). The first LUMA_PAIRS are the diamond of 7x7.
constexpr int LUMA_PAIRS = 12, CHROMA_PAIRS = 6, CROSS_PAIRS = 4;
constexpr int CHROMA_WEIGHTS = CHROMA_PAIRS + CROSS_PAIRS + 1;
constexpr int PAIRS[LUMA_PAIRS][2] = {{1, 0}, {0, 1}, {1, 1}, {-1, 1}, {2, 0}, {0, 2}, {2, 1}, {-2, 1}, {1, 2}, {-1, 2}, {3, 0}, {0, 3}};
// The pair that takes each one's place when x and y are swapped, and when x is mirrored.
constexpr uint8_t SWAPPED[LUMA_PAIRS] = {1, 0, 2, 3, 5, 4, 8, 9, 6, 7, 11, 10};
constexpr uint8_t MIRRORED[LUMA_PAIRS] = {0, 1, 3, 2, 4, 5, 7, 6, 9, 8, 10, 11};
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
  uint8_t number;                // activity * 5 + direction
  bool is_swapped, is_mirrored;
  uint8_t activity() const { return number / 5; }
};

// Classes of the 4x4 blocks of a plane, [height / 4, width / 4].
inline std::vector<BlockClass> classify(const Padded& luma, int width, int height, int step) {
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
        const int32_t* s = &sums[(static_cast<size_t>(std::clamp(y, 0, high - 1)) * wide + std::clamp(x, 0, wide - 1)) * 4];
        for (int k = 0; k < 4; ++k) g[k] += times * s[k];
      };
      add(j, i, 2), add(j - 1, i, 1), add(j + 1, i, 1), add(j, i - 1, 1), add(j, i + 1, 1);
      const int64_t hv_high = std::max(g[0], g[1]), hv_low = std::min(g[0], g[1]);
      const int64_t d_high = std::max(g[2], g[3]), d_low = std::min(g[2], g[3]);
      const bool is_diagonal = d_high * hv_low > hv_high * d_low;
      const int64_t strong = is_diagonal ? d_high : hv_high, weak = is_diagonal ? d_low : hv_low;
      int direction = 0;
      if (strong > 2 * weak) direction = (is_diagonal ? 1 : 3) + (2 * strong > 9 * weak);
      // Mean second difference against the quantisation step (of 1/16): 96 differences in a sum of two directions.
      const int64_t ratio = (g[0] + g[1]) * 16 / step;
      const int activity = ratio < 12 ? 0 : ratio < 28 ? 1 : ratio < 60 ? 2 : ratio < 130 ? 3 : 4;
      BlockClass& c = classes[static_cast<size_t>(j) * wide + i];
      c.number = static_cast<uint8_t>(activity * 5 + direction);
      c.is_swapped = g[1] > g[0];
      c.is_mirrored = g[3] > g[2];
    }
  return classes;
}

// A quality's thresholds and weights.
struct Filter {
  std::array<int, 3> beta, tc;
  int luma_clip, chroma_clip;
  std::array<std::array<int16_t, LUMA_PAIRS>, 25> luma;
  std::array<std::array<std::array<int16_t, CHROMA_WEIGHTS>, 5>, 2> chroma;  // [plane][activity]
  int luma_step;
};

inline Filter filter_of(const Parameters& parameters, int quality_code) {
  const int anchor = std::min(quality_code / QUALITY_STEPS, ANCHORS - 2), fraction = quality_code - anchor * QUALITY_STEPS;
  Filter f;
  for (int p = 0; p < 3; ++p) {
    const int step = exp2_of(between(parameters.log_step[anchor][p], parameters.log_step[anchor + 1][p], fraction) * 8);
    if (p == 0) f.luma_step = step;
    const auto strength = [&](int k) { return step * between(parameters.strength[anchor][k], parameters.strength[anchor + 1][k], fraction) >> 10; };
    f.beta[p] = strength(p > 0 ? 2 : 0), f.tc[p] = strength(p > 0 ? 3 : 1);  // strengths are of 1/64 step
    if (p == 0) f.luma_clip = std::clamp(strength(4), 1, SAMPLE_MAX);
    if (p == 1) f.chroma_clip = std::clamp(strength(5), 1, SAMPLE_MAX);
  }
  for (int c = 0; c < 25; ++c)
    for (int k = 0; k < LUMA_PAIRS; ++k)
      f.luma[c][k] = static_cast<int16_t>(between(parameters.luma_filter[anchor][c][k], parameters.luma_filter[anchor + 1][c][k], fraction));
  for (int p = 0; p < 2; ++p)
    for (int a = 0; a < 5; ++a)
      for (int k = 0; k < CHROMA_WEIGHTS; ++k)
        f.chroma[p][a][k] = static_cast<int16_t>(
            between(parameters.chroma_filter[anchor][p][a][k], parameters.chroma_filter[anchor + 1][p][a][k], fraction));
  return f;
}

// Both directions of a plane: edges on its grid of 8 samples that are borders of blocks.
inline void deblock(Tile& tile, int plane, const Filter& filter) {
  const Plane& p = tile.planes[plane];
  const int s = tile.syntax.geometry().shift(plane), beta = filter.beta[plane], tc = filter.tc[plane];
  if (!tc) return;
  // A 4-sample stretch at (x, y) of the plane lies on a border if a block of its size starts there.
  const auto starts = [&](int at, int x, int y) {
    const int log2 = std::max<int>(tile.syntax.unit(x << s, y << s).log2, plane ? 3 : 2);
    return ((at << s) & ((1 << log2) - 1)) == 0;
  };
  for (int y = 0; y < p.height; y += 4)
    for (int x = 8; x < p.width; x += 8)
      if (starts(x, x, y) ) kernels::deblock_edge(p.at(x, y), 1, p.stride, beta, tc);
  for (int y = 8; y < p.height; y += 8)
    for (int x = 0; x < p.width; x += 4)
      if (starts(y, x, y)) kernels::deblock_edge(p.at(x, y), p.stride, 1, beta, tc);
}

// Weighted sums of a row of blocks are made in the widest pieces that the flags of its squares allow.
class ClassFilter {
 public:
  ClassFilter(Tile& tile, const Filter& filter) : tile_(tile), filter_(filter), luma_(tile.planes[0]) {
    const Plane& p = tile.planes[0];
    classes_ = classify(luma_, p.width, p.height, filter.luma_step);
  }

  // All of luma into `out` (of the tile's size).
  void filter_luma(const Plane& out) const {
    const int width = out.width;
    std::vector<int16_t> weights(static_cast<size_t>(LUMA_PAIRS) * width);
    std::vector<int32_t> sums(width);
    for (int y = 0; y < out.height; y += 4) {
      for (int x = 0; x < width; x += 4) {
        const BlockClass& c = classes_[static_cast<size_t>(y / 4) * (width / 4) + x / 4];
        for (int k = 0; k < LUMA_PAIRS; ++k) {
          const int m = c.is_mirrored ? MIRRORED[k] : k;
          std::fill_n(weights.data() + static_cast<size_t>(k) * width + x, 4, filter_.luma[c.number][c.is_swapped ? SWAPPED[m] : m]);
        }
      }
      for (int row = y; row < y + 4; ++row) {
        std::fill(sums.begin(), sums.end(), 0);
        const int16_t* c = luma_.row(row);
        for (int k = 0; k < LUMA_PAIRS; ++k) {
          const int dx = PAIRS[k][0], dy = PAIRS[k][1];
          kernels::accumulate(c, luma_.row(row + dy) + dx, luma_.row(row - dy) - dx, weights.data() + static_cast<size_t>(k) * width, width,
                              filter_.luma_clip, sums.data());
        }
        kernels::finish(c, sums.data(), width, out.at(0, row));
      }
    }
  }

  // All of a chroma plane into `out`; `luma_now` is luma after its own filter and the flags.
  void filter_chroma(int plane, const Plane& luma_now, const Plane& out) const {
    const int s = tile_.syntax.geometry().chroma_shift, width = out.width, block = 4 >> s;
    const Padded chroma(tile_.planes[plane]);
    std::vector<int16_t> weights(static_cast<size_t>(CHROMA_WEIGHTS) * width), line(static_cast<size_t>(9) * width);
    std::vector<int32_t> sums(width);
    for (int y = 0; y < out.height; ++y) {
      if (y % block == 0)
        for (int x = 0; x < width; x += block) {
          const int a = classes_[static_cast<size_t>(y / block) * (luma_now.width / 4) + x / block].activity();
          for (int k = 0; k < CHROMA_WEIGHTS; ++k)
            std::fill_n(weights.data() + static_cast<size_t>(k) * width + x, block, filter_.chroma[plane - 1][a][k]);
        }
      std::fill(sums.begin(), sums.end(), 0);
      const int16_t* c = chroma.row(y);
      const auto weight = [&](int k) { return weights.data() + static_cast<size_t>(k) * width; };
      for (int k = 0; k < CHROMA_PAIRS; ++k) {
        const int dx = PAIRS[k][0], dy = PAIRS[k][1];
        kernels::accumulate(c, chroma.row(y + dy) + dx, chroma.row(y - dy) - dx, weight(k), width, filter_.chroma_clip, sums.data());
      }
      // Luma around the sample, and what its filter did there.
      const auto luma_line = [&](int number, int dx, int dy) -> const int16_t* {
        const int16_t* from = luma_.row((y << s) + dy) + dx;
        if (s == 0) return from;
        int16_t* to = line.data() + static_cast<size_t>(number) * width;
        for (int x = 0; x < width; ++x) to[x] = from[2 * x];
        return to;
      };
      const int16_t* centre = luma_line(0, 0, 0);
      for (int k = 0; k < CROSS_PAIRS; ++k) {
        const int dx = PAIRS[k][0], dy = PAIRS[k][1];
        kernels::accumulate(centre, luma_line(1 + 2 * k, dx, dy), luma_line(2 + 2 * k, -dx, -dy), weight(CHROMA_PAIRS + k), width,
                            filter_.luma_clip, sums.data());
      }
      const int16_t* last = weight(CHROMA_WEIGHTS - 1);
      for (int x = 0; x < width; ++x) sums[x] += (*luma_now.at(x << s, y << s) - centre[x]) * last[x];
      kernels::finish(c, sums.data(), width, out.at(0, y));
    }
  }

  const std::vector<BlockClass>& classes() const { return classes_; }
  const Padded& luma() const { return luma_; }

 private:
  Tile& tile_;
  const Filter& filter_;
  Padded luma_;
  std::vector<BlockClass> classes_;
};

// Flags of the squares: one for luma and one for both planes of chroma. `decide(plane, x, y)` gives the encoder's.
template <class Coder, class Decide>
void filter_tile(Coder& coder, Tile& tile, const Filter& filter, Decide decide) {
  const Geometry& g = tile.syntax.geometry();
  for (int p = 0; p < g.planes; ++p) deblock(tile, p, filter);
  const ClassFilter by_class(tile, filter);
  std::array<std::vector<int16_t>, 3> filtered;
  std::array<Plane, 3> out;
  const auto allocate = [&](int p) {
    out[p] = tile.planes[p];
    filtered[p].resize(static_cast<size_t>(out[p].stride) * out[p].height);
    out[p].samples = filtered[p].data();
  };
  const auto keep = [&](int p, int x, int y) {  // the filtered square becomes the tile's
    const int s = g.shift(p), right = std::min((x + SQUARE) >> s, out[p].width), below = std::min((y + SQUARE) >> s, out[p].height);
    for (int j = y >> s; j < below; ++j)
      std::memcpy(tile.planes[p].at(x >> s, j), out[p].at(x >> s, j), sizeof(int16_t) * (right - (x >> s)));
  };
  for (int first = 0; first < std::min(g.planes, 2); ++first) {  // luma, then both planes of chroma
    const int last = 2 * first;
    for (int p = first; p <= last; ++p) {
      allocate(p);
      if (p == 0) by_class.filter_luma(out[p]);
      if (p > 0) by_class.filter_chroma(p, tile.planes[0], out[p]);
    }
    for (int y = 0; y < g.height; y += SQUARE)
      for (int x = 0; x < g.width; x += SQUARE)
        if (coder.bit(decide(first, out, x, y), place::FILTERED + (first > 0)))
          for (int p = first; p <= last; ++p) keep(p, x, y);
  }
}

}  // namespace ncodec::dct
