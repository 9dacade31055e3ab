// The colours of a palette by their numbers (specs/lossless.md, section 7): text, drawings, screens, dithered pictures.
//
//   pixels around --hashes--> what came after the same ones last time: is it that again? else its bits, from the top;
//                             each bin mixed from nine contexts, hashed from few or many pixels around

#pragma once

#include <initializer_list>
#include <vector>

#include "mixing.hpp"

namespace ncodec::lossless {

constexpr size_t HASHES = 9;
constexpr uint16_t NOTHING = 0xFFFF;

// L22.
NCODEC_INLINE uint32_t hash_of(uint32_t number, std::initializer_list<uint32_t> pixels) {
  uint32_t h = number * 0x27D4EB2Fu;
  for (uint32_t p : pixels) {
    h = (h + p + 1) * 0x2C1B3C6Du;
    h ^= h >> 13;
  }
  return h ^ h >> 16;
}

template <class Coder>
class IndexCoder {
 public:
  // `indexes` [h, w] are below `n`.
  IndexCoder(Coder& coder, std::vector<uint16_t>& indexes, int w, int h, int n)
      : coder_(coder), indexes_(indexes), w_(w), h_(h), bits_(n > 1 ? log2_of(static_cast<uint64_t>(n) - 1) + 1 : 0) {
    const int log2 = std::clamp(log2_of(static_cast<uint64_t>(w) * static_cast<uint64_t>(h) - 1) + 1, 12, 20);
    mask_ = (1u << log2) - 1;
    for (auto& table : tables_) table.resize(size_t{mask_} + 1);
    followers_.assign(size_t{mask_} + 1, NOTHING);
    const size_t nodes = size_t{1} << bits_;
    by_node_.assign(nodes + 8, Weights(HASHES));
    refinements_.resize(nodes + 8);
    by_pattern_.assign(64 * 16, Weights(HASHES));
  }

  // False: the payload is truncated.
  NCODEC_INLINE bool code() {
    constexpr int PAD = 3;
    const int stride = w_ + 2 * PAD;
    std::vector<uint16_t> rows(static_cast<size_t>(3 * stride));  // this one and the two above, in turn
    for (int y = 0; y < h_; ++y) {
      if (!coder_.is_ok()) return false;
      const auto row = [&](int i) { return rows.data() + (i + 3) % 3 * stride + PAD; };
      uint16_t *r = row(y), *above = row(y - 1), *second = row(y - 2);
      std::fill_n(r - PAD, PAD, above[0]);
      for (int x = 0; x < w_; ++x) {
        const uint32_t W = r[x - 1], WW = r[x - 2], WWW = r[x - 3], N = above[x], NW = above[x - 1], NE = above[x + 1],
                       NWW = above[x - 2], NEE = above[x + 2], NN = second[x], NNW = second[x - 1], NNE = second[x + 1];
        hashes_ = {hash_of(0, {W}),
                   hash_of(1, {N}),
                   hash_of(2, {W, N}),
                   hash_of(3, {W, N, NW}),
                   hash_of(4, {W, N, NW, NE}),
                   hash_of(5, {W, N, NW, NE, WW, NN}),
                   hash_of(6, {W, N, NW, NE, WW, NN, NNE, NWW, NEE, WWW, NNW}),
                   hash_of(7, {N, NE, NN}),
                   hash_of(8, {W, WW, WWW})};
        uint16_t &far = followers_[hashes_[6] & mask_], &near = followers_[hashes_[4] & mask_];
        const bool is_new = far == NOTHING;
        const uint32_t guess = !is_new ? far : near != NOTHING ? near : W;
        const size_t pattern = static_cast<size_t>((W == N) | (N == NW) << 1 | (N == NE) << 2 | (W == WW) << 3 |
                                                   (N == NN) << 4 | is_new << 5) *
                               16;
        uint16_t& index = indexes_[static_cast<size_t>(y) * static_cast<size_t>(w_) + static_cast<size_t>(x)];
        const uint32_t value = index;
        const size_t kind = (size_t{1} << bits_) + ((guess == W) | (guess == N) << 1 | is_new << 2);
        uint32_t got = guess;
        if (!code_bin(0xFFFF0000u + guess, kind, pattern, value == guess)) {
          uint32_t node = 1;
          for (int i = bits_ - 1; i >= 0; --i)
            node = 2 * node + code_bin(node, node, pattern + 1 + static_cast<size_t>(i), value >> i & 1);
          got = node - (1u << bits_);
        }
        index = r[x] = far = near = static_cast<uint16_t>(got);
      }
      std::fill_n(r + w_, PAD, r[w_ - 1]);
    }
    return true;
  }

 private:
  NCODEC_INLINE uint32_t code_bin(uint32_t node, size_t set, size_t pattern, uint32_t bin) {
    Slot* slots[HASHES];
    for (size_t i = 0; i < HASHES; ++i) {
      uint32_t h = hashes_[i] + node * 0x9E3779B1u;
      h ^= h >> 15;
      h *= 0x85EBCA6Bu;
      slots[i] = &tables_[i][h >> 7 & mask_];
    }
    return code_mixed<HASHES, 11>(coder_, bin, slots, by_node_[set], by_pattern_[pattern], refinements_[set]);
  }

  Coder& coder_;
  std::vector<uint16_t>& indexes_;
  const int w_, h_, bits_;
  uint32_t mask_;
  std::vector<Slot> tables_[HASHES];
  std::vector<uint16_t> followers_;  // by hash: the last pixel there
  std::vector<Weights> by_node_, by_pattern_;
  std::vector<Refinement> refinements_;
  std::array<uint32_t, HASHES> hashes_;
};

}  // namespace ncodec::lossless
