// Rate-distortion optimised quantisation of one block (encoder only): levels that minimise bits + weight x error.
//
// A trellis from the highest frequency down, in coding order: four paths, one to each state of the dependent
// quantiser. At each coefficient a path goes on with the two magnitudes next to it or with 0, or begins (its first
// level is the last one of the block); a path may pass over each 4x4 group. Each knows its own template.

#pragma once

#include <limits>
#include <vector>

#include "parameters.hpp"

namespace ncodec::dct {

// What the last position costs, by class of its coordinates.
class LastCosts {
 public:
  LastCosts(const Model& model, const LevelContexts& contexts, int log2) : model_(model), contexts_(contexts), n_(classes_of(log2)) {
    fill(0, contexts.direction(), x_);
    has_y_.fill(false);
  }

  float bits(int x, int y) {
    const int cx = class_of(x), cy = class_of(y), other = std::min(cx, 6) / 2;
    if (!has_y_[other]) fill(1, other, y_[other]), has_y_[other] = true;
    return x_[cx] + y_[other][cy];
  }

 private:
  void fill(int axis, int other, std::array<float, 10>& out) const {
    float before = 0;
    for (int c = 0; c < n_; ++c) {
      const float fixed = before + CLASS_BITS[c];
      if (c == n_ - 1) {
        out[c] = fixed;
        break;
      }
      const int p = mix(model_, contexts_.last(axis, c, other)).p;
      out[c] = fixed + cost(p, 0);
      before += cost(p, 1);
    }
  }

