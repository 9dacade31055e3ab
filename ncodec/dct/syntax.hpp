// A tile as bins, specs/dct.md section 4: one text for encoder, decoder and estimator.
//
//   64x64 squares, row by row:  split? --yes--> four quarters, or two or three parts of one direction, in turn
//                                |no
//                                v
//   luma mode, coded?, sine?, levels | chroma mode, Cb coded?, levels, Cr coded?, levels
//
// The chroma of a block whose parts have a side of 4 is one block, after theirs of luma. What later bins depend on
// (sizes, modes, energies) lies in a map of units of 4x4 luma samples; the levels in a buffer of one square.

#pragma once

#include <vector>

#include "learned.hpp"
#include "levels.hpp"

namespace ncodec::dct {

constexpr int SQUARE_LOG2 = MAX_LOG2;
constexpr int SQUARE = 1 << SQUARE_LOG2;
constexpr int UNIT_LOG2 = MIN_LOG2;
constexpr int UNIT = 1 << UNIT_LOG2;
constexpr int GROUP_LOG2 = 5;  // squares that have an offset of steps of their own

enum ChromaMode : int { SAME_AS_LUMA = 0, LINEAR = 1, CHROMA_PLANAR = 2, CHROMA_DC = 3 };

// A block of the coding tree, of all planes: its place and shape are luma's everywhere.
struct Block {
  int x, y;
  Shape shape;

  int width() const { return shape.width(); }
  int height() const { return shape.height(); }
  int size() const { return shape.size(); }
  bool is_square() const { return shape.log2_w == shape.log2_h; }
};

// How a block of the coding tree is cut: into quarters; into halves or into a quarter, a half and a quarter, beside
// each other (by vertical cuts) or one above the other.
enum Split : int { NO_SPLIT, QUAD, VERTICAL_HALVES, HORIZONTAL_HALVES, VERTICAL_THIRDS, HORIZONTAL_THIRDS, SPLITS };
inline bool is_vertical(Split s) { return s == VERTICAL_HALVES || s == VERTICAL_THIRDS; }
inline bool is_ternary(Split s) { return s == VERTICAL_THIRDS || s == HORIZONTAL_THIRDS; }

constexpr int MAX_BINARY_DEPTH = 3;  // splits in two or three, one within the other; none is cut in quarters again

struct Parts {
  std::array<Block, 4> blocks;
  int n;
};

inline Parts parts_of(const Block& b, Split split) {
  const auto [w, h] = b.shape;
  const int half_w = b.width() / 2, half_h = b.height() / 2;
  switch (split) {
    case QUAD: {
      const Shape q = {w - 1, h - 1};
      return {{{{b.x, b.y, q}, {b.x + half_w, b.y, q}, {b.x, b.y + half_h, q}, {b.x + half_w, b.y + half_h, q}}}, 4};
    }
    case VERTICAL_HALVES: return {{{{b.x, b.y, {w - 1, h}}, {b.x + half_w, b.y, {w - 1, h}}}}, 2};
    case HORIZONTAL_HALVES: return {{{{b.x, b.y, {w, h - 1}}, {b.x, b.y + half_h, {w, h - 1}}}}, 2};
    case VERTICAL_THIRDS:
      return {{{{b.x, b.y, {w - 2, h}}, {b.x + half_w / 2, b.y, {w - 1, h}}, {b.x + half_w / 2 * 3, b.y, {w - 2, h}}}},
              3};
    case HORIZONTAL_THIRDS:
      return {{{{b.x, b.y, {w, h - 2}}, {b.x, b.y + half_h / 2, {w, h - 1}}, {b.x, b.y + half_h / 2 * 3, {w, h - 2}}}},
              3};
    default: return {{{b}}, 1};
  }
}

// A block of the coding tree and how it came about: splits so far, of these binary or ternary; 3 bits of each, the
// first lowest.
struct Node {
  Block block;
  int depth = 0, binary_depth = 0;
  uint32_t path = 0;

