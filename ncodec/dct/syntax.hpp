// A tile as bins: one text for encoder, decoder and estimator.
//
//   64x64 squares, row by row:  split? --yes--> four quarters, in turn         (down to 4x4 for luma)
//                                |no
//                                v
//   luma mode, coded?, levels | chroma mode, Cb coded?, levels, Cr coded?, levels
//
// The chroma of an 8x8 block that is split is one block, after the four of luma. What later bins depend on
// (sizes, modes, energies) lies in maps of 4x4 luma samples; the levels in a buffer of one square.

#pragma once

#include <vector>

#include "levels.hpp"
#include "predict.hpp"

namespace ncodec::dct {

constexpr int SQUARE_LOG2 = 6;
constexpr int SQUARE = 1 << SQUARE_LOG2;
constexpr int UNIT_LOG2 = 2;

enum ChromaMode : int { SAME_AS_LUMA = 0, LINEAR = 1, CHROMA_PLANAR = 2, CHROMA_DC = 3 };

namespace place {
constexpr int SPLIT_A = LEVELS_END;              // [size 4][smaller neighbours 3]
constexpr int SPLIT_B = SPLIT_A + 4 * 3;         // [size 4][energy 8]
constexpr int SPLIT_C = SPLIT_B + 4 * 8;         // [size 4][left size 6][above size 6]
constexpr int CODED_A = SPLIT_C + 4 * 36;        // [plane 3][size][coded neighbours 3]
constexpr int CODED_B = CODED_A + 3 * SIZES * 3; // [plane 3][size][energy 8]
constexpr int CODED_C = CODED_B + 3 * SIZES * 8; // [plane 3][size][planes before, or mode, 4]
constexpr int LIKELY_A = CODED_C + 3 * SIZES * 4;   // [number 6][size]
constexpr int LIKELY_B = LIKELY_A + 6 * SIZES;      // [number 6][votes 24]
constexpr int LIKELY_C = LIKELY_B + 6 * 24;         // [number 6][energy 8]
constexpr int REST = LIKELY_C + 6 * 8;              // a tree of 5 bits
constexpr int CHROMA_A = REST + 32;                 // [number 3][size]
constexpr int CHROMA_B = CHROMA_A + 3 * SIZES;      // [number 3][luma mode 4]
constexpr int CHROMA_C = CHROMA_B + 3 * 4;          // [number 3][linear neighbours 3]
constexpr int SINE_A = CHROMA_C + 3 * 3;           // [size 2][energy 8]
constexpr int SINE_B = SINE_A + 2 * 8;             // [size 2][mode 4]
constexpr int SINE_C = SINE_B + 2 * 4;             // [left and above 3]
constexpr int FILTERED = SINE_C + 3;            // [chroma?]
constexpr int END = FILTERED + 2;
}  // namespace place

namespace mixer {
constexpr int SPLIT = LEVELS_END;
constexpr int CODED = SPLIT + 1;   // [plane 3]
constexpr int LIKELY = CODED + 3;  // [number 6]
constexpr int CHROMA = LIKELY + 6; // [number 3]
constexpr int SINE = CHROMA + 3;
constexpr int END = SINE + 1;
}  // namespace mixer

struct Geometry {
  int width, height;    // luma samples, multiples of 8
  int planes;           // 1 or 3
  int chroma_shift;     // 0: 4:4:4, 1: 4:2:0
  int shift(int plane) const { return plane ? chroma_shift : 0; }
};

// Candidates for a luma mode; `votes` says which of left, above and the samples want it.
struct LikelyModes {
  static constexpr int COUNT = 6;
  struct Candidate {
    int mode, votes;
  };
  std::array<Candidate, COUNT> modes;
};

struct Unit {  // 4x4 luma samples
  uint8_t log2 = 0, mode = DC, chroma_mode = 0, is_sine = 0;
  std::array<uint8_t, 3> energy = {};
};

inline int energy_of(int sum_of_levels, int log2) {
  if (!sum_of_levels) return 0;
  const int density = (sum_of_levels << 6) >> (2 * log2);  // per 8x8 block
  int e = 1;
  while (e < 7 && (2 << e) <= density + 2) ++e;
  return e;
}

class Syntax {
 public:
  Syntax(const Geometry& geometry, bool has_sine)
      : geometry_(geometry), has_sine_(has_sine), units_wide_(geometry.width >> UNIT_LOG2), units_high_(geometry.height >> UNIT_LOG2),
        units_(static_cast<size_t>(units_wide_) * units_high_) {
    for (auto& plane : levels_) plane.assign(SQUARE * SQUARE, 0);
  }

  const Geometry& geometry() const { return geometry_; }
  Unit& unit(int x, int y) { return units_[static_cast<size_t>(y >> UNIT_LOG2) * units_wide_ + (x >> UNIT_LOG2)]; }
  const Unit& unit(int x, int y) const { return const_cast<Syntax*>(this)->unit(x, y); }

