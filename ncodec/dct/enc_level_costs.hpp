// What the bins of levels cost, without coding them in order: for the trellis.

#pragma once

#include "enc_estimator.hpp"
#include "levels.hpp"

namespace ncodec::dct {

// What the last significant position costs, by class of its coordinates.
class LastCosts {
 public:
  LastCosts(const Prices& prices, const LevelContexts& bins, const Shape& shape)
      : prices_(prices), bins_(bins), n_{classes_of(shape.log2_w), classes_of(shape.log2_h)} {
    fill(0, bins.direction(), x_);
    has_y_.fill(false);
  }

  float bits(Place last) {
    const int x = class_of(last.x), y = class_of(last.y), other = seen_by_y(x);
    if (!has_y_[other]) fill(1, other, y_[other]), has_y_[other] = true;
    return x_[x] + y_[other][y];
  }

 private:
  void fill(int axis, int other, std::array<float, 10>& out) const {
    float before = 0;
    for (int c = 0; c < n_[axis]; ++c) {
      const float fixed = before + CLASS_BITS[c];
      if (c == n_[axis] - 1) {
        out[c] = fixed;
        break;
      }
      const BinBits& more = prices_.of(bins_.last(axis, c, other));
      out[c] = fixed + more[0];
      before += more[1];
    }
  }

  const Prices& prices_;
  const LevelContexts& bins_;
  std::array<int, 2> n_;  // classes of x, of y
  std::array<float, 10> x_;
  std::array<std::array<float, 10>, 4> y_;
  std::array<bool, 4> has_y_;
};

// Of a magnitude over 3, what the first three bins do not say.
inline float escape_bits(int magnitude, int near, const Prices& prices) {
  float bits = 0;
  for (int k = 4; k < std::min(magnitude + 1, MAX_UNARY); ++k)
    bits += prices.of(contexts::UNARY(near, k - 4), magnitude > k);
  if (magnitude >= MAX_UNARY) {
    int length = 0;
    while ((magnitude - MAX_UNARY + 1) >> (length + 1)) ++length;
    bits += static_cast<float>(2 * length + 1);
  }
  return bits;
}

// Of a level that is known not to be 0, magnitude and sign: of the magnitudes `most` and, if that is over 1, one less.
NCODEC_INLINE std::array<float, 2> level_bits(const Prices& prices, const LevelBins& bins, int state, int near,
                                              int earlier, int most) {
  float bits = 1, one_less = 0;
  for (int t = 1; t <= std::min(most, 3); ++t) {
    const BinBits& more = prices.of(bins.big(state, t, near, earlier));
    if (t == most - 1) one_less = bits + more[0];
    bits += more[t < most];
  }
  if (most <= 3) return {bits, one_less};
  if (most > 4) one_less = bits + escape_bits(most - 1, near, prices);
  return {bits + escape_bits(most, near, prices), one_less};
}

}  // namespace ncodec::dct