  const Model& model_;
  const LevelContexts& contexts_;
  int n_;
  std::array<float, 10> x_;
  std::array<std::array<float, 10>, 4> y_;
  std::array<bool, 4> has_y_;
};

inline float escape_bits(int value, int t, const Model& model) {  // of a level over 3
  float bits = 0;
  for (int v = 4; v < std::min(value + 1, UNARY); ++v) bits += cost(model.contexts[place::UNARY_A + t * 12 + v - 4].p, value > v);
  if (value >= UNARY) {
    int length = 0;
    while ((value - UNARY + 1) >> (length + 1)) ++length;
    bits += static_cast<float>(2 * length + 1);
  }
  return bits;
}

// The levels of one path through the trellis, as far as contexts need them.
struct Survivor {
  float cost;                   // bits and weighted error of everything above the current place
  int earlier;                  // levels over 1
  bool any_in_group;
  uint8_t group_coded[9 * 9];
  uint8_t magnitude[ABS_STRIDE * ABS_STRIDE];  // at most 7
};

// What led to a state: the magnitude here, the state before; or that a group above was passed over.
struct Step {
  int16_t magnitude;
  int8_t before;  // STARTS: the path's first level
};
constexpr int8_t STARTS = -1;
constexpr float NEVER = std::numeric_limits<float>::max();

// Chooses the half-steps of a block. `ratio`: [coded side, coded side] coefficients in half-steps; `error`: what a
// squared error of one half-step weighs, in bits. `levels` (cleared before) gets them; returns whether there are any.
class Trellis {
 public:
  bool quantise(const float* ratio, const float* error, int16_t* levels, int stride, int log2, const Surroundings& around,
                const Model& model) {
    const int side_log2 = coded_log2(log2), side = 1 << side_log2, groups_log2 = side_log2 - 2;
    const auto& groups = SCAN.groups[groups_log2];
    bool is_worth[64];  // is there anything in a group that may be more than 0?
    int top = -1;
    for (int g = 0; g < 1 << (2 * groups_log2); ++g) {
      const int gx = groups[g] & 7, gy = groups[g] >> 3;
      float most = 0;
      for (int y = 0; y < 4; ++y)
        for (int x = 0; x < 4; ++x) most = std::max(most, std::abs(ratio[(gy * 4 + y) * side + gx * 4 + x]));
      is_worth[g] = most >= LEAST;
      if (is_worth[g]) top = g;
    }
    if (top < 0) return false;
    const LevelContexts contexts(around, log2);
    LastCosts last_costs(model, contexts, side_log2);
    float nothing = 0;  // weighted error of all that is above, if all of it is 0
    bool is_alive = false;
    for (int s = 0; s < 4; ++s) now_[s] = &survivors_[s], next_[s] = &survivors_[4 + s], now_[s]->cost = NEVER;
    steps_.clear();
    for (Survivor& s : survivors_) clear(s, side);

    for (int g = top; g >= 0; --g) {
      const int gx = groups[g] & 7, gy = groups[g] >> 3;
      float group_nothing = 0;
      for (int y = 0; y < 4; ++y)
        for (int x = 0; x < 4; ++x) {
          const int i = (gy * 4 + y) * side + gx * 4 + x;
          group_nothing += ratio[i] * ratio[i] * error[i];
        }
      const bool has_flag = is_alive && g > 0;
      if (!is_worth[g] && (!is_alive || g > 0)) {
        for (Survivor* s : now_)
          if (s->cost < NEVER) s->cost += group_nothing + flag_bits(model, contexts, *s, gx, gy, 0), s->group_coded[gy * 9 + gx] = 0;
        nothing += group_nothing;
        continue;
      }
      std::array<float, 4> passed;  // cost of passing over the group, by state
      for (int s = 0; s < 4; ++s) {
        Survivor& v = *now_[s];
        passed[s] = NEVER;
        if (v.cost == NEVER) continue;
        if (has_flag) {
          passed[s] = v.cost + group_nothing + flag_bits(model, contexts, v, gx, gy, 0);
          v.cost += flag_bits(model, contexts, v, gx, gy, 1);
          before_[s] = v;
        }
        v.group_coded[gy * 9 + gx] = 1;
        v.any_in_group = false;
      }
      const size_t first_step = steps_.size();
      for (int k = 15; k >= 0; --k) {
        const int x = gx * 4 + (SCAN.in_group[k] & 3), y = gy * 4 + (SCAN.in_group[k] >> 2), i = y * side + x;
        const float r = std::abs(ratio[i]);
        if (!is_alive && r < LEAST) {
          nothing += r * r * error[i];
          continue;
        }
        advance(model, contexts, last_costs, x, y, r, error[i], nothing, k == 0 && has_flag, side);
        nothing += r * r * error[i];
        if (!is_alive) {
          is_alive = true;
          for (Survivor* s : now_) s->group_coded[gy * 9 + gx] = 1;
        }
      }
      if (has_flag) pass_over(passed, gx, gy, first_step);
    }
    return is_alive && trace_back(ratio, nothing, levels, stride, side);
  }

 private:
  static constexpr float LEAST = 0.6f;  // half-steps: below it no level pays
  static constexpr float HOPELESS = 9;  // bits by which a path may lag behind the best

  static float flag_bits(const Model& model, const LevelContexts& contexts, const Survivor& s, int gx, int gy, int value) {
    const int neighbours = s.group_coded[gy * 9 + gx + 1] + s.group_coded[(gy + 1) * 9 + gx];
    return cost(mix(model, contexts.group(gx, gy, neighbours)).p, value);
  }

  struct Candidate {
    float cost = NEVER;
    int magnitude = 0;
    int8_t before = STARTS;
  };

