// The encoder's choices for a tile: the partition, modes and levels that minimise bits + weight x squared error.
//
//   square -> leaf, or one of five splits? at every node: leaf = best modes (enc_modes.hpp), a split = the sum over its
//   parts; splits that promise little (enc_worth.hpp) are not tried. Costs come from the model as it stood before the
//   square; the samples from real reconstruction.

#pragma once

#include <chrono>

#include "enc_modes.hpp"
#include "enc_worth.hpp"

namespace ncodec::dct {

class Search {
 public:
  Search(Tile& tile, const std::array<Plane, 3>& source, const EncoderOptions& options, const Masking& masking)
      : tile_(tile),
        options_(options),
        last_plane_(tile.syntax.geometry().planes - 1),
        masking_(masking),
        worth_(tile.syntax, source[0]),
        residual_(tile, source, options, masking),
        luma_(tile, source[0], residual_, options),
        chroma_(tile, residual_, options) {
    for (auto& best : best_) best = std::make_unique<Snapshot>();
    for (auto& apart : apart_) apart = std::make_unique<Snapshot>();
  }

  // Chooses for a square: afterwards the tile's units and levels hold the choice.
  void choose(const Model& model, const Block& square) {
    prices_.take(model);
    luma_.begin_square();
    log_price_ = std::log(options_.price * cost_ / samples_ / std::pow(usual_cost(), 1.5f));
    const bool has_chroma = last_plane_ > 0;
    cost_ += choose_tree({square}, NEVER, has_chroma && !options_.is_quick).total;
    if (has_chroma && options_.is_quick) cost_ += choose_chroma_tree({square});
    samples_ += static_cast<float>(square.shape.area());
  }

 private:
  // Of a node; chroma's is part of the total, which is NEVER if the search was given up: then what it leaves behind is
  // no choice.
  struct Cost {
    float total = NEVER, chroma = 0;
  };

  // Returns the cost of a node as chosen; it may be given up if that is `limit` or more.
  Cost choose_tree(const Node& node, float limit, bool has_chroma) {
    const Block& b = node.block;
    if (tile_.syntax.is_outside(b)) return {0, 0};
    const float around = node.depth ? of_leaf_[node.depth - 1] : NEVER;
    of_leaf_[node.depth] = around;
    const bool is_group = node.binary_depth == 0 && b.shape.log2_w == GROUP_LOG2;
    const float offset_bits = is_group ? choose_offset(b) : 0;
    limit -= offset_bits;
    const auto with_offset = [&](const Cost& c) { return Cost{c.total + offset_bits, c.chroma}; };
    if (tile_.syntax.must_split(b)) return with_offset(choose_split(node, QUAD, NEVER, has_chroma));

    const int last_plane = has_chroma ? last_plane_ : 0;
    Snapshot& kept = *best_[node.depth];
    Cost best;
    bool is_kept = false;  // or the tile holds it
    const bool may_split =
        is_allowed(node, QUAD) || is_allowed(node, VERTICAL_HALVES) || is_allowed(node, HORIZONTAL_HALVES);
    Progress progress(limit, around, has_chroma);
    if (b.shape.most() <= options_.most_log2) {
      best = logged(node, NO_SPLIT, progress, [&] { return choose_leaf(node, may_split, limit, has_chroma); });
      if (!may_split || (best.total < NEVER && is_empty(b, has_chroma) && b.shape.log2_area() <= 8))
        return with_offset(best);
      progress.leaf = best.total, progress.unit = tile_.syntax.unit(b);
    }
    if (best.total < NEVER) of_leaf_[node.depth] = best.total / static_cast<float>(b.shape.area());
    for (const Split split : {QUAD, VERTICAL_HALVES, VERTICAL_THIRDS, HORIZONTAL_HALVES, HORIZONTAL_THIRDS}) {
      progress.best = best.total;
      if (!is_allowed(node, split) || !is_worth(node, split, progress)) continue;
      if (best.total < NEVER && !is_kept) kept.save(tile_, b, 0, last_plane);
      const float most = std::min((options_.log ? options_.log->slack : 1) * std::min(best.total, limit), NEVER);
      const Cost cost = logged(node, split, progress, [&] { return choose_split(node, split, most, has_chroma); });
      progress.costs[split] = cost.total;
      is_kept = cost.total >= best.total;
      if (!is_kept) best = cost;
    }
    if (is_kept && best.total < NEVER) kept.restore(tile_, b, 0, last_plane);
    return with_offset(best);
  }

  bool is_allowed(const Node& node, Split split) const {
    if (!node.may(split)) return false;
    if (split != QUAD && node.binary_depth >= options_.binary_depth) return false;
    if (is_ternary(split) && !options_.ternary) return false;
    const Parts parts = parts_of(node.block, split);
    return parts.blocks[0].shape.least() >= options_.least_log2;
  }

  // Where nothing is chosen yet, and something must be, every split is.
  bool is_worth(const Node& node, Split split, const Progress& progress) const {
    if (!options_.price || (progress.best == NEVER && progress.limit == NEVER)) return true;
    return worth_(node, split, progress, residual_.weight(0, node.block)) > log_price_;
  }

  // Of a sample of usual pictures at this quality.
  float usual_cost() const { return 30 * std::pow(weight_of(options_, tile_, 0), 0.576f); }

  // Chooses, and logs that if wanted.
  template <class F>
  Cost logged(const Node& node, Split split, const Progress& progress, F choose) {
    if (!options_.log) return choose();
    auto& trials = options_.log->trials;
    const auto began = std::chrono::steady_clock::now();
    const int parent = trial_;
    trial_ = static_cast<int>(trials.size());
    const auto features = worth_.features(node, split, progress, residual_.weight(0, node.block));
    trials.push_back({features, node.block, parent, split, progress.limit, NEVER, 0});
    const Cost cost = choose();
    trials[trial_].cost = cost.total;
    trials[trial_].milliseconds =
        std::chrono::duration<float, std::milli>(std::chrono::steady_clock::now() - began).count();
    trial_ = parent;
    return cost;
  }

