// Rate-distortion optimised quantisation (RDOQ) of one block: levels that minimise bits + weight x error.
//
// A trellis from the highest frequency down, in coding order: a path to each state of the dependent
// quantiser. At each coefficient a path goes on with the two magnitudes next to it or with 0, or begins (its first
// level is the last one of the block); a path may pass over each 4x4 group. Each knows its own template.

#pragma once

#include "enc_level_costs.hpp"
#include "enc_quantise.hpp"

namespace ncodec::dct {

// The places of a group, 4 y + x, whose template (Magnitudes::template_sum) sees (x, y), which may lie in the next
// groups: a 1 in their bytes.
using Bytes = std::array<uint64_t, 2>;
struct SeenFrom {
  std::array<std::array<Bytes, 6>, 6> at;  // [y][x]

  SeenFrom() : at{} {
    for (int y = 0; y < 6; ++y)
      for (int x = 0; x < 6; ++x)
        for (const auto& [dx, dy] : {Place{1, 0}, {2, 0}, {0, 1}, {1, 1}, {0, 2}})
          if (x >= dx && x - dx < 4 && y >= dy && y - dy < 4)
            at[y][x][(y - dy) >> 1] += uint64_t{1} << (8 * (4 * ((y - dy) & 1) + x - dx));
  }
};
inline const SeenFrom SEEN_FROM;

// A path through the trellis: its cost, and what contexts need to know of its levels in the group where it is.
struct Path {
  float cost = NEVER;   // bits and weighted error of everything above the current place
  uint8_t earlier = 0;  // magnitudes over 1, at most 3
  uint8_t history = 0;  // of all groups above: number of Trellis::histories_
  bool any_in_group = false;
  uint64_t levels = 0;  // magnitudes, at most 7, of 4 bits each, by rows
  Bytes sums = {};      // of the templates, by rows

  int sum_at(int place) const { return static_cast<int>(sums[place >> 3] >> (8 * (place & 7)) & 255); }
  void add_to_sums(uint64_t magnitude, int x, int y) {
    const Bytes& seen_from = SEEN_FROM.at[y][x];
    sums[0] += magnitude * seen_from[0], sums[1] += magnitude * seen_from[1];
  }

  void set(Place in_group, int magnitude) {
    const uint64_t seen = std::min(magnitude, 7);
    levels |= seen << (4 * (4 * in_group.y + in_group.x));
    add_to_sums(seen, in_group.x, in_group.y);
    earlier = static_cast<uint8_t>(std::min(earlier + (magnitude > 1), 3));
    any_in_group = true;
  }
};

class Trellis {
 public:
  // Chooses the half-steps of a block. `ratio`: [coded height, coded width] coefficients in half-steps; `error`: what a
  // squared error of one half-step weighs, in bits. `levels` (cleared before) gets them; returns whether there are any.
  bool quantise(const float* ratio, const float* error, int16_t* levels, int stride, const Shape& shape,
                const Surroundings& around, const Prices& prices) {
    std::array<bool, 64> is_worth;
    const int top = find_worth(ratio, shape, is_worth);
    if (top < 0) return false;
    Run run(ratio, error, shape, around, prices);
    paths_ = {};
    histories_ = {};
    n_stages_ = 0;
    for (int g = top; g >= 0; --g) {
      if (!is_worth[g] && (!run.is_alive || g > 0)) {
        skip_group(run, run.groups[g]);
      } else {
        search_group(run, run.groups[g], run.is_alive && g > 0);
      }
    }
    return run.is_alive && trace_back(run, levels, stride);
  }

 private:
  static constexpr float LEAST = 0.6f;  // half-steps: below it no level pays
  static constexpr float HOPELESS = 9;  // bits by which a path may lag behind the best

  // What led to a state: the magnitude here, the state before; or that a group above was passed over.
  struct Step {
    int16_t magnitude;
    int8_t before;  // STARTS: the path's first level
  };
  static constexpr int8_t STARTS = -1;

  // The steps to all states at one coefficient, or after a group with a flag (y is PASSED, x the group's first stage).
  struct Stage {
    int x, y;
    std::array<Step, STATES> steps;
  };
  static constexpr int PASSED = -1;

  // By group, with a border to the right and below: 0 where a path has not coded it, or else 1 + its state after the
  // group, by which its levels are found. Number 0 of the histories is of paths that begin; then those of the states.
  static constexpr int WIDE = 9;
  using History = std::array<uint8_t, WIDE * WIDE>;
  static int number_of(Place group) { return group.y * WIDE + group.x; }

  // f(index) for the frequencies of a group, by rows.
  template <class F>
  static void for_each_in_group(Place group, int width, F f) {
    for (int y = 0; y < 4; ++y)
      for (int x = 0; x < 4; ++x) f((group.y * 4 + y) * width + group.x * 4 + x);
  }

