// The encoder's choices for a tile: the partition, modes and levels that minimise bits + weight x squared error.
//
//   square -> leaf or split? at every size from 64 down: leaf = best modes (enc_modes.hpp), a split = the sum over its
//   quarters. Costs come from the model as it stood before the square; the samples from real reconstruction.

#pragma once

#include "enc_modes.hpp"

namespace ncodec::dct {

class Search {
 public:
  Search(Tile& tile, const std::array<Plane, 3>& source, const EncoderOptions& options, const Masking& masking)
      : tile_(tile),
        options_(options),
        last_plane_(tile.syntax.geometry().planes - 1),
        masking_(masking),
        residual_(tile, source, options, masking),
        luma_(tile, source[0], residual_, options.full_trials) {
    for (auto& leaf : leaves_) leaf = std::make_unique<Snapshot>();
  }

  // Chooses for a square: afterwards the tile's units and levels hold the choice.
  void choose(const Model& model, const Block& square) {
    model_ = &model;
    choose_tree(square, NEVER);
  }

 private:
  // Returns the cost of the block as chosen, or more than `limit` (then what it leaves behind is no choice).
  float choose_tree(const Block& b, float limit) {
    const Syntax& syntax = tile_.syntax;
    if (syntax.is_outside(b)) return 0;
    const float offset_bits = b.log2 == GROUP_LOG2 ? choose_offset(b) : 0;
    limit -= offset_bits;
    if (syntax.must_split(b)) {
      float total = offset_bits;
      for (int i = 0; i < 4; ++i) total += choose_tree(b.quarter(i), limit);
      return total;
    }
    const bool may_split = b.log2 > 3 ? b.log2 > options_.least_log2 : options_.least_log2 == 2;
    const float leaf = b.log2 <= options_.most_log2 ? choose_leaf(b, may_split) : NEVER;
    Snapshot& saved = *leaves_[b.log2 - 3];
    if (leaf < NEVER) {
      if (!may_split || (is_empty(b) && b.log2 <= 4)) return offset_bits + leaf;
      saved.save(tile_, b, 0, last_plane_);
    }
    const float split = choose_split(b, std::min(leaf, limit));
    if (split < leaf) return offset_bits + split;
    saved.restore(tile_, b, 0, last_plane_);
    return offset_bits + leaf;
  }

  // The block unsplit; NEVER if it had better be split (LumaSearch::choose).
  float choose_leaf(const Block& b, bool may_split) {
    const float offset_bits = b.log2 > GROUP_LOG2 ? choose_offset(b) : 0;
    float total = luma_.choose(*model_, b, may_split);
    if (total == NEVER) return NEVER;
    total += offset_bits + split_bits(b, false);
    if (last_plane_ > 0) total += choose_chroma(tile_, residual_, *model_, b, true);
    return total;
  }

  // The four quarters, as far as they cost less than `limit`.
  float choose_split(const Block& b, float limit) {
    float total = split_bits(b, true);
    for (int i = 0; i < 4 && total < limit; ++i)
      total += b.log2 == 3 ? luma_.choose(*model_, b.quarter(i), false) : choose_tree(b.quarter(i), limit - total);
    if (b.log2 == 3 && last_plane_ > 0 && total < limit) total += choose_chroma(tile_, residual_, *model_, b, false);
    return total;
  }

  // Sets the offset of a block's steps; returns its bits.
  float choose_offset(const Block& b) {
    if (!tile_.syntax.has_offsets()) return 0;
    const int offset = masking_.offset(b);
    tile_.syntax.set_offset(b, offset);
    return estimate_bits(*model_, [&](Estimator& e) { tile_.syntax.code_offset(e, offset, b); });
  }

  float split_bits(const Block& b, bool is_split) const {
    return estimate_bits(*model_, [&](Estimator& e) { tile_.syntax.code_split(e, is_split, b); });
  }

  bool is_empty(const Block& b) const {
    const Unit& u = tile_.syntax.unit(b);
    return !u.energy[0] && !u.energy[1] && !u.energy[2];
  }

  Tile& tile_;
  EncoderOptions options_;
  int last_plane_;
  const Masking& masking_;
  ResidualTrial residual_;
  LumaSearch luma_;
  const Model* model_ = nullptr;
  std::array<std::unique_ptr<Snapshot>, SQUARE_LOG2 - 2> leaves_;  // of 8x8 ... 64x64
};

}  // namespace ncodec::dct
