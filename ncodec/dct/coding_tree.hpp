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
void code_luma(Coder& coder, Tile& tile, const Block& b) {
  Syntax& syntax = tile.syntax;
  const LikelyModes likely = syntax.likely_modes(b, tile.derive_modes(b));
  const int mode = syntax.code_luma_mode(coder, syntax.unit(b).mode, likely, b);
  if (Coder::DECODES)
    syntax.for_each_unit(b, [&](Unit& u) {
      u.mode = static_cast<uint8_t>(mode), u.log2 = static_cast<uint8_t>(b.log2), u.chroma_mode = SAME_AS_LUMA;
    });
  int16_t prediction[MAX_SIDE * MAX_SIDE];
  tile.predict_luma(b, mode, prediction);
  const bool is_coded = tile.code_residual(coder, 0, b, syntax.unit(b).energy[0] > 0, false, prediction);
  if (Coder::DECODES) tile.add_residual(0, b, is_coded, prediction);
}

// `has_luma`: luma of the same extent is one block.
template <class Coder>
void code_chroma(Coder& coder, Tile& tile, const Block& b, bool has_luma) {
  Syntax& syntax = tile.syntax;
  const int mode = syntax.code_chroma_mode(coder, syntax.unit(b).chroma_mode, b);
  if (Coder::DECODES) syntax.for_each_unit(b, [&](Unit& u) { u.chroma_mode = static_cast<uint8_t>(mode); });
  for (int p = 1; p < 3; ++p) {
    int16_t prediction[MAX_SIDE * MAX_SIDE];
    tile.predict_chroma(p, b, mode, prediction);
    const bool is_coded = tile.code_residual(coder, p, b, syntax.unit(b).energy[p] > 0, has_luma, prediction);
    if (Coder::DECODES) tile.add_residual(p, b, is_coded, prediction);
  }
}

// D13.
template <class Coder>
void code_tree(Coder& coder, Tile& tile, const Block& b) {
  Syntax& syntax = tile.syntax;
  if (syntax.is_outside(b)) return;
  const bool has_chroma = syntax.geometry().has_chroma();
  const auto code_offset = [&] {
    if (syntax.has_offsets()) syntax.set_offset(b, syntax.code_offset(coder, syntax.offset(b), b));
  };
  if (b.log2 == GROUP_LOG2) code_offset();
  const bool is_split = syntax.must_split(b) || syntax.code_split(coder, syntax.unit(b).log2 < b.log2, b);
  if (!is_split) {
    if (b.log2 > GROUP_LOG2) code_offset();
    code_luma(coder, tile, b);
    if (has_chroma) code_chroma(coder, tile, b, true);
  } else if (b.log2 > 3) {
    for (int i = 0; i < 4; ++i) code_tree(coder, tile, b.quarter(i));
  } else {
    for (int i = 0; i < 4; ++i) code_luma(coder, tile, b.quarter(i));
    if (has_chroma) code_chroma(coder, tile, b, false);
  }
}

}  // namespace ncodec::dct
