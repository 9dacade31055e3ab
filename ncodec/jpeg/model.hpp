// The model of the coefficients: what each block's bins are, and their contexts (specs/jpeg.md).
//
//   AL | A | AR       a block: count of nonzeros of the 7x7   . e e e e e e e    e: edges, predicted from the
//   ---+---+---                the 7x7 in zigzag order        e 7 7 7 7 7 7 7       seam with L (first column)
//    L | * |                   counts and edges, rows first   e 7 7 7 7 7 7 7       and with A (first row)
//                              DC                             e 7 7 7 7 7 7 7 ..    .: DC, from both
//
// At a seam two blocks meet in the same samples: for each frequency along it, the sums of the two blocks'
// coefficients across it, weighted by their cosines there, are about equal. Solved for one unknown coefficient
// this predicts it (the edges of Lepton, Horn et al. 2017, and DC with them). `code` is one text for both directions.

#pragma once

#include <algorithm>
#include <cstdlib>

#include "estimates.hpp"
#include "scans.hpp"

namespace ncodec::jpeg {

// Cosines at the samples next to a seam: 1024 sqrt(2) cos(k pi / 16); of frequency 0: 1024.
constexpr int32_t SEAM[8] = {1024, 1441, 1420, 1385, 1338, 1277, 1204, 1119};
constexpr int32_t MAX_DEQUANTISED = 1 << 14;  // sums over a seam stay below 2^28

// A few classes for a number: the first i with number < BOUNDS[i].
template <size_t N>
constexpr std::array<uint8_t, 256> classes(const int (&bounds)[N]) {
  std::array<uint8_t, 256> table{};
  for (int i = 0, c = 0; i < 256; ++i) {
    while (static_cast<size_t>(c) < N && i >= bounds[c]) ++c;
    table[static_cast<size_t>(i)] = static_cast<uint8_t>(c);
  }
  return table;
}
constexpr int LEFT_BOUNDS[] = {2, 3, 4, 5, 7, 9, 13, 19, 28};
constexpr int SIZE_BOUNDS[] = {1, 2, 3, 4, 5, 7, 10, 15, 23, 37, 61};
constexpr int SEAM_BOUNDS[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 80, 128};
constexpr auto LEFT_CLASS = classes(LEFT_BOUNDS);  // 10, of counts
constexpr auto SIZE_CLASS = classes(SIZE_BOUNDS);  // 12, of sums of magnitudes
constexpr auto SEAM_CLASS = classes(SEAM_BOUNDS);  // 14, of predictions in eighths
constexpr size_t class_of(const std::array<uint8_t, 256>& table, uint32_t value) { return table[value < 255 ? value : 255]; }

constexpr size_t N_EXPONENTS = 8;  // contexts of bins "is longer than e bits"; the last serves all above
template <size_t... N>
struct Shape;

using Exponents = std::array<Estimate, N_EXPONENTS>;

// What one kind of component has learned: luma's is not chroma's.
struct Contexts {
  // [class of neighbours' counts, node], [above, left, node], [previous component, node]
  Estimate count_a[50][64], count_b[10][10][64], count_c[50][64];
  Exponents inner_a[49][10][12], inner_b[49][10][12], inner_c[10][12][12];
  Estimate inner_rest[49][12];
  Estimate edge_count_a[2][10][8][8], edge_count_b[2][8][8][8], edge_count_c[2][8][8][8];
  Exponents edge_a[14][14][8], edge_b[14][12][12], edge_c[14][14][12];
  Estimate edge_sign[14][14];
  Estimate edge_sign_b[6][14], edge_sign_c[14][2][3][3];
  Estimate edge_towards[12][3][10];
  Estimate dc_a[14][10][14], dc_b[12][14], dc_c[14][14];
  Estimate dc_sign[3];
  Estimate dc_rest[14][2];
};

// What a block leaves for those to its right and below.
struct Seam {
  int32_t along[8];  // sums over the frequencies across the seam, times 1024
};

template <class Coder>
class Model {
 public:
  Model(Coder& coder, Contexts& contexts) : coder_(coder), c_(contexts) {}