  bool may(Split s) const {
    const auto [w, h] = block.shape;
    const bool may_cut = binary_depth < MAX_BINARY_DEPTH;
    switch (s) {
      case NO_SPLIT: return true;
      case QUAD: return binary_depth == 0 && block.is_square() && w > 2;
      case VERTICAL_HALVES: return may_cut && w > 2;
      case HORIZONTAL_HALVES: return may_cut && h > 2;
      case VERTICAL_THIRDS: return may_cut && w > 3;
      default: return may_cut && h > 3;
    }
  }
  bool may_split() const { return may(QUAD) || may(VERTICAL_HALVES) || may(HORIZONTAL_HALVES); }
  // Of a node that contains a block which was cut so.
  Split split_in(uint32_t path_of_block) const { return static_cast<Split>(path_of_block >> (3 * depth) & 7); }
  Node part(const Block& b, Split s) const {
    return {b, depth + 1, binary_depth + (s != QUAD), path | static_cast<uint32_t>(s) << (3 * depth)};
  }
};

// Is chroma of a block one block, whatever its luma is cut into?
inline bool keeps_chroma(const Parts& parts) {
  for (int i = 0; i < parts.n; ++i)
    if (parts.blocks[i].shape.least() == MIN_LOG2) return true;
  return false;
}

// f(block) for the squares of a tile, in coding order.
template <class F>
void for_each_square(const Geometry& geometry, F f) {
  for (int y = 0; y < geometry.height; y += SQUARE)
    for (int x = 0; x < geometry.width; x += SQUARE) f(Block{x, y, square_of(SQUARE_LOG2)});
}

// The six likely luma modes (HEVC: most probable modes); `votes` says which of left, above and the samples want each.
struct LikelyModes {
  static constexpr int COUNT = 6;
  struct Candidate {
    int mode, votes;
  };
  std::array<Candidate, COUNT> modes;
};

// What is kept of 4x4 luma samples.
struct Unit {
  Shape shape = {0, 0};
  uint32_t path = 0;         // of Node, of the luma block
  uint8_t is_decoded = 0;    // has luma been, in coding order?
  uint8_t edges = 0;         // of Edges
  uint8_t chroma_depth = 0;  // of the node that its chroma block belongs to
  uint8_t is_whole = 0;      // is that block chroma of several luma blocks?
  uint8_t mode = DC, chroma_mode = SAME_AS_LUMA, is_sine = 0;
  std::array<uint8_t, 3> energy = {};
  std::array<std::array<uint8_t, 2>, 3> last = {};  // by plane: classes of the last x and y, + 1; 0: no levels
  int8_t offset = 0;                                // of the steps
};

// What other blocks see of a block's levels: the sum of their magnitudes, each at most 255, and the place of the last.
struct Levels {
  int sum = 0;
  Place last = {0, 0};
};

// The borders of blocks that a unit lies at.
enum Edges : uint8_t { LEFT_OF_LUMA = 1, TOP_OF_LUMA = 2, LEFT_OF_CHROMA = 4, TOP_OF_CHROMA = 8 };

// The energy 0 ... 7 of a block by the sum of its magnitudes (section 4).
inline int energy_of(int sum_of_levels, const Shape& shape) {
  if (!sum_of_levels) return 0;
  const int density = (sum_of_levels << 6) >> shape.log2_area();  // per 8x8 block
  int e = 1;
  while (e < 7 && (2 << e) <= density + 2) ++e;
  return e;
}

// What other blocks and chroma take a luma mode for: learned ones for planar.
inline int usual_mode(int mode) { return mode < MODES ? mode : static_cast<int>(PLANAR); }

// The kind of a luma mode that contexts know (D19): planar, DC, horizontal, vertical.
inline int kind_of_mode(int mode) {
  mode = usual_mode(mode);
  return mode < 2 ? mode : mode < DIAGONAL ? 2 : 3;
}

class Syntax {
 public:
  Syntax(const Geometry& geometry, bool has_sine, bool has_offsets)
      : geometry_(geometry),
        has_sine_(has_sine),
        has_offsets_(has_offsets),
        units_wide_(geometry.width >> UNIT_LOG2),
        units_(static_cast<size_t>(units_wide_) * (geometry.height >> UNIT_LOG2)) {
    for (auto& plane : levels_) plane.assign(SQUARE * SQUARE, 0);
  }

