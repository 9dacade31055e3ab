// The encoder's choice of a block's intra modes.
//
//   luma: some of the 67 modes by Hadamard --> the best four or eight by transforms --> the best of these in full
//         learned modes by low frequencies --> the best two or four --^
//   chroma: all four by transform --> the best in full

#pragma once

#include <memory>

#include "enc_residual.hpp"
#include "enc_snapshot.hpp"

namespace ncodec::dct {

class LumaSearch {
 public:
  LumaSearch(Tile& tile, const Plane& source, ResidualTrial& residual, const EncoderOptions& options)
      : tile_(tile),
        source_(source),
        residual_(residual),
        full_trials_(options.full_trials),
        is_quick_(options.is_quick),
        is_thorough_(options.is_thorough),
        by_transform_(is_thorough_ ? MOST_BY_TRANSFORM : 4),
        learned_by_transform_(is_thorough_ ? MOST_LEARNED_BY_TRANSFORM : 2) {}

  // Codes a block's luma with the best mode. Returns its cost; NEVER, if the block may and had better be split: large
  // busy ones take long, and are never chosen; or if by estimate it costs more than `limit`.
  float choose(const Prices& prices, const Node& node, bool may_give_up, float limit) {
    const Block& b = node.block;
    prices_ = &prices, block_ = b;
    tile_.gather_references(0, b, references_);
    tile_.syntax.begin_luma(node);
    likely_ = tile_.syntax.likely_modes(b, tile_.derive_modes(b));
    Known& known = known_of(b);
    const bool is_known = known.square == square_;
    const Candidates candidates = is_known ? recall(known) : rank_by_transform(rank_by_hadamard());
    if (candidates[0].cost > limit) return NEVER;
    if (may_give_up && b.shape.log2_area() >= 10 && candidates[0].cost > BUSY * static_cast<float>(b.shape.area()))
      return NEVER;
    const float cost = code_best(candidates);
    const Unit& unit = tile_.syntax.unit(b);
    if (!is_known) known = {square_, unit.mode, unit.is_sine > 0};
    tile_.syntax.set_decoded(b, true);
    return cost;
  }

  void begin_square() { ++square_; }

 private:
  static constexpr int MOST_BY_TRANSFORM = 8, MOST_LEARNED_BY_TRANSFORM = 4;
  static constexpr float BUSY = 0.5f;  // bits + weighted error of a sample

  struct Candidate {
    float cost;
    int mode;
    bool is_sine;
    const int16_t* prediction;
    bool operator<(const Candidate& other) const { return cost < other.cost; }
  };
  using Candidates = std::vector<Candidate>;

  // What was chosen for a block when it was reached by other splits of the same square.
  struct Known {
    uint32_t square = 0;
    int mode = 0;
    bool is_sine = false;
  };

  Known& known_of(const Block& b) {
    const int x = (b.x & (SQUARE - 1)) >> UNIT_LOG2, y = (b.y & (SQUARE - 1)) >> UNIT_LOG2;
    return known_[((y * 16 + x) * SIZES + b.shape.log2_h - MIN_LOG2) * SIZES + b.shape.log2_w - MIN_LOG2];
  }

  // Notes and returns what it takes to say a mode.
  float price_mode(int mode) {
    const auto code = [&](Estimator& e) { tile_.syntax.code_luma_mode(e, mode, likely_, block_); };
    return mode_bits_[mode] = estimate_bits(*prices_, code);
  }

  Candidates recall(const Known& known) {
    int16_t* prediction = predictions_[0].data();
    predict_mode(known.mode, prediction);
    return {{price_mode(known.mode) + residual_.estimate_cost(0, block_, known.is_sine, prediction), known.mode,
             known.is_sine, prediction}};
  }

  // What modes cost, NEVER of those that were not looked at; and the best, in order.
  struct Ranking {
    std::array<float, MODES> costs;
    std::array<int, MOST_BY_TRANSFORM> best;
    int most, n = 0;

    explicit Ranking(int most_) : most(most_) { costs.fill(NEVER); }

