// The form of the networks of enc_worth.hpp.

#pragma once

#include <algorithm>
#include <array>

namespace ncodec::dct::worth {

constexpr int FEATURES = 36, HIDDEN = 16;
using Features = std::array<float, FEATURES>;

struct Network {
  std::array<std::array<float, HIDDEN>, FEATURES> input;
  std::array<float, HIDDEN> bias, output;
  float constant;

  float operator()(const Features& x) const {
    std::array<float, HIDDEN> sums = bias;
    for (int i = 0; i < FEATURES; ++i)
      for (int h = 0; h < HIDDEN; ++h) sums[h] += input[i][h] * x[i];
    float out = constant;
    for (int h = 0; h < HIDDEN; ++h) out += output[h] * std::max(sums[h], 0.f);
    return out;
  }
};
using Networks = std::array<Network, 3>;  // of quarters, halves, thirds

}  // namespace ncodec::dct::worth
