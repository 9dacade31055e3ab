// The levels (quantised coefficients) of one block as bins, specs/dct.md section 5: one text, run by encoder, decoder
// and estimator.
//
//   [last significant position] then, from there back to DC, 4x4 groups in diagonal order:
//   [group coded?] then each level: [> 0?] [> 1?] [> 2?] ... escape; signs after all (signs.hpp)
//
// Quantisation is dependent (H.266 8.7.3): four states, moved on by the parity of each magnitude k; in even
// states k stands for 2k half-steps, in odd ones for 2k - 1. Buffers hold half-steps, with their sign; bins code k.

#pragma once

#include "level_contexts.hpp"

namespace ncodec::dct {

constexpr int LEVEL_MAX = 16383;  // 2k half-steps fit int16
constexpr int MAX_UNARY = 15;     // magnitudes from here on are escaped by Exp-Golomb

// The next state after an even and an odd magnitude (D28).
constexpr uint8_t NEXT_STATE[STATES][2] = {{0, 1}, {2, 3}, {1, 0}, {3, 2}};

// Diagonals from (0, 0), each from the lower left to the upper right.
struct Scan {
  std::array<Place, 16> in_group;
  std::array<std::array<std::array<Place, 64>, 4>, 4> groups;  // for 1, 2, 4, 8 groups a column, a row

  Scan() {
    diagonal(4, 4, in_group.data());
    for (int j = 0; j < 4; ++j)
      for (int i = 0; i < 4; ++i) diagonal(1 << i, 1 << j, groups[j][i].data());
  }

  static void diagonal(int width, int height, Place* out) {
    for (int d = 0; d < width + height - 1; ++d)
      for (int y = std::min(d, height - 1); y >= 0 && d - y < width; --y) *out++ = {d - y, y};
  }

  // The groups of a block's coded frequencies.
  const Place* groups_of(const Shape& shape) const {
    const Shape coded = coded_of(shape);
    return groups[coded.log2_h - 2][coded.log2_w - 2].data();
  }

  // Frequency k of a group.
  Place place(Place group, int k) const { return {4 * group.x + in_group[k].x, 4 * group.y + in_group[k].y}; }
};
inline const Scan SCAN;
inline int groups_in(const Shape& shape) { return coded_of(shape).area() / 16; }

// A coordinate as a class (unary, adaptive) and bits: 0 1 2 3 | 4-5 | 6-7 | 8-11 | 12-15 | 16-23 | 24-31.
constexpr int CLASS_START[11] = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32};
constexpr int CLASS_BITS[10] = {0, 0, 0, 0, 1, 1, 2, 2, 3, 3};
inline int classes_of(int log2) { return 2 * coded_log2(log2); }  // 4, 6, 8, 10 along coded sides of 4, 8, 16, 32

inline int class_of(int value) {
  int c = 0;
  while (CLASS_START[c + 1] <= value) ++c;
  return c;
}

// What the contexts of the last position's y know of its x (D22).
inline int seen_by_y(int x_class) { return std::min(x_class, 6) / 2; }

template <class Coder>
int code_coordinate(Coder& coder, int value, int axis, int other, const LevelContexts& bins, int log2) {
  const int n = classes_of(log2);
  const int wanted = Coder::DECODES ? 0 : class_of(value);
  int c = 0;
  while (c < n - 1 && coder.bin(c < wanted, bins.last(axis, c, other))) ++c;
  const int rest = Coder::DECODES ? 0 : value - CLASS_START[c];
  int decoded = 0;
  for (int i = CLASS_BITS[c] - 1; i >= 0; --i) decoded = 2 * decoded + static_cast<int>(coder.bypass((rest >> i) & 1));
  return CLASS_START[c] + decoded;
}

template <class Coder>
Place code_last(Coder& coder, Place last, const LevelContexts& bins, const Shape& shape) {
  const int x = code_coordinate(coder, last.x, 0, bins.direction(), bins, shape.log2_w);
  const int y = code_coordinate(coder, last.y, 1, seen_by_y(class_of(x)), bins, shape.log2_h);
  return {x, y};
}

// Exp-Golomb of order 0, at most 15 bits of value (D27).
template <class Coder>
int code_escape(Coder& coder, int value) {
  int length = 0;
  const int v = value + 1;
  while (length < 15 && coder.bypass(Coder::DECODES ? 0 : (v >> (length + 1)) != 0)) ++length;
  int decoded = 1;
  for (int i = length - 1; i >= 0; --i) decoded = 2 * decoded + static_cast<int>(coder.bypass((v >> i) & 1));
  return decoded - 1;
}