  // All states over one coefficient of magnitude r.
  void advance(const Model& model, const LevelContexts& contexts, LastCosts& last_costs, int x, int y, float r, float error,
               float nothing, bool is_last_of_group, int side) {
    std::array<Candidate, 4> best;
    const auto offer = [&](int state, int magnitude, float cost, int8_t before) {
      Candidate& c = best[NEXT_STATE[state][magnitude & 1]];
      if (cost < c.cost) c = {cost, magnitude, before};
    };
    const int place = y * ABS_STRIDE + x;
    const auto level_bits = [&](const Survivor* v, int state, int sum, int magnitude) {
      const int earlier = v ? v->earlier : 0;
      float bits = 1;
      for (int t = 1; t <= std::min(magnitude, 3); ++t) bits += cost(mix(model, contexts.big(state, t, x, y, sum, earlier)).p, magnitude > t);
      return magnitude > 3 ? bits + escape_bits(magnitude, TABLES.template_class[sum], model) : bits;
    };
    float least = NEVER;
    for (const Survivor* s : now_) least = std::min(least, s->cost);
    for (int s = 0; s < 4; ++s) {
      const Survivor& v = *now_[s];
      if (v.cost == NEVER || v.cost > least + HOPELESS) continue;
      const int odd = s / 2, sum = template_sum(v.magnitude + place);
      const bool is_inferred = is_last_of_group && !v.any_in_group;
      const int p = is_inferred ? 65535 : mix(model, contexts.sig(s, x, y, sum)).p;
      if (!is_inferred) offer(s, 0, v.cost + r * r * error + cost(p, 0), static_cast<int8_t>(s));
      const int nearest = std::min(static_cast<int>((r + static_cast<float>(odd)) / 2 + 0.5f), LEVEL_MAX);
      const float sig_bits = is_inferred ? 0 : cost(p, 1);
      for (int k = std::max(nearest, is_inferred ? 1 : 0); k >= std::max(nearest - 1, 1); --k) {
        const float d = r - static_cast<float>(2 * k - odd);
        offer(s, k, v.cost + d * d * error + sig_bits + level_bits(&v, s, sum, k), static_cast<int8_t>(s));
      }
    }
    if (r >= LEAST) {  // the path may begin here, in state 0
      const float position = last_costs.bits(x, y);
      const int nearest = std::max(std::min(static_cast<int>(r / 2 + 0.5f), LEVEL_MAX), 1);
      for (int k = nearest; k >= std::max(nearest - 1, 1); --k) {
        const float d = r - static_cast<float>(2 * k);
        offer(0, k, nothing + d * d * error + position + level_bits(nullptr, 0, 0, k), STARTS);
      }
    }
    // Survivors move on; one that has a single follower lends its memory.
    std::array<int, 4> followers = {};
    for (const Candidate& c : best)
      if (c.cost < NEVER && c.before >= 0) ++followers[c.before];
    std::array<Step, 4> step;
    std::array<Survivor*, 4> taken = {};
    for (int t = 0; t < 4; ++t) {
      const Candidate& c = best[t];
      step[t] = {static_cast<int16_t>(c.magnitude), c.before};
      if (c.cost == NEVER || c.before == STARTS) continue;
      if (--followers[c.before] == 0) {
        taken[t] = now_[c.before];
      } else {
        copy(*now_[c.before], *next_[t], side);
        taken[t] = next_[t];
      }
    }
    std::array<bool, 8> used = {};
    for (Survivor* s : taken)
      if (s) used[s - survivors_.data()] = true;
    int free = 0;
    const auto take_free = [&]() -> Survivor* {
      while (used[free]) ++free;
      used[free] = true;
      return &survivors_[free];
    };
    for (int t = 0; t < 4; ++t) {
      const Candidate& c = best[t];
      if (!taken[t]) {
        taken[t] = take_free();
        if (c.cost < NEVER) reset(*taken[t], x, y, side);
      }
      Survivor& v = *taken[t];
      v.cost = c.cost;
      if (c.cost == NEVER || c.magnitude == 0) continue;
      v.magnitude[place] = static_cast<uint8_t>(std::min(c.magnitude, 7));
      v.earlier += c.magnitude > 1;
      v.any_in_group = true;
    }
    now_ = taken;
    for (int t = 0; t < 4; ++t) next_[t] = take_free();
    steps_.push_back({x, y, step});
  }

  static void copy(const Survivor& from, Survivor& to, int side) {
    to.earlier = from.earlier, to.any_in_group = from.any_in_group;
    std::memcpy(to.group_coded, from.group_coded, sizeof to.group_coded);
    for (int y = 0; y < side; ++y) std::memcpy(to.magnitude + y * ABS_STRIDE, from.magnitude + y * ABS_STRIDE, side);
  }

