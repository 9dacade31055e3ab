// A picture to the payload of a tile and back.
//
//   payload: | flags: bit 0 4:2:0, bits 1-2 transform | bins |

#pragma once

#include "colour.hpp"
#include "encoder.hpp"
#include "filter.hpp"

namespace ncodec::dct {

inline int whole(int side) { return (side + 7) & ~7; }

inline Model start_of(const Parameters& parameters, int quality_code) {
  Model model;
  model.contexts.resize(place::END);
  model.mixers.resize(mixer::END);
  for (int i = 0; i < place::END; ++i) {
    const int low = parameters.start[i], high = parameters.start[place::END + i];
    const int stretch = (low * 16 * (MAX_QUALITY_CODE - quality_code) + high * 16 * quality_code) / MAX_QUALITY_CODE;
    model.contexts[i].p = LOGISTIC.squash[stretch + 2048];
    model.contexts[i].n = parameters.confidence[i];
  }
  for (int i = 0; i < mixer::END; ++i)
    for (int k = 0; k < 3; ++k) model.mixers[i].w[k] = parameters.weights[3 * i + k] * 4;
  return model;
}

// The leaves of a square in coding order: bins alone, or (decoding) samples as well.
template <class Coder>
void code_leaf(Coder& coder, Tile& tile, int x, int y, int log2, bool has_chroma, bool luma_is_whole) {
  Syntax& syntax = tile.syntax;
  int16_t prediction[MAX_SIDE * MAX_SIDE];
  if (luma_is_whole) {
    const LikelyModes likely = syntax.likely_modes(x, y, tile.derive(x, y, log2));
    const int mode = syntax.code_luma_mode(coder, syntax.unit(x, y).mode, likely, x, y, log2);
    if (Coder::DECODES)
      syntax.over(x, y, log2, [&](Unit& u) { u.mode = static_cast<uint8_t>(mode), u.log2 = static_cast<uint8_t>(log2), u.chroma_mode = SAME_AS_LUMA; });
    const bool coded = syntax.code_block(coder, 0, x, y, log2, syntax.unit(x, y).energy[0] > 0, false);
    if (Coder::DECODES) {
      References plain, smoothed;
      tile.gather_border(0, x, y, log2, plain);
      if (wants_smooth(mode, log2)) smooth(plain, 1 << log2, smoothed);
      predict(plain, smoothed, mode, log2, true, prediction);
      tile.add_residual(0, x, y, log2, coded, prediction);
    }
  }
  if (!has_chroma) return;
  const int chroma_mode = syntax.code_chroma_mode(coder, syntax.unit(x, y).chroma_mode, x, y, log2);
  if (Coder::DECODES) syntax.over(x, y, log2, [&](Unit& u) { u.chroma_mode = static_cast<uint8_t>(chroma_mode); });
  for (int p = 1; p < 3; ++p) {
    const bool coded = syntax.code_block(coder, p, x, y, log2, syntax.unit(x, y).energy[p] > 0, luma_is_whole);
    if (Coder::DECODES) {
      tile.predict_chroma(p, x, y, log2, chroma_mode, prediction);
      tile.add_residual(p, x, y, log2, coded, prediction);
    }
  }
}

template <class Coder>
void code_tree(Coder& coder, Tile& tile, int x, int y, int log2) {
  Syntax& syntax = tile.syntax;
  const Geometry& g = syntax.geometry();
  if (x >= g.width || y >= g.height) return;
  const bool has_chroma = g.planes == 3;
  const bool split = syntax.must_split(x, y, log2) || syntax.code_split(coder, syntax.unit(x, y).log2 < log2, x, y, log2);
  const int half = 1 << (log2 - 1);
  if (!split) {
    code_leaf(coder, tile, x, y, log2, has_chroma, true);
  } else if (log2 > 3) {
    for (int i = 0; i < 4; ++i) code_tree(coder, tile, x + (i & 1) * half, y + (i >> 1) * half, log2 - 1);
  } else {
    for (int i = 0; i < 4; ++i) code_leaf(coder, tile, x + (i & 1) * half, y + (i >> 1) * half, 2, false, true);
    if (has_chroma) code_leaf(coder, tile, x, y, 3, true, false);
  }
}

inline Geometry geometry_of(int width, int height, int channels, int chroma_shift) {
  return {whole(width), whole(height), channels == 3 ? 3 : 1, channels == 3 ? chroma_shift : 0};
}

// Chooses and codes the squares; `look(x, y)` sees each while its levels are there.
template <class Coder, class Look>
void encode_squares(Coder& coder, const Model& model, Tile& tile, TileEncoder& encoder, Look look) {
  const Geometry& g = tile.syntax.geometry();
  for (int y = 0; y < g.height; y += SQUARE)
    for (int x = 0; x < g.width; x += SQUARE) {
      encoder.choose(model, x, y);
      code_tree(coder, tile, x, y, SQUARE_LOG2);
      look(x, y);
      tile.syntax.clear_square();
    }
}

// Codes a picture with any coder of Encoder's kind; afterwards `tile` has the decoder's samples.
template <class Coder>
void encode_with(Coder& coder, Model& model, Tile& tile, const Tile& source, const Filter& filter, const EncoderOptions& options) {
  TileEncoder encoder(tile, source.planes, options);
  encode_squares(coder, model, tile, encoder, [](int, int) {});
  filter_tile(coder, tile, filter, [&](int plane, const std::array<Plane, 3>& filtered, int x, int y) {
    float gain = 0;
    for (int p = plane; p <= 2 * plane; ++p) gain += encoder.gain_of(p, filtered[p], x, y);
    return gain > 0;
  });
}

inline std::vector<uint8_t> encode_tile(const Picture8& picture, const Parameters& parameters, int quality_code, Kind kind,
                                        int chroma_shift, const EncoderOptions& options) {
  const Geometry g = geometry_of(picture.width, picture.height, picture.channels, chroma_shift);
  Tile tile(g, parameters, quality_code, kind), source(g, parameters, quality_code, kind);
  from_picture(picture, source.planes, g.planes, g.chroma_shift);
  Model model = start_of(parameters, quality_code);
  Encoder coder(model);
  encode_with(coder, model, tile, source, filter_of(parameters, quality_code), options);
  std::vector<uint8_t> payload = {static_cast<uint8_t>(g.chroma_shift | static_cast<int>(kind) << 1)};
  const std::vector<uint8_t> bins = coder.finish();
  payload.insert(payload.end(), bins.begin(), bins.end());
  return payload;
}

inline BinaryStatus decode_tile(const uint8_t* payload, size_t size, const Parameters& parameters, int quality_code, int width,
                                int height, int channels, uint8_t* out, ptrdiff_t stride) {
  if (size < 1) return BinaryStatus::truncated;
  const int flags = payload[0], kind = flags >> 1;
  if (kind != static_cast<int>(Kind::dct) && kind != static_cast<int>(Kind::angle)) return BinaryStatus::bad_end;
  if ((flags & 1) && channels != 3) return BinaryStatus::bad_end;  // grey has no chroma to be subsampled
  const Geometry g = geometry_of(width, height, channels, flags & 1);
  Tile tile(g, parameters, quality_code, static_cast<Kind>(kind));
  Model model = start_of(parameters, quality_code);
  Decoder coder(model, payload + 1, size - 1);
  for (int y = 0; y < g.height; y += SQUARE)
    for (int x = 0; x < g.width; x += SQUARE) {
      code_tree(coder, tile, x, y, SQUARE_LOG2);
      tile.syntax.clear_square();
      if (coder.status() != BinaryStatus::ok) return coder.status();
    }
  const Filter filter = filter_of(parameters, quality_code);
  filter_tile(coder, tile, filter, [](int, const std::array<Plane, 3>&, int, int) { return false; });
  const BinaryStatus status = coder.finish();
  if (status == BinaryStatus::ok) to_picture(tile.planes, g.planes, g.chroma_shift, width, height, out, stride);
  return status;
}

}  // namespace ncodec::dct