  const Geometry& geometry() const { return geometry_; }
  const Unit& unit(int x, int y) const {
    return units_[static_cast<size_t>(y >> UNIT_LOG2) * units_wide_ + (x >> UNIT_LOG2)];
  }
  const Unit& unit(const Block& b) const { return unit(b.x, b.y); }

  // f(unit) for the units of a block, by rows.
  template <class F>
  void for_each_unit(const Block& b, F f) {
    for (int j = 0; j < b.height() >> UNIT_LOG2; ++j)
      for (int i = 0; i < b.width() >> UNIT_LOG2; ++i)
        f(units_[static_cast<size_t>((b.y >> UNIT_LOG2) + j) * units_wide_ + (b.x >> UNIT_LOG2) + i]);
  }

  static constexpr int LEVELS_STRIDE = SQUARE;
  // Half-steps of a block of one plane, in the square that is being coded.
  int16_t* levels(int plane, const Block& b) {
    const int s = geometry_.shift(plane);
    return levels_[plane].data() + ((b.y & (SQUARE - 1)) >> s) * LEVELS_STRIDE + ((b.x & (SQUARE - 1)) >> s);
  }

  void clear_square() {
    for (int p = 0; p < geometry_.planes; ++p) std::fill(levels_[p].begin(), levels_[p].end(), int16_t{0});
  }

  bool is_outside(const Block& b) const { return b.x >= geometry_.width || b.y >= geometry_.height; }
  bool must_split(const Block& b) const {
    return b.x + b.width() > geometry_.width || b.y + b.height() > geometry_.height;
  }

  // Is the luma at (x, y) decoded (D36)?
  bool is_decoded(int x, int y) const { return x < geometry_.width && y < geometry_.height && unit(x, y).is_decoded; }

  // Of what there is of a block.
  void set_decoded(const Block& b, bool is_decoded) {
    for_each_unit_inside(b, [&](Unit& u) { u.is_decoded = is_decoded; });
  }

  // The split of a node that may be any (D14): [split?] [quarters?] [vertical?] [thirds?], where there is a choice.
  template <class Coder>
  Split code_split(Coder& coder, Split split, const Node& node) const {
    if (!node.may_split()) return NO_SPLIT;
    const Block& b = node.block;
    const Unit *left = left_of(b), *above = above_of(b);
    const int smaller = (left && left->shape.log2_h < b.shape.log2_h) + (above && above->shape.log2_w < b.shape.log2_w);
    const auto against = [](int beside, int own) { return std::clamp(beside - own, -2, 2) + 2; };
    const int of_left = left ? against(left->shape.log2_h, b.shape.log2_h) : 2;
    const int of_above = above ? against(above->shape.log2_w, b.shape.log2_w) : 2;
    const int area = b.shape.log2_area() - 5, energy = energy_around(0, b), depth = node.binary_depth;
    const int elongation = b.shape.log2_w - b.shape.log2_h + 4;
    if (!coder.bin(split != NO_SPLIT, {contexts::SPLIT_A(area, depth, smaller), contexts::SPLIT_B(area, energy),
                                       contexts::SPLIT_C(area, of_left, of_above), mixers::SPLIT()}))
      return NO_SPLIT;
    if (node.may(QUAD)) {
      const int side = b.shape.log2_w - 3;
      if (coder.bin(split == QUAD, {contexts::QUAD_A(side, smaller), contexts::QUAD_B(side, energy),
                                    contexts::QUAD_C(side, of_left, of_above), mixers::QUAD()}))
        return QUAD;
    }
    bool vertical = node.may(VERTICAL_HALVES);
    if (vertical && node.may(HORIZONTAL_HALVES)) {
      const auto kind = [](const Unit* u) { return u ? kind_of_mode(u->mode) : static_cast<int>(DC); };
      vertical = coder.bin(is_vertical(split),
                           {contexts::VERTICAL_A(elongation, depth), contexts::VERTICAL_B(b.size(), of_left, of_above),
                            contexts::VERTICAL_C(kind(left), kind(above)), mixers::VERTICAL()});
    }
    const bool ternary = node.may(vertical ? VERTICAL_THIRDS : HORIZONTAL_THIRDS) &&
                         coder.bin(is_ternary(split), {contexts::TERNARY_A(vertical, depth, b.size()),
                                                       contexts::TERNARY_B(vertical, elongation),
                                                       contexts::TERNARY_C(vertical, energy), mixers::TERNARY()});
    if (ternary) return vertical ? VERTICAL_THIRDS : HORIZONTAL_THIRDS;
    return vertical ? VERTICAL_HALVES : HORIZONTAL_HALVES;
  }