  // One component; `previous` is one of the same size coded before, or null.
  Status code(Component& component, const Component* previous, const std::array<uint16_t, BLOCK>& table) {
    for (size_t k = 0; k < BLOCK; ++k) {
      q_[k] = std::max<int32_t>(table[k], 1);
      inverse_[k] = (1 << 20) / q_[k];
    }
    const size_t columns = static_cast<size_t>(component.columns);
    std::vector<Seam> bottoms(columns);
    std::vector<Counts> counts(columns);
    std::vector<int32_t> residuals(columns);
    for (int y = 0; y < component.rows; ++y) {
      Seam right{};
      Counts left{};
      int32_t residual = 0;
      for (int x = 0; x < component.columns; ++x) {
        const size_t column = static_cast<size_t>(x);
        has_left_ = x > 0;
        has_above_ = y > 0;
        block_ = component.block(y, x);
        const int16_t* above = has_above_ ? component.block(y - 1, x) : ZEROS;
        above_ = above;
        left_ = has_left_ ? block_ - BLOCK : ZEROS;
        neighbours(left_, above, has_left_ && has_above_ ? above - BLOCK : ZEROS,
                   has_above_ && x + 1 < component.columns ? above + BLOCK : ZEROS);
        other_ = previous ? const_cast<Component*>(previous)->block(y, x) : nullptr;
        code_block(right, bottoms[column], left, counts[column], residual, residuals[column]);
      }
      if (coder_.status() != BinaryStatus::ok) return Status::truncated;
    }
    return Status::ok;
  }

 private:
  struct Counts {
    uint8_t inner = 0, row = 0, column = 0;
  };
  static constexpr int16_t ZEROS[BLOCK] = {};

  // Magnitudes around each coefficient, the nearer blocks' twice.
  void neighbours(const int16_t* left, const int16_t* above, const int16_t* above_left, const int16_t* above_right) {
    for (size_t k = 0; k < BLOCK; ++k) {
      const auto size = [k](const int16_t* block) { return block[k] < 0 ? -block[k] : block[k]; };
      around_[k] = static_cast<uint16_t>(2 * (size(left) + size(above)) + size(above_left) + size(above_right));
    }
  }

  uint32_t bin(uint32_t value, Estimate& a, Estimate& b, Estimate& c) { return ncodec::jpeg::code(coder_, value, a, b, c); }

  static size_t sign_of(int value) { return static_cast<size_t>(1 + (value > 0) - (value < 0)); }

  uint32_t exponent(uint32_t value, Exponents& a, Exponents& b, Exponents& c) {
    const uint32_t length = static_cast<uint32_t>(bit_length(value));
    uint32_t e = 0;
    while (e < 11) {
      const size_t i = e < N_EXPONENTS ? e : N_EXPONENTS - 1;
      if (!bin(length > e, a[i], b[i], c[i])) break;
      ++e;
    }
    return e;
  }

  // What follows the first 1 of a magnitude that is expected near `target` (eighths).
  uint32_t towards(uint32_t value, uint32_t length, int target, Estimate (&table)[12][3][10]) {
    uint32_t decoded = 1;
    for (uint32_t i = length - 1, depth = 0; i-- > 0; ++depth) {
      if (depth > 2) {
        decoded = decoded << 1 | coder_.bypass(value >> i & 1);
        continue;
      }
      const int middle = static_cast<int>((decoded << 1 | 1) << (i + 3));
      const int place = std::clamp((target - middle) >> (i + 1), -5, 4) + 5;
      decoded = decoded << 1 | ncodec::jpeg::code(coder_, value >> i & 1, table[length][depth][place]);
    }
    return decoded;
  }

