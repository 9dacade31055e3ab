// Least squares near each pixel, in integers (specs/lossless.md, section 4).
//
//        cells of 8 x 1 pixels: sums of products z z' of the rows before, each row's halved and halved again
//      | x-2 | x-1 |  x  | x+1 | x+2 |    their sum, (1 2 2 2 1), is that of the pixels near by  --> weights of the
//      taps
//
// z holds the taps and, last, the pixel itself. One elimination of the sum gives the weights for any number of first
// taps.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "mixing.hpp"

namespace ncodec::lossless {

constexpr int MOST_TAPS = 20;
constexpr int ROWS = 24;               // of a matrix: MOST_TAPS + 1, in whole vectors
constexpr int TAP_BITS = 10;           // of |z|
constexpr int SEGMENT = 32;            // pixels of a cell, at most
constexpr int WEIGHT_LIMIT = 1 << 19;  // 8, of 2^16

// Symmetric: only columns from `first_column(row)` on are kept.
struct Moments {
  int32_t a[ROWS][ROWS] = {};
};
constexpr int first_column(int row) { return row & ~7; }

// Eight columns at a time.
typedef int32_t Lanes __attribute__((vector_size(32), aligned(4), may_alias));
NCODEC_INLINE Lanes& lanes(int32_t* v) { return *reinterpret_cast<Lanes*>(v); }
NCODEC_INLINE const Lanes& lanes(const int32_t* v) { return *reinterpret_cast<const Lanes*>(v); }

// row -= (factor * pivot) >> 16, of 32 bits: (h * 2^16 + l) * (H * 2^16 + L) >> 16 = h * pivot + l * H + (l * L >> 16).
NCODEC_INLINE void subtract(int32_t* row, const int32_t* pivot, int32_t factor) {
  typedef uint32_t Words __attribute__((vector_size(32)));
  const Lanes a = lanes(pivot);
  const Words whole = (Words)a, high = (Words)(a >> 16), low = whole & 0xFFFF;
  const uint32_t h = static_cast<uint32_t>(factor >> 16), l = static_cast<uint32_t>(factor) & 0xFFFF;
  lanes(row) = (Lanes)((Words)lanes(row) - (h * whole + l * high + (l * low >> 16)));
}

// L12: adds the products of `pixels` (even) vectors z; `all` is the slow sum of the whole plane.
NCODEC_INLINE void accumulate(Moments& cell, Moments& all, int all_shift, const int32_t (*z)[ROWS], int pixels, int n) {
  for (int i = 0; i <= n; ++i) {
    for (int j0 = first_column(i); j0 <= n; j0 += 8) {
      Lanes sum = z[0][i] * lanes(z[0] + j0);
      for (int k = 1; k < pixels; ++k) sum += z[k][i] * lanes(z[k] + j0);
      lanes(cell.a[i] + j0) += sum - (lanes(cell.a[i] + j0) >> 2);
      lanes(all.a[i] + j0) += sum >> all_shift;
    }
  }
}

// Σ a * b of eight, of 64 bits.
NCODEC_INLINE int64_t dot(const int32_t* a, const int32_t* b) {
  int64_t sum = 0;
  for (int i = 0; i < 8; ++i) sum += int64_t{a[i]} * b[i];
  return sum;
}

class Solver {
 public:
  Moments m;

  // L13: triangular form of the first n rows; row n is the pixel's.
  NCODEC_INLINE void eliminate(int n) {
    int64_t trace = 0;
    for (int i = 0; i < n; ++i) trace += m.a[i][i];
    const int32_t ridge = static_cast<int32_t>((trace / n) >> 14) + 64;
    int32_t most = m.a[n][n];
    for (int i = 0; i < n; ++i) most = std::max(most, m.a[i][i] += ridge);
    const int up = 29 - log2_of(static_cast<uint64_t>(most));
    for (int i = 0; i < n; ++i) {
      for (int j = i; j <= n; ++j) m.a[i][j] = up >= 0 ? m.a[i][j] * (1 << up) : m.a[i][j] >> -up;
    }
    for (int j = 0; j < n; ++j) {
      m.a[j][j] = std::max(m.a[j][j], 256);
      const int bits = log2_of(static_cast<uint64_t>(m.a[j][j]));
      const int64_t inverse = (int64_t{1} << (bits + 30)) / m.a[j][j];
      for (int i = j + 1; i < n; ++i) {
        const int64_t l = (m.a[j][i] * inverse) >> (bits + 14);  // of 2^16
        const int32_t factor = static_cast<int32_t>(std::clamp<int64_t>(l, INT32_MIN, INT32_MAX));
        for (int k = first_column(i); k <= n; k += 8)
          subtract(m.a[i] + k, m.a[j] + k, factor);  // those before i are used up
      }
    }
  }

  // L14: weights of the first `taps` taps, of 2^16.
  NCODEC_INLINE void solve(int taps, int n, int32_t* w) const {
    std::fill_n(w, taps, 0);
    for (int i = taps - 1; i >= 0; --i) {
      int64_t b = int64_t{m.a[i][n]} * 65536;
      for (int k = first_column(i); k < taps; k += 8)
        b -= dot(w + k, m.a[i] + k);  // w is 0 up to i, and from `taps` on
      w[i] = static_cast<int32_t>(std::clamp<int64_t>(b / m.a[i][i], -WEIGHT_LIMIT, WEIGHT_LIMIT));
    }
  }
};

}  // namespace ncodec::lossless