  // [one block of chroma, whatever luma is cut into?] of a node that is split.
  template <class Coder>
  bool code_whole(Coder& coder, bool is_whole, const Node& node, Split split) const {
    const Block& b = node.block;
    const int area = b.shape.log2_area() - 5, energy = (energy_around(1, b) + energy_around(2, b) + 1) / 2;
    const int beside_whole = beside(b, [](const Unit& u) { return u.is_whole; });
    return coder.bin(is_whole, {contexts::WHOLE_A(area, split == QUAD       ? 0
                                                        : is_ternary(split) ? 2
                                                                            : 1),
                                contexts::WHOLE_B(area, energy), contexts::WHOLE_C(node.binary_depth, beside_whole),
                                mixers::WHOLE()});
  }

  // What units know of the luma, the chroma block that they belong to.
  void begin_luma(const Node& node) {
    const Block& b = node.block;
    for_each_unit(b, [&](Unit& u) {
      u.shape = b.shape, u.path = node.path, u.edges = 0, u.chroma_mode = SAME_AS_LUMA, u.is_sine = 0;
    });
    mark_edges(b, LEFT_OF_LUMA, TOP_OF_LUMA);
  }
  void begin_chroma(const Node& node, bool is_whole) {
    const Block& b = node.block;
    for_each_unit(b, [&](Unit& u) {
      u.edges &= LEFT_OF_LUMA | TOP_OF_LUMA, u.chroma_depth = static_cast<uint8_t>(node.depth), u.is_whole = is_whole;
    });
    mark_edges(b, LEFT_OF_CHROMA, TOP_OF_CHROMA);
  }

  bool has_offsets() const { return has_offsets_; }
  int offset(const Block& b) const { return unit(b).offset; }
  void set_offset(const Block& b, int offset) {
    for_each_unit_inside(b, [&](Unit& u) { u.offset = static_cast<int8_t>(offset); });
  }

  // The offset of the steps in a block, as its difference from those beside: [not 0?] [positive?] [> 1?] [> 2?] ...
  template <class Coder>
  int code_offset(Coder& coder, int offset, const Block& b) const {
    const Unit *left = left_of(b), *above = above_of(b);
    const int a = left ? left->offset : above ? above->offset : 0, c = above ? above->offset : a;
    const int expected = (a + c + 1) >> 1, spread = std::min(std::abs(a - c), 2);
    const auto bin = [&](int i) {
      i = std::min(i, 7);
      return Bin{contexts::OFFSET_A(i, spread),
                 contexts::OFFSET_B(i, expected < 0   ? 0
                                       : expected > 0 ? 2
                                                      : 1),
                 contexts::OFFSET_C(i, b.shape.log2_w > GROUP_LOG2), mixers::OFFSET(i)};
    };
    const int wanted = offset - expected;
    if (!coder.bin(wanted != 0, bin(0))) return expected;
    const bool is_positive = coder.bin(wanted > 0, bin(1));
    int magnitude = 1;
    while (magnitude < 2 * MAX_OFFSET && coder.bin(std::abs(wanted) > magnitude, bin(1 + magnitude))) ++magnitude;
    return std::clamp(expected + (is_positive ? magnitude : -magnitude), -MAX_OFFSET, MAX_OFFSET);
  }