  // Which groups have anything that may be more than 0? Returns the last of them, or -1.
  static int find_worth(const float* ratio, const Shape& shape, std::array<bool, 64>& is_worth) {
    int top = -1;
    for (int g = 0; g < groups_in(shape); ++g) {
      float most = 0;
      for_each_in_group(SCAN.groups_of(shape)[g], coded_of(shape).width(),
                        [&](int i) { most = std::max(most, std::abs(ratio[i])); });
      is_worth[g] = most >= LEAST;
      if (is_worth[g]) top = g;
    }
    return top;
  }

  // One block.
  struct Run {
    const float *ratio, *error;
    const Place* groups;
    int width;  // of coded frequencies
    const Prices& prices;
    LevelContexts bins;
    LastCosts last_costs;
    float nothing = 0;      // weighted error of all that is above, if all of it is 0
    bool is_alive = false;  // has a path begun?

    Run(const float* ratio_, const float* error_, const Shape& shape, const Surroundings& around, const Prices& prices_)
        : ratio(ratio_),
          error(error_),
          groups(SCAN.groups_of(shape)),
          width(coded_of(shape).width()),
          prices(prices_),
          bins(around, shape),
          last_costs(prices_, bins, shape) {}

    float error_of_nothing(Place group) const {
      float sum = 0;
      for_each_in_group(group, width, [&](int i) { sum += ratio[i] * ratio[i] * error[i]; });
      return sum;
    }
  };

  struct Coefficient {
    Place in_group;
    float r, error;   // magnitude in half-steps; weight of a squared error
    bool ends_group;  // number 0 of a group with a flag
    LevelBins bins;
  };

  // The best way into a state.
  struct Candidate {
    float cost = NEVER;
    int magnitude = 0;
    int8_t before = STARTS;
  };
  using Candidates = std::array<Candidate, STATES>;

  static void offer(Candidates& best, int state, int magnitude, float cost, int8_t before) {
    Candidate& c = best[NEXT_STATE[state][magnitude & 1]];
    if (cost < c.cost) c = {cost, magnitude, before};
  }

  const BinBits& flag_bits(const Run& run, const Path& p, Place group) const {
    const uint8_t* h = histories_[p.history].data() + number_of(group);
    return run.prices.of(run.bins.group(group, (h[1] > 0) + (h[WIDE] > 0)));
  }

  // A group without levels, on every path.
  void skip_group(Run& run, Place group) {
    const float error = run.error_of_nothing(group);
    for (Path& p : paths_)
      if (p.cost < NEVER) p.cost += error + flag_bits(run, p, group)[0];
    run.nothing += error;
  }

  void search_group(Run& run, Place group, bool has_flag) {
    const std::array<Path, STATES> passed = enter_group(run, group, has_flag);
    const int first_stage = n_stages_;
    for (int k = 15; k >= 0; --k) {
      const Place at = SCAN.place(group, k);
      const int i = at.y * run.width + at.x;
      const float r = std::abs(run.ratio[i]), error = run.error[i];
      if (run.is_alive || r >= LEAST)
        advance(run, at, {SCAN.in_group[k], r, error, k == 0 && has_flag, run.bins.at(at)});
      run.nothing += r * r * error;
    }
    leave_group(group, passed, first_stage);
  }

  // Every path, with the group coded; returns them with it passed over, by state.
  std::array<Path, STATES> enter_group(const Run& run, Place group, bool has_flag) {
    std::array<Path, STATES> passed;
    const float error = run.error_of_nothing(group);
    for (int s = 0; s < STATES; ++s) {
      Path& p = paths_[s];
      if (p.cost == NEVER) continue;
      if (has_flag) {
        const BinBits& flag = flag_bits(run, p, group);
        passed[s] = p;
        passed[s].cost += error + flag[0];
        p.cost += flag[1];
      }
      begin_templates(p, group);
    }
    return passed;
  }

  // What templates see of the groups to the right, below and between.
  void begin_templates(Path& p, Place group) const {
    p.any_in_group = false, p.levels = 0, p.sums = {};
    const auto see = [&](int dx, int dy, int width, int height) {
      const int number = number_of({group.x + dx, group.y + dy}), state = histories_[p.history][number];
      const uint64_t levels = state ? levels_[number][state - 1] : 0;
      if (!levels) return;
      for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) p.add_to_sums(levels >> (4 * (4 * y + x)) & 15, 4 * dx + x, 4 * dy + y);
    };
    see(1, 0, 2, 4), see(0, 1, 4, 2), see(1, 1, 1, 1);
  }

