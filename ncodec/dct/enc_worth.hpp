// Is a split worth trying? A small network's guess of the bits (and weighted error) that it saves, by the time that it
// takes; trained on encodings that try all (ncodec/training/dct/splits.py).
//
//   shape, costs so far, source, blocks beside --> HIDDEN rectified sums --> log(saved / time)
//
// Vertical and horizontal cuts have one network: it sees the block as if the cuts were vertical.

#pragma once

#include <cmath>

#include "enc_activity.hpp"
#include "enc_worth_table.hpp"

namespace ncodec::dct {

// How far the search of a node has come.
struct Progress {
  float limit;   // the cost at which the node is given up
  float around;  // of a sample of the block around it unsplit; NEVER, if that was not tried
  bool has_chroma;
  float leaf = NEVER, best = NEVER;  // costs
  Unit unit = {};                    // of the leaf
  std::array<float, SPLITS> costs;   // of splits; NEVER: given up; 0: not tried

  Progress(float limit, float around, bool has_chroma)
      : limit(limit), around(around), has_chroma(has_chroma), costs() {}
};

// What became of a leaf or a split that was tried; for training.
struct Trial {
  worth::Features features;  // of splits
  Block block;
  int parent;  // the number of the trial that the block is a part of, or -1
  Split split;
  float limit, cost, milliseconds;
};
struct TrialLog {
  float slack;  // times the limit: what a trial may cost and yet be finished
  std::vector<Trial> trials;
};

class Worth {
 public:
  Worth(const Syntax& syntax, const Plane& luma) : syntax_(syntax), activity_(luma) {}

  // `weight`: bits that a squared error of a sample of the block weighs.
  float operator()(const Node& node, Split split, const Progress& progress, float weight) const {
    const int kind = split == QUAD ? 0 : is_ternary(split) ? 2 : 1;
    return worth::NETWORKS[kind](features(node, split, progress, weight));
  }

  worth::Features features(const Node& node, Split split, const Progress& p, float weight) const {
    const Block& b = node.block;
    const bool turned = split == HORIZONTAL_HALVES || split == HORIZONTAL_THIRDS;
    const auto own = [&](const Shape& s) { return static_cast<float>(turned ? s.log2_h : s.log2_w); };
    const auto other = [&](const Shape& s) { return static_cast<float>(turned ? s.log2_w : s.log2_h); };
    const Split across = turned ? static_cast<Split>(split - 1) : split == QUAD ? QUAD : static_cast<Split>(split + 1);
    const auto log_of = [](float ratio) { return std::log2(ratio + 1e-3f); };
    const bool has_leaf = p.leaf < NEVER, has_best = p.best < NEVER, is_limited = p.limit < NEVER;
    const bool is_angular = has_leaf && p.unit.mode >= 2 && p.unit.mode < MODES;
    const float angle = static_cast<float>(p.unit.mode - 18) * 3.14159265f / 32;  // 0: horizontal
    const auto result = [&](Split s) {                                            // against the best
      if (!p.costs[s]) return 0.f;
      return p.costs[s] < NEVER ? std::clamp(std::log2((p.costs[s] + 1e-3f) / (p.best + 1e-3f)), 0.f, .4f) : .2f;
    };
    const Split halves = turned ? HORIZONTAL_HALVES : VERTICAL_HALVES,
                other_halves = turned ? VERTICAL_HALVES : HORIZONTAL_HALVES;

    const Activity::Of all = activity_(b);
    const float gradient = turned ? all.down : all.across, other_gradient = turned ? all.across : all.down;
    const Of of_parts = parts(b, split),
             of_others = b.shape.least() > (is_ternary(split) ? 3 : 2) ? parts(b, across) : of_parts;
    const auto inside = [&](const Of& of) {
      return std::log2((1e-3f + weight * of.variance) / (1e-3f + weight * all.variance));
    };
    const auto log_ratio = [](float x, float y) { return std::log2((x + 1) / (y + 1)); };

    float beside = 0, other_beside = 0, units = 0;
    const auto look = [&](const Unit& u) { beside += own(u.shape), other_beside += other(u.shape), ++units; };
    for (int y = b.y; b.x && y < b.y + b.height(); y += UNIT) look(syntax_.unit(b.x - 1, y));
    for (int x = b.x; b.y && x < b.x + b.width(); x += UNIT) look(syntax_.unit(x, b.y - 1));
    if (units) beside = beside / units - own(b.shape), other_beside = other_beside / units - other(b.shape);

    return {own(b.shape), other(b.shape), node.binary_depth == 1 ? 1.f : 0.f, node.binary_depth == 2 ? 1.f : 0.f,
            p.has_chroma ? 1.f : 0.f, std::log2(weight),
            // the leaf
            has_leaf ? 1.f : 0.f, has_leaf ? log_of(p.leaf / static_cast<float>(b.shape.area())) : 0,
            has_leaf ? static_cast<float>(p.unit.energy[0]) : 0,
            has_leaf ? static_cast<float>(std::max(p.unit.energy[1], p.unit.energy[2])) : 0,
            has_leaf && !is_angular ? 1.f : 0.f, is_angular ? (turned ? 1.f : -1.f) * std::cos(2 * angle) : 0,
            is_angular ? std::abs(std::sin(2 * angle)) : 0,
            // the source
            p.around < NEVER ? log_of(p.around) : 0, p.around < NEVER ? 1.f : 0.f, std::log2(1 + weight * all.variance),
            inside(of_parts), inside(of_others), log_ratio(gradient, other_gradient),
            log_ratio(std::max(all.falling, all.rising), all.all()), log_ratio(of_parts.most, of_parts.least),
            log_ratio(of_others.most, of_others.least), std::log2(1e-2f + std::sqrt(weight) * all.all()),
            // blocks beside
            beside, other_beside, units ? 1.f : 0.f, static_cast<float>(node.depth),
            // the search
            has_leaf && has_best ? std::log2((p.best + 1e-3f) / (p.leaf + 1e-3f)) : 0,
            has_best && is_limited ? std::clamp(std::log2((p.best + 1e-3f) / std::max(p.limit, 1e-3f)), -2.f, 1.f)
            : has_best             ? -2
                                   : 0,
            has_best ? 1.f : 0.f, p.costs[QUAD] ? 1.f : 0.f, result(QUAD), p.costs[other_halves] ? 1.f : 0.f,
            result(other_halves), p.costs[halves] ? 1.f : 0.f, result(halves)};
  }

 private:
  // Of the parts of a split: the mean variance within, the least and the most activity.
  struct Of {
    float variance = 0, least = NEVER, most = 0;
  };
  Of parts(const Block& b, Split split) const {
    Of of;
    const Parts parts = parts_of(b, split);
    for (int i = 0; i < parts.n; ++i) {
      const Activity::Of part = activity_(parts.blocks[i]);
      of.variance +=
          part.variance * static_cast<float>(parts.blocks[i].shape.area()) / static_cast<float>(b.shape.area());
      of.least = std::min(of.least, part.all()), of.most = std::max(of.most, part.all());
    }
    return of;
  }

  const Syntax& syntax_;
  Activity activity_;
};

}  // namespace ncodec::dct
