// Rate-distortion optimised quantisation (RDOQ) of one block: levels that minimise bits + weight x error.
//
// A trellis from the highest frequency down, in coding order: a path to each state of the dependent
// quantiser. At each coefficient a path goes on with the two magnitudes next to it or with 0, or begins (its first
// level is the last one of the block), where none before it costs less than no levels at all; a path may pass over each
// 4x4 group. Each knows its own template.

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

// Paths through the trellis by the state that they lead to: costs, and what contexts need to know of their levels.
// Arrays of numbers, each read as it was written: a copy of a structure would wait for its parts.
struct Paths {
  static constexpr int BLANK = STATES, COUNT = STATES + 1;  // the last is what a path begins with
  template <class T>
  using Of = std::array<T, COUNT>;
  static constexpr uint32_t ANY_IN_GROUP = 1 << 16, HISTORY = 1 << 24;

  Of<float> cost;                         // bits and weighted error of everything above the current place
  Of<uint32_t> facts = {};                // magnitudes over 1; + ANY_IN_GROUP; + HISTORY x that of the groups above
  Of<uint64_t> levels = {};               // magnitudes in the group, at most 7, of 4 bits each, by rows
  std::array<Of<uint64_t>, 2> sums = {};  // of the templates, a byte each, by rows

  Paths() { cost.fill(NEVER); }

  int sum(int s, int place) const { return static_cast<int>(sums[place >> 3][s] >> (8 * (place & 7)) & 255); }
  int earlier(int s) const { return static_cast<int>(facts[s] & (ANY_IN_GROUP - 1)); }
  bool any_in_group(int s) const { return facts[s] & ANY_IN_GROUP; }
  int history(int s) const { return static_cast<int>(facts[s] / HISTORY); }

  void set_history(int s, int number) { facts[s] = facts[s] % HISTORY + HISTORY * number; }
  void begin_group(int s) { facts[s] &= ~ANY_IN_GROUP, levels[s] = sums[0][s] = sums[1][s] = 0; }
  void add_to_sums(int s, uint64_t magnitude, int x, int y) {
    const Bytes& seen_from = SEEN_FROM.at[y][x];
    sums[0][s] += magnitude * seen_from[0], sums[1][s] += magnitude * seen_from[1];
  }

  void copy(int s, const Paths& from, int f) {
    cost[s] = from.cost[f], facts[s] = from.facts[f], levels[s] = from.levels[f];
    sums[0][s] = from.sums[0][f], sums[1][s] = from.sums[1][f];
  }
  void append(int s, Place in_group, int magnitude) {
    const uint64_t seen = std::min(magnitude, 7);
    levels[s] |= seen << (4 * (4 * in_group.y + in_group.x));
    add_to_sums(s, seen, in_group.x, in_group.y);
    facts[s] += magnitude > 1;
    facts[s] |= magnitude > 0 ? ANY_IN_GROUP : 0;
  }
};

template <int N>
using Number = std::integral_constant<int, N>;

class Trellis {
 public:
  static constexpr float LEAST = 0.6f;  // half-steps: below it no level pays

  // `least`: half-steps; no block ends with less, and groups that have no more are passed over.
  explicit Trellis(float least = LEAST) : least_(least) {}

  struct Chosen : Levels {
    float cost = 0;  // bits and weighted error of the levels, if there are any
  };

  // Chooses the half-steps of a block. `ratio`: [coded height, coded width] coefficients in half-steps; `error`: what a
  // squared error of one half-step weighs, in bits; `any`: bits that it takes to say that there are levels, more than
  // that there are none. `levels` (cleared before) gets them.
  Chosen quantise(const float* ratio, const float* error, float any, int16_t* levels, int stride, const Shape& shape,
                  const Surroundings& around, const Prices& prices) {
    std::array<bool, 64> is_worth;
    const int top = find_worth(ratio, shape, is_worth);
    if (top < 0) return {};
    Run run(ratio, error, shape, around, prices);
    *now_ = {};
    *next_ = {};
    histories_ = {};
    n_stages_ = 0;
    for (int g = top; g >= 0; --g) {
      if (!is_worth[g] && (!run.is_alive || g > 0)) {
        skip_group(run, run.groups[g]);
      } else {
        search_group(run, run.groups[g], run.is_alive && g > 0);
      }
    }
    return run.is_alive ? trace_back(run, any, levels, stride) : Chosen{};
  }

 private:
  static constexpr float HOPELESS = 6;  // bits by which a path may lag behind the best

