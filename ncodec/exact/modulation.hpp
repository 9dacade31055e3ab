// X27 of specs/exact.md for a block of k x k places and GROUP channels, which are the innermost, so that loops over
// them are vectors.
//
//     x --+-- gather [k, k, GROUP] -- D X D' -- W -- D' S D --+-- sat(x + d) --> y
//         +----------------------------------------------------+

#pragma once

#include "kernels.hpp"
#include "rearrange.hpp"

namespace ncodec::exact {

inline size_t modulated_pieces(size_t h, size_t w, size_t channels, size_t k) {
  return parts(h, k) * parts(w, k) * parts(channels, GROUP);
}

// Values of 16 bits that `modulate` needs for itself.
inline size_t modulation_scratch(size_t k) { return 2 * k * k * GROUP; }

inline void modulate(const Kernels& kernels, const Operation& op, const Plane& x, size_t piece, int16_t* scratch,
                     int16_t* out) {
  const size_t k = static_cast<size_t>(op.side), size = k * k * GROUP, groups = parts(x.channels, GROUP);
  const size_t group = piece % groups, block = piece / groups, first = group * GROUP;
  const size_t top = block / parts(x.w, k) * k, left = block % parts(x.w, k) * k;
  const size_t some = std::min(GROUP, x.channels - first);
  int16_t* to = scratch;
  for (size_t i = top; i < top + k; ++i)
    for (size_t j = left; j < left + k; ++j, to += GROUP) {
      copy(x.at(std::min(i, x.h - 1), std::min(j, x.w - 1)) + first, some, to);
      std::fill(to + some, to + GROUP, int16_t{0});
    }
  kernels.modulate(op.weights.get() + group * size, k, op.numbers[0], scratch, scratch + size);
  for (size_t i = top; i < std::min(top + k, x.h); ++i)
    for (size_t j = left; j < std::min(left + k, x.w); ++j) {
      const int16_t *from = x.at(i, j) + first, *d = scratch + ((i - top) * k + j - left) * GROUP;
      int16_t* y = out + (i * x.w + j) * x.channels + first;
      for (size_t c = 0; c < some; ++c) y[c] = sat(from[c] + d[c]);
    }
}

}  // namespace ncodec::exact
