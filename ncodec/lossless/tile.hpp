// A tile (specs/lossless.md, section 2): what it says of itself, its palette, its planes. One text for encoder and
// decoder.
//
//   cell, flags | values that occur, a channel | colours of the palette, the index of each pixel | planes: alpha,
//   green, red, blue
//
// Pixels whose colour is the palette's are known before the planes; hidden ones (alpha 0) are nothing.

#pragma once

#include <vector>

#include "indexes.hpp"
#include "planes.hpp"

namespace ncodec::lossless {

constexpr int MOST_COLOURS = 4095;
enum class Status { ok, truncated, left_over, bad_end, bad_values, bad_palette };

struct Shape {
  int w, h, channels, bit_depth;

  size_t pixels() const { return static_cast<size_t>(w) * static_cast<size_t>(h); }
  bool has_alpha() const { return channels % 2 == 0; }
  int alpha() const { return channels - 1; }
  // Channels in the order of coding: alpha, green, red, blue.
  std::vector<int> order() const {
    std::vector<int> order;
    if (has_alpha()) order.push_back(alpha());
    if (channels < 3) order.push_back(0);
    if (channels >= 3) order.insert(order.end(), {1, 0, 2});
    return order;
  }
};

struct Tile {
  Shape shape;
  int cell_log2 = 3;                          // 2 ... 5
  bool hides = false;                         // colour under alpha 0 is not coded
  bool has_rest = true;                       // pixels of other colours than the palette's: index 0
  std::vector<std::vector<uint16_t>> values;  // a channel's, ascending; empty: all
  std::vector<uint16_t> palette;              // [n, channels], as numbers of values, in the order of coding
  std::vector<uint16_t> indexes;              // [h, w], of colours; 0 is the rest if there is one
  std::vector<Samples> planes;                // by channel, numbers of values

