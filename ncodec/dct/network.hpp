// The neural filter of a whole tile, after those of filter.hpp (specs/dct.md section 12), as a graph of ncodec/exact.
//
//   cells of 4x4 -> DCT, means less those around -> x scale, clipped -> head -+-> x + conv3x3(relu(FiLM(squeeze x))),
//   blocks' sizes, borders, energies -----------------------> sides ----------+    four times -> relu(FiLM(x)) -> tail
//                                                                                  -> x gain -> DCT's inverse
//
// What comes out is added to the samples; a square of 64x64 may go without.

#pragma once

#include <functional>
#include <memory>

#include "../exact/executor.hpp"
#include "../exact/variants.hpp"
#include "filter.hpp"

namespace ncodec::dct {

constexpr int NETWORK_BITS = 2;  // that samples have more of, once there was a network

// Samples of so many more bits.
inline void add_bits(const std::array<Plane, 3>& planes) {
  for (const Plane& p : planes)
    for (int y = 0; y < p.height; ++y)
      for (int x = 0; x < p.width; ++x) *p.at(x, y) = static_cast<int16_t>(*p.at(x, y) << NETWORK_BITS);
}

class Network {
 public:
  static constexpr size_t SAMPLES = 48, SIDES = 12, WIDTH = 64, SQUEEZED = 32;  // channels of a cell
  static constexpr int BLOCKS = 4;
  static constexpr int MAX_SIDE_INPUT = 7;

  // `tensor(name)`: an array of the weights file. Throws exact::WeightsError.
  explicit Network(const std::function<exact::Array(const std::string&)>& tensor) {
    const auto layer = [&](const char* kind, int x, const std::string& name, const std::vector<int>& numbers = {}) {
      const std::string path = "network." + name;
      return graph_.add(kind, path, {x}, numbers,
                        {tensor(path + ".weight"), tensor(path + ".bias"), tensor(path + ".shift")});
    };
    const auto table = [&](const std::string& name, int channels) {
      const exact::Array found = tensor("network." + name);
      const auto n = static_cast<size_t>(channels);
      if (found.type != "int16" || found.shape != std::vector<size_t>{ANCHORS, n} || !found.is_contiguous)
        throw exact::WeightsError("network." + name + ": expected int16 [8, " + std::to_string(n) + "], found " +
                                  found.text());
      Table made{graph_.add("vector", name, {}, {channels}, {}), {}};
      for (size_t q = 0; q < ANCHORS; ++q) {
        const auto* row = static_cast<const int16_t*>(found.data) + q * n;
        made.rows[q].assign(row, row + n);
        for (const int16_t v : made.rows[q])
          if (v == -32768) throw exact::WeightsError("network." + name + ": found -32768");
      }
      tables_.push_back(std::move(made));
      return tables_.back().vector;
    };
    const auto constant = [&](int value, size_t channels) {
      constants_.push_back({graph_.add("vector", "", {}, {static_cast<int>(channels)}, {}),
                            std::vector<int16_t>(channels, static_cast<int16_t>(value))});
      return constants_.back().vector;
    };
    const auto op = [&](const char* kind, const std::vector<int>& inputs, const std::vector<int>& numbers = {}) {
      return graph_.add(kind, "", inputs, numbers, {});
    };

    cells_ = op("input", {}, {SAMPLES, MIDDLE});
    sides_ = op("input", {}, {SIDES, MAX_SIDE_INPUT});
    int z = layer("depthwise", layer("conv", cells_, "forward"), "high", {1});
    z = op("scale", {z, table("scale", SAMPLES), constant(8, SAMPLES)});
    z = layer("conv", op("clamp", {z}, {-4096, 4096}), "head");
    int x = op("add", {z, layer("conv", sides_, "sides")});
    const auto activate = [&](int of, const std::string& n, int channels) {
      const int scaled = op("scale", {of, table("factor." + n, channels), constant(12, channels)});
      return op("clamp", {op("offset", {scaled, table("offset." + n, channels)})}, {0, 8191});
    };
    for (int k = 0; k < BLOCKS; ++k) {
      const std::string n = std::to_string(k);
      const int h = activate(layer("conv", x, "squeeze." + n), n, SQUEEZED);
      x = op("add", {x, layer("conv", op("patches", {h}), "conv." + n)});
    }
    const int tail = layer("conv", activate(x, std::to_string(BLOCKS), WIDTH), "tail");
    result_ = layer("conv", op("scale", {tail, table("gain", SAMPLES), constant(15, SAMPLES)}), "inverse");
    const auto channels = [&](int number) { return graph_.operations()[static_cast<size_t>(number)]->channels; };
    if (channels(x) != WIDTH || channels(result_) != SAMPLES)
      throw exact::WeightsError("network: expected 64 and 48 channels");
  }