  static constexpr int LEVELS_STRIDE = SQUARE;
  // Levels of the plane's block whose luma corner is (x, y).
  int16_t* levels(int plane, int x, int y) {
    const int s = geometry_.shift(plane);
    return levels_[plane].data() + ((y & (SQUARE - 1)) >> s) * LEVELS_STRIDE + ((x & (SQUARE - 1)) >> s);
  }

  void clear_square() {
    for (int p = 0; p < geometry_.planes; ++p) std::fill(levels_[p].begin(), levels_[p].end(), int16_t{0});
  }

  template <class F>
  void over(int x, int y, int log2, F f) {
    const int n = 1 << (log2 - UNIT_LOG2);
    for (int j = 0; j < n; ++j)
      for (int i = 0; i < n; ++i) f(units_[static_cast<size_t>((y >> UNIT_LOG2) + j) * units_wide_ + (x >> UNIT_LOG2) + i]);
  }

  bool must_split(int x, int y, int log2) const {
    return x + (1 << log2) > geometry_.width || y + (1 << log2) > geometry_.height;
  }

  // Is the block at (x, y) decoded before the one at (from_x, from_y)? Squares go by rows, within them Z.
  bool is_decoded(int x, int y, int from_x, int from_y) const {
    if (x < 0 || y < 0 || x >= geometry_.width || y >= geometry_.height) return false;
    const int sx = x >> SQUARE_LOG2, sy = y >> SQUARE_LOG2, fx = from_x >> SQUARE_LOG2, fy = from_y >> SQUARE_LOG2;
    if (sy != fy) return sy < fy;
    if (sx != fx) return sx < fx;
    return z_order(x, y) < z_order(from_x, from_y);
  }

  // [split?] of a block that may be either.
  template <class Coder>
  bool code_split(Coder& coder, bool split, int x, int y, int log2) const {
    const Unit* left = x ? &unit(x - 1, y) : nullptr;
    const Unit* above = y ? &unit(x, y - 1) : nullptr;
    const int size = log2 - 3;  // 8 ... 64
    const int smaller = (left && left->log2 < log2) + (above && above->log2 < log2);
    const Bin at = {place::SPLIT_A + size * 3 + smaller, place::SPLIT_B + size * 8 + energy_around(0, x, y, log2),
                    place::SPLIT_C + (size * 6 + (left ? left->log2 - 1 : 0)) * 6 + (above ? above->log2 - 1 : 0), mixer::SPLIT};
    return coder.bin(split, at);
  }

  // The modes left, above, those that the samples beside suggest (`derived`), and their neighbours.
  LikelyModes likely_modes(int x, int y, const std::array<int, 2>& derived) const {
    const int left = x ? unit(x - 1, y).mode : static_cast<int>(DC), above = y ? unit(x, y - 1).mode : static_cast<int>(DC);
    LikelyModes likely;
    int n = 0;
    const auto add = [&](int mode) {
      if (n == LikelyModes::COUNT) return;
      for (int i = 0; i < n; ++i)
        if (likely.modes[i].mode == mode) return;
      likely.modes[n++] = {mode, (mode < 2 ? mode : 2) * 8 + (mode == derived[0]) * 4 + (mode == left) * 2 + (mode == above)};
    };
    add(left), add(above), add(derived[0]), add(PLANAR), add(derived[1]), add(DC);
    for (const int mode : {derived[0], left, above})
      if (mode >= 2) add(2 + (mode + 29) % 32), add(2 + (mode - 1) % 32);
    add(VERTICAL), add(HORIZONTAL), add(DIAGONAL), add(2), add(34);
    return likely;
  }

  // One of the likely modes, asked for in turn, or the rank among the others.
  template <class Coder>
  int code_luma_mode(Coder& coder, int mode, const LikelyModes& likely, int x, int y, int log2) const {
    const int energy = energy_around(0, x, y, log2);
    for (int i = 0; i < LikelyModes::COUNT; ++i) {
      const auto& l = likely.modes[i];
      const Bin at = {place::LIKELY_A + i * SIZES + log2 - 2, place::LIKELY_B + i * 24 + l.votes, place::LIKELY_C + i * 8 + energy,
                      mixer::LIKELY + i};
      if (coder.bin(mode == l.mode, at)) return l.mode;
    }
    std::array<int, LikelyModes::COUNT> sorted;
    for (int i = 0; i < LikelyModes::COUNT; ++i) sorted[i] = likely.modes[i].mode;
    std::sort(sorted.begin(), sorted.end());
    int rank = mode;
    for (const int l : sorted) rank -= mode > l;
    int node = 1;
    for (int i = 4; i >= 0; --i) node = 2 * node + static_cast<int>(coder.bit((rank >> i) & 1, place::REST + node));
    rank = std::min(node - 32, MODES - LikelyModes::COUNT - 1);
    for (const int l : sorted) rank += rank >= l;
    return rank;
  }

