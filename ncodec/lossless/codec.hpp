// Pixels to payload and back; what an encoder chooses. Knows nothing of Python.

#pragma once

#include <map>
#include <utility>
#include <vector>

#include "tile.hpp"

namespace ncodec::lossless {

// [h, w, channels] of `Value`s to planes of a tile, with the values that occur where they are few.
template <class Value>
Tile tile_of(const Value* pixels, const Shape& shape, bool hides) {
  Tile tile;
  tile.shape = shape;
  tile.hides = hides && shape.has_alpha();
  const size_t n = static_cast<size_t>(shape.channels);
  const auto value = [&](size_t i, size_t c) -> Value {
    const Value* pixel = pixels + i * n;
    return tile.hides && pixel[n - 1] == 0 ? Value{0} : pixel[c];
  };
  for (size_t c = 0; c < n; ++c) {
    std::vector<uint16_t> number(size_t{1} << shape.bit_depth), values;
    for (size_t i = 0; i < shape.pixels(); ++i) number[value(i, c)] = 1;
    size_t changes = 0, gap = 0, next = 0;
    for (size_t v = 0; v < number.size(); ++v) {
      if (!number[v]) continue;
      changes += v - next != gap;
      gap = v - next;
      next = v + 1;
      number[v] = static_cast<uint16_t>(values.size());
      values.push_back(static_cast<uint16_t>(v));
    }
    // Worth it if half the values or fewer are left, or all lie low, and to say which takes less than is saved.
    const size_t saved = shape.pixels() * static_cast<size_t>(shape.bit_depth - 1 - log2_of(values.size() > 1 ? values.size() - 1 : 0)) / 2;
    const bool is_given = values.size() * 2 <= number.size() && changes * 8 < saved;
    tile.planes.emplace_back(shape.w, shape.h, is_given ? (values.size()) / 2 : number.size() / 2);
    for (size_t i = 0; i < shape.pixels(); ++i) {
      const Value v = value(i, c);
      tile.planes[c].row(static_cast<int>(i / static_cast<size_t>(shape.w)))[i % static_cast<size_t>(shape.w)] = is_given ? number[v] : static_cast<uint16_t>(v);
    }
    tile.values.push_back(is_given ? values : std::vector<uint16_t>{});
  }
  return tile;
}

// How a colour occurs: often, and beside itself.
struct Uses {
  int n = 0, repeats = 0;
  int index = -1;
};

// Gives a tile a palette if one may be worth it: of all colours, or of those that occur again and again.
inline bool find_palette(Tile& tile) {
  const Shape& shape = tile.shape;
  const auto order = shape.order();
  std::map<uint64_t, Uses> uses;
  const auto colour_at = [&](int y, int x) {
    uint64_t colour = 0;
    for (int c : order) colour = colour << 16 | tile.planes[static_cast<size_t>(c)].row(y)[x];
    return colour;
  };
  std::vector<uint64_t> colours(shape.pixels());
  for (int y = 0; y < shape.h; ++y) {
    for (int x = 0; x < shape.w; ++x) colours[static_cast<size_t>(y) * static_cast<size_t>(shape.w) + static_cast<size_t>(x)] = colour_at(y, x);
  }
  const size_t w = static_cast<size_t>(shape.w);
  size_t repeats = 0;
  for (size_t i = 0; i < colours.size(); ++i) {
    const bool is_repeat = (i % w > 0 && colours[i] == colours[i - 1]) || (i >= w && colours[i] == colours[i - w]);
    repeats += is_repeat;
    // A photograph: hardly any pixel repeats.
    if (i == colours.size() / 4 && i > 1024 && repeats * 50 < i) return false;
    Uses& use = uses[colours[i]];
    ++use.n;
    use.repeats += is_repeat;
  }
  const bool takes_all = uses.size() <= MOST_COLOURS && (uses.size() <= 256 || uses.size() * 16 <= colours.size()) && (uses.size() <= 16 || uses.size() * 4 <= colours.size());
  int n = 0;
  size_t covered = 0;
  for (auto& [colour, use] : uses) {
    if (!takes_all && (use.n < 12 || use.repeats * 3 < use.n)) continue;
    if (n == MOST_COLOURS) break;
    use.index = n++;
    covered += static_cast<size_t>(use.n);
    for (size_t k = order.size(); k-- > 0;) tile.palette.push_back(static_cast<uint16_t>(colour >> 16 * k));
  }
  if (n == 0 || covered * 10 < colours.size()) {
    tile.palette.clear();
    return false;
  }
  tile.has_rest = covered < colours.size();
  for (uint64_t colour : colours) tile.indexes.push_back(static_cast<uint16_t>(uses[colour].index + tile.has_rest));
  return true;
}

NCODEC_CLONES inline std::vector<uint8_t> code_payload(Tile& tile) {
  Encoder coder;
  code_tile(coder, tile);
  return coder.coder.finish();
}

constexpr int CELL_LOG2[4] = {0, 5, 3, 2};  // by effort

// The smaller of the payloads with a palette and without, where either may be.
inline std::vector<uint8_t> encode(Tile& tile, int effort) {
  tile.cell_log2 = CELL_LOG2[effort];
  if (!find_palette(tile)) return code_payload(tile);
  std::vector<uint8_t> with = code_payload(tile);
  if (!tile.has_rest || effort < 2) return with;
  tile.palette.clear();
  tile.indexes.clear();
  std::vector<uint8_t> without = code_payload(tile);
  return with.size() <= without.size() ? with : without;
}

NCODEC_CLONES inline Status decode_payload(Decoder& coder, Tile& tile) { return code_tile(coder, tile); }

// Fills `pixels` [h, w, channels].
template <class Value>
Status decode(const uint8_t* payload, size_t size, const Shape& shape, Value* pixels) {
  Decoder coder{BinaryDecoder(payload, size)};
  Tile tile;
  tile.shape = shape;
  tile.values.resize(static_cast<size_t>(shape.channels));
  if (Status status = decode_payload(coder, tile); status != Status::ok) return coder.is_ok() ? status : Status::truncated;
  switch (coder.coder.finish()) {
    case BinaryStatus::ok: break;
    case BinaryStatus::left_over: return Status::left_over;
    case BinaryStatus::bad_end: return Status::bad_end;
    default: return Status::truncated;
  }
  for (int y = 0; y < shape.h; ++y) {
    for (int x = 0; x < shape.w; ++x) {
      const auto value = [&](int c) -> Value {
        const auto& values = tile.values[static_cast<size_t>(c)];
        const uint16_t v = tile.planes[static_cast<size_t>(c)].row(y)[x];
        return static_cast<Value>(values.empty() ? v : values[v]);
      };
      const bool is_hidden = tile.hides && value(shape.alpha()) == 0;
      for (int c = 0; c < shape.channels; ++c) *pixels++ = is_hidden ? Value{0} : value(c);
    }
  }
  return Status::ok;
}

}  // namespace ncodec::lossless
