// The encoder's choice of a block's intra modes.
//
//   luma: some of the 67 modes by Hadamard --> the best four or eight by transforms --> the best of these in full
//         learned modes by low frequencies --> the best two or four --^
//         or, if other splits have reached the block: the best then, and the likeliest now --^
//   chroma: all four by transform --> the best of these in full
//   quickly: of luma the best by Hadamard alone, and when it is reached again what it was then

#pragma once

#include <memory>

#include "enc_residual.hpp"
#include "enc_snapshot.hpp"

namespace ncodec::dct {

// Codes candidates for a block in full.
class FullTrials {
 public:
  explicit FullTrials(const EncoderOptions& options)
      : n_(options.full_trials), factor_(options.is_thorough ? 1.15f : 1.1f), offset_(options.is_thorough ? 4 : 2) {}

  // What a candidate may cost, by estimate, to be tried beside one that costs `least`.
  float most(float least) const { return n_ == 1 ? least : factor_ * least + offset_; }

  // Tries candidates, the best by estimate first, by code(candidate), which returns the cost and fills the tile's
  // planes from `first` to `last`. Leaves the best in the tile; returns its cost.
  template <class Candidate, class Code>
  float code_best(Tile& tile, const Block& b, int first, int last, const std::vector<Candidate>& candidates,
                  Code code) {
    float best = NEVER;
    int tried = -1, chosen = -1;
    const int n = std::min(n_, static_cast<int>(candidates.size()));
    for (int i = 0; i < n && candidates[i].cost <= most(candidates[0].cost); ++i) {
      const float total = code(candidates[i]);
      tried = i;
      if (total >= best) continue;
      best = total, chosen = i;
      if (i + 1 < n) best_->save(tile, b, first, last);
    }
    if (chosen != tried) best_->restore(tile, b, first, last);
    return best;
  }

 private:
  int n_;
  float factor_, offset_;
  std::unique_ptr<Snapshot> best_ = std::make_unique<Snapshot>();
};

class LumaSearch {
 public:
  LumaSearch(Tile& tile, const Plane& source, ResidualTrial& residual, const EncoderOptions& options)
      : tile_(tile),
        source_(source),
        residual_(residual),
        again_(options.is_quick ? 0 : std::min(2 * options.full_trials, MOST_AGAIN)),
        full_trials_(options),
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
    const Candidates candidates = rank_by_transform(is_known ? recall(known) : propose());
    if (candidates[0].cost > limit) return NEVER;
    if (may_give_up && b.shape.log2_area() >= 10 && candidates[0].cost > BUSY * static_cast<float>(b.shape.area()))
      return NEVER;
    const float cost = code_best(candidates);
    if (!is_known) remember(candidates, known);
    tile_.syntax.set_decoded(b, true);
    return cost;
  }

  void begin_square() { ++square_; }

 private:
  static constexpr int MOST_BY_TRANSFORM = 8, MOST_LEARNED_BY_TRANSFORM = 4, MOST_AGAIN = 8, LIKELY_AGAIN = 3;
  static constexpr int MOST_PROPOSED = 1 + MOST_AGAIN + LIKELY_AGAIN;
  static_assert(MOST_PROPOSED >= MOST_BY_TRANSFORM + MOST_LEARNED_BY_TRANSFORM);
  static constexpr float BUSY = 0.5f;  // bits + weighted error of a sample

  struct Candidate {
    float cost;
    int mode;
    bool is_sine;
    const int16_t* prediction;
    bool operator<(const Candidate& other) const { return cost < other.cost; }
  };
  using Candidates = std::vector<Candidate>;

  // A mode, and the transforms to try it with.
  struct Proposal {
    int mode, transforms;  // + 1: cosines, + 2: sines
  };
  struct Proposals : std::vector<Proposal> {
    void add(int mode, int transforms) {
      for (Proposal& p : *this)
        if (p.mode == mode) return void(p.transforms |= transforms);
      push_back({mode, transforms});
    }
  };

  // What was best for a block when it was reached by other splits of the same square.
  struct Known {
    uint32_t square = 0;
    Proposals best;
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

  void remember(const Candidates& candidates, Known& known) const {
    const Unit& unit = tile_.syntax.unit(block_);
    known.square = square_, known.best.clear();
    known.best.add(unit.mode, 1 << unit.is_sine);
    for (size_t i = 0; i < std::min(again_, candidates.size()); ++i)
      known.best.add(candidates[i].mode, 1 << candidates[i].is_sine);
  }

