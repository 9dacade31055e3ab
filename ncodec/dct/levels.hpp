// The levels (quantised coefficients) of one block as bins: one text, run by encoder, decoder and estimator.
//
//   [last position] then, from there back to DC, 4x4 groups in diagonal order:
//   [group coded?] then each level: [> 0?] [> 1?] [> 2?] ... escape, sign
//
// Quantisation is dependent (H.266 8.7.3): four states, moved on by the parity of each magnitude k; in states 0 and 1
// k stands for 2k half-steps, in 2 and 3 for 2k - 1. Buffers hold half-steps, with their sign; bins code k.
//
// Contexts see what is decoded already: the five next higher frequencies (the template of H.266 9.3.4.2.9),
// the position, the energy of the blocks to the left and above, and, for chroma, the luma and Cb levels
// of the same frequency. Each bin mixes three of them (probability.hpp).

#pragma once

#include <cstdlib>
#include <cstring>

#include "probability.hpp"

namespace ncodec::dct {

constexpr int MAX_LOG2 = 6;               // blocks of 64x64 ...
constexpr int MAX_CODED = 32;             // ... of which the 32x32 low frequencies are coded
constexpr int LEVEL_MAX = 16383;          // 2k half-steps fit int16
constexpr int UNARY = 15;                 // levels beyond are escaped by Exp-Golomb
constexpr int SIZES = MAX_LOG2 - 1;       // 4, 8, 16, 32, 64

inline int coded_log2(int log2) { return std::min(log2, 5); }

// Places in Model::contexts, one block of numbers after the other.
namespace place {
constexpr int SIG_A = 0;                                   // [state 3][luma?][size][diagonal 6][template 8]
constexpr int SIG_B_LUMA = SIG_A + 3 * 2 * SIZES * 6 * 8;    // [size][position 64][direction 3]
constexpr int SIG_B_CHROMA = SIG_B_LUMA + SIZES * 64 * 3;  // [size][position 64]
constexpr int SIG_C_LUMA = SIG_B_CHROMA + SIZES * 64;      // [size][energy 8][template 5][diagonal 3]
constexpr int SIG_C_CHROMA = SIG_C_LUMA + SIZES * 8 * 5 * 3;  // [size 3][energy 4][other planes 12][template 4]
constexpr int BIG_A = SIG_C_CHROMA + 3 * 4 * 12 * 4;       // [threshold 3][luma?][small?][odd state?][diagonal 4][template 8]
constexpr int BIG_B = BIG_A + 3 * 2 * 2 * 2 * 4 * 8;          // [threshold 3][luma?][size][position 16]
constexpr int BIG_C = BIG_B + 3 * 2 * SIZES * 16;          // [threshold 3][luma?][energy 8][earlier 4]
constexpr int UNARY_A = BIG_C + 3 * 2 * 8 * 4;             // [template 8][threshold - 4, 12]
constexpr int GROUP_A = UNARY_A + 8 * 12;                  // [luma?][size][neighbours 3]
constexpr int GROUP_B = GROUP_A + 2 * SIZES * 3;           // [luma?][size][position 16]
constexpr int GROUP_C = GROUP_B + 2 * SIZES * 16;          // [luma?][energy 8][neighbours 3]
constexpr int LAST_A = GROUP_C + 2 * 8 * 3;                // [axis][luma?][size][bin 10]
constexpr int LAST_B = LAST_A + 2 * 2 * SIZES * 10;        // [axis][luma?][energy 8][bin 10]
constexpr int LAST_C = LAST_B + 2 * 2 * 8 * 10;            // [axis][luma?][size][other axis or direction 4][bin 10]
constexpr int LEVELS_END = LAST_C + 2 * 2 * SIZES * 4 * 10;
}  // namespace place

namespace mixer {
constexpr int SIG = 0;                     // [state 3][luma?][size]
constexpr int BIG = SIG + 3 * 2 * SIZES;      // [threshold 3][luma?]
constexpr int GROUP = BIG + 6;             // [luma?]
constexpr int LAST = GROUP + 2;            // [axis][luma?]
constexpr int LEVELS_END = LAST + 4;
}  // namespace mixer

// Absolute levels with a border of zeros to the right and below, for the template.
constexpr int ABS_STRIDE = MAX_CODED + 2;

// The next state after an even and an odd magnitude.
constexpr uint8_t NEXT_STATE[4][2] = {{0, 2}, {2, 0}, {1, 3}, {3, 1}};

struct Surroundings {
  int plane;                    // 0 luma, 1 Cb, 2 Cr
  int energy;                   // 0 ... 15, of the blocks to the left and above
  int direction;                // of prediction: 0 none or diagonal, 1 horizontal, 2 vertical
  const int16_t* luma;          // levels of the same block in luma and Cb, or null
  const int16_t* cb;
  int luma_stride, cb_stride;
};

struct Scan {
  std::array<uint8_t, 16> in_group;               // x + 4 y, diagonally from DC
  std::array<std::array<uint8_t, 64>, 4> groups;  // x + 8 y, for 1, 2, 4, 8 groups a side

