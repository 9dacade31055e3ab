// The encoder's weights of the last filter (wiener.hpp): least squares, rounded to what is worth its bits.

#pragma once

#include "enc_residual.hpp"
#include "wiener.hpp"

namespace ncodec::dct {

namespace kernels {

// products[i][k] += the sum of v[i] * v[k], i <= k, for n numbers of up to 13 bits, with sign.
NCODEC_CLONES static void add_products(const int16_t* const* v, int count, int n, double* products) {
  constexpr int SHORT = 64;  // numbers whose products fit 31 bits together
  for (int first = 0; first < n; first += SHORT)
    for (int i = 0; i < count; ++i)
      for (int k = i; k < count; ++k) {
        int sum = 0;
        for (int x = first; x < std::min(first + SHORT, n); ++x) sum += v[i][x] * v[k][x];
        products[i * count + k] += sum;
      }
}

}  // namespace kernels

// What weights w of 1/128 take from the error of a plane, in bits: 2 b w - w A w.
class WienerSolver {
 public:
  // `bits`: that a squared error of a sample weighs.
  WienerSolver(const std::vector<Padded>& planes, int plane, const Plane& source, bool sees_others, double bits)
      : count_(sees_others ? WIENER_WEIGHTS : RINGS) {
    constexpr int most = 4095;
    RowOfRings row(planes, plane, source.width, sees_others);
    std::vector<int16_t> error(source.width);
    std::array<const int16_t*, WIENER_WEIGHTS + 1> v;
    std::vector<double> products((count_ + 1) * (count_ + 1));
    for (int y = 0; y < source.height; ++y) {
      row.take(y);
      kernels::subtract(source.at(0, y), 0, planes[plane].row(y), source.width, 1, error.data());
      for (int k = 0; k < count_; ++k) {
        int16_t* ring = row.rings()[k];
        for (int x = 0; x < source.width; ++x) ring[x] = std::clamp<int16_t>(ring[x], -most, most);
        v[k] = ring;
      }
      v[count_] = error.data();
      kernels::add_products(v.data(), count_ + 1, source.width, products.data());
    }
    for (int i = 0; i < count_; ++i) {
      for (int k = 0; k < count_; ++k)
        a_[i][k] = bits * products[std::min(i, k) * (count_ + 1) + std::max(i, k)] / (1 << 2 * WIENER_SHIFT);
      b_[i] = bits * products[i * (count_ + 1) + count_] / (1 << WIENER_SHIFT);
    }
  }

  // All 0 if none are worth their bits.
  WienerWeights solve(const Model& model, int plane) const {
    std::array<double, WIENER_WEIGHTS> w = {};
    for (int i = 0; i < 200 * count_; ++i) w[i % count_] = best(w, i % count_);
    for (int i = 0; i < count_; ++i) w[i] = std::clamp(std::round(w[i]), -LARGEST, LARGEST);
    for (int i = 0; i < 4 * count_; ++i) {  // each in turn to what is best beside the others
      const int k = i % count_;
      const double around = std::clamp(std::floor(best(w, k)), -LARGEST, LARGEST - 1);
      const auto cost = [&](double value) {
        const double off = value - best(w, k);
        return a_[k][k] * off * off + weight_bits(model, k, static_cast<int>(value));
      };
      w[k] = 0;
      for (const double value : {around, around + 1})
        if (cost(value) < cost(w[k])) w[k] = value;
    }
    WienerWeights out = {};
    const int p = model.contexts[contexts::WIENER(plane)].p;
    double worth = cost(p, 0) - cost(p, 1);
    for (int i = 0; i < count_; ++i) {
      out[i] = static_cast<int16_t>(w[i]);
      worth += 2 * b_[i] * w[i] - weight_bits(model, i, out[i]);
      for (int k = 0; k < count_; ++k) worth -= w[i] * a_[i][k] * w[k];
    }
    return worth > 0 ? out : WienerWeights{};
  }

 private:
  static constexpr double LARGEST = (1 << MAX_WEIGHT_BITS) - 1;

  // Of weight k, beside the others as they are.
  double best(const std::array<double, WIENER_WEIGHTS>& w, int k) const {
    double sum = b_[k];
    for (int i = 0; i < count_; ++i)
      if (i != k) sum -= a_[k][i] * w[i];
    return a_[k][k] > 0 ? sum / a_[k][k] : 0;
  }

  static double weight_bits(const Model& model, int number, int value) {
    int bits = 0;
    double sum = 0;
    const auto price = [&](int bin) { return cost(model.contexts[contexts::WIENER_WEIGHT(number, bits)].p, bin); };
    for (; std::abs(value) >> bits; ++bits) sum += price(1);
    return sum + bits + (bits < MAX_WEIGHT_BITS ? price(0) : 0);
  }

  int count_;
  std::array<std::array<double, WIENER_WEIGHTS>, WIENER_WEIGHTS> a_;
  std::array<double, WIENER_WEIGHTS> b_;
};

}  // namespace ncodec::dct