  Proposals recall(const Known& known) {
    Proposals out = known.best;
    for (int i = 0; i < LIKELY_AGAIN && !is_quick_; ++i) out.add(likely_.modes[i].mode, 3);
    for (const Proposal& p : out) price_mode(p.mode);
    return out;
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

  // The best, and of the learned ones; or the best alone.
  Proposals propose() {
    const Ranking ranking = rank_by_hadamard();
    Proposals out;
    if (!is_quick_)
      for (const int mode : rank_learned()) out.add(mode, 3);
    for (int i = 0; i < (is_quick_ ? 1 : ranking.n); ++i) out.add(ranking.best[i], 3);
    return out;
  }

  Candidates rank_by_transform(const Proposals& proposals) {
    Candidates out;
    for (size_t i = 0; i < proposals.size(); ++i) {
      const auto [mode, transforms] = proposals[i];
      int16_t* prediction = predictions_[i].data();
      predict_mode(mode, prediction);
      for (int sine = 0; sine <= tile_.syntax.may_be_sine(block_.shape); ++sine)
        if (transforms >> sine & 1)
          out.push_back(
              {mode_bits_[mode] + residual_.estimate_cost(0, block_, sine, prediction), mode, sine > 0, prediction});
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  float code_best(const Candidates& candidates) {
    return full_trials_.code_best(tile_, block_, 0, 0, candidates, [&](const Candidate& c) {
      tile_.syntax.for_each_unit(block_,
                                 [&](Unit& u) { u.mode = static_cast<uint8_t>(c.mode), u.is_sine = c.is_sine; });
      return mode_bits_[c.mode] + residual_.code(*prices_, 0, block_, false, c.prediction);
    });
  }

  Tile& tile_;
  const Plane& source_;
  ResidualTrial& residual_;
  size_t again_;  // of what was best, is looked at again
  FullTrials full_trials_;
  bool is_quick_, is_thorough_;
  int by_transform_, learned_by_transform_;
  uint32_t square_ = 0;  // counts them
  std::vector<Known> known_ = std::vector<Known>((SQUARE / UNIT) * (SQUARE / UNIT) * SIZES * SIZES);
  // Of the block:
  const Prices* prices_ = nullptr;
  Block block_ = {};
  References references_;
  LikelyModes likely_;
  std::array<float, MODES + 2 * LEARNED_MATRICES> mode_bits_;  // of the modes looked at
  std::array<std::array<int16_t, MAX_SIDE * MAX_SIDE>, MOST_PROPOSED> predictions_;
};

// Chooses a block's chroma mode.
class ChromaSearch {
 public:
  ChromaSearch(Tile& tile, ResidualTrial& residual, const EncoderOptions& options)
      : tile_(tile), residual_(residual), full_trials_(options) {}

  // Codes a block's chroma with the best mode; returns its cost, NEVER if by estimate it is more than `limit`.
  float choose(const Prices& prices, const Node& node, bool is_whole, float limit) {
    Syntax& syntax = tile_.syntax;
    const Block& b = node.block;
    syntax.begin_chroma(node, is_whole);
    const int luma_mode = usual_mode(syntax.unit(b).mode);
    std::vector<Candidate> candidates;
    float most = limit;
    residual_.place_source(1, b);  // about what Cb will be, to those that predict Cr from it
    for (const int mode : {LINEAR, SAME_AS_LUMA, CHROMA_DC, CHROMA_PLANAR}) {
      if ((mode == CHROMA_DC && luma_mode == DC) || (mode == CHROMA_PLANAR && luma_mode == PLANAR)) continue;
      const float bits = estimate_bits(prices, [&](Estimator& e) { syntax.code_chroma_mode(e, mode, b); });
      float cost = bits;
      for (int p = 1; p < 3 && cost < most; ++p) cost += residual_.estimate_cost(p, b, false, predict(p, b, mode));
      if (cost >= most) continue;
      candidates.push_back({cost, bits, mode});
      most = std::min(most, full_trials_.most(cost));
    }
    if (candidates.empty()) return NEVER;
    std::sort(candidates.begin(), candidates.end());
    return full_trials_.code_best(tile_, b, 1, 2, candidates, [&](const Candidate& c) {
      syntax.for_each_unit(b, [&](Unit& u) { u.chroma_mode = static_cast<uint8_t>(c.mode); });
      float total = c.bits;
      for (int p = 1; p < 3; ++p) total += residual_.code(prices, p, b, !is_whole, predict(p, b, c.mode));
      return total;
    });
  }

 private:
  struct Candidate {
    float cost, bits;
    int mode;
    bool operator<(const Candidate& other) const { return cost < other.cost; }
  };

  const int16_t* predict(int plane, const Block& b, int mode) {
    tile_.predict_chroma(plane, b, mode, prediction_.data());
    return prediction_.data();
  }

  Tile& tile_;
  ResidualTrial& residual_;
  FullTrials full_trials_;
  std::array<int16_t, MAX_SIDE * MAX_SIDE> prediction_;
};

}  // namespace ncodec::dct
