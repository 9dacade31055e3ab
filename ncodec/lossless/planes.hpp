// A plane of samples, each predicted and its residual coded (specs/lossless.md, sections 4 to 6).
//
//   taps: NN .  .           least squares (few, more, all taps near the pixel; all taps, of the whole plane),
//      NW N  NE   + those   neighbours moved by the change of a plane before, a gradient, an extrapolation:
//   WW W  x       of planes before           all blended by their errors near by
//   --> less what such pixels were off by --> residual: zero? sign, class, bits; each mixed from nine contexts
//
// Planes come whole, one after the other: a pixel's taps in planes before are those around it, below and right as well.

#pragma once

#include <cstdlib>
#include <initializer_list>
#include <vector>

#include "least_squares.hpp"

namespace ncodec::lossless {

constexpr int PAD = 4;

// [h, w] with two rows above, one below and PAD columns at either side (L8).
template <class Sample>
class Plane {
 public:
  Plane(int w, int h, int outside)
      : w_(w),
        stride_(w + 2 * PAD),
        v_(static_cast<size_t>(h + 3) * static_cast<size_t>(stride_), static_cast<Sample>(outside)) {}

  int stride() const { return stride_; }
  Sample* row(int y) { return v_.data() + static_cast<ptrdiff_t>(y + 2) * stride_ + PAD; }
  const Sample* row(int y) const { return v_.data() + static_cast<ptrdiff_t>(y + 2) * stride_ + PAD; }
  void begin_row(int y) { std::fill_n(row(y) - PAD, PAD, row(y - 1)[0]); }
  void end_row(int y) { std::fill_n(row(y) + w_, PAD, row(y)[w_ - 1]); }
  void end(int h) { std::copy_n(row(h - 1) - PAD, stride_, row(h) - PAD); }

 private:
  int w_, stride_;
  std::vector<Sample> v_;
};
using Samples = Plane<uint16_t>;
using Residuals = Plane<int16_t>;

enum class Pixel : uint8_t { coded, known, hidden };

// Log scale of v + 1, with `steps` (1, 2, 4) an octave.
NCODEC_INLINE int level_of(uint32_t v, int steps) {
  ++v;
  const int l = log2_of(v);
  return l * steps + static_cast<int>((((uint64_t{v} << 8) >> l) - 256) * static_cast<uint64_t>(steps) >> 8);
}
NCODEC_INLINE int level_of(uint32_t v, int steps, int most) { return std::min(level_of(v, steps), most); }

// -8 ... 8 as 0 ... 16.
NCODEC_INLINE int signed_level_of(int v) {
  const int level = level_of(static_cast<uint32_t>(std::abs(v)), 1, 8);
  return (v < 0 ? -level : level) + 8;
}
NCODEC_INLINE uint32_t size_of(int v) { return static_cast<uint32_t>(std::abs(v)); }

// The first m of class k: 0 1 2 3 4 6 8 12 16 24 ...
constexpr int first_of_class(int k) { return k < 4 ? k : (2 + (k & 1)) << (k / 2 - 1); }

constexpr size_t CONTEXTS = 9;
constexpr int FRACTION = 6;    // bits of predictions
constexpr int PREDICTORS = 8;  // one a lane
typedef float Floats __attribute__((vector_size(32)));

// Everything that is learned of a plane.
struct Learned {
  static constexpr int PAIRS = 17 * 17;
  static constexpr int SIZES[CONTEXTS] = {24 * 24,   PAIRS * 16, PAIRS * 4, PAIRS * 4, PAIRS * 4,
                                          PAIRS * 4, 256 * 4,    PAIRS * 8, 256 * 8};
  struct alignas(64) Line {  // of a cache
    Slot slots[16];
  };
  struct Bias {
    int32_t v = 0;
    int n = 0;
  };

