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

// What weights are of, in the rows of a tile.
class WienerInputs {
 public:
  // The tile may change afterwards. `added`: by the network, if there is one.
  WienerInputs(const Tile& tile, const Samples* added)
      : geometry_(tile.syntax.geometry()),
        planes_(tile.planes.begin(), tile.planes.begin() + geometry_.planes),
        added_(added),
        values_(size_t{WIENER_WEIGHTS} * geometry_.width) {
    for (int k = 0; k < WIENER_WEIGHTS; ++k) inputs_[k] = values_.data() + static_cast<size_t>(k) * geometry_.width;
  }

  // Chroma of 4:2:0 and luma do not see each other.
  static bool has(const Geometry& g, bool has_network, int number) {
    return number < RINGS || (number == WIENER_WEIGHTS - 1 ? has_network : g.has_chroma() && !g.chroma_shift);
  }
  bool has(int number) const { return has(geometry_, added_, number); }

  // [WIENER_WEIGHTS][width], 0 where the tile has none.
  int16_t* const* row(int plane, int y) {
    const int width = geometry_.width >> geometry_.shift(plane);
    kernels::rings(rows(plane, y).data(), width, inputs_.data());
    for (int k = RINGS; k < WIENER_WEIGHTS - 1 && has(k); ++k)
      kernels::first_ring(rows((plane + 1 + k - RINGS) % 3, y).data(), width, inputs_[k]);
    if (added_) kernels::eightfold(added_->planes[plane].at(0, y), width, inputs_.back());
    return inputs_.data();
  }
  const int16_t* samples(int plane, int y) const { return planes_[plane].row(y); }

 private:
  std::array<const int16_t*, 2 * RING_REACH + 1> rows(int plane, int y) const {
    std::array<const int16_t*, 2 * RING_REACH + 1> found;
    for (int i = 0; i <= 2 * RING_REACH; ++i) found[i] = planes_[plane].row(y - RING_REACH + i);
    return found;
  }

  Geometry geometry_;
  std::vector<Padded> planes_;
  const Samples* added_;
  std::vector<int16_t> values_;
  std::array<int16_t*, WIENER_WEIGHTS> inputs_;
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
  for (int p = 0; p < g.planes; ++p) {
    const Plane& plane = tile.planes[p];
    for (int y = 0; weights[p] != WienerWeights{} && y < plane.height; ++y)
      kernels::weigh(inputs.row(p, y), weights[p].data(), plane.width, largest, plane.at(0, y));
  }
}

}  // namespace ncodec::dct
