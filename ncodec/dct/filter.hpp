// What follows the reconstruction of a whole tile (specs/dct.md section 7). Exact.
//
//   samples -> deblocking -> filter by class (after H.266 8.8.5, adaptive loop filter) -> samples
//
// The filter adds to each sample a weighted sum of clipped differences from its neighbours, taken in pairs on opposite
// sides. Luma's weights depend on the class of its 4x4 block. Chroma's see luma, and what luma's filter did. Weights,
// clipping and thresholds were learned; a square of 64x64 may go without.

#pragma once

#include "classes.hpp"
#include "deblock.hpp"

namespace ncodec::dct {

namespace kernels {

// D50, D52: out += weight * (clip(a - c) + clip(b - c)) for a row of samples.
NCODEC_CLONES static void accumulate(const int16_t* c, const int16_t* a, const int16_t* b, const int16_t* weight, int n,
                                     int clip, int32_t* out) {
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
constexpr int PAIRS[LUMA_PAIRS][2] = {{1, 0}, {0, 1},  {1, 1}, {-1, 1}, {2, 0}, {0, 2},
                                      {2, 1}, {-2, 1}, {1, 2}, {-1, 2}, {3, 0}, {0, 3}};
// The pair that takes each one's place when x and y are swapped, and when x is mirrored.
constexpr uint8_t SWAPPED[LUMA_PAIRS] = {1, 0, 2, 3, 5, 4, 8, 9, 6, 7, 11, 10};
constexpr uint8_t MIRRORED[LUMA_PAIRS] = {0, 1, 3, 2, 4, 5, 7, 6, 9, 8, 10, 11};

// A quality's thresholds and weights.
struct Filter {
  std::array<Deblockings, 3> deblocking;  // of each plane
  int luma_clip, chroma_clip;
  Array<int16_t, FILTER_CLASSES, LUMA_PAIRS> luma;
  Array<int16_t, 2, ACTIVITIES, CHROMA_WEIGHTS> chroma;  // [Cb, Cr][activity]
  std::array<int, 2 * MAX_OFFSET + 1> luma_steps;        // by offset
};

inline Filter filter_of(const Parameters& parameters, int quality_code) {
  const Interpolation at(quality_code);
  const auto step = [&](int plane, int half_offsets) {
    return exp2_of(log_step_of(parameters, at, plane) + OFFSET_UNIT / 2 * half_offsets);
  };
  const auto strength = [&](int plane, int k, int half_offsets = 0) {  // of 1/64 step
    return step(plane, half_offsets) * at(parameters.strength, [&](const auto& s) { return s[k]; }) >> 10;
  };
  Filter f;
  for (int o = -MAX_OFFSET; o <= MAX_OFFSET; ++o) f.luma_steps[o + MAX_OFFSET] = step(0, 2 * o);
  for (int p = 0; p < 3; ++p)
    for (int o = -2 * MAX_OFFSET; o <= 2 * MAX_OFFSET; ++o)
      f.deblocking[p][o + 2 * MAX_OFFSET] = {strength(p, p ? 2 : 0, o), strength(p, p ? 3 : 1, o)};
  f.luma_clip = std::clamp(strength(0, 4), 1, SAMPLE_MAX);
  f.chroma_clip = std::clamp(strength(1, 5), 1, SAMPLE_MAX);
  for (int c = 0; c < FILTER_CLASSES; ++c)
    for (int k = 0; k < LUMA_PAIRS; ++k)
      f.luma[c][k] = static_cast<int16_t>(at(parameters.luma_filter, [&](const auto& w) { return w[c][k]; }));
  for (int p = 0; p < 2; ++p)
    for (int a = 0; a < ACTIVITIES; ++a)
      for (int k = 0; k < CHROMA_WEIGHTS; ++k)
        f.chroma[p][a][k] =
            static_cast<int16_t>(at(parameters.chroma_filter, [&](const auto& w) { return w[p][a][k]; }));
  return f;
}

// Rows of weighted sums, all of a plane at a time: squares that go without are left as they were.
class ClassFilter {
 public:
  ClassFilter(const Tile& tile, const Filter& filter)
      : tile_(tile),
        filter_(filter),
        luma_(tile.planes[0]),
        classes_(classify(luma_, tile.planes[0].width, tile.planes[0].height, [&](int x, int y) {
          return filter.luma_steps[tile.syntax.unit(x, y).offset + MAX_OFFSET];
        })) {}

  // All of luma into `out`, of the plane's size (D50).
  void filter_luma(const Plane& out) const {
    const int width = out.width;
    Weights weights(LUMA_PAIRS, width);
    std::vector<int32_t> sums(width);
    for (int y = 0; y < out.height; y += 4) {
      for (int x = 0; x < width; x += 4) {
        const BlockClass& c = class_at(x, y);
        for (int k = 0; k < LUMA_PAIRS; ++k)
          std::fill_n(weights.row(k) + x, 4, filter_.luma[c.number][weight_of_pair(c, k)]);
      }
      for (int row = y; row < y + 4; ++row) {
        std::fill(sums.begin(), sums.end(), 0);
        const int16_t* centre = luma_.row(row);
        for (int k = 0; k < LUMA_PAIRS; ++k) {
          const auto [dx, dy] = PAIRS[k];
          kernels::accumulate(centre, luma_.row(row + dy) + dx, luma_.row(row - dy) - dx, weights.row(k), width,
                              filter_.luma_clip, sums.data());
        }
        kernels::finish(centre, sums.data(), width, out.at(0, row));
      }
    }
  }

  // All of a chroma plane into `out`; `luma_now` is luma after its own filter and the flags (D52).
  void filter_chroma(int plane, const Plane& luma_now, const Plane& out) const {
    const int s = tile_.syntax.geometry().chroma_shift, width = out.width, block = 4 >> s;
    const Padded chroma(tile_.planes[plane]);
    Weights weights(CHROMA_WEIGHTS, width);
    std::vector<int32_t> sums(width);
    for (int y = 0; y < out.height; ++y) {
      if (y % block == 0)
        for (int x = 0; x < width; x += block) {
          const auto& of_block = filter_.chroma[plane - 1][class_at(x << s, y << s).activity()];
          for (int k = 0; k < CHROMA_WEIGHTS; ++k) std::fill_n(weights.row(k) + x, block, of_block[k]);
        }
      std::fill(sums.begin(), sums.end(), 0);
      const int16_t* centre = chroma.row(y);
      for (int k = 0; k < CHROMA_PAIRS; ++k) {
        const auto [dx, dy] = PAIRS[k];
        kernels::accumulate(centre, chroma.row(y + dy) + dx, chroma.row(y - dy) - dx, weights.row(k), width,
                            filter_.chroma_clip, sums.data());
      }
      add_luma(weights, luma_now, y, width, sums);
      kernels::finish(centre, sums.data(), width, out.at(0, y));
    }
  }

  const BlockClass& class_at(int x, int y) const {
    return classes_[static_cast<size_t>(y / 4) * (tile_.planes[0].width / 4) + x / 4];
  }
  const Padded& luma() const { return luma_; }

  // Pairs come in the common orientation of the class (D50).
  static int weight_of_pair(const BlockClass& c, int pair) {
    const int mirrored = c.is_mirrored ? MIRRORED[pair] : pair;
    return c.is_swapped ? SWAPPED[mirrored] : mirrored;
  }

 private:
  // Of a row of samples, each weight's of all.
  class Weights {
   public:
    Weights(int count, int width) : width_(width), values_(static_cast<size_t>(count) * width) {}
    int16_t* row(int k) { return values_.data() + static_cast<size_t>(k) * width_; }

   private:
    int width_;
    std::vector<int16_t> values_;
  };

  // The part of luma in a row of chroma: pairs around the sample, and what luma's filter did there.
  void add_luma(Weights& weights, const Plane& luma_now, int y, int width, std::vector<int32_t>& sums) const {
    const int s = tile_.syntax.geometry().chroma_shift;
    std::vector<int16_t> lines(s ? static_cast<size_t>(1 + 2 * CROSS_PAIRS) * width : 0);
    const auto line = [&](int number, int dx, int dy) -> const int16_t* {
      const int16_t* from = luma_.row((y << s) + dy) + dx;
      if (s == 0) return from;
      int16_t* to = lines.data() + static_cast<size_t>(number) * width;
      for (int x = 0; x < width; ++x) to[x] = from[2 * x];
      return to;
    };
    const int16_t* centre = line(0, 0, 0);
    for (int k = 0; k < CROSS_PAIRS; ++k) {
      const auto [dx, dy] = PAIRS[k];
      kernels::accumulate(centre, line(1 + 2 * k, dx, dy), line(2 + 2 * k, -dx, -dy), weights.row(CHROMA_PAIRS + k),
                          width, filter_.luma_clip, sums.data());
    }
    const int16_t* last = weights.row(CHROMA_WEIGHTS - 1);
    for (int x = 0; x < width; ++x) sums[x] += (*luma_now.at(x << s, y << s) - centre[x]) * last[x];
  }

  const Tile& tile_;
  const Filter& filter_;
  Padded luma_;
  std::vector<BlockClass> classes_;
};

// The samples of a square of one plane, chroma's shift s.
inline void copy_square(const Plane& from, const Block& square, int s, const Plane& to) {
  const int left = square.x >> s, top = square.y >> s, side = SQUARE >> s;
  const int right = std::min(left + side, to.width), bottom = std::min(top + side, to.height);
  for (int y = top; y < bottom; ++y) std::memcpy(to.at(left, y), from.at(left, y), sizeof(int16_t) * (right - left));
}

inline void clear_square(const Block& square, const Plane& plane) {
  const int right = std::min(square.x + SQUARE, plane.width), bottom = std::min(square.y + SQUARE, plane.height);
  for (int y = square.y; y < bottom; ++y) std::fill(plane.at(square.x, y), plane.at(right, y), int16_t{0});
}

// Deblocks a tile and filters its squares, one flag for luma (D51) and one for both planes of chroma (D53). The encoder
// says of a square by `decide(first plane, last plane, filtered planes, square)` whether it is filtered.
template <class Coder, class Decide>
void filter_tile(Coder& coder, Tile& tile, const Filter& filter, Decide decide) {
  const Geometry& g = tile.syntax.geometry();
  for (int p = 0; p < g.planes; ++p) deblock(tile, p, filter.deblocking[p]);
  const ClassFilter by_class(tile, filter);
  const auto filter_planes = [&](int first, int last) {
    const Samples filtered(g, first, last);
    for (int p = first; p <= last; ++p)
      p == 0 ? by_class.filter_luma(filtered.planes[p]) : by_class.filter_chroma(p, tile.planes[0], filtered.planes[p]);
    for_each_square(g, [&](const Block& square) {
      if (!coder.bit(decide(first, last, filtered.planes, square), contexts::FILTERED(first > 0))) return;
      for (int p = first; p <= last; ++p) copy_square(filtered.planes[p], square, g.shift(p), tile.planes[p]);
    });
  };
  filter_planes(0, 0);
  if (g.has_chroma()) filter_planes(1, 2);
}

}  // namespace ncodec::dct