  template <class Coder>
  int code_chroma_mode(Coder& coder, int chroma_mode, int x, int y, int log2) const {
    const int luma_mode = unit(x, y).mode;
    const int kind = luma_mode < 2 ? luma_mode : luma_mode < DIAGONAL ? 2 : 3;
    const int linear = (x && unit(x - 1, y).chroma_mode == LINEAR) + (y && unit(x, y - 1).chroma_mode == LINEAR);
    const auto at = [&](int i) {
      return Bin{place::CHROMA_A + i * SIZES + log2 - 2, place::CHROMA_B + i * 4 + kind, place::CHROMA_C + i * 3 + linear,
                 mixer::CHROMA + i};
    };
    if (coder.bin(chroma_mode == LINEAR, at(0))) return LINEAR;
    if (coder.bin(chroma_mode == SAME_AS_LUMA, at(1))) return SAME_AS_LUMA;
    return coder.bin(chroma_mode == CHROMA_DC, at(2)) ? CHROMA_DC : CHROMA_PLANAR;
  }

  // [coded?] and levels of one plane's block; (x, y) and log2 are luma's. `has_luma`: the luma levels at its place
  // are of one block of the same extent. Sets the units' energies.
  template <class Coder>
  bool code_block(Coder& coder, int plane, int x, int y, int log2, bool is_coded, bool has_luma) {
    const int size = log2 - 2, own_log2 = log2 - geometry_.shift(plane), mode = unit(x, y).mode;
    const Surroundings around = surroundings(plane, x, y, log2, has_luma);
    const int neighbours = (x && unit(x - 1, y).energy[plane]) + (y && unit(x, y - 1).energy[plane]);
    const int kind = plane == 0 ? (mode < 2 ? mode : mode < DIAGONAL ? 2 : 3)
                                : (unit(x, y).energy[0] > 0) + (plane == 2 && unit(x, y).energy[1] ? 2 : 0);
    const int k = plane * SIZES + size;
    const Bin at = {place::CODED_A + k * 3 + neighbours, place::CODED_B + k * 8 + around.energy, place::CODED_C + k * 4 + kind,
                    mixer::CODED + plane};
    is_coded = coder.bin(is_coded, at);
    if (plane == 0) {
      const bool is_sine = is_coded && may_be_sine(log2) && code_sine(coder, unit(x, y).is_sine, x, y, log2, kind, around.energy);
      over(x, y, log2, [&](Unit& u) { u.is_sine = is_sine; });
    }
    const int sum = is_coded ? code_levels(coder, levels(plane, x, y), LEVELS_STRIDE, own_log2, around) : 0;
    const auto energy = static_cast<uint8_t>(energy_of(sum, own_log2));
    over(x, y, log2, [&](Unit& u) { u.energy[plane] = energy; });
    return is_coded;
  }

  // Luma of 8x8 and 16x16 chooses between the transforms.
  bool may_be_sine(int log2) const { return has_sine_ && (log2 == 3 || log2 == 4); }

  Surroundings surroundings(int plane, int x, int y, int log2, bool has_luma) {
    const int mode = unit(x, y).mode;
    Surroundings around;
    around.plane = plane;
    around.energy = energy_around(plane, x, y, log2);
    around.direction = plane ? 0 : mode >= 6 && mode <= 14 ? 1 : mode >= 22 && mode <= 30 ? 2 : 0;
    around.luma = plane && has_luma && unit(x, y).energy[0] ? levels(0, x, y) : nullptr;
    around.cb = plane == 2 ? levels(1, x, y) : nullptr;
    around.luma_stride = around.cb_stride = LEVELS_STRIDE;
    return around;
  }

  // Mean energy of the blocks along the left and upper sides, 0 ... 7.
  int energy_around(int plane, int x, int y, int log2) const {
    const int side = 1 << log2;
    int sum = 0, n = 0;
    if (x)
      for (int i = 0; i < side && y + i < geometry_.height; i += 4, ++n) sum += unit(x - 1, y + i).energy[plane];
    if (y)
      for (int i = 0; i < side && x + i < geometry_.width; i += 4, ++n) sum += unit(x + i, y - 1).energy[plane];
    return n ? (2 * sum + n) / (2 * n) : 0;
  }

 private:
  template <class Coder>
  bool code_sine(Coder& coder, bool is_sine, int x, int y, int log2, int mode_kind, int energy) const {
    const int beside = (x && unit(x - 1, y).is_sine) + (y && unit(x, y - 1).is_sine), size = log2 - 3;
    return coder.bin(is_sine, {place::SINE_A + size * 8 + energy, place::SINE_B + size * 4 + mode_kind, place::SINE_C + beside, mixer::SINE});
  }

  static int z_order(int x, int y) {
    int z = 0;
    for (int bit = 0; bit < SQUARE_LOG2 - UNIT_LOG2; ++bit)
      z |= ((x >> (bit + UNIT_LOG2)) & 1) << (2 * bit) | ((y >> (bit + UNIT_LOG2)) & 1) << (2 * bit + 1);
    return z;
  }

  Geometry geometry_;
  bool has_sine_;
  int units_wide_, units_high_;
  std::vector<Unit> units_;
  std::array<std::vector<int16_t>, 3> levels_;
};

}  // namespace ncodec::dct
