// The model of the coefficients: the bins of a block and their contexts (specs/jpeg.md, section 5).
//
//   AL | A | AR       a block's bins: the number of nonzeros of     DC e1 e2 .. e7   e: the edges, predicted from
//   ---+---+---       the 7x7; the 7x7 in zigzag order; the edge    e1 +----------   the seam with A (first row)
//    L | * |          along the top, that along the left; DC        .. |  the 7x7    or L (first column)
//
// At a seam two blocks meet in nearly the same samples. So, for each frequency along it, the sums of either
// block's coefficients across it, each times its cosine there, are about equal; solved for the one that is not yet
// known, this predicts the edges (as in Lepton, Horn et al. 2017) and, in the same way, DC.
// Where the component before has as many blocks, its block times a share predicts this one, and what is coded is the
// rest: nearly all that red, green and blue have in common. The share is that of the blocks around.
// One text serves encoder and decoder: `value`s are read from the block, which a decoder fills as it goes.

#pragma once

#include <algorithm>
#include <cstdlib>

#include "estimates.hpp"
#include "scans.hpp"

namespace ncodec::jpeg {

// 1024 sqrt(2) cos(k pi / 32), half way from the seam to the samples beside it; 1024 for frequency 0.
constexpr int32_t SEAM[8] = {1024, 1441, 1420, 1385, 1338, 1277, 1204, 1119};
constexpr int32_t MAX_DEQUANTISED = 1 << 14;  // eight products of two parts with SEAM stay below 2^28.4
constexpr uint32_t MAX_SIZE = 31;             // of a magnitude in a context: seven of them stay below 256
constexpr size_t N_INNER = 49;
// How much of the other component a block has: products of blocks around count 7/16 of each of two neighbours'.
constexpr int64_t PRODUCTS_KEPT = 7, PRODUCTS_AT_FIRST = 1024, MAX_SHARE = 1024;
constexpr size_t N_LENGTHS = 8;  // contexts of the bins "longer than i bits"; the last is for all from 7 on

// The class of a number from 0 to 255: how many of the bounds it reaches.
template <size_t N>
constexpr std::array<uint8_t, 256> classes(const int (&bounds)[N]) {
  std::array<uint8_t, 256> table{};
  for (int i = 0; i < 256; ++i) {
    for (int bound : bounds)
      table[static_cast<size_t>(i)] = static_cast<uint8_t>(table[static_cast<size_t>(i)] + (i >= bound));
  }
  return table;
}
constexpr auto COUNT_CLASS = classes({2, 3, 4, 5, 7, 9, 13, 19, 28});                  // 10
constexpr auto SIZE_CLASS = classes({1, 2, 3, 4, 5, 7, 10, 15, 23, 37, 61});           // 12
constexpr auto SEAM_CLASS = classes({1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 80, 128});  // 14
template <class Number>
size_t class_of(const std::array<uint8_t, 256>& table, Number value) {
  return table[static_cast<size_t>(std::min<Number>(value, 255))];
}

// Where the 7x7's coefficients and the edges' (along the top, along the left) are in zigzag order.
constexpr std::array<uint8_t, N_INNER> make_inner() {
  std::array<uint8_t, N_INNER> table{};
  size_t n = 0;
  for (uint8_t k = 0; k < BLOCK; ++k) {
    if (ZIGZAG[k] >= 8 && ZIGZAG[k] % 8 != 0) table[n++] = k;
  }
  return table;
}
constexpr uint64_t make_inner_mask() {
  uint64_t mask = 0;
  for (uint8_t k : make_inner()) mask |= uint64_t{1} << k;
  return mask;
}
constexpr auto INNER = make_inner();
constexpr uint64_t INNER_MASK = make_inner_mask();
constexpr uint8_t EDGE[2][8] = {{0, 1, 5, 6, 14, 15, 27, 28}, {0, 2, 3, 9, 10, 20, 21, 35}};

using Lengths = std::array<Estimate, N_LENGTHS>;

// What has been learned of one kind of component: luma's is not chroma's.
struct Contexts {
  Estimate count_beside[10][10][64], count_other[50][64];
  Lengths inner_place[N_INNER][5][12], inner_near[N_INNER][10][6], inner_around[10][12][12];
  Estimate inner_rest[N_INNER][13];
  Estimate edge_count_beside[2][10][8][8], edge_count_expected[2][8][8][8];
  Lengths edge_left[14][14][8], edge_near[14][8][12], edge_around[14][14][12];
  Estimate edge_sign[14][14], edge_sign_length[6][14], edge_rest[13][3][10];
  Estimate dc_spread[14][10][12], dc_seam[14][12], dc_sign[3], dc_rest[13];
};

template <class Coder>
class Model {
 public:
  Model(Coder& coder, Contexts& contexts) : coder_(coder), c_(contexts) {}