  // The modes left, above, those that the samples beside suggest (`derived`), and their neighbours.
  LikelyModes likely_modes(const Block& b, const std::array<int, 2>& derived) const {
    const auto mode_of = [](const Unit* u) { return u ? usual_mode(u->mode) : static_cast<int>(DC); };
    const int left = mode_of(left_of(b)), above = mode_of(above_of(b));
    LikelyModes likely;
    int n = 0;
    const auto add = [&](int mode) {
      if (n == LikelyModes::COUNT) return;
      for (int i = 0; i < n; ++i)
        if (likely.modes[i].mode == mode) return;
      likely.modes[n++] = {mode,
                           std::min(mode, 2) * 8 + (mode == derived[0]) * 4 + (mode == left) * 2 + (mode == above)};
    };
    add(left), add(above), add(derived[0]), add(PLANAR), add(derived[1]), add(DC);
    for (const int mode : {derived[0], left, above})
      if (mode >= 2) add(2 + (mode + 61) % 64), add(2 + (mode - 1) % 64);
    add(VERTICAL), add(HORIZONTAL), add(DIAGONAL), add(2), add(66);
    return likely;
  }

  // D16: [learned?] and the bits of which, or a usual mode.
  template <class Coder>
  int code_luma_mode(Coder& coder, int mode, const LikelyModes& likely, const Block& b) const {
    const int energy = energy_around(0, b), modes = learned_modes(b.shape);
    if (!modes || !code_is_learned(coder, mode >= MODES, likely, b, energy))
      return code_usual_mode(coder, mode, likely, b, energy);
    int node = 1;
    for (int bit = modes / 2; bit; bit /= 2)
      node = 2 * node + static_cast<int>(coder.bit(((mode - MODES) & bit) > 0,
                                                   contexts::LEARNED_MODE(learned_shape(b.shape), node)));
    return MODES + node - modes;
  }

  template <class Coder>
  bool code_is_learned(Coder& coder, bool is_learned, const LikelyModes& likely, const Block& b, int energy) const {
    const int shape = learned_shape(b.shape), learned_beside = beside(b, [](const Unit& u) { return u.mode >= MODES; });
    return coder.bin(is_learned, {contexts::LEARNED_A(shape, learned_beside), contexts::LEARNED_B(shape, energy),
                                  contexts::LEARNED_C(shape, likely.modes[0].votes), mixers::LEARNED()});
  }

  // One of the likely modes, asked for in turn (D17), or the rank among the others (D18).
  template <class Coder>
  int code_usual_mode(Coder& coder, int mode, const LikelyModes& likely, const Block& b, int energy) const {
    for (int i = 0; i < LikelyModes::COUNT; ++i) {
      const auto [candidate, votes] = likely.modes[i];
      if (coder.bin(mode == candidate, {contexts::LIKELY_A(i, b.size()), contexts::LIKELY_B(i, votes),
                                        contexts::LIKELY_C(i, energy), mixers::LIKELY(i)}))
        return candidate;
    }
    std::array<int, LikelyModes::COUNT> sorted;
    for (int i = 0; i < LikelyModes::COUNT; ++i) sorted[i] = likely.modes[i].mode;
    std::sort(sorted.begin(), sorted.end());
    int rank = mode;
    for (const int l : sorted) rank -= mode > l;
    int node = 1;
    for (int i = 5; i >= 0; --i) node = 2 * node + static_cast<int>(coder.bit((rank >> i) & 1, contexts::REST(node)));
    rank = std::min(node - 64, MODES - LikelyModes::COUNT - 1);
    for (const int l : sorted) rank += rank >= l;
    return rank;
  }