// The magnitude of a level that is not 0 (D26, D27).
template <class Coder>
NCODEC_INLINE int code_magnitude(Coder& coder, int wanted, const LevelBins& bins, int state, int near, int earlier) {
  int k = 1;
  while (k <= 3 && coder.bin(wanted > k, bins.big(state, k, near, earlier))) ++k;
  if (k <= 3) return k;
  while (k < MAX_UNARY && coder.bit(wanted > k, contexts::UNARY(near, k - 4))) ++k;
  if (k == MAX_UNARY) k += code_escape(coder, wanted - MAX_UNARY);
  return std::min(k, LEVEL_MAX);
}

// Encoder: is there a level in a group, and where is the last in coding order of a block that has any?
inline bool has_level(const int16_t* levels, int stride, Place group) {
  uint32_t any = 0;
  for (int y = 0; y < 4; ++y)
    for (int x = 0; x < 4; ++x) any |= static_cast<uint16_t>(levels[(group.y * 4 + y) * stride + group.x * 4 + x]);
  return any != 0;
}

inline Place find_last(const int16_t* levels, int stride, const Shape& shape) {
  const Place* groups = SCAN.groups_of(shape);
  for (int g = groups_in(shape) - 1; g >= 0; --g)
    for (int k = 15; k >= 0; --k) {
      const Place at = SCAN.place(groups[g], k);
      if (levels[at.y * stride + at.x]) return at;
    }
  return {0, 0};
}

// The places of a block's levels that are not 0, in coding order.
struct Places {
  std::array<Place, MAX_CODED * MAX_CODED> at;
  int n = 0;
};

// Codes the magnitudes of the levels of a block that has any. The decoder finds `levels` zero and fills it in, without
// signs; returns the sum of magnitudes, each at most 255.
template <class Coder>
int code_magnitudes(Coder& coder, int16_t* levels, int stride, const Shape& shape, const Surroundings& around,
                    Places& places) {
  const LevelContexts bins(around, shape);
  const Place* groups = SCAN.groups_of(shape);
  const Place last = code_last(coder, Coder::DECODES ? Place{0, 0} : find_last(levels, stride, shape), bins, shape);
  int first_group = 0, first_in_group = 0;
  while (!(groups[first_group] == Place{last.x >> 2, last.y >> 2})) ++first_group;
  while (!(SCAN.place(groups[first_group], first_in_group) == last)) ++first_in_group;

  Magnitudes magnitudes;
  magnitudes.clear(coded_of(shape));
  GroupFlags coded;
  int sum_of_levels = 0, earlier = 0, state = 0;
  for (int g = first_group; g >= 0; --g) {
    const Place group = groups[g];
    const bool is_first = g == first_group, has_flag = !is_first && g != 0;
    if (has_flag) {
      const bool wanted = !Coder::DECODES && has_level(levels, stride, group);
      if (!coder.bin(wanted, bins.group(group, coded.neighbours(group)))) continue;
    }
    coded.set(group, true);
    bool is_empty = true;
    for (int k = is_first ? first_in_group : 15; k >= 0; --k) {
      const Place at = SCAN.place(group, k);
      int16_t& level = levels[at.y * stride + at.x];
      const int near = CLASSES.near[magnitudes.template_sum(at)];
      const LevelBins level_bins = bins.at(at);
      // D24: the last position has a level, and so has number 0 of a coded group without any other.
      const bool is_known = (is_first && k == first_in_group) || (has_flag && is_empty && k == 0);
      if (!is_known && !coder.bin(level != 0, level_bins.sig(state, near))) {
        state = NEXT_STATE[state][0];
        continue;
      }
      is_empty = false;
      const int odd = state & 1, wanted = (std::abs(static_cast<int>(level)) + odd) / 2;
      const int magnitude = code_magnitude(coder, wanted, level_bins, state, near, earlier);
      if (Coder::DECODES) level = static_cast<int16_t>(2 * magnitude - odd);
      places.at[places.n++] = at;
      state = NEXT_STATE[state][magnitude & 1];
      earlier += magnitude > 1;
      magnitudes.set(at, magnitude);
      sum_of_levels += std::min(magnitude, 255);
    }
  }
  return sum_of_levels;
}

// Signs, from low frequencies to high ones. `code(place, level)` codes whether a level is negative.
template <class F>
void for_each_sign(int16_t* levels, int stride, const Places& places, F code) {
  for (int i = places.n - 1; i >= 0; --i) {
    const Place at = places.at[i];
    int16_t& level = levels[at.y * stride + at.x];
    const int magnitude = std::abs(level);
    level = static_cast<int16_t>(code(at, level) ? -magnitude : magnitude);
  }
}

}  // namespace ncodec::dct