  int bins;  // slots of a context: zero, sign, and one a class
  std::vector<Line> lines[CONTEXTS];
  std::vector<Weights> by_energy, by_other;
  std::vector<Refinement> refinements;
  std::vector<Slot> low;
  std::vector<Bias> by_texture, by_others, by_neighbours;

  explicit Learned(int most) : bins(most < 256 ? 16 : 32) {
    const size_t n = static_cast<size_t>(bins);
    for (size_t i = 0; i < CONTEXTS; ++i) lines[i].resize(static_cast<size_t>(SIZES[i]) * n / 16);
    by_energy.assign(24 * n, Weights(CONTEXTS));
    by_other.assign(32 * n, Weights(CONTEXTS));
    refinements.resize(24 * n);
    low.resize(32 * 16);
    by_texture.resize(256 * 8);
    by_others.resize(17 * 17);
    by_neighbours.resize(17 * 17);
  }
};

// What a plane is coded with: planes before, the nearest first, and the pixels that are not coded.
struct Surroundings {
  int w, h, cell;
  std::vector<const Samples*> samples;
  std::vector<const Residuals*> residuals;
  const std::vector<Pixel>* pixels;  // null: all are coded
};

template <class Coder>
class PlaneCoder {
 public:
  PlaneCoder(Coder& coder, Samples& samples, Residuals& residuals, int most, const Surroundings& s)
      : coder_(coder), x_(samples), e_(residuals), most_(most), s_(s), learned_(most) {
    choose_taps();
  }

  // False: the payload is truncated.
  NCODEC_INLINE bool code() {
    const int cells = (s_.w + s_.cell - 1) / s_.cell;
    std::vector<Moments> moments(static_cast<size_t>(cells));
    Moments all;
    int32_t w[4][ROWS] = {};  // few, more, all taps; all of them, from the whole plane
    w[3][0] = w[3][1] = 1 << 15;
    const int all_shift = std::max(0, log2_of(static_cast<uint64_t>(s_.w)) - 4);
    std::vector<int32_t> errors(static_cast<size_t>(2 * PREDICTORS * x_.stride()));
    int32_t z[SEGMENT][ROWS] = {};
    for (int y = 0; y < s_.h; ++y) {
      if (!coder_.is_ok()) return false;
      begin_row(y, errors);
      if (y > 0) {
        solver_.m = all;
        solver_.eliminate(n_);
        solver_.solve(n_, n_, w[3]);
        for (int i = 0; i <= n_; ++i) {
          for (int j = first_column(i); j < ROWS; ++j) all.a[i][j] -= all.a[i][j] >> 5;
        }
      }
      for (int c = 0; c < cells; ++c) {
        const int x0 = c * s_.cell, x1 = std::min(s_.w, x0 + s_.cell);
        if (!is_coded(y, x0, x1)) {
          for (int x = x0; x < x1; ++x) pass(y, x);
          std::memset(z, 0, sizeof z);
        } else {
          add_cells(moments, c);
          solver_.eliminate(n_);
          solver_.solve(few_, n_, w[0]);
          solver_.solve(more_, n_, w[1]);
          solver_.solve(n_, n_, w[2]);
          for (int x = x0; x < x1; ++x) {
            if (pixel(y, x) == Pixel::coded) {
              code_pixel(y, x, w, z[x - x0]);
            } else {
              pass(y, x);
              std::fill_n(z[x - x0], ROWS, 0);
            }
          }
          for (int i = x1 - x0; i < s_.cell; ++i) std::fill_n(z[i], ROWS, 0);
        }
        accumulate(moments[static_cast<size_t>(c)], all, all_shift, z, s_.cell, n_);
      }
      x_.end_row(y), e_.end_row(y);
    }
    x_.end(s_.h), e_.end(s_.h);
    return true;
  }

