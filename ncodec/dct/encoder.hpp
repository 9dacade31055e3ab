// The encoder's choices for a tile: the partition, modes and levels that minimise bits + weight x squared error.
//
//   square -> leaf or split? at every size from 64 down: leaf = best of a few luma modes (by Hadamard first, then in
//   full), then of the chroma modes; a split = the sum over its quarters. Costs come from the model as it stood
//   before the square; the samples from real reconstruction.

#pragma once

#include <limits>
#include <memory>

#include "quantise.hpp"
#include "tile.hpp"

namespace ncodec::dct {

struct EncoderOptions {
  float lambda = 0.013f;           // bits per pixel against mean squared error (8-bit RGB)
  int least_log2 = 2, most_log2 = 6;
  bool optimised_levels = true;    // rate-distortion optimised quantisation
  int full_trials = 3;             // luma modes coded in full, at most 4
};

// What an error of a plane's samples weighs in the mean squared error of R, G and B (BT.601: an error of Cb moves G
// by 0.344 and B by 1.772, and so on).
constexpr float PLANE_WEIGHT[3] = {1.f, 1.086f, 0.825f};

class TileEncoder {
 public:
  TileEncoder(Tile& tile, const std::array<Plane, 3>& source, const EncoderOptions& options)
      : tile_(tile), syntax_(tile.syntax), source_(source), options_(options) {
    const Geometry& g = syntax_.geometry();
    for (int p = 0; p < g.planes; ++p) {
      // 10-bit samples; those of 4:2:0 stand for four.
      weight_[p] = options.lambda / 16.f * PLANE_WEIGHT[p] * static_cast<float>(1 << (2 * g.shift(p)));
      for (int size = 0; size < SIZES; ++size) {
        const auto& steps = tile.steps[p][size];
        auto& q = quantisers_[p][size];
        for (const int step : steps) {
          const float s = static_cast<float>(step) / 32;  // half a step
          q.inverse.push_back(std::ldexp(1.f / s, -FORWARD_BITS));
          q.error.push_back(weight_[p] * s * s);
        }
      }
    }
  }

  // Chooses for the square at (x, y): afterwards the maps and levels hold the choice.
  void choose(const Model& model, int x, int y) {
    model_ = &model;
    best(x, y, SQUARE_LOG2, NEVER);
  }

  // How much less a square's error weighs with other samples in place of the tile's.
  float gain_of(int plane, const Plane& other, int x, int y) const {
    const int s = syntax_.geometry().shift(plane), left = x >> s, top = y >> s;
    const int width = std::min(SQUARE >> s, other.width - left), height = std::min(SQUARE >> s, other.height - top);
    const auto error = [&](const Plane& p) {
      return kernels::squared_error(source_[plane].at(left, top), source_[plane].stride, p.at(left, top), p.stride, width, height);
    };
    return weight_[plane] * static_cast<float>(error(tile_.planes[plane]) - error(other));
  }

 private:
  struct Quantiser {
    std::vector<float> inverse, error;
  };

  // A copy of everything that a block's trial leaves behind.
  struct Saved {
    std::array<std::array<int16_t, SQUARE * SQUARE>, 3> samples, levels;
    std::array<Unit, (SQUARE / 4) * (SQUARE / 4)> units;
  };

  static void copy(const int16_t* from, int from_stride, int16_t* to, int to_stride, int side) {
    for (int j = 0; j < side; ++j) std::memcpy(to + j * to_stride, from + j * from_stride, sizeof(int16_t) * side);
  }

  void save(int x, int y, int log2, Saved& to, int first_plane, int planes) {
    for (int p = first_plane; p < first_plane + planes; ++p) {
      const int s = syntax_.geometry().shift(p), side = (1 << log2) >> s;
      copy(tile_.planes[p].at(x >> s, y >> s), tile_.planes[p].stride, to.samples[p].data(), SQUARE, side);
      copy(syntax_.levels(p, x, y), Syntax::LEVELS_STRIDE, to.levels[p].data(), SQUARE, side);
    }
    size_t n = 0;
    syntax_.over(x, y, log2, [&](const Unit& u) { to.units[n++] = u; });
  }

