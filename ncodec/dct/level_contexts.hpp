// The contexts of a block's levels (specs/dct.md section 5): each bin's three and its mixer.
//
// They see what is decoded already: the five next higher frequencies (the template of H.266 9.3.4.2.9), the position,
// the energy of the blocks to the left and above, and, for chroma, the luma and Cb levels of the same frequency.

#pragma once

#include <cstdlib>
#include <cstring>

#include "contexts.hpp"
#include "samples.hpp"

namespace ncodec::dct {

constexpr int STATES = 4;  // of the dependent quantiser: in odd ones levels are odd half-steps

inline int coded_log2(int log2) { return std::min(log2, 5); }
inline Shape coded_of(const Shape& shape) { return {coded_log2(shape.log2_w), coded_log2(shape.log2_h)}; }

// How far the last levels of another block lie out along x and y: 0 if it has none, 1 ... 5 (D22).
using Reaches = std::array<uint8_t, 2>;

// What the contexts of a block's levels know of its surroundings.
struct Surroundings {
  int plane = 0;                  // 0 luma, 1 Cb, 2 Cr
  int energy = 0;                 // 0 ... 7, of the blocks to the left and above
  int direction = 0;              // of luma's prediction: 0 none or diagonal, 1 horizontal, 2 vertical
  const int16_t* luma = nullptr;  // levels of the same block in luma and Cb, where contexts see them
  const int16_t* cb = nullptr;
  int stride = 0;                         // of both
  Reaches reaches[2] = {{0, 0}, {0, 0}};  // of the blocks left and above; for chroma, of luma and Cb
};

struct Place {
  int x, y;
  bool operator==(const Place& other) const { return x == other.x && y == other.y; }
};

// Classes that contexts make of sums and places (D24).
struct ContextClasses {
  uint8_t near[64];      // of the sum of five magnitudes, each at most 7
  uint8_t far[64];       // of x + y
  uint8_t place[3][32];  // of a coordinate along a side of 4, 8, larger

  ContextClasses() {
    for (int s = 0; s < 64; ++s) near[s] = static_cast<uint8_t>(s < 5 ? s : s < 7 ? 5 : s < 11 ? 6 : 7);
    for (int d = 0; d < 64; ++d)
      far[d] = static_cast<uint8_t>(d < 1 ? 0 : d < 2 ? 1 : d < 4 ? 2 : d < 7 ? 3 : d < 12 ? 4 : 5);
    for (int i = 0; i < 32; ++i) {
      place[0][i] = place[1][i] = static_cast<uint8_t>(std::min(i, 7));
      place[2][i] = static_cast<uint8_t>(i < 4 ? i : i < 6 ? 4 : i < 10 ? 5 : i < 16 ? 6 : 7);
    }
  }
};
inline const ContextClasses CLASSES;

// The bins of the level at one place of a block: their contexts and mixers. `near`: the class of the template's sum.
struct LevelBins {
  Bin first_sig, first_big;  // of state 0, magnitude 1, nothing near, nothing earlier
  int near_most, near_step;  // of sig's third context

  // [level not 0?] (D25).
  Bin sig(int state, int near) const {
    return {first_sig.a + step_of(contexts::SIG_A, 0) * state + near, first_sig.b,
            first_sig.c + std::min(near, near_most) * near_step, first_sig.mixer + step_of(mixers::SIG, 0) * state};
  }

  // [magnitude over `threshold` 1, 2, 3?] (D26). `earlier`: magnitudes over 1 so far in the block.
  Bin big(int state, int threshold, int near, int earlier) const {
    const int number = threshold - 1;
    return {first_big.a + step_of(contexts::BIG_A, 0) * number + step_of(contexts::BIG_A, 3) * (state & 1) + near,
            first_big.b + step_of(contexts::BIG_B, 0) * number,
            first_big.c + step_of(contexts::BIG_C, 0) * number + std::min(earlier, 3),
            first_big.mixer + step_of(mixers::BIG, 0) * number};
  }
};

// The bins of a block's levels.
class LevelContexts {
 public:
  LevelContexts(const Surroundings& around, const Shape& shape)
      : around_(around),
        size_(shape.size()),
        form_(shape.log2_w == shape.log2_h  ? 0
              : shape.log2_w > shape.log2_h ? 1
                                            : 2),
        sides_{shape.log2_w - MIN_LOG2, shape.log2_h - MIN_LOG2},
        is_chroma_(around.plane > 0),
        energy_(around.energy),
        place_x_(CLASSES.place[std::min(sides_[0], 2)]),
        place_y_(CLASSES.place[std::min(sides_[1], 2)]) {}