  // What is to be added to the samples of a tile, in the rows of squares that are wanted.
  void run(const Tile& tile, int quality_code, const std::vector<uint8_t>& is_wanted, const Samples& out) const {
    const Geometry& g = tile.syntax.geometry();
    const size_t w = static_cast<size_t>(g.width / UNIT), h = static_cast<size_t>(g.height / UNIT);
    const std::vector<int16_t> cells = cells_of(tile), sides = sides_of(tile);
    const Interpolation at(quality_code);
    std::vector<std::vector<int16_t>> vectors;
    std::vector<exact::Feed> feeds;
    for (const Table& t : tables_) {
      vectors.emplace_back();
      for (size_t c = 0; c < t.rows[0].size(); ++c)
        vectors.back().push_back(static_cast<int16_t>(at(t.rows, [&](const auto& row) { return row[c]; })));
      feeds.push_back({t.vector, {vectors.back().data(), "int16", {vectors.back().size()}, true}});
    }
    for (const Constant& c : constants_)
      feeds.push_back({c.vector, {c.values.data(), "int16", {c.values.size()}, true}});
    const std::vector<int> wanted = {result_};
    for (size_t first = 0; first < h; first += BAND) {
      const size_t last = std::min(first + BAND, h), top = first > MARGIN ? first - MARGIN : 0;
      const size_t rows = std::min(last + MARGIN, h) - top;
      const auto squares = is_wanted.begin() + static_cast<ptrdiff_t>(first / SQUARE_CELLS);
      if (std::none_of(squares, squares + static_cast<ptrdiff_t>(exact::parts(last - first, SQUARE_CELLS)),
                       [](uint8_t wanted) { return wanted; }))
        continue;
      std::vector<exact::Feed> all = feeds;
      all.push_back({cells_, {cells.data() + top * w * SAMPLES, "int16", {rows, w, SAMPLES}, true}});
      all.push_back({sides_, {sides.data() + top * w * SIDES, "int16", {rows, w, SIDES}, true}});
      const auto found = exact::Run(graph_.operations(), all, wanted).run(*exact::variants().back(), 1);
      const int16_t* added = found[0].data.get() + (first - top) * w * SAMPLES;
      for (size_t y = first; y < last; ++y)
        for (size_t x = 0; x < w; ++x, added += SAMPLES) put_cell(added, x, y, out);
    }
  }

 private:
  static constexpr size_t SQUARE_CELLS = SQUARE / UNIT, BAND = 8 * SQUARE_CELLS;  // rows of cells
  static constexpr size_t MARGIN = 1 + BLOCKS;  // of cells that others depend on: so many operations see one more each

  struct Table {  // between qualities
    int vector;
    std::array<std::vector<int16_t>, ANCHORS> rows;
  };
  struct Constant {
    int vector;
    std::vector<int16_t> values;
  };

  exact::Graph graph_;
  int cells_, sides_, result_;
  std::vector<Table> tables_;
  std::vector<Constant> constants_;

  // [height / 4, width / 4, (plane, y, x)], 0 of planes that there are not.
  static std::vector<int16_t> cells_of(const Tile& tile) {
    const Geometry& g = tile.syntax.geometry();
    std::vector<int16_t> out(static_cast<size_t>(g.width / UNIT) * (g.height / UNIT) * SAMPLES);
    for (int p = 0; p < g.planes; ++p) {
      int16_t* to = out.data() + p * UNIT * UNIT;
      for (int y = 0; y < g.height; y += UNIT)
        for (int x = 0; x < g.width; x += UNIT, to += SAMPLES)
          for (int j = 0; j < UNIT; ++j) {
            const int16_t* from = tile.planes[p].at(x, y + j);
            for (int i = 0; i < UNIT; ++i) to[j * UNIT + i] = static_cast<int16_t>(from[i] - MIDDLE);
          }
    }
    return out;
  }

