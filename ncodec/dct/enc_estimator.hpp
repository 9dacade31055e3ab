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

// Bits of a bin's values 0 and 1.
using BinBits = std::array<float, 2>;

// The same by the weighted stretches of a mixed bin.
struct MixtureTable {
  std::array<BinBits, 4096> bits;  // of their sum, -2048 ... 2047, + 2048
  MixtureTable() {
    for (int i = 0; i < 4096; ++i) {
      const int p = std::clamp<int>(LOGISTIC.squash[i], SHARE_LOW, 65536 - SHARE_LOW);
      bits[i] = {cost(p, 0), cost(p, 1)};
    }
  }
};
inline const MixtureTable MIXTURE;

// What bins cost by a model as it stood when they were taken from it: nothing adapts.
class Prices {
 public:
  void take(const Model& model) {
    model_ = &model;
    stretched_.resize(model.contexts.size());
    for (size_t i = 0; i < stretched_.size(); ++i) stretched_[i] = static_cast<int16_t>(model.contexts[i].stretched());
  }

  NCODEC_INLINE const BinBits& of(const Bin& at) const {
    const auto& w = model_->mixers[at.mixer].w;
    const int sum = w[0] * stretched_[at.a] + w[1] * stretched_[at.b] + w[2] * stretched_[at.c];
    return MIXTURE.bits[std::clamp(sum >> 16, -2048, 2047) + 2048];
  }
  float of(int context, uint32_t bin) const { return cost(model_->contexts[context].p, bin); }

 private:
  const Model* model_ = nullptr;
  std::vector<int16_t> stretched_;  // of contexts
};

// A coder that counts what bins would cost (bits).
class Estimator {
 public:
  static constexpr bool DECODES = false;
  explicit Estimator(const Prices& prices) : prices_(prices) {}

  uint32_t bin(uint32_t value, const Bin& at) {
    bits += prices_.of(at)[value];
    return value;
  }

  uint32_t bit(uint32_t value, int context) {
    bits += prices_.of(context, value);
    return value;
  }

  uint32_t bypass(uint32_t value) {
    bits += 1;
    return value;
  }

  float bits = 0;

 private:
  const Prices& prices_;
};

// Bits of the bins that `code(estimator)` codes.
template <class F>
float estimate_bits(const Prices& prices, F code) {
  Estimator estimator(prices);
  code(estimator);
  return estimator.bits;
}

}  // namespace ncodec::dct