  static void clear(Survivor& s, int side) {
    for (int j = 0; j < side + 2; ++j) std::memset(s.magnitude + j * ABS_STRIDE, 0, side + 2);
  }

  static void reset(Survivor& s, int x, int y, int side) {
    s.earlier = 0, s.any_in_group = false;
    std::memset(s.group_coded, 0, sizeof s.group_coded);
    clear(s, side);
    s.group_coded[(y >> 2) * 9 + (x >> 2)] = 1;
  }

  // States for which the group is better passed over return to what they were before it.
  void pass_over(const std::array<float, 4>& passed, int gx, int gy, size_t first_step) {
    std::array<Step, 4> step;
    for (int s = 0; s < 4; ++s) {
      step[s] = {0, static_cast<int8_t>(s)};
      if (passed[s] >= now_[s]->cost) continue;
      *now_[s] = before_[s];
      now_[s]->cost = passed[s];
      now_[s]->group_coded[gy * 9 + gx] = 0;
      step[s] = {1, static_cast<int8_t>(s)};
    }
    steps_.push_back({static_cast<int>(first_step), PASSED, step});
  }

  bool trace_back(const float* ratio, float nothing, int16_t* levels, int stride, int side) {
    int state = 0;
    for (int s = 1; s < 4; ++s)
      if (now_[s]->cost < now_[state]->cost) state = s;
    if (now_[state]->cost >= nothing) return false;
    for (size_t n = steps_.size(); n-- > 0;) {
      const auto& [x, y, step] = steps_[n];
      if (y == PASSED) {
        if (step[state].magnitude) n = static_cast<size_t>(x);  // over the group's steps
        continue;
      }
      const Step& s = step[state];
      const int before = s.before == STARTS ? 0 : s.before;
      if (s.magnitude) {
        const int half_steps = 2 * s.magnitude - before / 2;
        levels[y * stride + x] = static_cast<int16_t>(ratio[y * side + x] < 0 ? -half_steps : half_steps);
      }
      if (s.before == STARTS) break;
      state = before;
    }
    return true;
  }

  static constexpr int PASSED = -1;  // in place of y: x is the group's first step
  struct Place {
    int x, y;
    std::array<Step, 4> step;
  };
  std::array<Survivor, 8> survivors_;
  std::array<Survivor, 4> before_;
  std::array<Survivor*, 4> now_, next_;
  std::vector<Place> steps_;
};

// Each coefficient to the nearest level with a dead zone, one after the other: what optimisation is measured against.
inline bool quantise_plainly(const float* ratio, int16_t* levels, int stride, int log2) {
  const int side_log2 = coded_log2(log2), side = 1 << side_log2, groups_log2 = side_log2 - 2;
  const auto& groups = SCAN.groups[groups_log2];
  bool any = false;
  int state = 0;
  for (int g = (1 << (2 * groups_log2)) - 1; g >= 0; --g) {
    const int gx = groups[g] & 7, gy = groups[g] >> 3;
    bool is_coded = g == 0 && any;
    const int state_before = state;
    for (const bool writes : {false, true}) {  // first: is there a level in the group?
      if (writes && !is_coded) break;
      state = state_before;
      for (int k = 15; k >= 0; --k) {
        const int x = gx * 4 + (SCAN.in_group[k] & 3), y = gy * 4 + (SCAN.in_group[k] >> 2);
        const float r = std::abs(ratio[y * side + x]);
        const int odd = state / 2;
        const int level = std::min(static_cast<int>((r + static_cast<float>(odd)) / 2 + 1.f / 3), LEVEL_MAX);
        if (level) is_coded = true;
        if (!level && !any && !writes) continue;  // above the last: the state waits
        if (level) any = true;
        if (writes && level) levels[y * stride + x] = static_cast<int16_t>(ratio[y * side + x] < 0 ? odd - 2 * level : 2 * level - odd);
        if (any) state = NEXT_STATE[state][level & 1];
      }
    }
    if (!is_coded) state = state_before;
  }
  return any;
}

}  // namespace ncodec::dct