  // D21.
  template <class Coder>
  int code_chroma_mode(Coder& coder, int chroma_mode, const Block& b) const {
    const int kind = kind_of_mode(unit(b).mode);
    const int linear = beside(b, [](const Unit& u) { return u.chroma_mode == LINEAR; });
    const auto bin = [&](int i) {
      return Bin{contexts::CHROMA_A(i, b.size()), contexts::CHROMA_B(i, kind), contexts::CHROMA_C(i, linear),
                 mixers::CHROMA(i)};
    };
    if (coder.bin(chroma_mode == LINEAR, bin(0))) return LINEAR;
    if (coder.bin(chroma_mode == SAME_AS_LUMA, bin(1))) return SAME_AS_LUMA;
    return coder.bin(chroma_mode == CHROMA_DC, bin(2)) ? CHROMA_DC : CHROMA_PLANAR;
  }

  // [coded?] (D19), for luma [sine?], and levels of one plane's block; sets the units' energies. `has_luma`: the luma
  // levels at its place are of one block of the same extent. `code_signs(places, around)`.
  template <class Coder, class F>
  bool code_residual(Coder& coder, int plane, const Block& b, bool is_coded, bool has_luma, F code_signs) {
    const Surroundings around = surroundings(plane, b, has_luma);
    const auto [has_levels, is_sine] = code_is_coded(coder, plane, b, is_coded, around.energy);
    is_coded = has_levels;
    if (plane == 0) set_sine(b, is_sine);
    Levels found;
    if (is_coded) {
      Places places;
      found.sum = code_magnitudes(coder, levels(plane, b), LEVELS_STRIDE, b.shape.shrunk(geometry_.shift(plane)),
                                  around, places);
      code_signs(places, around);
      found.last = places.at[0];
    }
    set_levels(plane, b, found);
    return is_coded;
  }

  // The first of these bins, [coded?] and [sine?]; `energy`: of the surroundings. Returns both.
  template <class Coder>
  std::pair<bool, bool> code_is_coded(Coder& coder, int plane, const Block& b, bool is_coded, int energy) const {
    const Unit& own = unit(b);
    const int coded_beside = beside(b, [&](const Unit& u) { return u.energy[plane] > 0; });
    const int kind = plane == 0 ? kind_of_mode(own.mode) : (own.energy[0] > 0) + (plane == 2 && own.energy[1] ? 2 : 0);
    is_coded = coder.bin(is_coded,
                         {contexts::CODED_A(plane, b.size(), coded_beside), contexts::CODED_B(plane, b.size(), energy),
                          contexts::CODED_C(plane, b.size(), kind), mixers::CODED(plane)});
    const bool has_choice = is_coded && plane == 0 && may_be_sine(b.shape);
    return {is_coded, has_choice && code_sine(coder, own.is_sine, b, kind, energy)};
  }

  void set_sine(const Block& b, bool is_sine) {
    for_each_unit(b, [&](Unit& u) { u.is_sine = is_sine; });
  }

  // What units know of the levels of a block.
  void set_levels(int plane, const Block& b, const Levels& levels) {
    const auto energy = static_cast<uint8_t>(energy_of(levels.sum, b.shape.shrunk(geometry_.shift(plane))));
    std::array<uint8_t, 2> last = {};
    if (levels.sum)
      last = {static_cast<uint8_t>(1 + class_of(levels.last.x)), static_cast<uint8_t>(1 + class_of(levels.last.y))};
    for_each_unit(b, [&](Unit& u) { u.energy[plane] = energy, u.last[plane] = last; });
  }

  // Luma of sides up to 16 chooses between the transforms (D20), but for 4x4.
  bool may_be_sine(const Shape& shape) const { return has_sine_ && shape.most() <= 4 && shape.most() > 2; }