 public:
  // [height / 4, width / 4, SIDES]: of a unit's block log2 of width and height over 4, is the unit at its left, right,
  // top, bottom?, energies of the planes, are they 0?
  static std::vector<int16_t> sides_of(const Tile& tile) {
    const Geometry& g = tile.syntax.geometry();
    std::vector<int16_t> out(static_cast<size_t>(g.width / UNIT) * (g.height / UNIT) * SIDES);
    int16_t* to = out.data();
    const auto starts = [&](int x, int y, Edges edge) {
      return x == g.width || y == g.height || (tile.syntax.unit(x, y).edges & edge);
    };
    for (int y = 0; y < g.height; y += UNIT)
      for (int x = 0; x < g.width; x += UNIT, to += SIDES) {
        const Unit& u = tile.syntax.unit(x, y);
        size_t k = 0;
        const auto put = [&](int value) { to[k++] = static_cast<int16_t>(value); };
        put(u.shape.log2_w - MIN_LOG2), put(u.shape.log2_h - MIN_LOG2);
        put(starts(x, y, LEFT_OF_LUMA)), put(starts(x + UNIT, y, LEFT_OF_LUMA));
        put(starts(x, y, TOP_OF_LUMA)), put(starts(x, y + UNIT, TOP_OF_LUMA));
        for (const int energy : u.energy) put(energy);
        for (const int energy : u.energy) put(energy == 0);
      }
    return out;
  }

 private:
  static void put_cell(const int16_t* from, size_t x, size_t y, const Samples& out) {
    const int left = static_cast<int>(x) * UNIT, top = static_cast<int>(y) * UNIT;
    for (const Plane& plane : out.planes)
      for (int j = 0; j < UNIT; ++j, from += UNIT)
        if (plane.samples) std::memcpy(plane.at(left, top + j), from, UNIT * sizeof(int16_t));
  }
};

namespace kernels {

// D63, of a row.
NCODEC_CLONES static void add_network(const int16_t* samples, const int16_t* added, int n, int16_t* out) {
  for (int x = 0; x < n; ++x)
    out[x] = static_cast<int16_t>(std::clamp(samples[x] + added[x], 0, SAMPLE_MAX << NETWORK_BITS));
}

}  // namespace kernels

inline void add_network(const std::array<Plane, 3>& planes, const Samples& added, const std::array<Plane, 3>& out) {
  for (int p = 0; p < 3; ++p)
    for (int y = 0; y < planes[p].height; ++y)
      kernels::add_network(planes[p].at(0, y), added.planes[p].at(0, y), planes[p].width, out[p].at(0, y));
}

// Runs the network over a tile, whose samples have more bits then; one flag a square, for all planes. `added` gets what
// it adds, 0 in squares that go without. The encoder says of a square by `decide(filtered planes, square)` whether it
// takes what the network makes.
template <class Coder, class Decide>
void network_tile(Coder& coder, Tile& tile, const Network& network, int quality_code, const Samples& added,
                  Decide decide) {
  const Geometry& g = tile.syntax.geometry();
  const Samples filtered(Coder::DECODES ? Geometry{0, 0, 0, 0} : g);
  std::vector<uint8_t> is_wanted(static_cast<size_t>((g.height + SQUARE - 1) / SQUARE), !Coder::DECODES);
  const auto run = [&] {
    network.run(tile, quality_code, is_wanted, added);
    add_bits(tile.planes);
  };
  if (!Coder::DECODES) run(), add_network(tile.planes, added, filtered.planes);
  std::vector<Block> passed;
  for_each_square(g, [&](const Block& square) {
    if (coder.bit(decide(filtered.planes, square), contexts::NETWORK()))
      is_wanted[static_cast<size_t>(square.y / SQUARE)] = 1;
    else passed.push_back(square);
  });
  if (Coder::DECODES) run();
  for (const Block& square : passed)
    for (int p = 0; p < g.planes; ++p) clear_square(square, added.planes[p]);
  add_network(tile.planes, added, tile.planes);
}

}  // namespace ncodec::dct
