// The signs of a block's levels, foretold from its border (specs/dct.md section 5): most likely is the residual with
// which samples go on from those above and to the left. The idea of JVET-D0031, in frequencies and sign by sign:
//
//   samples above, going on, less the prediction's first row --T--> expected[u]
//   a coefficient at (u, v) has a part of known size in expected[u] of the top, and in expected[v] of the left side.
//   With a Gaussian error log(P(+) / P(-)) = 2 part expected / variance, the sum of both sides.

#pragma once

#include "kernels.hpp"
#include "levels.hpp"
#include "transform.hpp"

namespace ncodec::dct {

// A block's border on one side, in frequencies along it: of 1/2 sample times the norm of a row of the matrix T.
class Side {
 public:
  bool is_there = false;

  // D30, D31. `near` are the samples next to the block, `far` those beyond, `inside` the prediction's.
  void begin(const int16_t* near, const int16_t* far, int stride, const int16_t* inside, int inside_stride,
             const int8_t* matrix, int log2, int frequencies, int64_t noise) {
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
    noise_ = (noise << log2) + (roughness << 16);
    log2_ = log2;
    is_there = true;
  }

  // What a coefficient has of frequency k along the side; its basis vector across begins with `first`.
  int part(int coefficient, int first) const { return coefficient * first * (1 << log2_) >> 4; }
  void add_unknown(int k, int64_t part) { unknown_[k] += part * part; }
  // log(P(+) / P(-)) of a part, of 1/16.
  int64_t hypothesis(int k, int64_t part) const {
    return 32 * part * expected_[k] / (noise_ + 4 * (unknown_[k] - part * part));
  }
  void know(int k, int64_t part, bool is_negative) {
    unknown_[k] -= part * part;
    expected_[k] -= static_cast<int32_t>(is_negative ? -part : part);
  }

 private:
  int log2_ = 0;
  int64_t noise_ = 0;            // the variance but for unknown signs
  int32_t expected_[MAX_CODED];  // less what is known
  int64_t unknown_[MAX_CODED];   // sums of squares of the parts whose signs are not known
};

// Both sides of a block. Coefficients are magnitudes.
class Sides {
 public:
  // `step`: the coefficient of 2 half-steps at (0, 0).
  Sides(const Shape& shape, const Kinds& kinds, const Places& places, int step)
      : shape_(shape),
        horizontal_(matrix(kinds.horizontal == Kind::dst ? Kind::dst : Kind::dct, shape.log2_w)),
        vertical_(matrix(kinds.vertical == Kind::dst ? Kind::dst : Kind::dct, shape.log2_h)),
        noise_(int64_t{4} * shape.area() * std::max(step, 1) * std::max(step, 1)) {
    for (int i = 0; i < places.n; ++i)
      columns_ = std::max(columns_, places.at[i].x + 1), rows_ = std::max(rows_, places.at[i].y + 1);
  }

  void begin_top(const int16_t* above, int stride, const int16_t* prediction) {
    top_.begin(above, above - stride, 1, prediction, 1, horizontal_, shape_.log2_w, columns_, noise_);
  }
  void begin_left(const int16_t* left, int stride, const int16_t* prediction) {
    left_.begin(left, left - 1, stride, prediction, shape_.width(), vertical_, shape_.log2_h, rows_, noise_);
  }

  void add_unknown(Place at, int coefficient) {
    if (top_.is_there) top_.add_unknown(at.x, top_part(at, coefficient));
    if (left_.is_there) left_.add_unknown(at.y, left_part(at, coefficient));
  }
  int64_t hypothesis(Place at, int coefficient) const {
    return (top_.is_there ? top_.hypothesis(at.x, top_part(at, coefficient)) : 0) +
           (left_.is_there ? left_.hypothesis(at.y, left_part(at, coefficient)) : 0);
  }
  void know(Place at, int coefficient, bool is_negative) {
    if (top_.is_there) top_.know(at.x, top_part(at, coefficient), is_negative);
    if (left_.is_there) left_.know(at.y, left_part(at, coefficient), is_negative);
  }
  int which() const { return top_.is_there + 2 * left_.is_there; }

 private:
  int top_part(Place at, int c) const { return top_.part(c, vertical_[at.y << shape_.log2_h]); }
  int left_part(Place at, int c) const { return left_.part(c, horizontal_[at.x << shape_.log2_w]); }

  Shape shape_;
  const int8_t *horizontal_, *vertical_;  // matrices
  int64_t noise_;
  int columns_ = 0, rows_ = 0;
  Side top_, left_;
};

constexpr int STRENGTHS = 9;

// |hypothesis| as a class: 0, 1/16, 1/8 ..., 1/4 ..., to 8 and above.
inline int strength_of(int64_t hypothesis) {
  int strength = 0;
  for (int64_t h = std::abs(hypothesis); h && strength < STRENGTHS - 1; h >>= 1) ++strength;
  return strength;
}

// What else contexts know (D31).
struct SignSurroundings {
  int plane, kind_of_mode;
  Shape shape;
  Kinds kinds;
  const Surroundings& around;
};

// Signs, from low frequencies to high ones: is each what the border says? `coefficient(place, level)`.
template <class Coder, class F>
void code_signs(Coder& coder, int16_t* levels, int stride, const Places& places, F coefficient, Sides& sides,
                const SignSurroundings& about) {
  const bool is_sine = about.kinds.horizontal == Kind::dst || about.kinds.vertical == Kind::dst;
  const auto magnitude = [&](Place at) { return coefficient(at, std::abs(levels[at.y * stride + at.x])); };
  for (int i = 0; i < places.n; ++i) sides.add_unknown(places.at[i], magnitude(places.at[i]));
  for_each_sign(levels, stride, places, [&](Place at, int level) {
    const int c = magnitude(at);
    const int64_t hypothesis = sides.hypothesis(at, c);
    const int strength = strength_of(hypothesis);
    const bool expected = hypothesis < 0;
    const int cb = about.around.cb ? about.around.cb[at.y * about.around.stride + at.x] : 0;
    const int other = !about.plane ? about.kind_of_mode : cb ? 5 + ((cb < 0) == expected) : 4;
    const Bin bin = {contexts::SIGN_A(about.plane, is_sine, strength),
                     contexts::SIGN_B(about.shape.size(), sides.which(), strength), contexts::SIGN_C(other, strength),
                     mixers::SIGN(about.plane)};
    const bool is_negative = coder.bin((level < 0) != expected, bin) != expected;
    sides.know(at, c, is_negative);
    return is_negative;
  });
}

}  // namespace ncodec::dct