  // A component; `other` is the one before it if it has as many blocks, or null.
  Status code_component(Component& component, const Component* other, const std::array<uint16_t, BLOCK>& table,
                        const std::array<uint16_t, BLOCK>& others_table) {
    for (size_t k = 0; k < BLOCK; ++k) {
      q_[k] = std::max<int32_t>(table[k], 1);
      inverse_[k] = (1 << 20) / q_[k];
      others_q_[k] = std::max<int32_t>(others_table[k], 1);
    }
    const size_t columns = static_cast<size_t>(component.columns);
    std::vector<Beside> row_above(columns);
    std::vector<int16_t> rows(2 * columns * BLOCK);  // residuals of this row of blocks and the one above
    component.surprises.assign(columns * static_cast<size_t>(component.rows), 0);
    for (int y = 0; y < component.rows; ++y) {
      Beside left{};
      for (int x = 0; x < component.columns; ++x) {
        const size_t place = component.at(y, x), column = static_cast<size_t>(x) * BLOCK;
        block_ = component.block(y, x);
        residual_ = rows.data() + (y & 1 ? columns * BLOCK : 0) + column;
        has_left_ = x > 0;
        has_above_ = y > 0;
        left_ = has_left_ ? residual_ - BLOCK : ZEROS;
        above_ = has_above_ ? rows.data() + (y & 1 ? 0 : columns * BLOCK) + column : ZEROS;
        look_around(has_left_ && has_above_ ? above_ - BLOCK : ZEROS,
                    has_above_ && x + 1 < component.columns ? above_ + BLOCK : ZEROS);
        other_ = other ? other->block(y, x) : nullptr;
        others_surprise_ = other ? other->surprises[place / BLOCK] : 0;
        component.surprises[place / BLOCK] = code_block(left, row_above[static_cast<size_t>(x)]);
      }
      if (coder_.status() != BinaryStatus::ok) return Status::truncated;
    }
    return Status::ok;
  }

 private:
  static constexpr int16_t ZEROS[BLOCK] = {};

  // Sums of products of coefficients, of blocks near by more than of those far away: this component's with the
  // other's, the other's with themselves.
  struct Products {
    int64_t with = 0, of = 0;
  };

  // What a block leaves to the one at its right, or below it.
  struct Beside {
    int32_t seam[8] = {};  // sums across the seam, of each frequency along it; times 1024
    uint32_t n_inner = 0, n_edge[2] = {};
    Products products;
  };

  // The block that is being coded: its side of the seams, and sums for the next blocks.
  struct Own {
    int32_t left[8] = {}, top[8] = {}, right[8] = {}, bottom[8] = {};
    uint8_t padded[8 + BLOCK + 16] = {};  // magnitudes coded so far, up to MAX_SIZE, in rows and columns
    uint8_t* sizes = padded + 8;
    uint32_t n_inner = 0, n_edge[2] = {};
  };

  void look_around(const int16_t* above_left, const int16_t* above_right) {
    for (size_t k = 0; k < BLOCK; ++k) {
      const auto size = [k](const int16_t* block) { return block[k] < 0 ? -block[k] : block[k]; };
      around_[k] = static_cast<uint16_t>(2 * (size(left_) + size(above_)) + size(above_left) + size(above_right));
    }
  }