  Scan() {
    diagonal(4, in_group.data(), 4);
    for (int i = 0; i < 4; ++i) diagonal(1 << i, groups[i].data(), 8);
  }

  static void diagonal(int side, uint8_t* out, int stride) {
    for (int d = 0; d < 2 * side - 1; ++d)
      for (int y = std::min(d, side - 1); y >= 0 && d - y < side; --y) *out++ = static_cast<uint8_t>(d - y + stride * y);
  }
};
inline const Scan SCAN;

// Small look-ups of the contexts.
struct ContextTables {
  uint8_t template_class[64];    // of the sum of five levels, each at most 7
  uint8_t position[3][32];       // of a coordinate in blocks of 4, 8, larger
  uint8_t diagonal[64];          // of x + y

  ContextTables() {
    for (int s = 0; s < 64; ++s) template_class[s] = static_cast<uint8_t>(s < 5 ? s : s < 7 ? 5 : s < 11 ? 6 : 7);
    for (int i = 0; i < 32; ++i) {
      position[0][i] = position[1][i] = static_cast<uint8_t>(std::min(i, 7));
      position[2][i] = static_cast<uint8_t>(i < 4 ? i : i < 6 ? 4 : i < 10 ? 5 : i < 16 ? 6 : 7);
    }
    for (int d = 0; d < 64; ++d)
      diagonal[d] = static_cast<uint8_t>(d < 1 ? 0 : d < 2 ? 1 : d < 4 ? 2 : d < 7 ? 3 : d < 12 ? 4 : 5);
  }
};
inline const ContextTables TABLES;

// What the contexts of a block's levels have in common.
class LevelContexts {
 public:
  LevelContexts(const Surroundings& around, int log2)
      : around_(around), size_(log2 - 2), is_chroma_(around.plane > 0), position_(TABLES.position[std::min(log2 - 2, 2)]) {
    energy_ = std::min(around.energy, 7);
  }

  // `sum` of the template, its levels at most 7 each.
  Bin sig(int state, int x, int y, int sum) const {
    const int t = TABLES.template_class[sum], d = TABLES.diagonal[x + y];
    const int position = position_[x] + 8 * position_[y];
    Bin at;
    const int k = (std::max(state - 1, 0) * 2 + is_chroma_) * SIZES + size_;
    at.a = place::SIG_A + (k * 6 + d) * 8 + t;
    if (is_chroma_) {
      at.b = place::SIG_B_CHROMA + size_ * 64 + position;
      at.c = place::SIG_C_CHROMA + ((std::min(size_, 2) * 4 + energy_ / 2) * 12 + others(x, y)) * 4 + std::min(t, 3);
    } else {
      at.b = place::SIG_B_LUMA + (size_ * 64 + position) * 3 + around_.direction;
      at.c = place::SIG_C_LUMA + ((size_ * 8 + energy_) * 5 + std::min(t, 4)) * 3 + std::min(d / 2, 2);
    }
    at.mixer = mixer::SIG + k;
    return at;
  }