 private:
  // L9.
  void choose_taps() {
    struct Place {
      int dx, dy;
    };
    static constexpr Place OWN[12] = {{-1, 0}, {0, -1},  {-1, -1}, {1, -1},  {-2, 0}, {0, -2},
                                      {2, -1}, {-2, -1}, {1, -2},  {-1, -2}, {-3, 0}, {2, -2}};
    static constexpr Place OTHER[7] = {{0, 0}, {-1, 0}, {0, -1}, {1, 0}, {0, 1}, {1, -1}, {-1, -1}};
    const int others = static_cast<int>(s_.samples.size());
    const auto add = [&](const Place* places, int from, int to, int other) {
      for (int i = from; i < to; ++i) taps_[n_++] = {places[i].dx + places[i].dy * x_.stride(), other, nullptr};
    };
    const auto add_others = [&](int from, int to) {
      for (int k = 0; k < others; ++k) add(OTHER, from, to, k);
    };
    add(OWN, 0, 4, -1);
    add_others(0, 3);
    few_ = n_;
    if (others == 0) add(OWN, 4, 6, -1);
    add_others(3, 5);
    more_ = n_;
    add(OWN, others == 0 ? 6 : 4, others == 0 ? 12 : others == 1 ? 10 : 8, -1);
    add_others(5, others == 1 ? 7 : 6);
    const int bits = log2_of(static_cast<uint64_t>(most_)) + 1;
    tap_shift_ = std::max(0, bits + 1 - TAP_BITS), value_shift_ = std::max(0, bits - 8),
    depth_shift_ = std::max(0, bits - 12);
  }

  Pixel pixel(int y, int x) const {
    return s_.pixels ? (*s_.pixels)[static_cast<size_t>(y) * static_cast<size_t>(s_.w) + static_cast<size_t>(x)]
                     : Pixel::coded;
  }
  bool is_coded(int y, int x0, int x1) const {
    while (x0 < x1 && pixel(y, x0) != Pixel::coded) ++x0;
    return x0 < x1;
  }

  void begin_row(int y, std::vector<int32_t>& errors) {
    x_.begin_row(y), e_.begin_row(y);
    const auto row = [&](int i) { return errors.data() + (i * x_.stride() + PAD) * PREDICTORS; };
    errors_ = row(y & 1), above_ = row(~y & 1);
    for (int i = 1; i <= PAD; ++i) {
      std::copy_n(above_, PREDICTORS, errors_ - i * PREDICTORS);
      std::copy_n(above_ + (s_.w - 1) * PREDICTORS, PREDICTORS, above_ + (s_.w - 1 + i) * PREDICTORS);
    }
    for (int i = 0; i < n_; ++i) {
      const int other = taps_[i].other;
      taps_[i].row = (other < 0 ? x_.row(y) : s_.samples[static_cast<size_t>(other)]->row(y)) + taps_[i].offset;
    }
  }

  // L12: the moments of the pixels near cell c.
  NCODEC_INLINE void add_cells(const std::vector<Moments>& moments, int c) {
    static const Moments NONE;
    const auto cell = [&](int i) -> const Moments& {
      return i < 0 || i >= static_cast<int>(moments.size()) ? NONE : moments[static_cast<size_t>(i)];
    };
    const Moments &m0 = cell(c - 2), &m1 = cell(c - 1), &m2 = cell(c), &m3 = cell(c + 1), &m4 = cell(c + 2);
    for (int i = 0; i <= n_; ++i) {
      for (int j = first_column(i); j < ROWS; ++j)
        solver_.m.a[i][j] = 2 * (m1.a[i][j] + m2.a[i][j] + m3.a[i][j]) + m0.a[i][j] + m4.a[i][j];
    }
  }

  // A pixel that is not coded.
  NCODEC_INLINE void pass(int y, int x) {
    uint16_t* p = x_.row(y) + x;
    if (pixel(y, x) == Pixel::hidden) *p = static_cast<uint16_t>((p[-1] + p[-x_.stride()]) >> 1);
    e_.row(y)[x] = 0;
    std::fill_n(errors_ + x * PREDICTORS, PREDICTORS, 0);
  }

