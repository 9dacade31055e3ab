// The last filter of a whole tile (specs/dct.md section 13), whose weights the encoder solves and sends. Exact.
//
//   sample += weights x (rings of samples around it and, in the other planes, next to it; what the network added)

#pragma once

#include "network.hpp"

namespace ncodec::dct {

constexpr int RINGS = 4, RING_REACH = 3;
constexpr int WIENER_WEIGHTS = RINGS + 3;  // of the plane's own rings, the first of either other plane, the network
constexpr int WIENER_SHIFT = 7;            // weights are of 1/128
constexpr int MAX_WEIGHT_BITS = 8;
using WienerWeights = std::array<int16_t, WIENER_WEIGHTS>;

namespace kernels {

// D66: four samples around each of a row, less four times itself; `rows` are those from y - RING_REACH on.
template <int RING>
NCODEC_INLINE void ring(const int16_t* const* rows, int n, int16_t* out) {
  constexpr int reach = RING < 2 ? 1 : RING, across = RING == 1;  // diagonally
  const int16_t *c = rows[RING_REACH], *up = rows[RING_REACH - reach], *down = rows[RING_REACH + reach];
  const int16_t *left = across ? up : c, *right = across ? down : c;
  for (int x = 0; x < n; ++x)
    out[x] = static_cast<int16_t>(up[x + across] + down[x - across] + left[x - reach] + right[x + reach] - 4 * c[x]);
}

NCODEC_CLONES static void rings(const int16_t* const* rows, int n, int16_t* const* out) {
  ring<0>(rows, n, out[0]), ring<1>(rows, n, out[1]), ring<2>(rows, n, out[2]), ring<3>(rows, n, out[3]);
}

NCODEC_CLONES static void eightfold(const int16_t* in, int n, int16_t* out) {
  for (int x = 0; x < n; ++x) out[x] = static_cast<int16_t>(8 * std::clamp<int16_t>(in[x], -4095, 4095));
}

NCODEC_CLONES static void weigh(const int16_t* const* inputs, const int16_t* weights, int n, int largest,
                                int16_t* samples) {
  const int16_t *a = inputs[0], *b = inputs[1], *c = inputs[2], *d = inputs[3], *e = inputs[4], *f = inputs[5],
                *g = inputs[6];
  WienerWeights w;
  std::copy_n(weights, w.size(), w.begin());
  for (int x = 0; x < n; ++x) {
    const int sum = a[x] * w[0] + b[x] * w[1] + c[x] * w[2] + d[x] * w[3] + e[x] * w[4] + f[x] * w[5] + g[x] * w[6];
    samples[x] =
        static_cast<int16_t>(std::clamp(samples[x] + ((sum + (1 << (WIENER_SHIFT - 1))) >> WIENER_SHIFT), 0, largest));
  }
}

}  // namespace kernels

// What weights are of, row after row of a tile, of all planes. Rows that were taken may change.
class WienerInputs {
 public:
  // `added`: by the network, if there is one.
  WienerInputs(const Tile& tile, const Samples* added)
      : planes_(tile.planes),
        added_(added),
        geometry_(tile.syntax.geometry()),
        stride_(geometry_.width + 2 * RING_REACH),
        lines_(size_t{3} * LINES * stride_),
        values_(size_t{3} * OF_PLANE * geometry_.width),
        zeros_(geometry_.width) {}

  // Chroma of 4:2:0 and luma do not see each other.
  static bool has(const Geometry& g, bool has_network, int number) {
    return number < RINGS || (number == RINGS + 2 ? has_network : g.has_chroma() && !g.chroma_shift);
  }