  void restore(int x, int y, int log2, const Saved& from, int first_plane, int planes) {
    for (int p = first_plane; p < first_plane + planes; ++p) {
      const int s = syntax_.geometry().shift(p), side = (1 << log2) >> s;
      copy(from.samples[p].data(), SQUARE, tile_.planes[p].at(x >> s, y >> s), tile_.planes[p].stride, side);
      copy(from.levels[p].data(), SQUARE, syntax_.levels(p, x, y), Syntax::LEVELS_STRIDE, side);
    }
    size_t n = 0;
    syntax_.over(x, y, log2, [&](Unit& u) { u = from.units[n++]; });
  }

  // Returns the cost of the block as chosen, or more than `limit` (then what it leaves behind is no choice).
  float best(int x, int y, int log2, float limit) {
    const Geometry& g = syntax_.geometry();
    if (x >= g.width || y >= g.height) return 0;
    if (syntax_.must_split(x, y, log2)) {
      float total = 0;
      for (int i = 0; i < 4; ++i) total += best(x + ((i & 1) << (log2 - 1)), y + ((i >> 1) << (log2 - 1)), log2 - 1, limit);
      return total;
    }
    const bool may_split = log2 > 3 ? log2 > options_.least_log2 : options_.least_log2 == 2;
    Saved& saved = *saved_[log2];
    float leaf = log2 <= options_.most_log2 ? best_luma(x, y, log2, may_split) : NEVER;
    if (leaf < NEVER) {
      Estimator whole(*model_);
      syntax_.code_split(whole, false, x, y, log2);
      leaf += whole.bits;
      if (g.planes == 3) leaf += best_chroma(x, y, log2, true);
      const Unit& u = syntax_.unit(x, y);
      const bool is_empty = !u.energy[0] && !u.energy[1] && !u.energy[2];
      if (!may_split || (is_empty && log2 <= 4)) return leaf;
      save(x, y, log2, saved, 0, g.planes);
    }
    Estimator split(*model_);
    syntax_.code_split(split, true, x, y, log2);
    float total = split.bits;
    const float most = std::min(leaf, limit);
    const int half = 1 << (log2 - 1);
    for (int i = 0; i < 4 && total < most; ++i) {
      const int cx = x + (i & 1) * half, cy = y + (i >> 1) * half;
      if (log2 == 3) {
        total += best_luma(cx, cy, 2, false);
      } else {
        total += best(cx, cy, log2 - 1, most - total);
      }
    }
    if (log2 == 3 && g.planes == 3 && total < most) total += best_chroma(x, y, 3, false);
    if (total < leaf) return total;
    restore(x, y, log2, saved, 0, g.planes);
    return leaf;
  }

  // Coefficients of source less prediction, in half-steps: [coded side, coded side].
  void transform(int plane, int x, int y, int log2, bool is_sine, const int16_t* prediction, float* ratio) {
    const int s = syntax_.geometry().shift(plane), own_log2 = log2 - s, side = 1 << own_log2, coded = 1 << coded_log2(own_log2);
    int16_t residual[MAX_SIDE * MAX_SIDE];
    kernels::subtract(source_[plane].at(x >> s, y >> s), source_[plane].stride, prediction, side, residual);
    int32_t coefficients[MAX_SIDE * MAX_SIDE];
    forward(residual, side, coefficients, own_log2, tile_.kind_of(plane, own_log2, is_sine));
    const float* inverse = quantisers_[plane][own_log2 - 2].inverse.data();
    for (int v = 0; v < coded; ++v)
      for (int u = 0; u < coded; ++u) ratio[v * coded + u] = static_cast<float>(coefficients[v * side + u]) * inverse[v * coded + u];
  }