  // All states over one coefficient.
  void advance(Run& run, Place at, const Coefficient& c) {
    Candidates best;
    float least = NEVER;
    for (const Path& p : paths_) least = std::min(least, p.cost);
    for (int s = 0; s < STATES; ++s)
      if (paths_[s].cost < NEVER && paths_[s].cost <= least + HOPELESS) go_on(run, c, s, best);
    if (c.r >= LEAST) begin(run, at, c, best);
    run.is_alive = true;
    const std::array<Path, STATES> before = paths_;
    Stage& stage = stages_[n_stages_++];
    stage.x = at.x, stage.y = at.y;
    for (int t = 0; t < STATES; ++t) {
      const Candidate& way = best[t];
      paths_[t] = way.before == STARTS ? Path{} : before[way.before];
      paths_[t].cost = way.cost;
      if (way.magnitude) paths_[t].set(c.in_group, way.magnitude);
      stage.steps[t] = {static_cast<int16_t>(way.magnitude), way.before};
    }
  }

  // The path to state s, with 0 and with the two magnitudes nearest.
  NCODEC_INLINE void go_on(const Run& run, const Coefficient& c, int s, Candidates& best) const {
    const Path& p = paths_[s];
    const int odd = s & 1, near = CLASSES.near[p.sum_at(4 * c.in_group.y + c.in_group.x)];
    const bool is_known = c.ends_group && !p.any_in_group;  // D23
    const auto before = static_cast<int8_t>(s);
    float sig_bits = 0;
    if (!is_known) {
      const BinBits& sig = run.prices.of(c.bins.sig(s, near));
      offer(best, s, 0, p.cost + c.r * c.r * c.error + sig[0], before);
      sig_bits = sig[1];
    }
    const int nearest = std::min(static_cast<int>((c.r + static_cast<float>(odd)) / 2 + 0.5f), LEVEL_MAX);
    const int most = std::max(nearest, is_known ? 1 : 0);
    if (!most) return;
    const auto bits = level_bits(run.prices, c.bins, s, near, p.earlier, most);
    for (int k = most; k >= std::max(nearest - 1, 1); --k) {
      const float d = c.r - static_cast<float>(2 * k - odd);
      offer(best, s, k, p.cost + d * d * c.error + sig_bits + bits[most - k], before);
    }
  }

  // A path from here, in state 0.
  void begin(Run& run, Place at, const Coefficient& c, Candidates& best) const {
    const float position = run.last_costs.bits(at);
    const int nearest = std::max(std::min(static_cast<int>(c.r / 2 + 0.5f), LEVEL_MAX), 1);
    const auto bits = level_bits(run.prices, c.bins, 0, 0, 0, nearest);
    for (int k = nearest; k >= std::max(nearest - 1, 1); --k) {
      const float d = c.r - static_cast<float>(2 * k);
      offer(best, 0, k, run.nothing + d * d * c.error + position + bits[nearest - k], STARTS);
    }
  }

  // States for which the group is better passed over return to what they were before it.
  void leave_group(Place group, const std::array<Path, STATES>& passed, int first_stage) {
    const std::array<History, STATES + 1> before = histories_;
    const int number = number_of(group);
    Stage stage = {first_stage, PASSED, {}};
    for (int s = 0; s < STATES; ++s) {
      Path& p = paths_[s];
      const bool is_passed = passed[s].cost < p.cost;
      stage.steps[s] = {is_passed, static_cast<int8_t>(s)};
      if (is_passed) p = passed[s];
      histories_[1 + s] = before[p.history];
      histories_[1 + s][number] = static_cast<uint8_t>(is_passed ? 0 : 1 + s);
      levels_[number][s] = p.levels;
      p.history = static_cast<uint8_t>(1 + s);
    }
    stages_[n_stages_++] = stage;
  }

  // Writes the levels of the best path; false if none at all cost less.
  bool trace_back(const Run& run, int16_t* levels, int stride) const {
    int state = 0;
    for (int s = 1; s < STATES; ++s)
      if (paths_[s].cost < paths_[state].cost) state = s;
    if (paths_[state].cost >= run.nothing) return false;
    for (int n = n_stages_; n-- > 0;) {
      const auto& [x, y, steps] = stages_[n];
      const Step& step = steps[state];
      if (y == PASSED) {
        if (step.magnitude) n = x;  // over the group's stages
        continue;
      }
      const int before = step.before == STARTS ? 0 : step.before;
      if (step.magnitude) {
        const int half_steps = 2 * step.magnitude - (before & 1);
        levels[y * stride + x] = static_cast<int16_t>(run.ratio[y * run.width + x] < 0 ? -half_steps : half_steps);
      }
      if (step.before == STARTS) break;
      state = before;
    }
    return true;
  }

  std::array<Path, STATES> paths_;  // by state
  std::array<History, STATES + 1> histories_;
  std::array<std::array<uint64_t, STATES>, WIDE * WIDE> levels_;  // of groups, by state after them
  std::array<Stage, MAX_CODED * MAX_CODED + 64> stages_;
  int n_stages_ = 0;
};

}  // namespace ncodec::dct
