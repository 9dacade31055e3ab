// Deblocking of a whole tile (specs/dct.md section 7, after H.265 8.7.2). Exact.

#pragma once

#include "tile.hpp"

namespace ncodec::dct {

// Thresholds as in H.265.
struct Deblocking {
  int beta, tc;
};

// Four lines of samples across an edge: sample 0 is the first of q, the block to the right or below, -1 that of p.
class Edge {
 public:
  Edge(int16_t* q, ptrdiff_t across, ptrdiff_t along) : q_(q), across_(across), along_(along) {}

  // D46.
  void filter(const Deblocking& by) const {
    const int dp0 = curve_p(0), dp3 = curve_p(3), dq0 = curve_q(0), dq3 = curve_q(3);
    if (dp0 + dp3 + dq0 + dq3 >= by.beta) return;
    if (is_flat(0, dp0 + dq0, by) && is_flat(3, dp3 + dq3, by)) {
      for (int line = 0; line < 4; ++line) filter_strongly(line, by.tc);
    } else {
      const int side = (by.beta + (by.beta >> 1)) >> 3;
      for (int line = 0; line < 4; ++line) filter_weakly(line, by.tc, dp0 + dp3 < side, dq0 + dq3 < side);
    }
  }

 private:
  int at(int line, int i) const { return q_[line * along_ + i * across_]; }
  void put(int line, int i, int v) const {
    q_[line * along_ + i * across_] = static_cast<int16_t>(std::clamp(v, 0, SAMPLE_MAX));
  }

  int curve_p(int line) const { return std::abs(at(line, -3) - 2 * at(line, -2) + at(line, -1)); }
  int curve_q(int line) const { return std::abs(at(line, 2) - 2 * at(line, 1) + at(line, 0)); }
  bool is_flat(int line, int curve, const Deblocking& by) const {
    return 2 * curve < by.beta >> 2 &&
           std::abs(at(line, -4) - at(line, -1)) + std::abs(at(line, 0) - at(line, 3)) < by.beta >> 3 &&
           std::abs(at(line, -1) - at(line, 0)) < (5 * by.tc + 1) >> 1;
  }

  // D47.
  void filter_strongly(int line, int tc) const {
    const int p3 = at(line, -4), p2 = at(line, -3), p1 = at(line, -2), p0 = at(line, -1);
    const int q0 = at(line, 0), q1 = at(line, 1), q2 = at(line, 2), q3 = at(line, 3);
    const auto near = [&](int v, int old) { return std::clamp(v, old - 2 * tc, old + 2 * tc); };
    put(line, -1, near((p2 + 2 * p1 + 2 * p0 + 2 * q0 + q1 + 4) >> 3, p0));
    put(line, -2, near((p2 + p1 + p0 + q0 + 2) >> 2, p1));
    put(line, -3, near((2 * p3 + 3 * p2 + p1 + p0 + q0 + 4) >> 3, p2));
    put(line, 0, near((p1 + 2 * p0 + 2 * q0 + 2 * q1 + q2 + 4) >> 3, q0));
    put(line, 1, near((p0 + q0 + q1 + q2 + 2) >> 2, q1));
    put(line, 2, near((p0 + q0 + q1 + 3 * q2 + 2 * q3 + 4) >> 3, q2));
  }

  // D48.
  void filter_weakly(int line, int tc, bool more_p, bool more_q) const {
    const int p2 = at(line, -3), p1 = at(line, -2), p0 = at(line, -1), q0 = at(line, 0), q1 = at(line, 1),
              q2 = at(line, 2);
    const int full = (9 * (q0 - p0) - 3 * (q1 - p1) + 8) >> 4;
    if (std::abs(full) >= 10 * tc) return;
    const int delta = std::clamp(full, -tc, tc), half = tc >> 1;
    put(line, -1, p0 + delta);
    put(line, 0, q0 - delta);
    if (more_p) put(line, -2, p1 + std::clamp((((p2 + p0 + 1) >> 1) - p1 + delta) >> 1, -half, half));
    if (more_q) put(line, 1, q1 + std::clamp((((q2 + q0 + 1) >> 1) - q1 - delta) >> 1, -half, half));
  }

  int16_t* q_;
  ptrdiff_t across_, along_;
};

// A plane's thresholds by the sum of the offsets on either side of an edge; none are filtered that have tc = 0.
using Deblockings = std::array<Deblocking, 4 * MAX_OFFSET + 1>;

// Vertical edges, then horizontal ones: those on a grid of 8 samples of the plane that are borders of blocks.
inline void deblock(Tile& tile, int plane, const Deblockings& by) {
  const Plane& p = tile.planes[plane];
  const int s = tile.syntax.geometry().shift(plane);
  const uint8_t left = plane ? LEFT_OF_CHROMA : LEFT_OF_LUMA, top = plane ? TOP_OF_CHROMA : TOP_OF_LUMA;
  const auto is_at = [&](uint8_t edge, int x, int y) { return tile.syntax.unit(x << s, y << s).edges & edge; };
  const auto filter = [&](const Edge& edge, int x, int y, int beside_x, int beside_y) {
    const auto offset = [&](int cx, int cy) { return tile.syntax.unit(cx << s, cy << s).offset; };
    const Deblocking& here = by[offset(x, y) + offset(beside_x, beside_y) + 2 * MAX_OFFSET];
    if (here.tc) edge.filter(here);
  };
  for (int y = 0; y < p.height; y += 4)
    for (int x = 8; x < p.width; x += 8)
      if (is_at(left, x, y)) filter(Edge(p.at(x, y), 1, p.stride), x, y, x - 1, y);
  for (int y = 8; y < p.height; y += 8)
    for (int x = 0; x < p.width; x += 4)
      if (is_at(top, x, y)) filter(Edge(p.at(x, y), p.stride, 1), x, y, x, y - 1);
}

}  // namespace ncodec::dct