  LevelBins at(Place at) const {
    const int far = CLASSES.far[at.x + at.y], place = place_x_[at.x] + 8 * place_y_[at.y];
    LevelBins bins;
    bins.first_sig.a = contexts::SIG_A(0, is_chroma_, size_, far, 0);
    if (is_chroma_) {
      bins.first_sig.b = contexts::SIG_B_CHROMA(size_, form_, place);
      bins.first_sig.c = contexts::SIG_C_CHROMA(std::min(size_, 2), energy_ / 2, other_planes(at), 0);
      bins.near_most = 3, bins.near_step = 1;
    } else {
      bins.first_sig.b = contexts::SIG_B_LUMA(size_, form_, place, around_.direction);
      bins.first_sig.c = contexts::SIG_C_LUMA(size_, energy_, 0, std::min(far / 2, 2));
      bins.near_most = 4, bins.near_step = step_of(contexts::SIG_C_LUMA, 2);
    }
    bins.first_sig.mixer = mixers::SIG(0, is_chroma_, size_);
    bins.first_big = {contexts::BIG_A(0, is_chroma_, size_ < 2, 0, std::min(far, 3), 0),
                      contexts::BIG_B(0, is_chroma_, size_, std::min(at.x, 3) + 4 * std::min(at.y, 3)),
                      contexts::BIG_C(0, is_chroma_, energy_, 0), mixers::BIG(0, is_chroma_)};
    return bins;
  }

  // [group coded?] (D23). `neighbours`: how many of the groups to its right and below are.
  Bin group(Place group, int neighbours) const {
    return {contexts::GROUP_A(is_chroma_, size_, neighbours),
            contexts::GROUP_B(is_chroma_, size_, std::min(group.x, 3) + 4 * std::min(group.y, 3)),
            contexts::GROUP_C(is_chroma_, energy_, neighbours), mixers::GROUP(is_chroma_)};
  }

  // Bin `number` of the class of a coordinate of the last significant position (D22). `other`: `direction` of x;
  // of y, which is coded second, what is known of x.
  Bin last(int axis, int number, int other) const {
    return {contexts::LAST_A(axis, is_chroma_, sides_[axis], energy_, number),
            contexts::LAST_B(axis, around_.plane, around_.reaches[0][axis], around_.reaches[1][axis], number),
            contexts::LAST_C(axis, is_chroma_, size_, other, number), mixers::LAST(axis, is_chroma_)};
  }

  int direction() const { return around_.direction; }

 private:
  int other_planes(Place at) const {
    const auto magnitude = [](int half_steps) { return std::min((std::abs(half_steps) + 1) / 2, 2); };
    const int luma = around_.luma ? magnitude(around_.luma[at.y * around_.stride + at.x]) : 0;
    const int cb = around_.cb ? 1 + magnitude(around_.cb[at.y * around_.stride + at.x]) : 0;
    return luma * 4 + cb;
  }

  const Surroundings& around_;
  int size_, form_;
  int sides_[2];  // of x, of y
  int is_chroma_, energy_;
  const uint8_t *place_x_, *place_y_;
};

// Magnitudes of a block as contexts see them, at most 7, with a border of zeros to the right and below.
struct Magnitudes {
  static constexpr int STRIDE = MAX_CODED + 2;
  uint8_t values[STRIDE * STRIDE];

  void clear(const Shape& coded) {
    for (int y = 0; y < coded.height() + 2; ++y) std::memset(values + y * STRIDE, 0, coded.width() + 2);
  }
  void set(Place at, int magnitude) { values[at.y * STRIDE + at.x] = static_cast<uint8_t>(std::min(magnitude, 7)); }
  int template_sum(Place at) const {
    const uint8_t* v = values + at.y * STRIDE + at.x;
    return v[1] + v[2] + v[STRIDE] + v[STRIDE + 1] + v[2 * STRIDE];
  }
};

// Which groups of a block are coded, with a border to the right and below of groups that are not.
struct GroupFlags {
  static constexpr int STRIDE = 9;
  uint8_t values[STRIDE * STRIDE] = {};

  void set(Place group, bool is_coded) { values[group.y * STRIDE + group.x] = is_coded; }
  int neighbours(Place group) const {
    const uint8_t* v = values + group.y * STRIDE + group.x;
    return v[1] + v[STRIDE];
  }
};

}  // namespace ncodec::dct