    void add(int mode, float cost) {
      costs[mode] = cost;
      if (n < most) best[n++] = mode;
      else if (cost < costs[best[n - 1]]) best[n - 1] = mode;
      else return;
      for (int i = n - 1; i && cost < costs[best[i - 1]]; --i) std::swap(best[i], best[i - 1]);
    }
  };

  void predict_mode(int mode, int16_t* out) const { tile_.predict_luma(references_, mode, block_.shape, out); }

  // Every eighth direction, then those beside the best, and the likely modes; fewer if it is to be quick, more if
  // thorough.
  Ranking rank_by_hadamard() {
    const float scale = std::sqrt(residual_.weight(0, block_));
    Ranking ranking(by_transform_);
    const auto look = [&](int mode) {
      if (mode < 0 || mode >= MODES || ranking.costs[mode] < NEVER) return;
      int16_t prediction[MAX_SIDE * MAX_SIDE];
      predict_mode(mode, prediction);
      const int satd =
          kernels::satd(source_.at(block_.x, block_.y), source_.stride, prediction, block_.width(), block_.height());
      ranking.add(mode, price_mode(mode) + scale * static_cast<float>(satd));
    };
    look(PLANAR), look(DC);
    const int spacing = is_quick_ ? 16 : is_thorough_ ? 2 : 8;
    for (int mode = 2; mode < MODES; mode += spacing) look(mode);
    for (int step = spacing / 2; step > is_quick_; step /= 2) {
      const int best = ranking.best[0];
      if (best >= 2) look(std::max(best - step, 2)), look(best + step);
    }
    for (const auto& l : likely_.modes) look(l.mode);
    return ranking;
  }

  // The learned modes whose low frequencies are nearest to the source's, the best first. Sets their bits.
  std::vector<int> rank_learned() {
    const Shape& shape = block_.shape;
    const int modes = learned_modes(shape);
    if (!modes) return {};
    constexpr int MAX_AREA = 1 << (2 * MAX_LEARNED_LOG2);
    const LearnedBorder border(references_, shape);
    int16_t residual[MAX_AREA], wanted[2][LEARNED_OUTPUTS], found[LEARNED_OUTPUTS];
    int32_t coefficients[MAX_AREA];
    std::fill_n(residual, shape.area(), static_cast<int16_t>(border.mean()));
    kernels::subtract(source_.at(block_.x, block_.y), source_.stride, residual, shape.width(), shape.height(),
                      residual);
    forward(residual, shape.width(), coefficients, shape, learned_kinds(shape));
    for (int v = 0; v < LEARNED_SIDE; ++v)
      for (int u = 0; u < LEARNED_SIDE; ++u)  // at the scale of the inverse transform
        wanted[0][v * LEARNED_SIDE + u] = wanted[1][u * LEARNED_SIDE + v] =
            static_cast<int16_t>(coefficients[v * shape.width() + u] >> shape.log2_h);
    std::array<std::pair<int, int>, 2 * LEARNED_MATRICES> distances;  // and modes
    for (int mode = MODES; mode < MODES + modes; ++mode) {
      border.frequencies(tile_.learned(), mode, found);
      const int16_t* target = wanted[border.is_turned(mode)];
      int sum = 0;
      for (int k = 0; k < LEARNED_OUTPUTS; ++k) sum += std::abs(target[k] - found[k]);
      distances[mode - MODES] = {sum, mode};
    }
    std::partial_sort(distances.begin(), distances.begin() + learned_by_transform_, distances.begin() + modes);
    std::vector<int> best;
    for (int i = 0; i < learned_by_transform_; ++i) {
      const int mode = distances[i].second;
      price_mode(mode);
      best.push_back(mode);
    }
    return best;
  }