  // Predict the block from the other component's, and return the share of that (in 1/256), which is what the blocks
  // around have. What is coded are residuals; the block is the prediction and what has been coded of them.
  int32_t predict(const Products& around, Own& own) {
    predicted_.fill(0);
    int64_t share = 0;
    if (other_) {
      // |with| and of < 2^37: 64 products of 2^28, times 8 for all the blocks before.
      share = std::clamp<int64_t>(around.with * 256 / (around.of + PRODUCTS_AT_FIRST), -MAX_SHARE, MAX_SHARE);
      for (uint64_t mask = share ? nonzeros(other_) & ~uint64_t{1} : 0; mask; mask &= mask - 1) {
        const size_t k = static_cast<size_t>(lowest_bit(mask));
        const int64_t value = std::abs(share * dequantised_other(k)) * inverse_[k];
        const int32_t rounded = static_cast<int32_t>(std::min<int64_t>((value + (1 << 27)) >> 28, MAX_COEFFICIENT));
        predicted_[k] = static_cast<int16_t>((share < 0) != (other_[k] < 0) ? -rounded : rounded);
        if (rounded != 0) add(own, k, predicted_[k]);
      }
    }
    for (size_t k = 1; k < BLOCK; ++k) {
      if (Coder::DECODES) {
        block_[k] = predicted_[k];
        residual_[k] = 0;
      } else {
        residual_[k] = static_cast<int16_t>(block_[k] - predicted_[k]);
      }
    }
    residual_[0] = 0;
    return static_cast<int32_t>(share);
  }

  static int32_t product(int32_t value, int32_t q) { return std::clamp(value * q, -MAX_DEQUANTISED, MAX_DEQUANTISED); }
  int32_t dequantised_other(size_t k) const { return product(other_[k], others_q_[k]); }

  // What this block says of how much of the other component is in this one.
  Products correlate(const Products& around, int16_t surprise) {
    Products sums{around.with * PRODUCTS_KEPT >> 4, around.of * PRODUCTS_KEPT >> 4};
    const auto gather = [&sums](int32_t mine, int32_t others) {
      sums.with += int64_t{mine} * others;
      sums.of += int64_t{others} * others;
    };
    gather(product(surprise, q_[0]), product(others_surprise_, others_q_[0]));
    for (uint64_t mask = nonzeros(other_) & ~uint64_t{1}; mask; mask &= mask - 1) {
      const size_t k = static_cast<size_t>(lowest_bit(mask));
      gather(product(block_[k], q_[k]), dequantised_other(k));
    }
    return sums;
  }

  // Returns by how much DC is not what the seams make of it.
  int16_t code_block(Beside& left, Beside& above) {
    Own own;
    const Products around{left.products.with + above.products.with, left.products.of + above.products.of};
    const int32_t share = predict(around, own);
    own.n_inner = code_count(left.n_inner, above.n_inner);
    code_inner(own);
    code_edge(0, above.seam, own.top, left.n_edge[0] + above.n_edge[0], own);
    code_edge(1, left.seam, own.left, left.n_edge[1] + above.n_edge[1], own);
    const int16_t surprise = code_dc(left.seam, above.seam, share, own);
    if (other_) left.products = above.products = correlate(around, surprise);
    left.n_inner = above.n_inner = own.n_inner;
    for (size_t i = 0; i < 2; ++i) left.n_edge[i] = above.n_edge[i] = own.n_edge[i];
    std::copy(own.right, own.right + 8, left.seam);
    std::copy(own.bottom, own.bottom + 8, above.seam);
    return surprise;
  }

  uint32_t code_count(uint32_t left, uint32_t above) {
    const uint32_t other = other_ ? count_bits(nonzeros(other_) & INNER_MASK) : (left + above + 1) / 2;
    auto& beside = c_.count_beside[COUNT_CLASS[above + 1]][COUNT_CLASS[left + 1]];
    const uint32_t value = Coder::DECODES ? 0 : count_bits(nonzeros(residual_) & INNER_MASK);
    uint32_t node = 1;
    for (int i = 5; i >= 0; --i)
      node = node << 1 | code(coder_, value >> i & 1, beside[node], c_.count_other[other][node]);
    return std::min<uint32_t>(node - 64, N_INNER);
  }

  void code_inner(Own& own) {
    uint32_t left = own.n_inner;
    for (size_t i = 0; left > 0 && i < N_INNER; ++i) {
      const size_t k = INNER[i], place = ZIGZAG[k];
      const uint8_t* at = own.sizes + place;
      const size_t l = COUNT_CLASS[left], m = class_of<uint32_t>(SIZE_CLASS, around_[k]);
      const size_t n = SIZE_CLASS[2u * (at[-1] + at[-8]) + at[-9] + at[-7] + at[7]];
      const size_t o = other_ ? class_of(SIZE_CLASS, 4 * std::abs(other_[k])) : m;
      const int value = residual_[k];
      const uint32_t size = static_cast<uint32_t>(std::abs(value));
      const uint32_t length =
          code_length(size, c_.inner_place[i][l / 2][m], c_.inner_near[i][l][n / 2], c_.inner_around[l][m][o]);
      if (length == 0) continue;
      const bool is_negative = coder_.bypass(value < 0);
      set(own, k, length < 2 ? 1 : code_rest(size, length, c_.inner_rest[i][length]), is_negative);
      --left;
    }
  }

