// Pixels to payload and back; what an encoder chooses. Knows nothing of Python.

#pragma once

#include <algorithm>
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
    const size_t saved = shape.pixels() *
                         static_cast<size_t>(shape.bit_depth - 1 - log2_of(values.size() > 1 ? values.size() - 1 : 0)) /
                         2;
    const bool is_given = values.size() * 2 <= number.size() && changes * 8 < saved;
    tile.planes.emplace_back(shape.w, shape.h, is_given ? (values.size()) / 2 : number.size() / 2);
    for (size_t i = 0; i < shape.pixels(); ++i) {
      const Value v = value(i, c);
      tile.planes[c].row(static_cast<int>(i / static_cast<size_t>(shape.w)))[i % static_cast<size_t>(shape.w)] =
          is_given ? number[v] : static_cast<uint16_t>(v);
    }
    tile.values.push_back(is_given ? values : std::vector<uint16_t>{});
  }
  return tile;
}

// Gives a tile a palette if one may be worth it: of all colours, or of those that occur again and again. `is_drawing`:
// half of the pixels repeat a neighbour; else it may be a photograph of few colours, such as a grey one.
inline bool find_palette(Tile& tile, bool& is_drawing) {
  const Shape& shape = tile.shape;
  const auto order = shape.order();
  const size_t w = static_cast<size_t>(shape.w), n = shape.pixels();
  std::vector<uint64_t> colours(n);
  for (size_t i = 0; i < n; ++i) {
    for (int c : order)
      colours[i] = colours[i] << 16 | tile.planes[static_cast<size_t>(c)].row(static_cast<int>(i / w))[i % w];
  }
  const auto is_repeat = [&](size_t i) {
    return (i % w > 0 && colours[i] == colours[i - 1]) || (i >= w && colours[i] == colours[i - w]);
  };
  size_t repeats = 0;
  for (size_t i = 0; i < n; ++i) repeats += is_repeat(i);
  if (n > 4096 && repeats * 10 < n) return false;  // a photograph
  is_drawing = repeats * 2 >= n;

  std::vector<std::pair<uint64_t, bool>> sorted(n);
  for (size_t i = 0; i < n; ++i) sorted[i] = {colours[i], is_repeat(i)};
  std::sort(sorted.begin(), sorted.end());
  struct Run {
    uint64_t colour;
    size_t pixels, repeats;
  };
  std::vector<Run> runs;
  for (const auto& [colour, again] : sorted) {
    if (runs.empty() || runs.back().colour != colour) runs.push_back({colour, 0, 0});
    ++runs.back().pixels;
    runs.back().repeats += again;
  }
  const size_t all = runs.size();
  const bool takes_all = all <= MOST_COLOURS && all * (all <= 16 ? 1 : all <= 256 ? 4 : 16) <= n;
  if (!takes_all && repeats * 2 < n) return false;
  if (!takes_all) {
    runs.erase(std::remove_if(runs.begin(), runs.end(),
                              [](const Run& r) { return r.pixels < 12 || r.repeats * 3 < r.pixels; }),
               runs.end());
    runs.resize(std::min<size_t>(runs.size(), MOST_COLOURS));
  }
  size_t covered = 0;
  for (const Run& r : runs) covered += r.pixels;
  if (covered == 0) return false;
  tile.has_rest = covered < n;
  for (const Run& r : runs) {
    for (size_t k = order.size(); k-- > 0;) tile.palette.push_back(static_cast<uint16_t>(r.colour >> 16 * k));
  }
  for (uint64_t colour : colours) {
    const auto found =
        std::lower_bound(runs.begin(), runs.end(), colour, [](const Run& r, uint64_t c) { return r.colour < c; });
    const bool is_there = found != runs.end() && found->colour == colour;
    tile.indexes.push_back(static_cast<uint16_t>(is_there ? found - runs.begin() + tile.has_rest : 0));
  }
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
  bool is_drawing = false;
  if (!find_palette(tile, is_drawing)) return code_payload(tile);
  const auto forget = [&] {
    tile.palette.clear();
    tile.indexes.clear();
  };
  if (effort == 1 && !is_drawing) {
    forget();
    return code_payload(tile);
  }
  std::vector<uint8_t> with = code_payload(tile);
  if (effort == 1 || (effort == 2 && is_drawing && !tile.has_rest && tile.colours() > 2)) return with;
  forget();
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
  if (Status status = decode_payload(coder, tile); status != Status::ok)
    return coder.is_ok() ? status : Status::truncated;
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