  Surroundings surroundings(int plane, const Block& b, bool has_luma) {
    const int mode = unit(b).mode;
    Surroundings around;
    around.plane = plane;
    around.energy = energy_around(plane, b);
    around.direction = plane ? 0 : mode >= 10 && mode <= 26 ? 1 : mode >= 42 && mode <= 58 ? 2 : 0;
    around.luma = plane && has_luma && unit(b).energy[0] ? levels(0, b) : nullptr;
    around.cb = plane == 2 ? levels(1, b) : nullptr;
    around.stride = LEVELS_STRIDE;
    if (plane == 0) {
      around.reaches[0] = reaches(left_of(b), b.shape), around.reaches[1] = reaches(above_of(b), b.shape);
    } else {
      for (int p = 0; p < plane; ++p)
        for (int axis = 0; axis < 2; ++axis) around.reaches[p][axis] = (unit(b).last[p][axis] + 1) / 2;
    }
    return around;
  }

  // Mean energy of the blocks along the left and upper sides, 0 ... 7.
  int energy_around(int plane, const Block& b) const {
    int sum = 0, n = 0;
    if (b.x)
      for (int i = 0; i < b.height() && b.y + i < geometry_.height; i += UNIT, ++n)
        sum += unit(b.x - 1, b.y + i).energy[plane];
    if (b.y)
      for (int i = 0; i < b.width() && b.x + i < geometry_.width; i += UNIT, ++n)
        sum += unit(b.x + i, b.y - 1).energy[plane];
    return n ? (2 * sum + n) / (2 * n) : 0;
  }

 private:
  template <class Coder>
  bool code_sine(Coder& coder, bool is_sine, const Block& b, int kind, int energy) const {
    const int size = b.size() - 1, sine_beside = beside(b, [](const Unit& u) { return u.is_sine; });
    return coder.bin(is_sine, {contexts::SINE_A(size, energy), contexts::SINE_B(size, kind),
                               contexts::SINE_C(sine_beside), mixers::SINE()});
  }

  // Of luma's levels in a unit, at the scale of another block.
  static Reaches reaches(const Unit* u, const Shape& own) {
    if (!u || !u->last[0][0]) return {0, 0};
    const auto reach = [](int last, int side, int own_side) {
      return static_cast<uint8_t>(1 + std::clamp(last - 1 + 2 * (coded_log2(own_side) - coded_log2(side)), 0, 9) / 2);
    };
    return {reach(u->last[0][0], u->shape.log2_w, own.log2_w), reach(u->last[0][1], u->shape.log2_h, own.log2_h)};
  }

  const Unit* left_of(const Block& b) const { return b.x ? &unit(b.x - 1, b.y) : nullptr; }
  const Unit* above_of(const Block& b) const { return b.y ? &unit(b.x, b.y - 1) : nullptr; }

  // Of how many of the units to the left and above is it true?
  template <class F>
  int beside(const Block& b, F is_true) const {
    const Unit *left = left_of(b), *above = above_of(b);
    return (left && is_true(*left)) + (above && is_true(*above));
  }

  Unit& unit_at(int x, int y) { return units_[static_cast<size_t>(y >> UNIT_LOG2) * units_wide_ + (x >> UNIT_LOG2)]; }

  // As for_each_unit, of a block that may reach beyond the tile.
  template <class F>
  void for_each_unit_inside(const Block& b, F f) {
    for (int y = b.y; y < std::min(b.y + b.height(), geometry_.height); y += UNIT)
      for (int x = b.x; x < std::min(b.x + b.width(), geometry_.width); x += UNIT) f(unit_at(x, y));
  }

  void mark_edges(const Block& b, Edges left, Edges top) {
    for (int y = b.y; y < b.y + b.height(); y += UNIT) unit_at(b.x, y).edges |= left;
    for (int x = b.x; x < b.x + b.width(); x += UNIT) unit_at(x, b.y).edges |= top;
  }

  Geometry geometry_;
  bool has_sine_, has_offsets_;
  int units_wide_;
  std::vector<Unit> units_;
  std::array<std::vector<int16_t>, 3> levels_;
};

}  // namespace ncodec::dct