  // The best, and of the learned ones, with each of their transforms; or the best alone.
  Candidates rank_by_transform(const Ranking& ranking) {
    Candidates out;
    std::vector<int> modes = is_quick_ ? std::vector<int>{} : rank_learned();
    modes.insert(modes.end(), ranking.best.begin(), ranking.best.begin() + (is_quick_ ? 1 : ranking.n));
    for (size_t i = 0; i < modes.size(); ++i) {
      const int mode = modes[i];
      int16_t* prediction = predictions_[i].data();
      predict_mode(mode, prediction);
      for (int sine = 0; sine <= tile_.syntax.may_be_sine(block_.shape); ++sine)
        out.push_back(
            {mode_bits_[mode] + residual_.estimate_cost(0, block_, sine, prediction), mode, sine > 0, prediction});
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  // Codes the candidates in full as long as they promise something; leaves the best in the tile and returns its cost.
  float code_best(const Candidates& candidates) {
    float best = NEVER;
    int last = -1, chosen = -1;
    const int trials = std::min(full_trials_, static_cast<int>(candidates.size()));
    const float most = is_thorough_ ? 1.15f * candidates[0].cost + 4 : 1.1f * candidates[0].cost + 2;
    for (int i = 0; i < trials; ++i) {
      const Candidate& c = candidates[i];
      if (i && c.cost > most) break;
      tile_.syntax.for_each_unit(block_,
                                 [&](Unit& u) { u.mode = static_cast<uint8_t>(c.mode), u.is_sine = c.is_sine; });
      const float total = mode_bits_[c.mode] + residual_.code(*prices_, 0, block_, false, c.prediction);
      last = i;
      if (total < best) {
        best = total, chosen = i;
        if (i + 1 < trials) best_->save(tile_, block_, 0, 0);
      }
    }
    if (chosen != last) best_->restore(tile_, block_, 0, 0);
    return best;
  }

  Tile& tile_;
  const Plane& source_;
  ResidualTrial& residual_;
  int full_trials_;
  bool is_quick_, is_thorough_;
  int by_transform_, learned_by_transform_;
  std::unique_ptr<Snapshot> best_ = std::make_unique<Snapshot>();
  uint32_t square_ = 0;  // counts them
  std::vector<Known> known_ = std::vector<Known>((SQUARE / UNIT) * (SQUARE / UNIT) * SIZES * SIZES);
  // Of the block:
  const Prices* prices_ = nullptr;
  Block block_ = {};
  References references_;
  LikelyModes likely_;
  std::array<float, MODES + 2 * LEARNED_MATRICES> mode_bits_;  // of the modes looked at
  std::array<std::array<int16_t, MAX_SIDE * MAX_SIDE>, MOST_BY_TRANSFORM + MOST_LEARNED_BY_TRANSFORM> predictions_;
};

// Codes a block's chroma with the best mode; returns its cost, NEVER if by estimate it is more than `limit`.
inline float choose_chroma(Tile& tile, ResidualTrial& residual, const Prices& prices, const Node& node, bool is_whole,
                           float limit) {
  Syntax& syntax = tile.syntax;
  const Block& b = node.block;
  syntax.begin_chroma(node, is_whole);
  const int luma_mode = usual_mode(syntax.unit(b).mode);
  const auto mode_bits = [&](int mode) {
    return estimate_bits(prices, [&](Estimator& e) { syntax.code_chroma_mode(e, mode, b); });
  };
  int16_t prediction[MAX_SIDE * MAX_SIDE];
  float least = limit;
  int chosen = -1;
  residual.place_source(1, b);  // about what Cb will be, to those that predict Cr from it
  for (const int mode : {LINEAR, SAME_AS_LUMA, CHROMA_DC, CHROMA_PLANAR}) {
    if ((mode == CHROMA_DC && luma_mode == DC) || (mode == CHROMA_PLANAR && luma_mode == PLANAR)) continue;
    float total = mode_bits(mode);
    for (int p = 1; p < 3 && total < least; ++p) {
      tile.predict_chroma(p, b, mode, prediction);
      total += residual.estimate_cost(p, b, false, prediction);
    }
    if (total < least) least = total, chosen = mode;
  }
  if (chosen < 0) return NEVER;
  float total = mode_bits(chosen);
  syntax.for_each_unit(b, [&](Unit& u) { u.chroma_mode = static_cast<uint8_t>(chosen); });
  for (int p = 1; p < 3; ++p) {
    tile.predict_chroma(p, b, chosen, prediction);
    total += residual.code(prices, p, b, !is_whole, prediction);
  }
  return total;
}

}  // namespace ncodec::dct
