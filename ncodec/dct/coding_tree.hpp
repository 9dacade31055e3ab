// The coding tree of a square (specs/dct.md section 4): one text for encoder and decoder. The encoder has its choice in
// the tile's units and levels; the decoder fills them in, and reconstructs each block before the next.

#pragma once

#include "tile.hpp"

namespace ncodec::dct {

inline Geometry geometry_of(int width, int height, int channels, int chroma_shift) {
  const auto whole = [](int side) { return (side + 7) & ~7; };
  return {whole(width), whole(height), channels == 3 ? 3 : 1, channels == 3 ? chroma_shift : 0};
}

template <class Coder>
void code_luma(Coder& coder, Tile& tile, const Node& node) {
  Syntax& syntax = tile.syntax;
  const Block& b = node.block;
  if (Coder::DECODES) syntax.begin_luma(node);
  const LikelyModes likely = syntax.likely_modes(b, tile.derive_modes(b));
  const int mode = syntax.code_luma_mode(coder, syntax.unit(b).mode, likely, b);
  if (Coder::DECODES) syntax.for_each_unit(b, [&](Unit& u) { u.mode = static_cast<uint8_t>(mode); });
  int16_t prediction[MAX_SIDE * MAX_SIDE];
  tile.predict_luma(b, mode, prediction);
  const bool is_coded = tile.code_residual(coder, 0, b, syntax.unit(b).energy[0] > 0, false, prediction);
  if (Coder::DECODES) tile.add_residual(0, b, is_coded, prediction);
  syntax.set_decoded(b, true);
}

// `is_whole`: luma of the same extent is cut.
template <class Coder>
void code_chroma(Coder& coder, Tile& tile, const Node& node, bool is_whole) {
  Syntax& syntax = tile.syntax;
  const Block& b = node.block;
  if (Coder::DECODES) syntax.begin_chroma(node, is_whole);
  const int mode = syntax.code_chroma_mode(coder, syntax.unit(b).chroma_mode, b);
  if (Coder::DECODES) syntax.for_each_unit(b, [&](Unit& u) { u.chroma_mode = static_cast<uint8_t>(mode); });
  for (int p = 1; p < 3; ++p) {
    int16_t prediction[MAX_SIDE * MAX_SIDE];
    tile.predict_chroma(p, b, mode, prediction);
    const bool is_coded = tile.code_residual(coder, p, b, syntax.unit(b).energy[p] > 0, !is_whole, prediction);
    if (Coder::DECODES) tile.add_residual(p, b, is_coded, prediction);
  }
}

// D13. `has_chroma`: of the node's own or its parts', not of one around it.
template <class Coder>
void code_tree(Coder& coder, Tile& tile, const Node& node, bool has_chroma) {
  Syntax& syntax = tile.syntax;
  const Block& b = node.block;
  if (syntax.is_outside(b)) return;
  const auto code_offset = [&] {
    if (syntax.has_offsets()) syntax.set_offset(b, syntax.code_offset(coder, syntax.offset(b), b));
  };
  const bool is_group = node.binary_depth == 0 && b.shape.log2_w == GROUP_LOG2;
  if (is_group) code_offset();
  const Split split = syntax.must_split(b) ? QUAD : syntax.code_split(coder, node.split_in(syntax.unit(b).path), node);
  if (split != QUAD && node.depth == 0) code_offset();
  if (split == NO_SPLIT) {
    code_luma(coder, tile, node);
    if (has_chroma) code_chroma(coder, tile, node, false);
    return;
  }
  const Parts parts = parts_of(b, split);
  const bool is_whole =
      has_chroma &&
      (keeps_chroma(parts) ||
       (!syntax.must_split(b) && syntax.code_whole(coder, syntax.unit(b).chroma_depth == node.depth, node, split)));
  for (int i = 0; i < parts.n; ++i) code_tree(coder, tile, node.part(parts.blocks[i], split), has_chroma && !is_whole);
  if (is_whole) code_chroma(coder, tile, node, true);
}

// Of a square; nothing of it has been coded before.
template <class Coder>
void code_square(Coder& coder, Tile& tile, const Block& square) {
  tile.syntax.set_decoded(square, false);
  code_tree(coder, tile, {square}, tile.syntax.geometry().has_chroma());
}

}  // namespace ncodec::dct
