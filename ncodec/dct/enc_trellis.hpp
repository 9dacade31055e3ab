// Rate-distortion optimised quantisation (RDOQ) of one block: levels that minimise bits + weight x error.
//
// A trellis from the highest frequency down, in coding order: a path to each state of the dependent
// quantiser. At each coefficient a path goes on with the two magnitudes next to it or with 0, or begins (its first
// level is the last one of the block); a path may pass over each 4x4 group. Each knows its own template.

#pragma once

#include "enc_level_costs.hpp"
#include "enc_quantise.hpp"

namespace ncodec::dct {

// What contexts need to know of the levels of one path through the trellis.
struct Survivor {
  float cost;   // bits and weighted error of everything above the current place
  int earlier;  // magnitudes over 1
  bool any_in_group;
  GroupFlags coded;
  Magnitudes magnitudes;

  void copy_levels(const Survivor& from, const Shape& coded_shape) {
    earlier = from.earlier, any_in_group = from.any_in_group, coded = from.coded;
    for (int y = 0; y < coded_shape.height(); ++y)
      std::memcpy(magnitudes.values + y * Magnitudes::STRIDE, from.magnitudes.values + y * Magnitudes::STRIDE,
                  coded_shape.width());
  }

  // For a path that begins in a group.
  void begin(Place group, const Shape& coded_shape) {
    earlier = 0, any_in_group = false;
    coded = {};
    coded.set(group, true);
    magnitudes.clear(coded_shape);
  }
};

class Trellis {
 public:
  // Chooses the half-steps of a block. `ratio`: [coded height, coded width] coefficients in half-steps; `error`: what a
  // squared error of one half-step weighs, in bits. `levels` (cleared before) gets them; returns whether there are any.
  bool quantise(const float* ratio, const float* error, int16_t* levels, int stride, const Shape& shape,
                const Surroundings& around, const Model& model) {
    std::array<bool, 64> is_worth;
    const int top = find_worth(ratio, shape, is_worth);
    if (top < 0) return false;
    Run run(ratio, error, shape, around, model);
    for (int s = 0; s < STATES; ++s)
      now_[s] = &survivors_[s], next_[s] = &survivors_[STATES + s], now_[s]->cost = NEVER;
    for (Survivor& s : survivors_) s.magnitudes.clear(run.coded);
    stages_.clear();
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
    Shape coded;
    int width;  // of coded frequencies
    const Model& model;
    LevelContexts bins;
    LastCosts last_costs;
    float nothing = 0;      // weighted error of all that is above, if all of it is 0
    bool is_alive = false;  // has a path begun?

    Run(const float* ratio_, const float* error_, const Shape& shape, const Surroundings& around, const Model& model_)
        : ratio(ratio_),
          error(error_),
          groups(SCAN.groups_of(shape)),
          coded(coded_of(shape)),
          width(coded.width()),
          model(model_),
          bins(around, shape),
          last_costs(model_, bins, shape) {}

    float error_of_nothing(Place group) const {
      float sum = 0;
      for_each_in_group(group, width, [&](int i) { sum += ratio[i] * ratio[i] * error[i]; });
      return sum;
    }

    float flag_bits(const Survivor& s, Place group, bool is_coded) const {
      return cost(mix(model, bins.group(group, s.coded.neighbours(group))).p, is_coded);
    }
  };

  struct Coefficient {
    Place at;
    float r, error;   // magnitude in half-steps; weight of a squared error
    bool ends_group;  // number 0 of a group with a flag
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

  // A group without levels, on every path.
  void skip_group(Run& run, Place group) {
    const float error = run.error_of_nothing(group);
    for (Survivor* s : now_)
      if (s->cost < NEVER) {
        s->cost += error + run.flag_bits(*s, group, false);
        s->coded.set(group, false);
      }
    run.nothing += error;
  }

  void search_group(Run& run, Place group, bool has_flag) {
    const std::array<float, STATES> passed = enter_group(run, group, has_flag);
    const size_t first_stage = stages_.size();
    for (int k = 15; k >= 0; --k) {
      const Place at = SCAN.place(group, k);
      const int i = at.y * run.width + at.x;
      const Coefficient c = {at, std::abs(run.ratio[i]), run.error[i], k == 0 && has_flag};
      const bool is_step = run.is_alive || c.r >= LEAST;
      if (is_step) advance(run, c);
      run.nothing += c.r * c.r * c.error;
      if (is_step && !run.is_alive) {
        run.is_alive = true;
        for (Survivor* s : now_) s->coded.set(group, true);
      }
    }
    if (has_flag) pass_over(passed, group, first_stage);
  }

  // Every path, with the group coded; returns the costs of passing over it, by state.
  std::array<float, STATES> enter_group(const Run& run, Place group, bool has_flag) {
    std::array<float, STATES> passed;
    passed.fill(NEVER);
    const float error = run.error_of_nothing(group);
    for (int s = 0; s < STATES; ++s) {
      Survivor& v = *now_[s];
      if (v.cost == NEVER) continue;
      if (has_flag) {
        passed[s] = v.cost + error + run.flag_bits(v, group, false);
        v.cost += run.flag_bits(v, group, true);
        before_[s] = v;
      }
      v.coded.set(group, true);
      v.any_in_group = false;
    }
    return passed;
  }

