// What bins would cost: the encoder's third coder, beside those of probability.hpp.

#pragma once

#include <cmath>

#include "probability.hpp"

namespace ncodec::dct {

// Bits of a bin by its probability.
struct CostTable {
  std::array<float, 1024> bits;  // of an event of probability (i + 1/2) / 1024
  CostTable() {
    for (int i = 0; i < 1024; ++i) bits[i] = -std::log2((static_cast<float>(i) + 0.5f) / 1024);
  }
};
inline const CostTable COST;

inline float cost(int p, uint32_t bin) { return COST.bits[(bin ? p : 65535 - p) >> 6]; }

// A coder that counts what bins would cost (bits) as the model stands; nothing adapts.
class Estimator {
 public:
  static constexpr bool DECODES = false;
  explicit Estimator(const Model& model) : model_(model) {}

  uint32_t bin(uint32_t value, const Bin& at) {
    bits += cost(mix(model_, at).p, value);
    return value;
  }

  uint32_t bit(uint32_t value, int context) {
    bits += cost(model_.contexts[context].p, value);
    return value;
  }

  uint32_t bypass(uint32_t value) {
    bits += 1;
    return value;
  }

  float bits = 0;

 private:
  const Model& model_;
};

// Bits of the bins that `code(estimator)` codes.
template <class F>
float estimate_bits(const Model& model, F code) {
  Estimator estimator(model);
  code(estimator);
  return estimator.bits;
}

}  // namespace ncodec::dct