  // The first row (is_left 0) or the first column (1), without DC.
  void code_edge(size_t is_left, const int32_t* theirs, const int32_t* ours, uint32_t beside, Own& own) {
    const bool has_seam = is_left ? has_left_ : has_above_;
    int32_t predicted[8];  // in eighths
    uint32_t expected = 0, value = 0;
    for (size_t f = 1; f < 8; ++f) {
      const size_t k = EDGE[is_left][f];
      predicted[f] = has_seam ? static_cast<int32_t>(int64_t{theirs[f] - ours[f]} * inverse_[k] >> 27) : 0;
      expected += std::abs(predicted[f]) >= 5;
      value += residual_[k] != 0;
    }
    auto& by_beside = c_.edge_count_beside[is_left][COUNT_CLASS[own.n_inner + 1]][(beside + 1) / 2];
    auto& by_expected = c_.edge_count_expected[is_left][own.n_edge[0]][expected];
    uint32_t node = 1;
    for (int i = 2; i >= 0; --i) node = node << 1 | code(coder_, value >> i & 1, by_beside[node], by_expected[node]);
    uint32_t left = own.n_edge[is_left] = node - 8;

    const int along = is_left ? 8 : 1, across = 9 - along;
    for (size_t f = 1; left > 0 && f < 8; ++f) {
      const size_t k = EDGE[is_left][f], i = 7 * is_left + f - 1;
      const uint8_t* at = own.sizes + static_cast<int>(f) * along;
      const size_t n = SIZE_CLASS[2u * at[across] + at[2 * across] + at[across - along] + at[-along]];
      const size_t m = class_of<uint32_t>(SIZE_CLASS, around_[k]), p = class_of(SEAM_CLASS, std::abs(predicted[f]));
      const int number = residual_[k];
      const uint32_t size = static_cast<uint32_t>(std::abs(number));
      const uint32_t length =
          code_length(size, c_.edge_left[i][p][left], c_.edge_near[i][left][n], c_.edge_around[i][p][m]);
      if (length == 0) continue;
      const bool is_below = predicted[f] < 0;
      const bool differs =
          code(coder_, (number < 0) != is_below, c_.edge_sign[i][p], c_.edge_sign_length[std::min(length, 5u)][p]);
      const int target = differs ? -std::abs(predicted[f]) : std::abs(predicted[f]);
      set(own, k, code_towards(size, length, target), differs != is_below);
      --left;
    }
  }

  int16_t code_dc(const int32_t* theirs_left, const int32_t* theirs_above, int32_t share, Own& own) {
    int64_t from_left = theirs_left[0] - own.left[0], from_above = theirs_above[0] - own.top[0];
    // A seam that does not fit at the other frequencies says less.
    int64_t unlike_left = 8192, unlike_above = 8192;
    for (size_t f = 1; f < 8; ++f) {
      unlike_left += std::abs(theirs_left[f] - own.left[f]);
      unlike_above += std::abs(theirs_above[f] - own.top[f]);
    }
    if (!has_left_ && !has_above_) from_left = from_above = 0;
    if (!has_left_) {
      from_left = from_above;
      unlike_left = unlike_above;
    }
    if (!has_above_) {
      from_above = from_left;
      unlike_above = unlike_left;
    }
    // |from| < 2^29.4, unlike < 2^32.2: two products below 2^63.
    const int64_t mean = (from_left * unlike_above + from_above * unlike_left) / (unlike_left + unlike_above);
    const auto eighths = [this](int64_t sum) { return sum * inverse_[0] >> 27; };
    const int64_t by_seams = eighths(mean),
                  by_other = eighths(int64_t{share} * product(others_surprise_, others_q_[0]) * 4);
    const auto rounded = [](int64_t value) {
      return static_cast<int>(std::clamp<int64_t>((value + 4) >> 3, -MAX_COEFFICIENT, MAX_COEFFICIENT));
    };
    const int predicted = rounded(by_seams + by_other);
    const int64_t spread = eighths(std::abs(from_left - from_above)) / 2,
                  unlike = eighths(std::min(unlike_left, unlike_above)) / 4;

    auto& by_spread = c_.dc_spread[class_of(SEAM_CLASS, spread)][COUNT_CLASS[own.n_inner + 1]];
    auto& by_seam = c_.dc_seam[class_of(SEAM_CLASS, unlike)];
    const int value = block_[0] - predicted;
    const uint32_t size = static_cast<uint32_t>(std::abs(value));
    uint32_t length = 0;
    while (length < 12 && code(coder_, size >> length != 0, by_spread[length], by_seam[length])) ++length;
    int residual = static_cast<int>(length < 2 ? length : code_rest(size, length, c_.dc_rest[length]));
    const size_t side = from_left < from_above ? 0 : from_left > from_above ? 2 : 1;
    if (residual != 0 && code(coder_, value < 0, c_.dc_sign[side])) residual = -residual;
    const int dc = std::clamp(predicted + residual, -MAX_COEFFICIENT, MAX_COEFFICIENT);
    block_[0] = static_cast<int16_t>(dc);
    add(own, 0, dc);
    return static_cast<int16_t>(dc - rounded(by_seams));
  }