  // Is the level more than `threshold` (1, 2, 3)? `earlier`: levels over 1 so far in the block.
  Bin big(int state, int threshold, int x, int y, int sum, int earlier) const {
    const int t = TABLES.template_class[sum], d = std::min<int>(TABLES.diagonal[x + y], 3);
    const int k = (threshold - 1) * 2 + is_chroma_;
    Bin at;
    at.a = place::BIG_A + (((k * 2 + (size_ < 2)) * 2 + state / 2) * 4 + d) * 8 + t;
    at.b = place::BIG_B + (k * SIZES + size_) * 16 + std::min(x, 3) + 4 * std::min(y, 3);
    at.c = place::BIG_C + (k * 8 + energy_) * 4 + std::min(earlier, 3);
    at.mixer = mixer::BIG + k;
    return at;
  }

  Bin group(int x, int y, int neighbours) const {
    const int k = is_chroma_ * SIZES + size_;
    return {place::GROUP_A + k * 3 + neighbours, place::GROUP_B + k * 16 + std::min(x, 3) + 4 * std::min(y, 3),
            place::GROUP_C + (is_chroma_ * 8 + energy_) * 3 + neighbours, mixer::GROUP + is_chroma_};
  }

  Bin last(int axis, int number, int other) const {
    const int k = axis * 2 + is_chroma_;
    return {place::LAST_A + (k * SIZES + size_) * 10 + number, place::LAST_B + (k * 8 + energy_) * 10 + number,
            place::LAST_C + ((k * SIZES + size_) * 4 + other) * 10 + number, mixer::LAST + k};
  }

  // The y axis is coded second and knows x's class.
  int direction() const { return is_chroma_ ? 0 : around_.direction; }

 private:
  int others(int x, int y) const {
    const auto magnitude = [](int half_steps) { return std::min((std::abs(half_steps) + 1) / 2, 2); };
    const int luma = around_.luma ? magnitude(around_.luma[y * around_.luma_stride + x]) : 0;
    const int cb = around_.cb ? 1 + magnitude(around_.cb[y * around_.cb_stride + x]) : 0;
    return luma * 4 + cb;
  }

  const Surroundings& around_;
  int size_, is_chroma_, energy_;
  const uint8_t* position_;
};

// A coordinate as a class (unary, adaptive) and bits: 0 1 2 3 | 4-5 | 6-7 | 8-11 | 12-15 | 16-23 | 24-31.
constexpr int CLASS_START[11] = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32};
constexpr int CLASS_BITS[10] = {0, 0, 0, 0, 1, 1, 2, 2, 3, 3};
inline int classes_of(int coded_log2) { return 2 * coded_log2; }  // 4, 6, 8, 10 for sides 4, 8, 16, 32

inline int class_of(int value) {
  int c = 0;
  while (CLASS_START[c + 1] <= value) ++c;
  return c;
}

template <class Coder>
int code_coordinate(Coder& coder, int value, int axis, int other, const LevelContexts& contexts, int log2) {
  const int n = classes_of(log2);
  const int wanted = Coder::DECODES ? 0 : class_of(value);
  int c = 0;
  while (c < n - 1 && coder.bin(c < wanted, contexts.last(axis, c, other))) ++c;
  int rest = Coder::DECODES ? 0 : value - CLASS_START[c];
  int decoded = 0;
  for (int i = CLASS_BITS[c] - 1; i >= 0; --i) decoded = 2 * decoded + static_cast<int>(coder.bypass((rest >> i) & 1));
  return CLASS_START[c] + decoded;
}

// Exp-Golomb of order 0, at most 15 bits of value.
template <class Coder>
int code_escape(Coder& coder, int value) {
  int length = 0;
  const int v = value + 1;
  while (length < 15 && coder.bypass(Coder::DECODES ? 0 : (v >> (length + 1)) != 0)) ++length;
  int decoded = 1;
  for (int i = length - 1; i >= 0; --i) decoded = 2 * decoded + static_cast<int>(coder.bypass((v >> i) & 1));
  return decoded - 1;
}

inline int template_sum(const uint8_t* a) {
  return a[1] + a[2] + a[ABS_STRIDE] + a[ABS_STRIDE + 1] + a[2 * ABS_STRIDE];
}

