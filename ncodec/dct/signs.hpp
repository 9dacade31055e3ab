// The signs of a block's levels, foretold from its border (specs/dct.md section 5): most likely is the residual with
// which samples go on from those above and to the left. The idea of JVET-D0031, in frequencies and sign by sign:
//
//   samples above, going on, less the prediction's first row --T--> expected[u]
//   a coefficient at (u, v) has a part of known size in expected[u] of the row above, and in expected[v] of the column
//   to the left. With a Gaussian error log(P(+) / P(-)) = 2 part expected / variance, the sum of both sides.

#pragma once

#include "kernels.hpp"
#include "levels.hpp"
#include "transform_tables.hpp"

namespace ncodec::dct {

// Samples along one side of a block, in frequencies along it. Units are 1/2 sample times the norm of a row of T.
class Side {
 public:
  // `near` and `far` are the samples next to the block and those beyond, `inside` the prediction's; `frequencies` as
  // many as there are; `step` that of frequency (0, 0).
  void begin(const int16_t* near, const int16_t* far, int stride, const int16_t* inside, int inside_stride,
             const int8_t* matrix, int log2, int frequencies, int step) {
    const int n = 1 << log2;
    int16_t missing[MAX_SIDE];
    int64_t roughness = 0;
    for (int i = 0; i < n; ++i) {
      const int a = near[i * stride], b = far[i * stride];
      missing[i] = static_cast<int16_t>(3 * a - b - 2 * inside[i * inside_stride]);
      roughness += (a - b) * (a - b);
    }
    kernels::project(missing, n, matrix, frequencies, expected_);
    std::fill_n(unknown_, frequencies, 0);
    noise_ = int64_t{16} * n * step * step + 65536 * roughness;
    log2_ = log2;
  }

  bool is_there() const { return noise_ > 0; }

  // What a coefficient has to do with frequency k along the side, if its basis vector across begins with `first`.
  int part(int coefficient, int first) const { return coefficient * first * (1 << log2_) >> 4; }
  void add_unknown(int k, int part) { unknown_[k] += int64_t{part} * part; }
  // log(P(+) / P(-)), of 1/16, as far as this side knows; the part is not counted as unknown from now on.
  int64_t hypothesis(int k, int part) {
    unknown_[k] -= int64_t{part} * part;
    return int64_t{32} * part * expected_[k] / (noise_ + 4 * unknown_[k]);
  }
  void know(int k, int part) { expected_[k] -= part; }

 private:
  int log2_ = 0;
  int64_t noise_ = 0;            // the variance but for unknown signs
  int32_t expected_[MAX_CODED];  // less what is known
  int64_t unknown_[MAX_CODED];   // sums of squares of parts whose signs are not known
};

// The sides of a block and the vectors of its transforms, [frequency][sample].
struct Sides {
  Side top, left;
  const int8_t *across_top, *across_left;  // vertical, horizontal
  int log2_w, log2_h;

  struct Parts {
    int top, left;
  };
  Parts parts(Place at, int coefficient) const {
    return {top.part(coefficient, across_top[at.y << log2_h]), left.part(coefficient, across_left[at.x << log2_w])};
  }
  void add_unknown(Place at, int coefficient) {
    const Parts p = parts(at, coefficient);
    if (top.is_there()) top.add_unknown(at.x, p.top);
    if (left.is_there()) left.add_unknown(at.y, p.left);
  }
  int64_t hypothesis(Place at, int coefficient) {
    const Parts p = parts(at, coefficient);
    return (top.is_there() ? top.hypothesis(at.x, p.top) : 0) + (left.is_there() ? left.hypothesis(at.y, p.left) : 0);
  }
  void know(Place at, int coefficient) {  // with its sign
    const Parts p = parts(at, coefficient);
    if (top.is_there()) top.know(at.x, p.top);
    if (left.is_there()) left.know(at.y, p.left);
  }
};

constexpr int STRENGTHS = 9;

// |hypothesis| as a class: less than 1/16, 1/8, 1/4, ... 8, more.
inline int strength_of(int64_t hypothesis) {
  int strength = 0;
  for (int64_t h = std::abs(hypothesis); h && strength < STRENGTHS - 1; h >>= 1) ++strength;
  return strength;
}

}  // namespace ncodec::dct