  // About what a prediction's residual will cost, in bits.
  float guess(int plane, int x, int y, int log2, bool is_sine, const int16_t* prediction) {
    const int own_log2 = log2 - syntax_.geometry().shift(plane), coded = 1 << coded_log2(own_log2);
    float ratio[MAX_CODED * MAX_CODED];
    transform(plane, x, y, log2, is_sine, prediction, ratio);
    return kernels::guess_cost(ratio, quantisers_[plane][own_log2 - 2].error.data(), coded * coded);
  }

  // Codes the residual of a prediction: levels, samples, units' energies. Returns the cost without the mode's.
  float try_residual(int plane, int x, int y, int log2, bool has_luma, const int16_t* prediction) {
    const int own_log2 = log2 - syntax_.geometry().shift(plane);
    float ratio[MAX_CODED * MAX_CODED];
    transform(plane, x, y, log2, syntax_.unit(x, y).is_sine, prediction, ratio);
    tile_.clear_levels(plane, x, y, log2);
    int16_t* levels = syntax_.levels(plane, x, y);
    const bool any = options_.optimised_levels
                         ? trellis_.quantise(ratio, quantisers_[plane][own_log2 - 2].error.data(), levels, Syntax::LEVELS_STRIDE, own_log2,
                                             syntax_.surroundings(plane, x, y, log2, has_luma), *model_)
                         : quantise_plainly(ratio, levels, Syntax::LEVELS_STRIDE, own_log2);
    Estimator bits(*model_);
    syntax_.code_block(bits, plane, x, y, log2, any, has_luma);
    tile_.add_residual(plane, x, y, log2, any, prediction);
    return bits.bits + weight_[plane] * error(plane, x, y, log2);
  }

  float error(int plane, int x, int y, int log2) const {
    const int s = syntax_.geometry().shift(plane), side = (1 << log2) >> s;
    const Plane& a = source_[plane];
    const Plane& b = tile_.planes[plane];
    return static_cast<float>(kernels::squared_error(a.at(x >> s, y >> s), a.stride, b.at(x >> s, y >> s), b.stride, side, side));
  }

  // NEVER, if the block may and had better be split: large busy ones take long, and are never chosen.
  float best_luma(int x, int y, int log2, bool may_give_up) {
    const int side = 1 << log2;
    References plain, smoothed;
    tile_.gather_border(0, x, y, log2, plain);
    if (log2 > 2) smooth(plain, side, smoothed);
    syntax_.over(x, y, log2, [&](Unit& u) { u.log2 = static_cast<uint8_t>(log2), u.chroma_mode = SAME_AS_LUMA, u.is_sine = 0; });
    const LikelyModes likely = syntax_.likely_modes(x, y, tile_.derive(x, y, log2));
    const Plane& source = source_[0];
    const float scale = std::sqrt(weight_[0]);
    std::array<float, MODES> rough;
    rough.fill(NEVER);
    int16_t prediction[MAX_SIDE * MAX_SIDE];
    const auto look = [&](int mode) {
      if (mode < 0 || mode >= MODES || rough[mode] < NEVER) return;
      predict(plain, smoothed, mode, log2, true, prediction);
      Estimator bits(*model_);
      syntax_.code_luma_mode(bits, mode, likely, x, y, log2);
      rough[mode] = bits.bits + scale * static_cast<float>(kernels::satd(source.at(x, y), source.stride, prediction, side));
    };
    const auto rank = [&] {
      std::array<int, MODES> order;
      for (int m = 0; m < MODES; ++m) order[m] = m;
      std::partial_sort(order.begin(), order.begin() + 4, order.end(), [&](int a, int b) { return rough[a] < rough[b]; });
      return order;
    };
    look(PLANAR), look(DC);
    for (int mode = 2; mode < MODES; mode += 4) look(mode);
    for (const int step : {2, 1}) {
      const auto order = rank();
      for (int i = 0; i < 3; ++i)
        if (order[i] >= 2) look(std::max(order[i] - step, 2)), look(order[i] + step);
    }
    // The best by Hadamard, ranked again by their transform; the first of those are coded in full.
    for (const auto& l : likely.modes) look(l.mode);
    const auto order = rank();
    struct Guess {
      float cost;
      int mode;
      bool is_sine;
      bool operator<(const Guess& other) const { return cost < other.cost; }
    };
    std::array<Guess, GUESSED> guessed;
    for (int i = 0; i < GUESSED; ++i) {
      const int mode = order[i];
      predict(plain, smoothed, mode, log2, true, prediction);
      Estimator bits(*model_);
      syntax_.code_luma_mode(bits, mode, likely, x, y, log2);
      guessed[i] = {bits.bits + guess(0, x, y, log2, false, prediction), mode, false};
      if (!syntax_.may_be_sine(log2)) continue;
      const float sine = bits.bits + guess(0, x, y, log2, true, prediction);
      if (sine < guessed[i].cost) guessed[i] = {sine, mode, true};
    }
    std::sort(guessed.begin(), guessed.end());
    if (may_give_up && log2 >= 5 && guessed[0].cost > BUSY * static_cast<float>(side * side)) return NEVER;
    float best = NEVER;
    Saved& saved = *trial_[0];
    int last = -1, chosen = -1;
    for (int i = 0; i < options_.full_trials; ++i) {
      const auto [cost, mode, is_sine] = guessed[i];
      if (i && cost > 1.1f * guessed[0].cost + 2) break;
      predict(plain, smoothed, mode, log2, true, prediction);
      Estimator bits(*model_);
      syntax_.code_luma_mode(bits, mode, likely, x, y, log2);
      syntax_.over(x, y, log2, [&, mode = mode, is_sine = is_sine](Unit& u) { u.mode = static_cast<uint8_t>(mode), u.is_sine = is_sine; });
      const float total = bits.bits + try_residual(0, x, y, log2, false, prediction);
      last = i;
      if (total < best) {
        best = total, chosen = i;
        if (i + 1 < options_.full_trials) save(x, y, log2, saved, 0, 1);
      }
    }
    if (chosen != last) restore(x, y, log2, saved, 0, 1);
    return best;
  }