  // The next row; from 0 on.
  void take(int y) {
    for (int p = 0; p < geometry_.planes; ++p) {
      const Plane& plane = planes_[p];
      if (y >= plane.height) continue;
      for (int row = y ? y + RING_REACH : 0; row <= std::min(y + RING_REACH, plane.height - 1); ++row)
        keep(plane, row, line(p, row));
      std::array<const int16_t*, 2 * RING_REACH + 1> rows;
      for (int i = -RING_REACH; i <= RING_REACH; ++i)
        rows[i + RING_REACH] = line(p, std::clamp(y + i, 0, plane.height - 1));
      std::array<int16_t*, RINGS> rings;
      for (int k = 0; k < RINGS; ++k) rings[k] = value(p, k);
      kernels::rings(rows.data(), plane.width, rings.data());
      if (added_) kernels::eightfold(added_->planes[p].at(0, y), plane.width, value(p, RINGS));
    }
  }

  // [WIENER_WEIGHTS][width] of the row, 0 where the tile has none.
  std::array<int16_t*, WIENER_WEIGHTS> of(int plane) {
    std::array<int16_t*, WIENER_WEIGHTS> out;
    for (int k = 0; k < WIENER_WEIGHTS; ++k)
      out[k] = !has(geometry_, added_, k) ? zeros_.data()
               : k < RINGS                ? value(plane, k)
               : k < RINGS + 2            ? value((plane + 1 + k - RINGS) % 3, 0)
                                          : value(plane, RINGS);
    return out;
  }

 private:
  static constexpr int LINES = 8, OF_PLANE = RINGS + 1;

  int16_t* line(int plane, int y) {
    return &lines_[static_cast<size_t>(plane * LINES + y % LINES) * stride_ + RING_REACH];
  }
  int16_t* value(int plane, int k) { return &values_[static_cast<size_t>(plane * OF_PLANE + k) * geometry_.width]; }

  // With its ends repeated.
  static void keep(const Plane& plane, int y, int16_t* to) {
    std::copy_n(plane.at(0, y), plane.width, to);
    std::fill_n(to - RING_REACH, RING_REACH, to[0]);
    std::fill_n(to + plane.width, RING_REACH, to[plane.width - 1]);
  }

  const std::array<Plane, 3>& planes_;
  const Samples* added_;
  Geometry geometry_;
  int stride_;
  std::vector<int16_t> lines_, values_, zeros_;
};

// D65.
template <class Coder>
int code_wiener_weight(Coder& coder, int number, int wanted) {
  const int magnitude = std::abs(wanted);
  int bits = 0, decoded = 1;
  while (bits < MAX_WEIGHT_BITS && coder.bit(magnitude >> bits != 0, contexts::WIENER_WEIGHT(number, bits))) ++bits;
  if (bits == 0) return 0;
  const bool is_negative = coder.bypass(wanted < 0);
  for (int i = bits - 2; i >= 0; --i) decoded = 2 * decoded + static_cast<int>(coder.bypass(magnitude >> i & 1));
  return is_negative ? -decoded : decoded;
}

// Filters the planes, whose samples are at most `largest`. The encoder says by `solve(plane)` with what weights; if all
// are 0 a plane stays as it is.
template <class Coder, class Solve>
void wiener_tile(Coder& coder, Tile& tile, const Samples* added, int largest, Solve solve) {
  const Geometry& g = tile.syntax.geometry();
  std::array<WienerWeights, 3> weights = {};
  for (int p = 0; p < g.planes; ++p) {
    const WienerWeights wanted = solve(p);
    if (!coder.bit(wanted != WienerWeights{}, contexts::WIENER(p))) continue;
    for (int k = 0; k < WIENER_WEIGHTS; ++k)
      if (WienerInputs::has(g, added, k)) weights[p][k] = static_cast<int16_t>(code_wiener_weight(coder, k, wanted[k]));
  }
  if (weights == std::array<WienerWeights, 3>{}) return;
  WienerInputs inputs(tile, added);
  for (int y = 0; y < g.height; ++y) {
    inputs.take(y);
    for (int p = 0; p < g.planes; ++p)
      if (const Plane& plane = tile.planes[p]; weights[p] != WienerWeights{} && y < plane.height)
        kernels::weigh(inputs.of(p).data(), weights[p].data(), plane.width, largest, plane.at(0, y));
  }
}

}  // namespace ncodec::dct
