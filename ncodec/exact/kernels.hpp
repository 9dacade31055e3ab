// The arithmetic of specs/exact.md on a block: n pixels of a row, [n, C]. In plain C++, which is the variant that
// the others have to equal; the loops of `values` serve all of them, compiled for each.

#pragma once

#include <iterator>
#include <numeric>

#include "graph.hpp"

#if defined(__GNUC__)
#define NCODEC_INLINE __attribute__((always_inline)) inline
#else
#define NCODEC_INLINE inline
#endif

namespace ncodec::exact {

constexpr int NO_SLOPE = -1;

// A matrix that pixels are multiplied with: start[o] + sum over c of W[o, c] x[c], W packed as Operation::weights are.
// From one pixel to the next there are x_step values, and y_step results. x has an even number of channels, 2 * pairs.
struct Product {
  const int16_t* weights;
  const int32_t *start, *shift;
  size_t pairs, outputs, x_step, y_step;
  int slope;
};

inline Product product_of(const Operation& op, int slope) {
  const size_t outputs = static_cast<size_t>(op.channels), inputs = 2 * op.pairs();
  return {op.weights.get(), op.start.get(), op.shift.get(), op.pairs(), outputs, inputs, outputs, slope};
}

struct Kernels {
  const char* name;
  // X1, then X14 with `slope` if there is one, of n pixels.
  void (*conv)(const Product& w, const int16_t* x, size_t n, int16_t* y);
  // The sums themselves; a whole number of panels.
  void (*scores)(const Product& w, const int16_t* x, size_t n, int32_t* y);
  // p of X23 of a query, from its scores; `padded`, a multiple of 32, of them are there, and those from t are s[0].
  void (*softmax)(const int32_t* s, size_t t, size_t padded, int shift, int16_t* p);
  // X2: `taps` [k, n + k - 1] are the pixels of x' (each [C]) around the block.
  void (*depthwise)(const Operation& op, const int16_t* const* taps, size_t n, int16_t* y);
  // X9 … X18, X20 and X22 for the block that begins at (row, column): `in` are tensors [n, C], then vectors [C].
  void (*values)(const Operation& op, const int16_t* const* in, size_t row, size_t column, size_t n, int16_t* out);
  // d of X27, of x [k, k, GROUP] and in its place; `other` is as large.
  void (*modulate)(const int16_t* weights, size_t k, int bits, int16_t* x, int16_t* other);
};

NCODEC_INLINE int16_t sat(int32_t a) { return static_cast<int16_t>(std::min(std::max(a, -LARGEST), LARGEST)); }
// Also of a negative x: max(x, round(x * a, 15)), as a < 2^15.
NCODEC_INLINE int16_t leaky(int16_t x, int slope) {
  return std::max(x, static_cast<int16_t>((x * slope + (1 << 14)) >> 15));
}

// Two channels of a pixel.
NCODEC_INLINE int32_t load_pair(const int16_t* x) {
  int32_t pair;
  std::memcpy(&pair, x, sizeof pair);
  return pair;
}

// The panel from output o, from its sums.
inline void store_plain(const Product& w, const int32_t* sum, size_t o, int16_t* y) {
  for (size_t k = 0; k < std::min(PANEL, w.outputs - o); ++k) {
    y[o + k] = sat(sum[k] >> w.shift[o + k]);
    if (w.slope != NO_SLOPE) y[o + k] = leaky(y[o + k], w.slope);
  }
}

inline void store_plain(const Product&, const int32_t* sum, size_t o, int32_t* y) { std::copy_n(sum, PANEL, y + o); }

template <class T>
void product_plain(const Product& w, const int16_t* x, size_t n, T* y) {
  for (size_t i = 0; i < n; ++i, x += w.x_step, y += w.y_step) {
    for (size_t o = 0; o < w.outputs; o += PANEL) {
      const int16_t* weights = w.weights + o * w.pairs * 2;
      int32_t sum[PANEL];
      std::copy_n(w.start + o, PANEL, sum);
      for (size_t c = 0; c < 2 * w.pairs; c += 2, weights += 2 * PANEL) {
        const int32_t even = x[c], odd = x[c + 1];
        for (size_t k = 0; k < PANEL; ++k) sum[k] += weights[2 * k] * even + weights[2 * k + 1] * odd;
      }
      store_plain(w, sum, o, y);
    }
  }
}

// EXP[d] of X23, d = 0 … 1023, and what it is made of: 65534 * 2^(-f / 64), rounded down, f = 0 … 63. As shifts and
// integers added commute with rounding down, EXP[d] = (fine[d % 64] + 2^k) >> (k + 1), k = d / 64.
struct Exponentials {
  alignas(64) uint16_t fine[64];
  int32_t exp[1024];
  Exponentials() {
    for (int f = 0; f < 64; ++f) fine[f] = static_cast<uint16_t>(65534 * std::exp2(-f / 64.0));
    for (int d = 0; d < 1023; ++d) exp[d] = (fine[d % 64] + (1 << d / 64)) >> (d / 64 + 1);
    exp[1023] = 0;
  }
};
inline const Exponentials EXPONENTIALS;

// R of X23, of the weights w of a query and their sum: w[0] is in it once more for each key that is not there.
inline uint32_t inverse_of(const int16_t* w, size_t t, size_t padded, uint32_t sum) {
  return (uint32_t{1} << 31) / (sum - static_cast<uint32_t>(padded - t) * static_cast<uint32_t>(w[0]));
}

inline void softmax_plain(const int32_t* s, size_t t, size_t padded, int shift, int16_t* p) {
  const auto most = static_cast<uint32_t>(*std::max_element(s, s + padded));
  uint32_t sum = 0;
  for (size_t j = 0; j < padded; ++j) {
    const int32_t w = EXPONENTIALS.exp[std::min((most - static_cast<uint32_t>(s[j])) >> shift, 1023u)];
    p[j] = static_cast<int16_t>(w);
    sum += static_cast<uint32_t>(w);
  }
  const uint32_t inverse = inverse_of(p, t, padded, sum);
  for (size_t j = 0; j < padded; ++j) p[j] = static_cast<int16_t>(static_cast<uint16_t>(p[j]) * inverse >> 16);
}

// The 32-bit lanes of a vector.
template <size_t N>
struct Lanes {
  int32_t lane[N];
  explicit Lanes(const void* vector) { std::memcpy(lane, vector, sizeof lane); }
  int32_t most() const { return *std::max_element(std::begin(lane), std::end(lane)); }
  uint32_t sum() const { return static_cast<uint32_t>(std::accumulate(std::begin(lane), std::end(lane), 0)); }
};

// X22 of one place.
NCODEC_INLINE void norm(const int16_t* x, size_t channels, int bits, int16_t* y) {
  uint64_t square = 0;
  for (size_t c = 0; c < channels; ++c) square += static_cast<uint32_t>(x[c] * x[c]);
  const uint64_t m = std::max<uint64_t>(1, square_root((square << 16) / channels));
  int top = 14;  // 2^top / m < 2^15 <= 2^(top + 1) / m: 2^(top - 15) < m
  while (m > uint64_t{1} << (top - 14)) ++top;
  const int s = std::max(0, top - bits - 8);
  const auto factor = static_cast<int32_t>(std::min<uint64_t>(LARGEST, (uint64_t{1} << (bits + 8 + s)) / m));
  const int32_t half = (1 << s) >> 1;
  for (size_t c = 0; c < channels; ++c) y[c] = sat((x[c] * factor + half) >> s);
}

// D and D' of X27, k x k from [0].
struct Cosines {
  int16_t forward[256], back[256];
  explicit Cosines(int k) {
    const double step = std::acos(-1.0) / (2 * k);
    for (int f = 0; f < k; ++f)
      for (int t = 0; t < k; ++t) {
        const double entry = 8192 * std::sqrt((f ? 2.0 : 1.0) / k) * std::cos(step * (2 * t + 1) * f);
        forward[f * k + t] = back[t * k + f] = static_cast<int16_t>(std::floor(entry + 0.5));
      }
  }
};
inline const Cosines COSINES[3] = {Cosines(4), Cosines(8), Cosines(16)};

// y[f] = sat(round(sum over t of D[f, t] x[t], bits)), f, t < k; they are `step` values apart, GROUP channels each.
// |x| * sum |D[f, t]| <= 2^15 * 2^15, for D (D') has rows of norm 2^13 and at most 16 columns.
NCODEC_INLINE void mix(const int16_t* matrix, size_t k, int bits, const int16_t* x, size_t step, int16_t* y) {
  for (size_t f = 0; f < k; ++f, matrix += k) {
    int32_t sum[GROUP];
    for (size_t c = 0; c < GROUP; ++c) sum[c] = 1 << (bits - 1);
    for (size_t t = 0; t < k; ++t)
      for (size_t c = 0; c < GROUP; ++c) sum[c] += matrix[t] * x[t * step + c];
    for (size_t c = 0; c < GROUP; ++c) y[f * step + c] = sat(sum[c] >> bits);
  }
}

// Both ways of a transform: down the rows into y, then along the columns into x.
NCODEC_INLINE void mix_both(const int16_t* matrix, size_t k, int bits, int16_t* x, int16_t* y) {
  for (size_t j = 0; j < k; ++j) mix(matrix, k, bits, x + j * GROUP, k * GROUP, y + j * GROUP);
  for (size_t i = 0; i < k; ++i) mix(matrix, k, bits, y + i * k * GROUP, GROUP, x + i * k * GROUP);
}

NCODEC_INLINE void modulate(const int16_t* weights, size_t k, int bits, int16_t* __restrict x,
                            int16_t* __restrict other) {
  const Cosines& cosines = COSINES[k / 8];
  mix_both(cosines.forward, k, 15, x, other);
  for (size_t i = 0; i < k * k * GROUP; ++i) x[i] = sat((x[i] * weights[i] + ((1 << bits) >> 1)) >> bits);
  mix_both(cosines.back, k, 11, x, other);
}

inline void modulate_plain(const int16_t* weights, size_t k, int bits, int16_t* x, int16_t* other) {
  modulate(weights, k, bits, x, other);
}

// Channels `first` … C - 1.
NCODEC_INLINE void depthwise_from(size_t first, const Operation& op, const int16_t* const* taps, size_t n, int16_t* y) {
  const size_t channels = static_cast<size_t>(op.channels), side = static_cast<size_t>(op.side);
  for (size_t i = 0; i < n; ++i, y += channels)
    for (size_t c = first; c < channels; c += PANEL) {
      const size_t some = std::min(PANEL, channels - c);
      int32_t sum[PANEL];
      std::copy_n(op.start.get() + c, some, sum);
      for (size_t u = 0; u < side; ++u)
        for (size_t v = 0; v < side; ++v) {
          const int16_t* w = op.weights.get() + (u * side + v) * channels + c;
          const int16_t* x = taps[u * (n + side - 1) + i + v] + c;
          for (size_t k = 0; k < some; ++k) sum[k] += w[k] * x[k];
        }
      for (size_t k = 0; k < some; ++k) y[c + k] = sat(sum[k] >> op.shift[c + k]);
    }
}

inline void depthwise_plain(const Operation& op, const int16_t* const* taps, size_t n, int16_t* y) {
  depthwise_from(0, op, taps, n, y);
}

NCODEC_INLINE void values(const Operation& op, const int16_t* const* in, size_t row, size_t column, size_t n,
                          int16_t* __restrict out) {
  const size_t channels = static_cast<size_t>(op.channels), size = n * channels;
  const int16_t *x = in[0], *y = in[1], *z = in[2];
  const int first = op.numbers.empty() ? 0 : op.numbers[0];
  switch (op.kind) {
    case Kind::add:
      for (size_t i = 0; i < size; ++i) out[i] = sat(x[i] + y[i]);
      break;
    case Kind::subtract:
      for (size_t i = 0; i < size; ++i) out[i] = sat(x[i] - y[i]);
      break;
    case Kind::offset:
      for (size_t i = 0; i < size; i += channels)
        for (size_t c = 0; c < channels; ++c) out[i + c] = sat(x[i + c] + y[c]);
      break;
    case Kind::scale:  // |x * m| + 2^29 < 2^31
      for (size_t i = 0; i < size; i += channels)
        for (size_t c = 0; c < channels; ++c) out[i + c] = sat((x[i + c] * y[c] + ((1 << z[c]) >> 1)) >> z[c]);
      break;
    case Kind::shift:
      for (size_t i = 0; i < size; ++i) out[i] = static_cast<int16_t>((x[i] + ((1 << first) >> 1)) >> first);
      break;
    case Kind::leaky:
      for (size_t i = 0; i < size; ++i) out[i] = leaky(x[i], first);
      break;
    case Kind::clamp: {
      const int16_t low = static_cast<int16_t>(first), high = static_cast<int16_t>(op.numbers[1]);
      for (size_t i = 0; i < size; ++i) out[i] = std::min(std::max(x[i], low), high);
      break;
    }
    case Kind::table:
      for (size_t i = 0; i < size; ++i) out[i] = op.weights[static_cast<size_t>(x[i] + 32768)];
      break;
    case Kind::gate: {
      const int16_t least = static_cast<int16_t>(first);
      for (size_t i = 0; i < size; ++i) out[i] = y[i] >= least ? x[i] : int16_t{0};
      break;
    }
    case Kind::merge:
      for (size_t i = 0; i < n; ++i) {
        constexpr size_t PLACES[2][2] = {{0, 2}, {3, 1}};
        const int16_t* from_y = op.weights.get() + PLACES[row % 2][(column + i) % 2];
        for (size_t c = 0, k = i * channels; c < channels; ++c, ++k)
          out[k] = static_cast<int16_t>(x[k] ^ ((x[k] ^ y[k]) & from_y[c]));
      }
      break;
    case Kind::embed:
      for (size_t i = 0; i < n; ++i) {
        const size_t place = std::min(static_cast<size_t>(std::max<int16_t>(x[i], 0)), op.rows - 1);
        std::memcpy(out + i * channels, op.weights.get() + place * channels, channels * sizeof(int16_t));
      }
      break;
    case Kind::norm:
      for (size_t i = 0; i < size; i += channels) norm(x + i, channels, first, out + i);
      break;
    default: break;
  }
}

inline void values_plain(const Operation& op, const int16_t* const* in, size_t row, size_t column, size_t n,
                         int16_t* out) {
  values(op, in, row, column, n, out);
}

}  // namespace ncodec::exact