  // A magnitude: its length in bits in unary, then what follows its first 1.
  uint32_t magnitude(uint32_t value, Exponents& a, Exponents& b, Exponents& c, Estimate* rest) {
    const uint32_t length = static_cast<uint32_t>(bit_length(value));
    uint32_t e = 0;
    while (e < 11) {
      const size_t i = e < N_EXPONENTS ? e : N_EXPONENTS - 1;
      if (!bin(length > e, a[i], b[i], c[i])) break;
      ++e;
    }
    return e < 2 ? e : mantissa(value, e, rest[e]);
  }

  uint32_t mantissa(uint32_t value, uint32_t length, Estimate& second) {
    uint32_t decoded = 2 | ncodec::jpeg::code(coder_, value >> (length - 2) & 1, second);
    for (uint32_t i = length - 2; i-- > 0;) decoded = decoded << 1 | coder_.bypass(value >> i & 1);
    return decoded;
  }

  void code_block(Seam& right, Seam& bottom, Counts& left, Counts& above, int32_t& residual_left, int32_t& residual_above) {
    // Of this block: sums that meet the seams at the left and the top, and those that it leaves.
    Seam to_left{}, to_top{}, to_right{}, to_bottom{};
    std::array<uint16_t, 88> sizes{};  // of what is coded so far, as 8 * row + column, after 16 of padding
    uint16_t* size = sizes.data() + 16;
    const auto add = [&](size_t k, int value) {
      const size_t v = ZIGZAG[k] >> 3, u = ZIGZAG[k] & 7;
      size[8 * v + u] = static_cast<uint16_t>(value < 0 ? -value : value);
      const int32_t d = std::clamp(value * q_[k], -MAX_DEQUANTISED, MAX_DEQUANTISED);
      const int32_t across = d * SEAM[u], down = d * SEAM[v];
      to_left.along[v] += across;
      to_right.along[v] += u & 1 ? -across : across;
      to_top.along[u] += down;
      to_bottom.along[u] += v & 1 ? -down : down;
    };

    const uint32_t count = code_count(left.inner, above.inner);
    uint32_t left_over = count;
    for (size_t i = 0; left_over > 0 && i < 49; ++i) {
      const size_t k = INNER[i], place = ZIGZAG[k];
      const uint32_t near = 2u * (size[place - 1] + size[place - 8]) + size[place - 9] + size[place - 7] + size[place + 7];
      const uint32_t around = around_[k];
      const size_t l = class_of(LEFT_CLASS, left_over), m = class_of(SIZE_CLASS, around), n = class_of(SIZE_CLASS, near);
      const size_t o = other_ ? class_of(SIZE_CLASS, 4 * static_cast<uint32_t>(std::abs(other_[k]))) : m;
      const int value = block_[k];
      const uint32_t magnitude_ = magnitude(static_cast<uint32_t>(std::abs(value)), c_.inner_a[i][l / 2][m], c_.inner_b[i][l][n / 2], c_.inner_c[l][m][o], c_.inner_rest[i]);
      if (magnitude_ == 0) continue;
      const int coded = coder_.bypass(value < 0) ? -static_cast<int>(magnitude_) : static_cast<int>(magnitude_);
      block_[k] = static_cast<int16_t>(coded);
      add(k, coded);
      --left_over;
    }

    Counts counts{static_cast<uint8_t>(count), 0, 0};
    for (int is_column = 0; is_column < 2; ++is_column) {
      code_edge(is_column, is_column ? right : bottom, is_column ? to_left : to_top, counts, left, above, size, add);
    }
    code_dc(right, bottom, to_left, to_top, counts, residual_left, residual_above);
    add(0, block_[0]);
    right = to_right;
    bottom = to_bottom;
    left = above = counts;
  }