  NCODEC_INLINE void code_pixel(int y, int x, const int32_t (*w)[ROWS], int32_t* z) {
    uint16_t* p = x_.row(y) + x;
    const int up = -x_.stride();
    const int W = p[-1], N = p[up], NW = p[up - 1], NE = p[up + 1], WW = p[-2], NN = p[2 * up];
    const size_t others = s_.samples.size();
    const uint16_t* q[2] = {p, p};  // the same place in planes before: the last, the first of them
    if (others > 0) q[0] = s_.samples[others - 1]->row(y) + x, q[1] = s_.samples[0]->row(y) + x;

    // L10: taps, twice their distance from the mean of W and N.
    int32_t t[ROWS] = {};
    int base[4] = {W + N};
    for (size_t k = 0; k < others; ++k) {
      const uint16_t* o = s_.samples[k]->row(y) + x;
      base[k + 1] = o[-1] + o[up];
    }
    for (int i = 0; i < n_; ++i) t[i] = 2 * taps_[i].row[x] - base[taps_[i].other + 1];

    // L15: predictions, of 2^FRACTION.
    const int bound = most_ << FRACTION;
    int predicted[PREDICTORS];
    const auto clamped = [&](int v) { return std::clamp(v, 0, bound); };
    const auto squares = [&](const int32_t* weights) {  // 0 from their taps on
      int64_t sum = 0;
      for (int i = 0; i < ROWS; ++i) sum += int64_t{weights[i]} * t[i];
      return static_cast<int>(
          std::clamp<int64_t>((sum >> (17 - FRACTION)) + int64_t{base[0]} * (1 << (FRACTION - 1)), 0, bound));
    };
    const int change[4] = {q[0][0] - q[0][-1], q[0][0] - q[0][up], q[1][0] - q[1][-1], q[1][0] - q[1][up]};
    predicted[0] = squares(w[0]);
    predicted[1] = squares(w[1]);
    predicted[2] = squares(w[2]);
    predicted[3] = squares(w[3]);
    int Wc = W, Nc = N, Wd = W, Nd = N, NWc = NW, NEc = NE, WWc = WW, NNc = NN;
    if (others > 0) {
      Wc += change[0], Nc += change[1], Wd += change[2], Nd += change[3];
      NWc += q[0][0] - q[0][up - 1], NEc += q[0][0] - q[0][up + 1], WWc += q[0][0] - q[0][-2],
          NNc += q[0][0] - q[0][2 * up];
      predicted[4] = clamped((Wc + Nc) * (1 << (FRACTION - 1)));
    } else {
      const int low = std::min(W, N), high = std::max(W, N);
      predicted[4] = (NW >= high ? low : NW <= low ? high : W + N - NW) * (1 << FRACTION);
    }
    predicted[5] = clamped((2 * N - NN + 2 * W - WW) * (1 << (FRACTION - 1)));
    predicted[6] = clamped(Nc * (1 << FRACTION));
    predicted[7] = clamped(Wc * (1 << FRACTION));

    // L16: blended by the inverse fourth power of their errors near by.
    const int32_t *above = above_ + x * PREDICTORS, *own = errors_ + x * PREDICTORS;
    const auto at = [](const int32_t* errors, int dx) -> const Lanes& { return lanes(errors + dx * PREDICTORS); };
    const Lanes errors = 2 * (at(own, -1) + at(above, 0)) + at(own, -2) + at(above, -1) + at(above, 1) + 8;  // < 2^24
    // level(errors - 1; 4): exponent and two bits of the fraction, as a float has them. Less 4 * 127, of all.
    const Floats as_float = __builtin_convertvector(errors, Floats);
    const Lanes level = (Lanes)as_float >> 21;
    int least = level[0];
    for (int i = 1; i < PREDICTORS; ++i) least = std::min(least, level[i]);
    Lanes weight = level - least;
    weight = 4096 >> (weight > 31 ? 31 : weight);
    int64_t sum = 0;
    int share = 0;
    for (int i = 0; i < PREDICTORS; ++i) {
      sum += int64_t{weight[i]} * predicted[i];
      share += weight[i];
    }
    const int mu = static_cast<int>(sum / share);

    // L17: errors near by, here and in planes before.
    int16_t* e = e_.row(y) + x;
    const uint32_t energy = 3 * (size_of(e[-1]) + size_of(e[up])) + 2 * (size_of(e[up - 1]) + size_of(e[up + 1])) +
                            size_of(e[-2]) + size_of(e[2 * up]) + size_of(e[up + 2]) + size_of(e[2 * up + 1]);
    uint32_t other = 0;
    int ec = 0, ed = 0;
    if (others > 0) {
      const int16_t *o = s_.residuals[others - 1]->row(y) + x, *o0 = s_.residuals[0]->row(y) + x;
      ec = o[0];
      other = 4 * size_of(ec) + 2 * (size_of(o[-1]) + size_of(o[1]) + size_of(o[up]) + size_of(o[-up]));
      if (others > 1) ed = o0[0], other += 2 * size_of(ed) + size_of(o0[1]) + size_of(o0[-up]);
    } else {
      other = 2 * (size_of(W - NW) + size_of(N - NW) + size_of(N - NE) + size_of(W - WW) + size_of(N - NN) +
                   size_of(NE - p[2 * up + 1]));
    }
    const int by_energy = level_of(energy >> depth_shift_, 2, 23), by_other = level_of(other >> depth_shift_, 2, 23),
              coarse = std::min(by_energy * 2 / 3, 15);

    // L18: what such pixels were off by.
    const int m = mu >> FRACTION;
    const int texture = (Wc > m) | (Nc > m) << 1 | (NWc > m) << 2 | (NEc > m) << 3 | (WWc > m) << 4 | (NNc > m) << 5 |
                        (2 * Nc - NNc > m) << 6 | (2 * Wc - WWc > m) << 7;
    const int neighbours = signed_class(e[-1]) * 17 + signed_class(e[up]);
    const int others_here = signed_class(ec) * 17 + signed_class(ed);
    Learned::Bias* biases[3] = {&learned_.by_texture[static_cast<size_t>(texture * 8 + by_energy / 3)],
                                &learned_.by_others[static_cast<size_t>(others_here)],
                                &learned_.by_neighbours[static_cast<size_t>(neighbours)]};
    const int centre = clamped(mu + (biases[0]->v + biases[1]->v + biases[2]->v) / 3);
    const int whole = std::min((centre + (1 << (FRACTION - 1))) >> FRACTION, most_);
    const int eighth = std::clamp((centre - (whole << FRACTION) + 32) >> 3, 0, 7), quarter = eighth >> 1;

    // L19: contexts.
    const auto set = [&](size_t i, int context) {
      base_[i] = learned_.lines[i][static_cast<size_t>(context * learned_.bins / 16)].slots;
      __builtin_prefetch(base_[i]);
    };
    const auto pair = [&](int a, int b) { return (signed_class(a) * 17 + signed_class(b)) * 4 + quarter; };
    const auto [low, high] = std::minmax({predicted[0], predicted[1], predicted[2], predicted[3]});
    set(0, by_other * 24 + by_energy);
    set(1, others > 0 ? others_here * 16 + coarse : (signed_class(e[up + 1]) * 17 + signed_class(e[up - 1])) * 16);
    set(2, pair(Wc - whole, Nc - whole));
    set(3, others > 1 ? pair(Wd - whole, Nd - whole) : pair(2 * Wc - WWc - whole, 2 * Nc - NNc - whole));
    set(4, pair(NWc - whole, NEc - whole));
    set(5, pair((predicted[0] - centre) >> 3, (predicted[3] - centre) >> 3));
    set(6, texture * 4 + std::min(by_energy / 5, 3));
    set(7, (level_of(static_cast<uint32_t>(high - low) >> (2 + depth_shift_), 2, 16) * 17 + coarse) * 8 + eighth);
    set(8, (whole >> value_shift_) * 8 + by_energy / 3);
    weights_ = {by_energy, by_other / 3 * 4 + quarter, by_other};

    const int residual = code_residual(*p - whole, -whole, most_ - whole);
    const int value = whole + residual;
    if (Coder::DECODES) *p = static_cast<uint16_t>(value);
    e[0] = static_cast<int16_t>(std::clamp(residual, -INT16_MAX, INT16_MAX));

    // What is learned of it.
    const int fine = value << FRACTION;
    for (Learned::Bias* bias : biases) {
      bias->v += static_cast<int32_t>((int64_t{fine - mu - bias->v} * RATES.rate[bias->n]) >> 16);
      bias->n += bias->n < 60;
    }
    for (int i = 0; i < PREDICTORS; ++i) errors_[x * PREDICTORS + i] = std::abs(predicted[i] - fine) >> 2;
    constexpr int LIMIT = (1 << TAP_BITS) - 1;
    for (int i = 0; i < n_; ++i) z[i] = std::clamp(t[i] >> tap_shift_, -LIMIT, LIMIT);
    z[n_] = std::clamp((2 * value - base[0]) >> tap_shift_, -LIMIT, LIMIT);
  }

