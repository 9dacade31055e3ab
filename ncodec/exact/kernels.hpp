// The arithmetic of specs/exact.md on a block: n pixels of a row, [n, C]. In plain C++, which is the variant that
// the others have to equal; the loops of `values` serve all of them, compiled for each.

#pragma once

#include "graph.hpp"

#if defined(__GNUC__)
#define NCODEC_INLINE __attribute__((always_inline)) inline
#else
#define NCODEC_INLINE inline
#endif

namespace ncodec::exact {

constexpr int NO_SLOPE = -1;

struct Kernels {
  const char* name;
  // X1, then X14 with `slope` if there is one. x is [n, C], with a channel of zeros if C is odd.
  void (*conv)(const Operation& op, const int16_t* x, size_t n, int slope, int16_t* y);
  // X2: `taps` [k, n + k - 1] are the pixels of x' (each [C]) around the block.
  void (*depthwise)(const Operation& op, const int16_t* const* taps, size_t n, int16_t* y);
  // X9 … X18 for the block that begins at (row, column): `in` are tensors [n, C], then vectors [C].
  void (*values)(const Operation& op, const int16_t* const* in, size_t row, size_t column, size_t n, int16_t* out);
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

inline void conv_plain(const Operation& op, const int16_t* x, size_t n, int slope, int16_t* y) {
  const size_t pairs = op.pairs(), inputs = 2 * pairs, outputs = static_cast<size_t>(op.channels);
  for (size_t i = 0; i < n; ++i, x += inputs, y += outputs) {
    for (size_t o = 0; o < outputs; o += PANEL) {
      const int16_t* w = op.weights.get() + o * pairs * 2;
      int32_t sum[PANEL];
      std::copy_n(op.start.get() + o, PANEL, sum);
      for (size_t c = 0; c < inputs; c += 2, w += 2 * PANEL) {
        const int32_t even = x[c], odd = x[c + 1];
        for (size_t k = 0; k < PANEL; ++k) sum[k] += w[2 * k] * even + w[2 * k + 1] * odd;
      }
      for (size_t k = 0; k < std::min(PANEL, outputs - o); ++k) {
        y[o + k] = sat(sum[k] >> op.shift[o + k]);
        if (slope != NO_SLOPE) y[o + k] = leaky(y[o + k], slope);
      }
    }
  }
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
    default: break;
  }
}

inline void values_plain(const Operation& op, const int16_t* const* in, size_t row, size_t column, size_t n,
                         int16_t* out) {
  values(op, in, row, column, n, out);
}

}  // namespace ncodec::exact
