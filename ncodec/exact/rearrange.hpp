// Rearrangements of specs/exact.md (X4 … X8, X21, X24, X25), and the taps of X2: blocks of n pixels of a row, from
// whole tensors.

#pragma once

#include "kernels.hpp"

namespace ncodec::exact {

// A whole tensor [h, w, C].
struct Plane {
  const int16_t* data;
  size_t h, w, channels;
  const int16_t* at(size_t row, size_t column) const { return data + (row * w + column) * channels; }
};

struct Block {
  size_t row, column, n;
};

// The pixels of x' around a block: [k, n + k - 1]. `outside` is nullptr to replicate, else C zeros.
inline void find_taps(const Plane& x, const Block& block, size_t side, const int16_t* outside, const int16_t** taps) {
  const auto h = static_cast<ptrdiff_t>(x.h), w = static_cast<ptrdiff_t>(x.w), p = static_cast<ptrdiff_t>(side / 2);
  for (ptrdiff_t u = 0; u < static_cast<ptrdiff_t>(side); ++u)
    for (ptrdiff_t t = 0; t < static_cast<ptrdiff_t>(block.n + side - 1); ++t) {
      const ptrdiff_t i = static_cast<ptrdiff_t>(block.row) + u - p, j = static_cast<ptrdiff_t>(block.column) + t - p;
      const ptrdiff_t row = std::min(std::max<ptrdiff_t>(i, 0), h - 1),
                      column = std::min(std::max<ptrdiff_t>(j, 0), w - 1);
      const bool is_inside = row == i && column == j;
      *taps++ = is_inside || !outside ? x.at(static_cast<size_t>(row), static_cast<size_t>(column)) : outside;
    }
}

inline void copy(const int16_t* from, size_t n, int16_t* to) { std::memcpy(to, from, n * sizeof(int16_t)); }

// x [n, C], C odd, a pixel every `step` values, with a channel of zeros: in `to`, as Kernels::conv wants it.
inline const int16_t* with_even_channels(const int16_t* x, size_t n, size_t channels, size_t step, int16_t* to) {
  for (size_t i = 0; i < n; ++i) {
    copy(x + i * step, channels, to + i * (channels + 1));
    to[i * (channels + 1) + channels] = 0;
  }
  return to;
}

// `taps` [3, n + 2]. Three of a row lie together but where some are outside.
inline void patches(const int16_t* const* taps, size_t n, size_t channels, int16_t* y) {
  for (size_t i = 0; i < n; ++i)
    for (size_t u = 0; u < 3; ++u, y += 3 * channels) {
      const int16_t* const* row = taps + u * (n + 2) + i;
      if (row[1] == row[0] + channels && row[2] == row[1] + channels) copy(row[0], 3 * channels, y);
      else
        for (size_t v = 0; v < 3; ++v) copy(row[v], channels, y + v * channels);
    }
}

// A cell's row of f pixels lies together in x.
inline void shuffle(const Plane& x, const Block& block, size_t f, int16_t* y) {
  const size_t channels = x.channels / (f * f), end = block.column + block.n;
  for (size_t j = block.column, run; j < end; j += run, y += run * channels) {
    const size_t v = j % f;
    run = std::min(f - v, end - j);
    copy(x.at(block.row / f, j / f) + (block.row % f * f + v) * channels, run * channels, y);
  }
}

inline void unshuffle(const Plane& x, const Block& block, size_t f, int16_t* y) {
  for (size_t j = 0; j < block.n; ++j)
    for (size_t u = 0; u < f; ++u, y += f * x.channels)
      copy(x.at(f * block.row + u, f * (block.column + j)), f * x.channels, y);
}

// X7 and X8: what is outside x is its last row and column.
inline void pad_or_crop(const Plane& x, const Block& block, int16_t* y) {
  const size_t row = std::min(block.row, x.h - 1);
  const size_t within = block.column < x.w ? std::min(block.n, x.w - block.column) : 0;
  if (within > 0) copy(x.at(row, block.column), within * x.channels, y);
  for (size_t j = within; j < block.n; ++j) copy(x.at(row, x.w - 1), x.channels, y + j * x.channels);
}

// X24: a row of y is a window, r its place among `across` of them side by side.
inline void fold(const Plane& x, const Block& block, size_t k, size_t heads, int16_t* y) {
  const size_t across = parts(x.w, k), e = x.channels / heads;
  const size_t top = block.row / across * k, left = block.row % across * k;
  const size_t rows = std::min(k, x.h - top), columns = std::min(k, x.w - left);
  if (rows < k || columns < k) std::fill_n(y, block.n * heads * k * k, int16_t{0});
  for (size_t g = 0; g < heads; ++g)
    for (size_t u = 0; u < rows; ++u) {
      const int16_t* from = x.at(top + u, left) + g * e + block.column;
      int16_t* to = y + (g * k + u) * k;
      for (size_t c = 0; c < block.n; ++c, ++from, to += heads * k * k)
        for (size_t v = 0; v < columns; ++v) to[v] = from[v * x.channels];
    }
}

// X25: y has `width` columns.
inline void unfold(const Plane& x, const Block& block, size_t k, size_t heads, size_t width, int16_t* y) {
  const size_t e = x.w, u = block.row % k;
  for (size_t j = block.column; j < block.column + block.n; ++j)
    for (size_t g = 0; g < heads; ++g) {
      const int16_t* from = x.at(block.row / k * parts(width, k) + j / k, 0) + (g * k + u) * k + j % k;
      for (size_t c = 0; c < e; ++c) *y++ = from[c * x.channels];
    }
}

// X21.
inline void join(const Plane& x, const Plane& y, const Block& block, int16_t* out) {
  const size_t of_x = block.column < x.w ? std::min(block.n, x.w - block.column) : 0;
  if (of_x > 0) copy(x.at(block.row, block.column), of_x * x.channels, out);
  if (of_x < block.n)
    copy(y.at(block.row, block.column + of_x - x.w), (block.n - of_x) * x.channels, out + of_x * x.channels);
}

}  // namespace ncodec::exact
