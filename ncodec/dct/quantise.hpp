// Rate-distortion optimised quantisation of one block (encoder only): levels that minimise bits + weight x error.
//
// From the highest frequency down, in coding order, so that the template of each coefficient is known: each level
// is what it rounds to, one less, or 0; each level over 0 may become the last; each 4x4 group may be dropped.

#pragma once

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

// `ratio`: [coded side, coded side] coefficients in steps; `error`: what a squared error of one step weighs, in bits.
// Levels (cleared before) are written; returns whether there are any.
inline bool quantise(const float* ratio, const float* error, int16_t* levels, int stride, int log2, const Surroundings& around,
                     const Model& model, bool optimised) {
  const int side_log2 = coded_log2(log2), side = 1 << side_log2, groups_log2 = side_log2 - 2;
  const auto& groups = SCAN.groups[groups_log2];
  if (!optimised) {  // rounding with a dead zone
    bool any = false;
    for (int y = 0; y < side; ++y)
      for (int x = 0; x < side; ++x) {
        const int i = y * side + x;
        const int level = std::min(static_cast<int>(std::abs(ratio[i]) + 0.5f - 1.f / 6), LEVEL_MAX);
        levels[y * stride + x] = static_cast<int16_t>(ratio[i] < 0 ? -level : level);
        any |= level != 0;
      }
    return any;
  }
  uint8_t group_max[64];  // is there anything to code?
  int top_group = -1;
  for (int g = 0; g < 1 << (2 * groups_log2); ++g) {
    const int gx = groups[g] & 7, gy = groups[g] >> 3;
    float most = 0;
    for (int y = 0; y < 4; ++y)
      for (int x = 0; x < 4; ++x) most = std::max(most, std::abs(ratio[(gy * 4 + y) * side + gx * 4 + x]));
    group_max[g] = most >= 0.5f;
    if (group_max[g]) top_group = g;
  }
  if (top_group < 0) return false;

  const LevelContexts contexts(around, log2);
  LastCosts last_costs(model, contexts, side_log2);
  uint8_t magnitude[ABS_STRIDE * ABS_STRIDE];
  for (int y = 0; y < side + 2; ++y) std::memset(magnitude + y * ABS_STRIDE, 0, side + 2);
  uint8_t group_coded[9 * 9] = {};

  // Of what lies above the current place: `spent` as chosen (bits and weighted error), `nothing` if all of it were 0.
  float spent = 0, nothing = 0;
  bool has_last = false;
  int earlier = 0, last_group = top_group;
  const auto drop_above = [&](int from_group) {  // the levels above a new last one
    for (int g = top_group; g >= from_group; --g) {
      const int gx = groups[g] & 7, gy = groups[g] >> 3;
      group_coded[gy * 9 + gx] = 0;
      for (int y = 0; y < 4; ++y) {
        std::memset(magnitude + (gy * 4 + y) * ABS_STRIDE + gx * 4, 0, 4);
        std::memset(levels + (gy * 4 + y) * stride + gx * 4, 0, 4 * sizeof(int16_t));
      }
    }
  };

  for (int g = top_group; g >= 0; --g) {
    const int gx = groups[g] & 7, gy = groups[g] >> 3;
    float group_nothing = 0;
    if (!group_max[g]) {
      for (int y = 0; y < 4; ++y)
        for (int x = 0; x < 4; ++x) {
          const int i = (gy * 4 + y) * side + gx * 4 + x;
          group_nothing += ratio[i] * ratio[i] * error[i];
        }
      nothing += group_nothing, spent += group_nothing;
      if (has_last && g > 0) {
        const int neighbours = group_coded[gy * 9 + gx + 1] + group_coded[(gy + 1) * 9 + gx];
        spent += cost(mix(model, contexts.group(gx, gy, neighbours)).p, 0);
      } else if (has_last) {  // group of DC: no flag, its levels are coded
        for (int k = 15; k >= 0; --k) {
          const int x = gx * 4 + (SCAN.in_group[k] & 3), y = gy * 4 + (SCAN.in_group[k] >> 2);
          spent += cost(mix(model, contexts.sig(x, y, template_sum(magnitude + y * ABS_STRIDE + x))).p, 0);
        }
      }
      continue;
    }
    const float spent_before = spent;
    const bool had_last = has_last;
    const int earlier_before = earlier;
    const int neighbours = group_coded[gy * 9 + gx + 1] + group_coded[(gy + 1) * 9 + gx];
    float flag[2] = {0, 0};
    if (has_last && g > 0) {
      const int p = mix(model, contexts.group(gx, gy, neighbours)).p;
      flag[0] = cost(p, 0), flag[1] = cost(p, 1);
      spent += flag[1];
    }
    bool any_here = false;
    for (int k = 15; k >= 0; --k) {
      const int x = gx * 4 + (SCAN.in_group[k] & 3), y = gy * 4 + (SCAN.in_group[k] >> 2), i = y * side + x;
      const float r = std::abs(ratio[i]), zero_error = r * r * error[i];
      group_nothing += zero_error;
      uint8_t* place = magnitude + y * ABS_STRIDE + x;
      int high = std::min(static_cast<int>(r + 0.5f), LEVEL_MAX);
      if (!high && !has_last) {
        spent += zero_error;
        nothing += zero_error;
        continue;
      }
      const int sum = template_sum(place);
      const int p_sig = has_last ? mix(model, contexts.sig(x, y, sum)).p : 0;
      const float zero_cost = has_last ? zero_error + cost(p_sig, 0) : zero_error;
      int level = 0;
      float best = zero_cost, best_as_last = 1e30f;
      int last_level = 0;
      if (high) {
        const int t = TABLES.template_class[sum];
        float more[4] = {0, 0, 0, 0}, stop[4] = {0, 0, 0, 0};  // bits of "> 1?", "> 2?", "> 3?"
        for (int threshold = 1; threshold <= std::min(high, 3); ++threshold) {
          const int p = mix(model, contexts.big(threshold, x, y, sum, earlier)).p;
          more[threshold] = cost(p, 1), stop[threshold] = cost(p, 0);
        }
        const float sig_bits = has_last ? cost(p_sig, 1) : 0;
        const float position_bits = last_costs.bits(x, y);
        for (int l = high; l >= std::max(high - 1, 1); --l) {
          float bits = 1;
          for (int threshold = 1; threshold < std::min(l, 4); ++threshold) bits += more[threshold];
          bits += l <= 3 ? stop[l] : escape_bits(l, t, model);
          const float j = (r - l) * (r - l) * error[i] + bits;
          if (has_last && j + sig_bits < best) best = j + sig_bits, level = l;
          if (j + position_bits < best_as_last) best_as_last = j + position_bits, last_level = l;
        }
      }
      const bool starts = last_level && (!has_last || nothing + best_as_last < spent + best);
      if (starts) {
        drop_above(g);
        level = last_level;
        spent = nothing + best_as_last;
        has_last = true, any_here = true, last_group = g;
        earlier = 0;
      } else {
        spent += best;
      }
      nothing += zero_error;
      if (level) {
        *place = static_cast<uint8_t>(std::min(level, 7));
        levels[y * stride + x] = static_cast<int16_t>(ratio[i] < 0 ? -level : level);
        earlier += level > 1;
        any_here = true;
      }
    }
    group_coded[gy * 9 + gx] = any_here;
    // Would the group be better dropped?
    if (had_last && g > 0 && last_group > g) {
      const float dropped = spent_before + flag[0] + group_nothing;
      if (!any_here || dropped < spent) {
        spent = dropped;
        earlier = earlier_before;
        group_coded[gy * 9 + gx] = 0;
        for (int y = 0; y < 4; ++y) {
          std::memset(magnitude + (gy * 4 + y) * ABS_STRIDE + gx * 4, 0, 4);
          std::memset(levels + (gy * 4 + y) * stride + gx * 4, 0, 4 * sizeof(int16_t));
        }
      }
    }
  }
  if (has_last && nothing <= spent) {
    drop_above(0);
    has_last = false;
  }
  return has_last;
}

}  // namespace ncodec::dct