  // The number of bits of a magnitude, in unary.
  uint32_t code_length(uint32_t size, Lengths& a, Lengths& b, Lengths& c) {
    for (uint32_t i = 0; i < 12; ++i) {
      const size_t j = std::min<size_t>(i, N_LENGTHS - 1);
      if (!code(coder_, size >> i != 0, a[j], b[j], c[j])) return i;
    }
    return 12;
  }

  // The bits after the first 1 of a magnitude of 2 bits or more.
  uint32_t code_rest(uint32_t size, uint32_t length, Estimate& second) {
    uint32_t prefix = 2 | code(coder_, size >> (length - 2) & 1, second);
    for (uint32_t i = length - 2; i-- > 0;) prefix = prefix << 1 | coder_.bypass(size >> i & 1);
    return prefix;
  }

  // The same for a magnitude that is expected near `target` (in eighths).
  uint32_t code_towards(uint32_t size, uint32_t length, int target) {
    uint32_t prefix = 1;
    for (uint32_t i = length - 1, depth = 0; i-- > 0; ++depth) {
      const int middle = static_cast<int>((prefix << 1 | 1) << (i + 3));
      const int place = std::clamp((target - middle) >> (i + 1), -5, 4) + 5;
      const uint32_t bit = size >> i & 1;
      prefix = prefix << 1 | (depth < 3 ? code(coder_, bit, c_.edge_rest[length][depth][place]) : coder_.bypass(bit));
    }
    return prefix;
  }

  // Store residual k and add it to the block.
  void set(Own& own, size_t k, uint32_t size, bool is_negative) {
    const int value =
        (static_cast<int>(size) ^ -static_cast<int>(is_negative)) + is_negative;  // signs are hard to predict
    residual_[k] = static_cast<int16_t>(value);
    block_[k] = static_cast<int16_t>(std::clamp(predicted_[k] + value, -MAX_COEFFICIENT, MAX_COEFFICIENT));
    own.sizes[ZIGZAG[k]] = static_cast<uint8_t>(std::min(size, MAX_SIZE));
    add(own, k, value);
  }

  // Add a part of coefficient k to the block's sums.
  void add(Own& own, size_t k, int value) {
    const size_t v = ZIGZAG[k] >> 3, u = ZIGZAG[k] & 7;
    const int32_t dequantised = product(value, q_[k]);
    const int32_t across = dequantised * SEAM[u], down = dequantised * SEAM[v];
    own.left[v] += across;
    own.right[v] += u & 1 ? -across : across;
    own.top[u] += down;
    own.bottom[u] += v & 1 ? -down : down;
  }

  Coder& coder_;
  Contexts& c_;
  std::array<int32_t, BLOCK> q_{}, inverse_{}, others_q_{};
  std::array<uint16_t, BLOCK> around_{};
  std::array<int16_t, BLOCK> predicted_{};
  int16_t *block_ = nullptr, *residual_ = nullptr;
  int16_t others_surprise_ = 0;
  const int16_t *left_ = nullptr, *above_ = nullptr, *other_ = nullptr;
  bool has_left_ = false, has_above_ = false;
};

}  // namespace ncodec::jpeg