  int most(int channel) const {
    const auto& v = values[static_cast<size_t>(channel)];
    return v.empty() ? (1 << shape.bit_depth) - 1 : static_cast<int>(v.size()) - 1;
  }
  size_t colours() const { return palette.size() / static_cast<size_t>(shape.channels); }
};

template <class Coder>
Status code_values(Coder& coder, Tile& tile) {
  for (auto& values : tile.values) {
    Slot is_given, is_same;
    if (!code_alone(coder, !values.empty(), is_given)) continue;
    Numbers count, gap;
    const uint32_t n = count.code(coder, static_cast<uint32_t>(values.size()) - 1) + 1,
                   bound = 1u << tile.shape.bit_depth;
    if (n > bound) return Status::bad_values;
    values.resize(n);
    uint32_t next = 0, last = 0;  // the least that may follow; the gap before
    for (uint16_t& v : values) {
      uint32_t own = v - next;
      if (code_alone(coder, own == last, is_same)) own = last;
      else own = gap.code(coder, own);
      last = own;
      if (next + own >= bound) return Status::bad_values;
      v = static_cast<uint16_t>(next + own);
      next = v + 1u;
    }
  }
  return Status::ok;
}

template <class Coder>
Status code_palette(Coder& coder, Tile& tile) {
  Numbers count, steps[4];
  const auto order = tile.shape.order();
  const size_t n = order.size(), lead = tile.shape.has_alpha();
  const uint32_t colours = count.code(coder, static_cast<uint32_t>(tile.colours()));
  if (colours > MOST_COLOURS) return Status::bad_palette;
  tile.palette.resize(colours * n);
  std::vector<int> before(n);
  for (size_t i = 0; i < colours; ++i) {
    uint16_t* colour = tile.palette.data() + i * n;
    int change = 0;
    for (size_t k = 0; k < n; ++k) {
      const int most = tile.most(order[k]), expected = k <= lead ? before[k] : std::clamp(before[k] + change, 0, most);
      const int difference = colour[k] - expected;
      const uint32_t zigzag =
          steps[k].code(coder, static_cast<uint32_t>(difference < 0 ? -2 * difference - 1 : 2 * difference));
      const int value = expected + (zigzag & 1 ? -static_cast<int>((zigzag + 1) / 2) : static_cast<int>(zigzag / 2));
      if (value < 0 || value > most) return Status::bad_palette;
      if (k == lead) change = value - before[k];
      colour[k] = static_cast<uint16_t>(value);
    }
    std::copy_n(colour, n, before.begin());
  }
  return Status::ok;
}

// The whole payload. A decoder's tile has its shape; an encoder's has everything, planes with all pixels.
template <class Coder>
NCODEC_INLINE Status code_tile(Coder& coder, Tile& tile) {
  const Shape& shape = tile.shape;
  Slot flags[8];
  int cell = 0;
  for (int i = 1; i >= 0; --i)
    cell = 2 * cell + static_cast<int>(code_alone(coder, (tile.cell_log2 - 2) >> i & 1, flags[i]));
  tile.cell_log2 = cell + 2;
  if (shape.has_alpha()) tile.hides = code_alone(coder, tile.hides, flags[2]);
  if (Status status = code_values(coder, tile); status != Status::ok) return status;
  const bool has_palette = code_alone(coder, tile.colours() > 0, flags[3]);
  if (has_palette) {
    tile.has_rest = code_alone(coder, tile.has_rest, flags[4]);
    if (Status status = code_palette(coder, tile); status != Status::ok) return status;
    const size_t n = tile.colours() + tile.has_rest;
    if (n == 0) return Status::bad_palette;
    tile.indexes.resize(shape.pixels());
    if (!IndexCoder<Coder>(coder, tile.indexes, shape.w, shape.h, static_cast<int>(n)).code()) return Status::truncated;
    for (uint16_t index : tile.indexes) {
      if (index >= n) return coder.is_ok() ? Status::bad_palette : Status::truncated;
    }
  }

  const auto order = shape.order();
  std::vector<Pixel> pixels;
  if (has_palette || shape.has_alpha()) pixels.resize(shape.pixels(), Pixel::coded);
  if (Coder::DECODES) {
    for (int c = 0; c < shape.channels; ++c) tile.planes.emplace_back(shape.w, shape.h, (tile.most(c) + 1) / 2);
  }
  bool is_whole = has_palette;
  for (size_t i = 0; i < tile.indexes.size(); ++i) {
    if (tile.has_rest && tile.indexes[i] == 0) {
      is_whole = false;
      continue;
    }
    pixels[i] = Pixel::known;
    const uint16_t* colour =
        tile.palette.data() + (tile.indexes[i] - static_cast<size_t>(tile.has_rest)) * order.size();
    const size_t y = i / static_cast<size_t>(shape.w), x = i % static_cast<size_t>(shape.w);
    for (size_t k = 0; k < order.size(); ++k)
      tile.planes[static_cast<size_t>(order[k])].row(static_cast<int>(y))[x] = colour[k];
  }
  if (is_whole) return coder.is_ok() ? Status::ok : Status::truncated;

  std::vector<Residuals> residuals;
  residuals.reserve(order.size());
  Surroundings around{shape.w, shape.h, 1 << tile.cell_log2, {}, {}, pixels.empty() ? nullptr : &pixels};
  for (int c : order) {
    residuals.emplace_back(shape.w, shape.h, 0);
    Samples& plane = tile.planes[static_cast<size_t>(c)];
    if (tile.most(c) > 0 && !PlaneCoder<Coder>(coder, plane, residuals.back(), tile.most(c), around).code())
      return Status::truncated;
    if (shape.has_alpha() && c == shape.alpha()) {
      const bool starts_at_0 =
          tile.values[static_cast<size_t>(c)].empty() || tile.values[static_cast<size_t>(c)][0] == 0;
      if (tile.hides && starts_at_0) {
        for (size_t i = 0; i < pixels.size(); ++i) {
          const uint16_t a =
              plane.row(static_cast<int>(i / static_cast<size_t>(shape.w)))[i % static_cast<size_t>(shape.w)];
          if (pixels[i] == Pixel::coded && a == 0) pixels[i] = Pixel::hidden;
        }
      }
    } else {
      around.samples.insert(around.samples.begin(), &plane);
      around.residuals.insert(around.residuals.begin(), &residuals.back());
    }
  }
  return coder.is_ok() ? Status::ok : Status::truncated;
}

}  // namespace ncodec::lossless
