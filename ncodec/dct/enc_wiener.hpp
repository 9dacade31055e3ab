// The encoder's weights of the last filter (wiener.hpp): least squares, rounded to what is worth its bits.

#pragma once

#include "enc_residual.hpp"
#include "wiener.hpp"

namespace ncodec::dct {

namespace kernels {

// Limits, which are few, so that products of SHORT numbers fit 31 bits together.
constexpr int SHORT = 64, MOST_TO_MULTIPLY = 4095;

NCODEC_CLONES static int16_t* limit(int16_t* v, int n) {
  for (int x = 0; x < n; ++x) v[x] = std::clamp<int16_t>(v[x], -MOST_TO_MULTIPLY, MOST_TO_MULTIPLY);
  return v;
}

// products[i][k] += the sum of v[i] * v[k], i <= k, n numbers each.
NCODEC_CLONES static void add_products(const int16_t* const* v, int n, double (*products)[WIENER_WEIGHTS + 1]) {
  for (int first = 0; first < n; first += SHORT)
    for (int i = 0; i <= WIENER_WEIGHTS; ++i)
      for (int k = i; k <= WIENER_WEIGHTS; ++k) {
        int sum = 0;
        for (int x = first; x < std::min(first + SHORT, n); ++x) sum += v[i][x] * v[k][x];
        products[i][k] += sum;
      }
}

}  // namespace kernels

// What weights w take from the error of a plane, in bits: 2 b w - w a w.
struct WienerSums {
  double a[WIENER_WEIGHTS][WIENER_WEIGHTS], b[WIENER_WEIGHTS];

  // All 0 if they are not worth their bits by the model.
  WienerWeights solve(const Model& model, int plane) const {
    constexpr double most = (1 << MAX_WEIGHT_BITS) - 1;
    std::array<double, WIENER_WEIGHTS> w = {};
    for (int i = 0; i < 200 * WIENER_WEIGHTS; ++i) w[i % WIENER_WEIGHTS] = best(w, i % WIENER_WEIGHTS);
    for (double& v : w) v = std::clamp(std::round(v), -most, most);
    for (int i = 0; i < 4 * WIENER_WEIGHTS; ++i) {  // each in turn to what is best beside the others
      const int k = i % WIENER_WEIGHTS;
      const double middle = best(w, k), below = std::clamp(std::floor(middle), -most, most - 1);
      const auto cost_of = [&](double v) { return a[k][k] * (v - middle) * (v - middle) + bits_of(model, k, v); };
      w[k] = 0;
      for (const double v : {below, below + 1})
        if (cost_of(v) < cost_of(w[k])) w[k] = v;
    }
    const int p = model.contexts[contexts::WIENER(plane)].p;
    double worth = cost(p, 0) - cost(p, 1);
    WienerWeights out;
    for (int k = 0; k < WIENER_WEIGHTS; ++k) {
      out[k] = static_cast<int16_t>(w[k]);
      worth += 2 * b[k] * w[k] - bits_of(model, k, w[k]);
      for (int i = 0; i < WIENER_WEIGHTS; ++i) worth -= w[k] * a[k][i] * w[i];
    }
    return worth > 0 ? out : WienerWeights{};
  }

 private:
  // The weight k that takes most, beside the others as they are.
  double best(const std::array<double, WIENER_WEIGHTS>& w, int k) const {
    double sum = b[k];
    for (int i = 0; i < WIENER_WEIGHTS; ++i)
      if (i != k) sum -= a[k][i] * w[i];
    return a[k][k] > 0 ? sum / a[k][k] : 0;
  }

  // D65; none where there is nothing to weigh.
  double bits_of(const Model& model, int number, double weight) const {
    if (a[number][number] == 0) return 0;
    const int magnitude = std::abs(static_cast<int>(weight));
    const auto price = [&](int bits, int bin) {
      return cost(model.contexts[contexts::WIENER_WEIGHT(number, bits)].p, bin);
    };
    int bits = 0;
    double sum = 0;
    for (; magnitude >> bits; ++bits) sum += price(bits, 1) + 1;
    return bits < MAX_WEIGHT_BITS ? sum + price(bits, 0) : sum;
  }
};

// Of each plane; of every other row, which tells enough. `bits`: that a squared error of a sample weighs.
inline std::array<WienerSums, 3> wiener_sums(const Tile& tile, const Samples* added, const Samples& source,
                                             const std::array<double, 3>& bits) {
  WienerInputs inputs(tile, added);
  std::vector<int16_t> error(tile.planes[0].width);
  double products[3][WIENER_WEIGHTS + 1][WIENER_WEIGHTS + 1] = {};
  for (int y = 0; y < tile.planes[0].height; ++y) {
    inputs.take(y);
    for (int p = 0; p < tile.syntax.geometry().planes; ++p) {
      const Plane& plane = tile.planes[p];
      if (y % 2 || y >= plane.height) continue;
      std::array<const int16_t*, WIENER_WEIGHTS + 1> v;
      for (int k = 0; k < WIENER_WEIGHTS; ++k) v[k] = kernels::limit(inputs.of(p)[k], plane.width);
      kernels::subtract(source.planes[p].at(0, y), 0, plane.at(0, y), plane.width, 1, error.data());
      v.back() = error.data();
      kernels::add_products(v.data(), plane.width, products[p]);
    }
  }
  std::array<WienerSums, 3> out;
  for (int p = 0; p < 3; ++p)
    for (int i = 0; i < WIENER_WEIGHTS; ++i) {
      for (int k = 0; k < WIENER_WEIGHTS; ++k)
        out[p].a[i][k] = 2 * bits[p] * products[p][std::min(i, k)][std::max(i, k)] / (1 << 2 * WIENER_SHIFT);
      out[p].b[i] = 2 * bits[p] * products[p][i][WIENER_WEIGHTS] / (1 << WIENER_SHIFT);
    }
  return out;
}

}  // namespace ncodec::dct