  // The node unsplit; NEVER if it had better be split (LumaSearch::choose).
  Cost choose_leaf(const Node& node, bool may_split, float limit, bool has_chroma) {
    const Block& b = node.block;
    tile_.syntax.set_decoded(b, false);
    const float before = (node.depth == 0 ? choose_offset(b) : 0) + split_bits(node, NO_SPLIT);
    Cost cost = {luma_.choose(prices_, node, may_split, limit), 0};
    if (cost.total == NEVER) return cost;
    cost.total += before;
    if (!has_chroma) return cost;
    if (cost.total >= limit) return {};
    cost.chroma = chroma_.choose(prices_, node, false, NEVER);
    cost.total += cost.chroma;
    return cost;
  }

  // The parts of a node, as far as they cost less than `limit`.
  Cost choose_split(const Node& node, Split split, float limit, bool has_chroma) {
    const Block& b = node.block;
    const bool is_free = !tile_.syntax.must_split(b);
    tile_.syntax.set_decoded(b, false);
    Cost cost = {is_free ? split_bits(node, split) : 0, 0};
    if (node.depth == 0 && split != QUAD) cost.total += choose_offset(b);
    const Parts parts = parts_of(b, split);
    const bool keeps = keeps_chroma(parts), may_be_whole = has_chroma && !keeps && is_free;
    const float apart_bits = may_be_whole ? whole_bits(node, split, false) : 0;
    for (int i = 0; i < parts.n; ++i) {
      if (cost.total + apart_bits >= limit) return {};
      const float left = limit - cost.total - apart_bits;
      const Cost part = choose_tree(node.part(parts.blocks[i], split), left, has_chroma && !keeps);
      if (part.total == NEVER) return {};
      cost.total += part.total, cost.chroma += part.chroma;
    }
    cost.total += apart_bits, cost.chroma += apart_bits;
    if (!has_chroma) return cost;
    if (cost.total >= limit) return {};
    if (keeps) {
      cost.chroma = chroma_.choose(prices_, node, true, NEVER);
      cost.total += cost.chroma;
    } else if (may_be_whole) {
      choose_whole(node, split, cost);
    }
    return cost;
  }

  // Chroma of a node whose luma is chosen; returns its cost.
  float choose_chroma_tree(const Node& node) {
    Syntax& syntax = tile_.syntax;
    const Block& b = node.block;
    if (syntax.is_outside(b)) return 0;
    const bool is_free = !syntax.must_split(b);
    const Split split = is_free ? node.split_in(syntax.unit(b).path) : QUAD;
    const Parts parts = parts_of(b, split);
    const bool keeps = keeps_chroma(parts) && split != NO_SPLIT;
    syntax.set_decoded(b, false);
    Cost cost = {0, 0};
    if (split == NO_SPLIT || keeps) {
      cost.chroma = chroma_.choose(prices_, node, keeps, NEVER);
    } else {
      if (is_free) cost.chroma = whole_bits(node, split, false);
      for (int i = 0; i < parts.n; ++i) cost.chroma += choose_chroma_tree(node.part(parts.blocks[i], split));
      if (is_free) choose_whole(node, split, cost);
    }
    syntax.set_decoded(b, true);
    return cost.chroma;
  }

  // Chroma of a node whose parts are chosen as one block, if that costs less.
  void choose_whole(const Node& node, Split split, Cost& cost) {
    Snapshot& apart = *apart_[node.depth];
    apart.save(tile_, node.block, 1, 2);
    const float bits = whole_bits(node, split, true);
    const float whole = bits + chroma_.choose(prices_, node, true, cost.chroma - bits);
    if (whole >= cost.chroma) return apart.restore(tile_, node.block, 1, 2);
    cost = {cost.total - cost.chroma + whole, whole};
  }

  float whole_bits(const Node& node, Split split, bool is_whole) const {
    return estimate_bits(prices_, [&](Estimator& e) { tile_.syntax.code_whole(e, is_whole, node, split); });
  }

  // Sets the offset of a block's steps; returns its bits.
  float choose_offset(const Block& b) {
    if (!tile_.syntax.has_offsets()) return 0;
    const int offset = masking_.offset(b);
    tile_.syntax.set_offset(b, offset);
    return estimate_bits(prices_, [&](Estimator& e) { tile_.syntax.code_offset(e, offset, b); });
  }

  float split_bits(const Node& node, Split split) const {
    return estimate_bits(prices_, [&](Estimator& e) { tile_.syntax.code_split(e, split, node); });
  }

  bool is_empty(const Block& b, bool has_chroma) const {
    const Unit& u = tile_.syntax.unit(b);
    return !u.energy[0] && (!has_chroma || (!u.energy[1] && !u.energy[2]));
  }

  Tile& tile_;
  EncoderOptions options_;
  int last_plane_;
  const Masking& masking_;
  Worth worth_;
  ResidualTrial residual_;
  LumaSearch luma_;
  ChromaSearch chroma_;
  Prices prices_;
  std::array<std::unique_ptr<Snapshot>, 8> best_, apart_;             // by depth
  float samples_ = SQUARE * SQUARE, cost_ = samples_ * usual_cost();  // so far, and of a usual square before
  float log_price_ = 0;
  int trial_ = -1;                // the number of the one that is being made, in a log
  std::array<float, 8> of_leaf_;  // by depth: the cost of a sample of the node unsplit, or of one around it
};

}  // namespace ncodec::dct
