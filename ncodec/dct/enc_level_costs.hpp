// What the bins of levels cost, without coding them in order: for the trellis.

#pragma once

#include "enc_estimator.hpp"
#include "levels.hpp"

namespace ncodec::dct {

// What the last significant position costs, by class of its coordinates.
class LastCosts {
 public:
  LastCosts(const Model& model, const LevelContexts& bins, const Shape& shape)
      : model_(model), bins_(bins), n_{classes_of(shape.log2_w), classes_of(shape.log2_h)} {
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
      const int p = mix(model_, bins_.last(axis, c, other)).p;
      out[c] = fixed + cost(p, 0);
      before += cost(p, 1);
    }
  }

  const Model& model_;
  const LevelContexts& bins_;
  std::array<int, 2> n_;  // classes of x, of y
  std::array<float, 10> x_;
  std::array<std::array<float, 10>, 4> y_;
  std::array<bool, 4> has_y_;
};

// Of a magnitude over 3, what the first three bins do not say.
inline float escape_bits(int magnitude, int near, const Model& model) {
  float bits = 0;
  for (int k = 4; k < std::min(magnitude + 1, MAX_UNARY); ++k)
    bits += cost(model.contexts[contexts::UNARY(near, k - 4)].p, magnitude > k);
  if (magnitude >= MAX_UNARY) {
    int length = 0;
    while ((magnitude - MAX_UNARY + 1) >> (length + 1)) ++length;
    bits += static_cast<float>(2 * length + 1);
  }
  return bits;
}

// Of a level that is known not to be 0: magnitude and sign.
inline float level_bits(const Model& model, const LevelContexts& bins, int state, Place at, int sum, int earlier,
                        int magnitude) {
  float bits = 1;
  for (int t = 1; t <= std::min(magnitude, 3); ++t)
    bits += cost(mix(model, bins.big(state, t, at, sum, earlier)).p, magnitude > t);
  return magnitude > 3 ? bits + escape_bits(magnitude, CLASSES.near[sum], model) : bits;
}

}  // namespace ncodec::dct