  NCODEC_INLINE int signed_class(int v) const {
    return signed_level_of(v < 0 ? -(-v >> depth_shift_) : v >> depth_shift_);
  }

  NCODEC_INLINE uint32_t code_bin(int j, bool bin) {
    Slot* slots[CONTEXTS];
    for (size_t i = 0; i < CONTEXTS; ++i) slots[i] = base_[i] + j;
    const auto at = [&](int set) { return static_cast<size_t>(set * learned_.bins + j); };
    return code_mixed<CONTEXTS, 13>(coder_, bin, slots, learned_.by_energy[at(weights_[0])],
                                    learned_.by_other[at(weights_[1])], learned_.refinements[at(weights_[2])]);
  }

  // L20: a residual in [low, high], which holds 0.
  NCODEC_INLINE int code_residual(int v, int low, int high) {
    if (low == high || code_bin(0, v == 0)) return 0;
    const bool is_negative = high == 0 || (low < 0 && code_bin(1, v < 0));
    const int most = (is_negative ? -low : high) - 1, m = std::abs(v) - 1;
    int k = 0;
    while (first_of_class(k + 1) <= most && code_bin(std::min(k + 2, learned_.bins - 1), m >= first_of_class(k + 1)))
      ++k;
    int out = first_of_class(k), node = 1;
    const int rest = m - out;
    for (int i = k < 4 ? -1 : k / 2 - 2; i >= 0; --i) {
      if (out + (1 << i) > most) continue;
      const uint32_t bit =
          code_alone(coder_, rest >> i & 1, learned_.low[static_cast<size_t>(k * 16 + std::min(node, 15))]);
      out += static_cast<int>(bit) << i;
      node = 2 * node + static_cast<int>(bit);
    }
    return is_negative ? -out - 1 : out + 1;
  }

  struct Tap {
    int offset, other;  // -1: the plane itself
    const uint16_t* row;
  };

  Coder& coder_;
  Samples& x_;
  Residuals& e_;
  const int most_;
  const Surroundings& s_;
  Learned learned_;
  Solver solver_;
  Tap taps_[MOST_TAPS];
  int n_ = 0, few_ = 0, more_ = 0, tap_shift_ = 0, value_shift_ = 0, depth_shift_ = 0;
  int32_t *errors_ = nullptr, *above_ = nullptr;  // [w, PREDICTORS], of this row and the one above
  Slot* base_[CONTEXTS];
  std::array<int, 3> weights_;
};

}  // namespace ncodec::lossless