// Codes the levels of a block that has any. The decoder finds `levels` zero and fills it in; returns the sum of
// absolute levels, each at most 255.
template <class Coder>
int code_levels(Coder& coder, int16_t* levels, int stride, int log2, const Surroundings& around) {
  const LevelContexts contexts(around, log2);
  const int side_log2 = coded_log2(log2), side = 1 << side_log2, groups_log2 = side_log2 - 2;
  const auto& groups = SCAN.groups[groups_log2];
  uint8_t magnitude[ABS_STRIDE * ABS_STRIDE];  // at most 7
  for (int y = 0; y < side + 2; ++y) std::memset(magnitude + y * ABS_STRIDE, 0, side + 2);

  int last_x = 0, last_y = 0, last_group = 0, last_in_group = 0;
  if (!Coder::DECODES) {
    for (int g = (1 << (2 * groups_log2)) - 1, found = 0; g >= 0 && !found; --g) {
      const int gx = groups[g] & 7, gy = groups[g] >> 3;
      for (int k = 15; k >= 0; --k) {
        const int x = gx * 4 + (SCAN.in_group[k] & 3), y = gy * 4 + (SCAN.in_group[k] >> 2);
        if (levels[y * stride + x]) {
          last_x = x, last_y = y, found = 1;
          break;
        }
      }
    }
  }
  last_x = code_coordinate(coder, last_x, 0, contexts.direction(), contexts, side_log2);
  last_y = code_coordinate(coder, last_y, 1, std::min(class_of(last_x), 6) / 2, contexts, side_log2);
  while (groups[last_group] != (last_x >> 2) + 8 * (last_y >> 2)) ++last_group;
  while (SCAN.in_group[last_in_group] != (last_x & 3) + 4 * (last_y & 3)) ++last_in_group;

  uint8_t group_coded[9 * 9] = {};
  int sum_of_levels = 0, earlier = 0, state = 0;
  for (int g = last_group; g >= 0; --g) {
    const int gx = groups[g] & 7, gy = groups[g] >> 3;
    uint8_t& coded = group_coded[gy * 9 + gx];
    coded = 1;
    if (g != last_group && g != 0) {
      if (!Coder::DECODES) {
        uint32_t any = 0;
        for (int y = 0; y < 4; ++y)
          for (int x = 0; x < 4; ++x) any |= static_cast<uint16_t>(levels[(gy * 4 + y) * stride + gx * 4 + x]);
        coded = any != 0;
      }
      const int neighbours = group_coded[gy * 9 + gx + 1] + group_coded[(gy + 1) * 9 + gx];
      coded = static_cast<uint8_t>(coder.bin(coded, contexts.group(gx, gy, neighbours)));
    }
    if (!coded) continue;
    bool is_inferred = g != last_group && g != 0;  // a coded group has a level: the last place needs no bin
    for (int k = g == last_group ? last_in_group : 15; k >= 0; --k) {
      const int x = gx * 4 + (SCAN.in_group[k] & 3), y = gy * 4 + (SCAN.in_group[k] >> 2);
      uint8_t* place = magnitude + y * ABS_STRIDE + x;
      int16_t& level = levels[y * stride + x];
      const int sum = template_sum(place);
      const bool is_last = g == last_group && k == last_in_group;
      if (!is_last && !(k == 0 && is_inferred) && !coder.bin(level != 0, contexts.sig(state, x, y, sum))) {
        state = NEXT_STATE[state][0];
        continue;
      }
      is_inferred = false;
      const int odd = state / 2, wanted = (std::abs(static_cast<int>(level)) + odd) / 2;
      int value = 1;
      while (value <= 3 && coder.bin(wanted > value, contexts.big(state, value, x, y, sum, earlier))) ++value;
      if (value > 3) {
        const int t = TABLES.template_class[sum];
        while (value < UNARY && coder.bit(wanted > value, place::UNARY_A + t * 12 + value - 4)) ++value;
        if (value == UNARY) value += code_escape(coder, wanted - UNARY);
      }
      const uint32_t is_negative = coder.bypass(level < 0);
      value = std::min(value, LEVEL_MAX);
      if (Coder::DECODES) level = static_cast<int16_t>(is_negative ? odd - 2 * value : 2 * value - odd);
      state = NEXT_STATE[state][value & 1];
      earlier += value > 1;
      *place = static_cast<uint8_t>(std::min(value, 7));
      sum_of_levels += std::min(value, 255);
    }
  }
  return sum_of_levels;
}

}  // namespace ncodec::dct
