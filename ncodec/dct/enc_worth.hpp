// Is a leaf or a split worth trying? A small network's guess of the bits (and weighted error) that it saves, by the
// time that it takes; trained on trials (ncodec/training/dct/splits.py).
//
//   shape, costs so far, source, blocks beside --> HIDDEN rectified sums --> log(saved / time)
//
// There is one network for leaves, one for quarters, one for halves and one for thirds, which sees the block as if the
// cuts were vertical.

#pragma once

#include <cmath>
#include <random>

#include "enc_activity.hpp"
#include "enc_worth_table.hpp"

namespace ncodec::dct {

// How far the search of a node has come.
struct Progress {
  float limit;   // the cost at which the node is given up
  float around;  // of a sample of the block around it unsplit; NEVER, if that was not tried
  bool has_chroma;
  float leaf = NEVER, best = NEVER;  // costs
  Unit unit;                         // of the leaf
  std::array<float, SPLITS> costs;   // of splits; NEVER: given up; 0: not tried

  Progress(float limit, float around, bool has_chroma)
      : limit(limit), around(around), has_chroma(has_chroma), costs() {}
};

// What became of a leaf or a split that was tried; for training.
struct Trial {
  worth::Features features;
  Block block;
  int parent;  // the number of the trial that the block is a part of, or -1
  Split split;
  float probability;  // of its being tried
  float cost, work;   // the latter in samples
};

// An encoding's trials, where some that promise enough are left out at random, and some that do not are made.
struct TrialLog {
  worth::Networks networks;
  float exploration, slack;  // how much more than the limit a trial may cost and yet be finished
  std::vector<Trial> trials;
  std::minstd_rand random;
  float probability = 1;

  bool explore(bool is_promising) {
    const bool turns = static_cast<float>(random() - 1) < exploration * static_cast<float>(random.max() - 1);
    probability = is_promising ? 1 - exploration : exploration;
    return is_promising != turns;
  }
};

class Worth {
 public:
  Worth(const Syntax& syntax, const Plane& luma, const worth::Networks& networks)
      : syntax_(syntax), activity_(luma), networks_(networks) {}

  // `weight`: bits that a squared error of a sample of the block weighs.
  float operator()(const Node& node, Split split, const Progress& progress, float weight) const {
    const int kind = split <= QUAD ? split : is_ternary(split) ? 3 : 2;
    return networks_[kind](features(node, split, progress, weight));
  }

  worth::Features features(const Node& node, Split split, const Progress& p, float weight) const {
    const Block& b = node.block;
    const bool turned = split == HORIZONTAL_HALVES || split == HORIZONTAL_THIRDS;
    const auto own = [&](const Shape& s) { return static_cast<float>(turned ? s.log2_h : s.log2_w); };
    const auto other = [&](const Shape& s) { return static_cast<float>(turned ? s.log2_w : s.log2_h); };
    const Split halves = turned ? HORIZONTAL_HALVES : VERTICAL_HALVES,
                other_halves = turned ? VERTICAL_HALVES : HORIZONTAL_HALVES;
    const auto log_of = [](float ratio) { return std::log2(ratio + 1e-3f); };
    const bool has_leaf = p.leaf < NEVER, has_best = p.best < NEVER, is_limited = p.limit < NEVER;
    const bool is_angular = has_leaf && p.unit.mode >= 2;
    const float angle = static_cast<float>(p.unit.mode - 18) * 3.14159265f / 32;  // 0: horizontal
    const auto result = [&](Split s) {                                            // against the best
      if (!p.costs[s]) return 0.f;
      return p.costs[s] < NEVER ? std::clamp(std::log2((p.costs[s] + 1) / (p.best + 1)), 0.f, .4f) : .2f;
    };
    const float area = static_cast<float>(b.shape.area());
    const Activity::Of all = activity_(b);
    const float gradient = turned ? all.down : all.across, other_gradient = turned ? all.across : all.down;
    const Of of_parts = parts(b, split == NO_SPLIT ? QUAD : split), of_others = parts(b, other_halves);
    const auto inside = [&](const Of& of) {
      return std::log2((1e-3f + weight * of.variance) / (1e-3f + weight * all.variance));
    };
    const auto log_ratio = [](float x, float y) { return std::log2((x + 1) / (y + 1)); };

    float beside = 0, other_beside = 0, units = 0;
    const auto look = [&](const Unit& u) { beside += own(u.shape), other_beside += other(u.shape), ++units; };
    for (int y = b.y; b.x && y < b.y + b.height(); y += UNIT) look(syntax_.unit(b.x - 1, y));
    for (int x = b.x; b.y && x < b.x + b.width(); x += UNIT) look(syntax_.unit(x, b.y - 1));
    if (units) beside = beside / units - own(b.shape), other_beside = other_beside / units - other(b.shape);

    return {
        own(b.shape), other(b.shape), node.binary_depth == 1 ? 1.f : 0.f, node.binary_depth == 2 ? 1.f : 0.f,
        static_cast<float>(node.depth), p.has_chroma ? 1.f : 0.f, std::log2(weight),
        // the search
        is_limited ? log_of(p.limit / area) : 0, is_limited ? 1.f : 0.f, p.around < NEVER ? log_of(p.around) : 0,
        p.around < NEVER ? 1.f : 0.f,
        has_best && is_limited ? std::clamp(std::log2((p.best + 1) / (p.limit + 1)), -2.f, 1.f) : -2.f,
        has_leaf && has_best ? std::log2((p.best + 1) / (p.leaf + 1)) : 0, p.costs[QUAD] ? 1.f : 0.f, result(QUAD),
        result(other_halves), p.costs[halves] ? 1.f : 0.f, result(halves),
        // the leaf
        has_leaf ? 1.f : 0.f, has_leaf ? log_of(p.leaf / area) : 0, has_leaf ? static_cast<float>(p.unit.energy[0]) : 0,
        has_leaf ? static_cast<float>(std::max(p.unit.energy[1], p.unit.energy[2])) : 0,
        is_angular ? (turned ? 1.f : -1.f) * std::cos(2 * angle) : 0,
        // the source
        std::log2(1 + weight * all.variance), inside(of_parts), inside(of_others), log_ratio(gradient, other_gradient),
        log_ratio(std::max(all.falling, all.rising), all.all()), log_ratio(of_parts.most, of_parts.least),
        log_ratio(of_others.most, of_others.least), std::log2(1e-2f + std::sqrt(weight) * all.all()),
        // blocks beside
        beside, other_beside};
  }

 private:
  // Of the parts of a split: the mean variance within, the least and the most activity. Parts that are narrower than
  // units are not known.
  struct Of {
    float variance = 0, least = NEVER, most = 0;
  };
  Of parts(const Block& b, Split split) const {
    const dct::Parts parts = parts_of(b, split);
    if (parts.blocks[0].shape.least() < UNIT_LOG2) return {activity_(b).variance, 0, 0};
    Of of;
    for (int i = 0; i < parts.n; ++i) {
      const Block& part = parts.blocks[i];
      const Activity::Of a = activity_(part);
      of.variance += a.variance * static_cast<float>(part.shape.area()) / static_cast<float>(b.shape.area());
      of.least = std::min(of.least, a.all()), of.most = std::max(of.most, a.all());
    }
    return of;
  }

  const Syntax& syntax_;
  Activity activity_;
  const worth::Networks& networks_;
};

}  // namespace ncodec::dct
