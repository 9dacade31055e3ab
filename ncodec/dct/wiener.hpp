// The last filter of a whole tile (specs/dct.md section 13), whose weights the encoder solves and sends. Exact.
//
//   sample += weights x (rings of samples around it, those next to it in the other planes), all less the middle

#pragma once

#include "classes.hpp"
#include "contexts.hpp"
#include "tile.hpp"

namespace ncodec::dct {

constexpr int RINGS = 4, RING_REACH = 3;
constexpr int WIENER_WEIGHTS = RINGS + 2;  // of the plane's own rings and the first of either other plane
constexpr int MAX_WEIGHT_BITS = 8;
constexpr int WIENER_SHIFT = 7;  // weights are of 1/128
using WienerWeights = std::array<int16_t, WIENER_WEIGHTS>;

namespace kernels {

// D91: four samples around each of a row, less four times itself; `rows` are those from y - RING_REACH on.
template <int RING>
NCODEC_INLINE void ring(const int16_t* const* rows, int n, int16_t* out) {
  constexpr int reach = RING < 2 ? 1 : RING, across = RING == 1;  // diagonally
  const int16_t *c = rows[RING_REACH], *up = rows[RING_REACH - reach], *down = rows[RING_REACH + reach];
  const int16_t *left = across ? up : c, *right = across ? down : c;
  for (int x = 0; x < n; ++x)
    out[x] = static_cast<int16_t>(up[x + across] + down[x - across] + left[x - reach] + right[x + reach] - 4 * c[x]);
}

NCODEC_CLONES static void first_ring(const int16_t* const* rows, int n, int16_t* out) { ring<0>(rows, n, out); }
NCODEC_CLONES static void rings(const int16_t* const* rows, int n, int16_t* const* out) {
  ring<0>(rows, n, out[0]), ring<1>(rows, n, out[1]), ring<2>(rows, n, out[2]), ring<3>(rows, n, out[3]);
}

NCODEC_CLONES static void weigh(const int16_t* const* rings, const int16_t* weights, int n, int largest,
                                int16_t* samples) {
  const int16_t *a = rings[0], *b = rings[1], *c = rings[2], *d = rings[3], *e = rings[4], *f = rings[5];
  const WienerWeights w = {weights[0], weights[1], weights[2], weights[3], weights[4], weights[5]};
  for (int x = 0; x < n; ++x) {
    const int sum = a[x] * w[0] + b[x] * w[1] + c[x] * w[2] + d[x] * w[3] + e[x] * w[4] + f[x] * w[5];
    samples[x] =
        static_cast<int16_t>(std::clamp(samples[x] + ((sum + (1 << (WIENER_SHIFT - 1))) >> WIENER_SHIFT), 0, largest));
  }
}

}  // namespace kernels

// The rings around the samples of a row of a plane.
class RowOfRings {
 public:
  // `planes`: the tile's as they were; chroma of 4:2:0 and luma do not see each other.
  RowOfRings(const std::vector<Padded>& planes, int plane, int width, bool sees_others)
      : planes_(planes),
        plane_(plane),
        width_(width),
        sees_others_(sees_others),
        values_(size_t{WIENER_WEIGHTS} * width) {
    for (int k = 0; k < WIENER_WEIGHTS; ++k) rings_[k] = values_.data() + static_cast<size_t>(k) * width;
  }

  void take(int y) {
    const auto rows = [&](int plane) {
      std::array<const int16_t*, 2 * RING_REACH + 1> found;
      for (int i = 0; i <= 2 * RING_REACH; ++i) found[i] = planes_[plane].row(y - RING_REACH + i);
      return found;
    };
    kernels::rings(rows(plane_).data(), width_, rings_.data());
    for (int k = 1; sees_others_ && k < 3; ++k)
      kernels::first_ring(rows((plane_ + k) % 3).data(), width_, rings_[RINGS - 1 + k]);
  }

  int16_t* const* rings() const { return rings_.data(); }

 private:
  const std::vector<Padded>& planes_;
  int plane_, width_;
  bool sees_others_;
  std::vector<int16_t> values_;
  std::array<int16_t*, WIENER_WEIGHTS> rings_;
};

// D90.
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

inline bool sees_others(const Geometry& g) { return g.has_chroma() && !g.chroma_shift; }

// The weights of a plane; all 0: it stays as it is.
template <class Coder>
WienerWeights code_wiener_weights(Coder& coder, const Geometry& g, int plane, const WienerWeights& wanted) {
  WienerWeights out = {};
  if (!coder.bit(wanted != WienerWeights{}, contexts::WIENER(plane))) return out;
  for (int k = 0; k < (sees_others(g) ? WIENER_WEIGHTS : RINGS); ++k)
    out[k] = static_cast<int16_t>(code_wiener_weight(coder, k, wanted[k]));
  return out;
}

inline std::vector<Padded> padded(const Tile& tile) {
  const Geometry& g = tile.syntax.geometry();
  return {tile.planes.begin(), tile.planes.begin() + g.planes};
}

// Filters the planes, whose samples are at most `largest`. The encoder says by `solve(plane)` with what weights.
template <class Coder, class Solve>
void wiener_tile(Coder& coder, Tile& tile, int largest, Solve solve) {
  const Geometry& g = tile.syntax.geometry();
  std::array<WienerWeights, 3> weights = {};
  for (int p = 0; p < g.planes; ++p) weights[p] = code_wiener_weights(coder, g, p, solve(p));
  if (weights == std::array<WienerWeights, 3>{}) return;
  const std::vector<Padded> planes = padded(tile);
  for (int p = 0; p < g.planes; ++p) {
    const Plane& plane = tile.planes[p];
    RowOfRings row(planes, p, plane.width, sees_others(g));
    for (int y = 0; weights[p] != WienerWeights{} && y < plane.height; ++y) {
      row.take(y);
      kernels::weigh(row.rings(), weights[p].data(), plane.width, largest, plane.at(0, y));
    }
  }
}

}  // namespace ncodec::dct