  // All states over one coefficient.
  void advance(Run& run, const Coefficient& c) {
    Candidates best;
    float least = NEVER;
    for (const Survivor* s : now_) least = std::min(least, s->cost);
    for (int s = 0; s < STATES; ++s)
      if (now_[s]->cost < NEVER && now_[s]->cost <= least + HOPELESS) go_on(run, c, s, best);
    if (c.r >= LEAST) begin(run, c, best);
    take_over(best, c.at, run.coded);
    Stage stage = {c.at.x, c.at.y, {}};
    for (int t = 0; t < STATES; ++t) stage.steps[t] = {static_cast<int16_t>(best[t].magnitude), best[t].before};
    stages_.push_back(stage);
  }

  // The path to state s, with 0 and with the two magnitudes nearest.
  NCODEC_INLINE void go_on(const Run& run, const Coefficient& c, int s, Candidates& best) const {
    const Survivor& v = *now_[s];
    const int odd = s & 1, sum = v.magnitudes.template_sum(c.at);
    const bool is_known = c.ends_group && !v.any_in_group;  // D23
    const int p = is_known ? 65535 : mix(run.model, run.bins.sig(s, c.at, sum)).p;
    const auto before = static_cast<int8_t>(s);
    if (!is_known) offer(best, s, 0, v.cost + c.r * c.r * c.error + cost(p, 0), before);
    const float sig_bits = is_known ? 0 : cost(p, 1);
    const int nearest = std::min(static_cast<int>((c.r + static_cast<float>(odd)) / 2 + 0.5f), LEVEL_MAX);
    for (int k = std::max(nearest, is_known ? 1 : 0); k >= std::max(nearest - 1, 1); --k) {
      const float d = c.r - static_cast<float>(2 * k - odd);
      offer(best, s, k,
            v.cost + d * d * c.error + sig_bits + level_bits(run.model, run.bins, s, c.at, sum, v.earlier, k), before);
    }
  }

  // A path from here, in state 0.
  void begin(Run& run, const Coefficient& c, Candidates& best) const {
    const float position = run.last_costs.bits(c.at);
    const int nearest = std::max(std::min(static_cast<int>(c.r / 2 + 0.5f), LEVEL_MAX), 1);
    for (int k = nearest; k >= std::max(nearest - 1, 1); --k) {
      const float d = c.r - static_cast<float>(2 * k);
      offer(best, 0, k, run.nothing + d * d * c.error + position + level_bits(run.model, run.bins, 0, c.at, 0, 0, k),
            STARTS);
    }
  }

  // Survivors move on; the last to follow one takes over its memory.
  void take_over(const Candidates& best, Place at, const Shape& coded) {
    std::array<int, STATES> followers = {};
    for (const Candidate& c : best)
      if (c.cost < NEVER && c.before >= 0) ++followers[c.before];
    std::array<Survivor*, STATES> taken = {};
    std::array<bool, 2 * STATES> is_used = {};
    for (int t = 0; t < STATES; ++t) {
      const Candidate& c = best[t];
      if (c.cost == NEVER || c.before == STARTS) continue;
      const bool is_last = --followers[c.before] == 0;
      taken[t] = is_last ? now_[c.before] : next_[t];
      if (!is_last) taken[t]->copy_levels(*now_[c.before], coded);
      is_used[taken[t] - survivors_.data()] = true;
    }
    int free = 0;
    const auto take_free = [&]() -> Survivor* {
      while (is_used[free]) ++free;
      is_used[free] = true;
      return &survivors_[free];
    };
    for (int t = 0; t < STATES; ++t) {
      const Candidate& c = best[t];
      if (!taken[t]) {
        taken[t] = take_free();
        if (c.cost < NEVER) taken[t]->begin({at.x >> 2, at.y >> 2}, coded);
      }
      Survivor& v = *taken[t];
      v.cost = c.cost;
      if (c.cost == NEVER || c.magnitude == 0) continue;
      v.magnitudes.set(at, c.magnitude);
      v.earlier += c.magnitude > 1;
      v.any_in_group = true;
    }
    now_ = taken;
    for (Survivor*& next : next_) next = take_free();
  }

  // States for which the group is better passed over return to what they were before it.
  void pass_over(const std::array<float, STATES>& passed, Place group, size_t first_stage) {
    Stage stage = {static_cast<int>(first_stage), PASSED, {}};
    for (int s = 0; s < STATES; ++s) {
      const bool is_passed = passed[s] < now_[s]->cost;
      stage.steps[s] = {is_passed, static_cast<int8_t>(s)};
      if (!is_passed) continue;
      *now_[s] = before_[s];
      now_[s]->cost = passed[s];
      now_[s]->coded.set(group, false);
    }
    stages_.push_back(stage);
  }

  // Writes the levels of the best path; false if none at all cost less.
  bool trace_back(const Run& run, int16_t* levels, int stride) const {
    int state = 0;
    for (int s = 1; s < STATES; ++s)
      if (now_[s]->cost < now_[state]->cost) state = s;
    if (now_[state]->cost >= run.nothing) return false;
    for (size_t n = stages_.size(); n-- > 0;) {
      const auto& [x, y, steps] = stages_[n];
      const Step& step = steps[state];
      if (y == PASSED) {
        if (step.magnitude) n = static_cast<size_t>(x);  // over the group's stages
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

  std::array<Survivor, 2 * STATES> survivors_;
  std::array<Survivor, STATES> before_;       // the group that is being searched
  std::array<Survivor*, STATES> now_, next_;  // by state; memory that is free
  std::vector<Stage> stages_;
};

}  // namespace ncodec::dct