  uint32_t code_count(uint32_t left, uint32_t above) {
    const uint32_t mean = (left + above + 1) / 2;
    const uint32_t other = other_ ? count_bits(nonzeros(other_) & INNER_MASK) : mean;
    const uint32_t value = Coder::DECODES ? 0 : count_bits(nonzeros(block_) & INNER_MASK);
    uint32_t node = 1;
    for (int bit = 5; bit >= 0; --bit) {
      node = node << 1 | bin(value >> bit & 1, c_.count_b[class_of(LEFT_CLASS, above + 1)][class_of(LEFT_CLASS, left + 1)][node],
                             c_.count_c[other][node], c_.count_a[mean][node]);
    }
    return std::min(node - 64, 49u);
  }

  template <class Add>
  void code_edge(int is_column, const Seam& neighbour, const Seam& own, Counts& counts, const Counts& left, const Counts& above,
                 const uint16_t* size, const Add& add) {
    const bool has_neighbour = is_column ? has_left_ : has_above_;
    int32_t predictions[8];
    uint32_t expected = 0, busy = 0, value = 0;
    for (size_t f = 1; f < 8; ++f) {
      const size_t k = EDGE[is_column][f];
      predictions[f] = has_neighbour ? static_cast<int32_t>(int64_t{neighbour.along[f] - own.along[f]} * inverse_[k] >> 27) : 0;
      expected += std::abs(predictions[f]) >= 5;
      busy += around_[k] > 1;
      value += block_[k] != 0;
    }
    const size_t kind = static_cast<size_t>(is_column);
    const int16_t *beyond = is_column ? left_ : above_, *beside_ = is_column ? above_ : left_;
    const size_t inner = class_of(LEFT_CLASS, counts.inner + 1u);
    const size_t beside = is_column ? (left.column + above.column + 1u) / 2 : (left.row + above.row + 1u) / 2;
    uint32_t node = 1;
    for (int bit = 2; bit >= 0; --bit) {
      node = node << 1 | bin(value >> bit & 1, c_.edge_count_a[kind][inner][beside][node], c_.edge_count_c[kind][counts.row][expected][node], c_.edge_count_b[kind][expected][busy][node]);
    }
    const uint32_t count = node - 8;
    (is_column ? counts.column : counts.row) = static_cast<uint8_t>(count);
    uint32_t left_over = count;
    for (size_t f = 1; left_over > 0 && f < 8; ++f) {
      const size_t k = EDGE[is_column][f], i = 7 * kind + f - 1;
      const size_t along = is_column ? 8 : 1, across = 9 - along, place = f * along;
      const uint32_t near = 2u * size[place + across] + size[place + 2 * across] + size[place + across - along] + size[place - along];
      const size_t p = class_of(SEAM_CLASS, static_cast<uint32_t>(std::abs(predictions[f])));
      const size_t m = class_of(SIZE_CLASS, around_[k]), n = class_of(SIZE_CLASS, near);
      const int number = block_[k];
      const uint32_t size_ = static_cast<uint32_t>(std::abs(number));
      const uint32_t length = exponent(size_, c_.edge_a[i][p][left_over], c_.edge_b[i][left_over][n], c_.edge_c[i][p][m]);
      if (length == 0) continue;
      const bool is_below = predictions[f] < 0;
      const size_t sc = sign_of(beyond[k]), sc2 = sign_of(beside_[k]);
      const uint32_t differs = bin((number < 0) != is_below, c_.edge_sign[i][p], c_.edge_sign_b[std::min(length, 5u)][p], c_.edge_sign_c[i][is_below][sc][sc2]);
      const bool is_negative = differs != is_below;
      const int target = differs ? -std::abs(predictions[f]) : std::abs(predictions[f]);
      const int magnitude_ = static_cast<int>(towards(size_, length, target, c_.edge_towards));
      const int coded = is_negative ? -magnitude_ : magnitude_;
      block_[k] = static_cast<int16_t>(coded);
      add(k, coded);
      --left_over;
    }
  }

