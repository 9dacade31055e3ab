// The payload of a tile to its pixels (specs/dct.md). A decoder needs this file and what it includes, none of which is
// named enc_*.
//
//   payload: | flags: bit 0 4:2:0, bits 1-2 transform, bit 3 offsets, bit 4 network, bit 5 turn | turn, if any | bins |

#pragma once

#include "coding_tree.hpp"
#include "colour.hpp"
#include "wiener.hpp"

namespace ncodec::dct {

// D1: what is ahead of the bins.
inline std::vector<uint8_t> head_of(const Tile& tile, bool has_network) {
  const Syntax& s = tile.syntax;
  const bool is_turned = tile.turn != Turn{};
  std::vector<uint8_t> head = {static_cast<uint8_t>(s.geometry().chroma_shift | static_cast<int>(tile.kind) << 1 |
                                                    s.has_offsets() << 3 | has_network << 4 | is_turned << 5)};
  if (is_turned)
    for (const int8_t v : tile.turn) head.push_back(static_cast<uint8_t>(v));
  return head;
}

// `out`: [height, width, channels], 0 … largest. Squares are looked at for truncation one by one, so that few bytes
// cost little work.
template <class Out>
BinaryStatus decode_tile(const uint8_t* payload, size_t size, const Parameters& parameters, int quality_code, int width,
                         int height, int channels, int largest, Out* out) {
  if (size < 1) return BinaryStatus::truncated;
  const int flags = payload[0], kind = flags >> 1 & 3;  // D2
  if (kind != static_cast<int>(Kind::dct) && kind != static_cast<int>(Kind::angle)) return BinaryStatus::bad_end;
  if (flags > 63 || ((flags & 16) && (!parameters.network || (flags & 1)))) return BinaryStatus::bad_end;
  if ((flags & 33) && channels != 3) return BinaryStatus::bad_end;  // grey has no chroma to be subsampled or turned
  Turn turn = {};
  const size_t head = flags & 32 ? 1 + turn.size() : 1;
  if (size < head) return BinaryStatus::truncated;
  if (flags & 32) std::memcpy(turn.data(), payload + 1, turn.size());
  const Geometry g = geometry_of(width, height, channels, flags & 1);
  Tile tile(g, parameters, quality_code, static_cast<Kind>(kind), flags & 8, turn);
  Model model = start_of(parameters, quality_code);
  Decoder coder(model, payload + head, size - head);
  for_each_square(g, [&](const Block& square) {
    if (coder.status() != BinaryStatus::ok) return;
    code_square(coder, tile, square);
    tile.syntax.clear_square();
  });
  if (coder.status() != BinaryStatus::ok) return coder.status();
  const Filter filter = filter_of(parameters, quality_code);
  filter_tile(coder, tile, filter, [](int, int, const std::array<Plane, 3>&, const Block&) { return false; });
  const bool has_network = flags & 16;
  const Samples added(has_network ? g : Geometry{0, 0, 0, 0});
  if (has_network)
    network_tile(coder, tile, *parameters.network, quality_code, added,
                 [](const std::array<Plane, 3>&, const Block&) { return false; });
  const int extra = has_network ? NETWORK_BITS : 0;
  wiener_tile(coder, tile, has_network ? &added : nullptr, SAMPLE_MAX << extra, [](int) { return WienerWeights{}; });
  const BinaryStatus status = coder.finish();
  if (status == BinaryStatus::ok) to_picture(tile.planes, g, tile.colour, extra, width, height, largest, out);
  return status;
}

}  // namespace ncodec::dct