  float best_chroma(int x, int y, int log2, bool has_luma) {
    const int luma_mode = syntax_.unit(x, y).mode;
    int16_t prediction[MAX_SIDE * MAX_SIDE];
    float least = NEVER;
    int chosen = LINEAR;
    for (const int mode : {LINEAR, SAME_AS_LUMA, CHROMA_DC, CHROMA_PLANAR}) {
      if ((mode == CHROMA_DC && luma_mode == DC) || (mode == CHROMA_PLANAR && luma_mode == PLANAR)) continue;
      Estimator bits(*model_);
      syntax_.code_chroma_mode(bits, mode, x, y, log2);
      float total = bits.bits;
      for (int p = 1; p < 3 && total < least; ++p) {
        tile_.predict_chroma(p, x, y, log2, mode, prediction);
        total += guess(p, x, y, log2, false, prediction);
      }
      if (total < least) least = total, chosen = mode;
    }
    Estimator bits(*model_);
    syntax_.code_chroma_mode(bits, chosen, x, y, log2);
    syntax_.over(x, y, log2, [&](Unit& u) { u.chroma_mode = static_cast<uint8_t>(chosen); });
    float total = bits.bits;
    for (int p = 1; p < 3; ++p) {
      tile_.predict_chroma(p, x, y, log2, chosen, prediction);
      total += try_residual(p, x, y, log2, has_luma, prediction);
    }
    return total;
  }

  static constexpr int GUESSED = 4;
  static constexpr float BUSY = 1;  // bits + weighted error of a sample

  Tile& tile_;
  Syntax& syntax_;
  const std::array<Plane, 3>& source_;
  EncoderOptions options_;
  const Model* model_ = nullptr;
  Trellis trellis_;
  std::array<float, 3> weight_;
  std::array<std::array<Quantiser, SIZES>, 3> quantisers_;
  std::array<std::unique_ptr<Saved>, 7> saved_ = {make(), make(), make(), make(), make(), make(), make()};
  std::array<std::unique_ptr<Saved>, 1> trial_ = {make()};

  static std::unique_ptr<Saved> make() { return std::make_unique<Saved>(); }
};

}  // namespace ncodec::dct