  void code_dc(const Seam& right, const Seam& bottom, const Seam& to_left, const Seam& to_top, const Counts& counts,
               int32_t& residual_left, int32_t& residual_above) {
    const auto eighths = [&](int64_t difference) { return difference * inverse_[0] >> 27; };
    int64_t from_left = right.along[0] - to_left.along[0], from_above = bottom.along[0] - to_top.along[0];
    int64_t unlike_left = 8192, unlike_above = 8192;
    for (size_t f = 1; f < 8; ++f) {
      unlike_left += std::abs(right.along[f] - to_left.along[f]);
      unlike_above += std::abs(bottom.along[f] - to_top.along[f]);
    }
    if (!has_left_) {
      from_left = from_above;
      unlike_left = unlike_above;
    }
    if (!has_above_) {
      from_above = from_left;
      unlike_above = unlike_left;
    }
    if (!has_left_ && !has_above_) from_left = from_above = 0;
    const int64_t weighted = (from_left * unlike_above + from_above * unlike_left) / (unlike_left + unlike_above);
    const int predicted = static_cast<int>(std::clamp<int64_t>((eighths(weighted) + 4) >> 3, -MAX_COEFFICIENT, MAX_COEFFICIENT));
    const int64_t spread = eighths(std::abs(from_left - from_above)), unlike = eighths(std::min(unlike_left, unlike_above));
    const auto small = [](int64_t v) { return static_cast<uint32_t>(v < 255 ? v : 255); };
    auto& a = c_.dc_a[class_of(SEAM_CLASS, small(spread / 2))][class_of(LEFT_CLASS, counts.inner + 1u)];
    auto& b = c_.dc_b[class_of(SIZE_CLASS, small(residual_left + residual_above))];
    auto& c = c_.dc_c[class_of(SEAM_CLASS, small(unlike / 4))];
    const int residual = block_[0] - predicted;
    const uint32_t size = static_cast<uint32_t>(std::abs(residual));
    const uint32_t length = static_cast<uint32_t>(bit_length(size));
    uint32_t e = 0;
    while (e < 12 && bin(length > e, a[e], b[e], c[e])) ++e;
    int coded = e < 2 ? static_cast<int>(e) : static_cast<int>(mantissa(size, e, c_.dc_rest[e][0]));
    residual_left = residual_above = coded;
    if (coded > 0 && ncodec::jpeg::code(coder_, residual < 0, c_.dc_sign[from_left < from_above ? 0 : from_left > from_above])) coded = -coded;
    block_[0] = static_cast<int16_t>(std::clamp(predicted + coded, -MAX_COEFFICIENT, MAX_COEFFICIENT));
  }

  // Where the 7x7's coefficients are in zigzag order, and the edges'.
  static constexpr std::array<uint8_t, 49> make_inner() {
    std::array<uint8_t, 49> table{};
    size_t n = 0;
    for (uint8_t k = 0; k < BLOCK; ++k) {
      if (ZIGZAG[k] >= 8 && ZIGZAG[k] % 8 != 0) table[n++] = k;
    }
    return table;
  }
  static constexpr std::array<uint8_t, 49> INNER = make_inner();
  static constexpr uint64_t make_inner_mask() {
    uint64_t mask = 0;
    for (uint8_t k : make_inner()) mask |= uint64_t{1} << k;
    return mask;
  }
  static constexpr uint64_t INNER_MASK = make_inner_mask();
  static constexpr size_t EDGE[2][8] = {{0, 1, 5, 6, 14, 15, 27, 28}, {0, 2, 3, 9, 10, 20, 21, 35}};

  Coder& coder_;
  Contexts& c_;
  std::array<int32_t, BLOCK> q_{}, inverse_{};
  int16_t* block_ = nullptr;
  const int16_t *other_ = nullptr, *above_ = nullptr, *left_ = nullptr;
  std::array<uint16_t, BLOCK> around_{};
  bool has_left_ = false, has_above_ = false;
};

}  // namespace ncodec::jpeg