  // What led to all states at one coefficient (Way::step); or after a group with a flag, whether it was passed over:
  // then y is PASSED, x the group's first stage.
  struct Stage {
    int x, y;
    std::array<int, STATES> steps;
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
  int find_worth(const float* ratio, const Shape& shape, std::array<bool, 64>& is_worth) const {
    int top = -1;
    for (int g = 0; g < groups_in(shape); ++g) {
      float most = 0;
      for_each_in_group(SCAN.groups_of(shape)[g], coded_of(shape).width(),
                        [&](int i) { most = std::max(most, std::abs(ratio[i])); });
      is_worth[g] = most >= least_;
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

  // One coefficient, of magnitude r in half-steps.
  struct Coefficient {
    // In even or odd states: the nearest magnitude, but at least 1, and weighted errors of it and of one less.
    struct Choice {
      bool is_near;  // nearer than 0 is, in these states
      int most;
      float error, error_less;
    };
    Place in_group;
    LevelBins bins;
    float r, error_of_0;
    std::array<Choice, 2> choices;

    Coefficient(Place in_group_, const LevelBins& bins_, float r_, float error)
        : in_group(in_group_), bins(bins_), r(r_), error_of_0(r * r * error) {
      for (int odd = 0; odd < 2; ++odd) {
        const int nearest = std::min(static_cast<int>((r + static_cast<float>(odd)) / 2 + 0.5f), LEVEL_MAX);
        const int most = std::max(nearest, 1);
        const float d = r - static_cast<float>(2 * most - odd), e = d + 2;
        choices[odd] = {nearest > 0, most, d * d * error, e * e * error};
      }
    }
  };

  // A way on, from a state.
  struct Way {
    float cost = NEVER;
    int step = 0;  // 8 x magnitude + state (Paths::BLANK: from nothing)

    // (Without a jump: which is less cannot be foretold.)
    NCODEC_INLINE static Way less(const Way& a, const Way& b) {
      const int is_b = -(b.cost < a.cost);
      return {std::min(b.cost, a.cost), a.step ^ ((a.step ^ b.step) & is_b)};
    }
  };
  // With even and odd magnitudes.
  using Ways = std::array<Way, 2>;

  const BinBits& flag_bits(const Run& run, int s, Place group) const {
    const uint8_t* h = histories_[now_->history(s)].data() + number_of(group);
    return run.prices.of(run.bins.group(group, (h[1] > 0) + (h[WIDE] > 0)));
  }

  // A group without levels, on every path.
  void skip_group(Run& run, Place group) {
    const float error = run.error_of_nothing(group);
    for (int s = 0; s < STATES; ++s)
      if (now_->cost[s] < NEVER) now_->cost[s] += error + flag_bits(run, s, group)[0];
    run.nothing += error;
  }

  void search_group(Run& run, Place group, bool has_flag) {
    const Paths passed = enter_group(run, group, has_flag);
    const int first_stage = n_stages_;
    for (int k = 15; k >= 0; --k) {
      const Place at = SCAN.place(group, k);
      const int i = at.y * run.width + at.x;
      const float r = std::abs(run.ratio[i]), error = run.error[i];
      if (run.is_alive || r >= least_)
        advance(run, at, Coefficient(SCAN.in_group[k], run.bins.at(at), r, error), k == 0 && has_flag);
      run.nothing += r * r * error;
    }
    leave_group(group, passed, first_stage);
  }

  // Every path, with the group coded; returns them with it passed over, by state.
  Paths enter_group(const Run& run, Place group, bool has_flag) {
    Paths passed;
    const float error = run.error_of_nothing(group);
    for (int s = 0; s < STATES; ++s) {
      if (now_->cost[s] == NEVER) continue;
      if (has_flag) {
        const BinBits& flag = flag_bits(run, s, group);
        passed.copy(s, *now_, s);
        passed.cost[s] += error + flag[0];
        now_->cost[s] += flag[1];
      }
      begin_templates(s, group);
    }
    return passed;
  }

  // What templates see of the groups to the right, below and between.
  void begin_templates(int s, Place group) {
    now_->begin_group(s);
    const auto see = [&](int dx, int dy, int width, int height) {
      const int number = number_of({group.x + dx, group.y + dy}), state = histories_[now_->history(s)][number];
      const uint64_t levels = state ? levels_[number][state - 1] : 0;
      if (!levels) return;
      for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) now_->add_to_sums(s, levels >> (4 * (4 * y + x)) & 15, 4 * dx + x, 4 * dy + y);
    };
    see(1, 0, 2, 4), see(0, 1, 4, 2), see(1, 1, 1, 1);
  }

  // All states over one coefficient. `ends_group`: number 0 of a group with a flag.
  void advance(Run& run, Place at, const Coefficient& c, bool ends_group) {
    const Paths& now = *now_;
    const float least = std::min(std::min(now.cost[0], now.cost[1]), std::min(now.cost[2], now.cost[3]));
    const auto go_on_from = [&](auto s) {
      const bool is_hopeful = now.cost[s] < NEVER && now.cost[s] <= least + HOPELESS;
      return is_hopeful ? go_on(run, c, s, ends_group) : Ways{};
    };
    const Ways a = go_on_from(Number<0>{}), b = go_on_from(Number<1>{}), d = go_on_from(Number<2>{}),
               e = go_on_from(Number<3>{});
    Ways first;
    if (c.r >= least_ && run.nothing <= least) first = begin(run, at, c);
    run.is_alive = true;
    Stage& stage = stages_[n_stages_++];
    stage.x = at.x, stage.y = at.y;
    const auto arrive = [&](auto t, const Way& way) {
      const int before = way.step & 7, magnitude = way.step >> 3;
      next_->copy(t, now, before);
      next_->cost[t] = way.cost;
      next_->append(t, c.in_group, magnitude);
      stage.steps[t] = way.step;
    };
    arrive(Number<0>{}, Way::less(Way::less(a[0], d[1]), first[0]));  // NEXT_STATE
    arrive(Number<1>{}, Way::less(Way::less(a[1], d[0]), first[1]));
    arrive(Number<2>{}, Way::less(b[0], e[1]));
    arrive(Number<3>{}, Way::less(b[1], e[0]));
    std::swap(now_, next_);
  }

  // From state s, with 0 and with the two magnitudes nearest.
  NCODEC_INLINE Ways go_on(const Run& run, const Coefficient& c, int s, bool ends_group) const {
    const int near = CLASSES.near[now_->sum(s, 4 * c.in_group.y + c.in_group.x)];
    const bool is_known = ends_group && !now_->any_in_group(s);  // D24
    const float cost = now_->cost[s];
    Ways ways;
    ways[0].step = s;
    float sig_bits = 0;
    if (!is_known) {
      const BinBits& sig = run.prices.of(c.bins.sig(s, near));
      ways[0].cost = cost + c.error_of_0 + sig[0];
      sig_bits = sig[1];
    }
    const Coefficient::Choice& choice = c.choices[s & 1];
    if (!choice.is_near && !is_known) return ways;
    const auto bits = level_bits(run.prices, c.bins, s, near, now_->earlier(s), choice.most);
    offer(ways, s, choice, cost + choice.error + sig_bits + bits[0], cost + choice.error_less + sig_bits + bits[1]);
    return ways;
  }

  // A path from here, in state 0.
  Ways begin(Run& run, Place at, const Coefficient& c) const {
    const float position = run.last_costs.bits(at);
    const Coefficient::Choice& choice = c.choices[0];
    const auto bits = level_bits(run.prices, c.bins, 0, 0, 0, choice.most);
    Ways ways;
    offer(ways, Paths::BLANK, choice, run.nothing + choice.error + position + bits[0],
          run.nothing + choice.error_less + position + bits[1]);
    return ways;
  }

  // The two magnitudes.
  NCODEC_INLINE static void offer(Ways& ways, int s, const Coefficient::Choice& choice, float cost, float cost_less) {
    const int parity = choice.most & 1;
    ways[parity] = Way::less(ways[parity], {cost, 8 * choice.most + s});
    if (choice.most > 1) ways[!parity] = Way::less(ways[!parity], {cost_less, 8 * (choice.most - 1) + s});
  }

  // States for which the group is better passed over return to what they were before it.
  void leave_group(Place group, const Paths& passed, int first_stage) {
    const std::array<History, STATES + 1> before = histories_;
    const int number = number_of(group);
    Stage stage = {first_stage, PASSED, {}};
    for (int s = 0; s < STATES; ++s) {
      const bool is_passed = passed.cost[s] < now_->cost[s];
      stage.steps[s] = is_passed;
      if (is_passed) now_->copy(s, passed, s);
      histories_[1 + s] = before[now_->history(s)];
      histories_[1 + s][number] = static_cast<uint8_t>(is_passed ? 0 : 1 + s);
      levels_[number][s] = now_->levels[s];
      now_->set_history(s, 1 + s);
    }
    stages_[n_stages_++] = stage;
  }

  // Writes the levels of the best path; nothing if none at all cost less.
  Chosen trace_back(const Run& run, float any, int16_t* levels, int stride) const {
    int state = 0;
    for (int s = 1; s < STATES; ++s)
      if (now_->cost[s] < now_->cost[state]) state = s;
    if (now_->cost[state] + any >= run.nothing) return {};
    Chosen chosen;
    chosen.cost = now_->cost[state];
    for (int n = n_stages_; n-- > 0;) {
      const auto& [x, y, steps] = stages_[n];
      if (y == PASSED) {
        if (steps[state]) n = x;  // over the group's stages
        continue;
      }
      const int before = steps[state] & 7, magnitude = steps[state] >> 3;
      const int half_steps = 2 * magnitude - (before & 1 && magnitude);
      levels[y * stride + x] = static_cast<int16_t>(run.ratio[y * run.width + x] < 0 ? -half_steps : half_steps);
      chosen.sum += std::min(magnitude, 255), chosen.last = {x, y};
      if (before == Paths::BLANK) break;
      state = before;
    }
    return chosen;
  }

  float least_;
  std::array<Paths, 2> paths_;
  Paths *now_ = &paths_[0], *next_ = &paths_[1];
  std::array<History, STATES + 1> histories_;
  std::array<std::array<uint64_t, STATES>, WIDE * WIDE> levels_;  // of groups, by state after them
  std::array<Stage, MAX_CODED * MAX_CODED + 64> stages_;
  int n_stages_ = 0;
};

}  // namespace ncodec::dct
