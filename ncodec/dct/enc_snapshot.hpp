// What a block's trial leaves behind in a tile, kept to return to.

#pragma once

#include "tile.hpp"

namespace ncodec::dct {

class Snapshot {
 public:
  // Of the planes from `first` to `last`.
  void save(Tile& tile, const Block& b, int first, int last) {
    for (int p = first; p <= last; ++p) {
      const Shape own = tile.own_shape(p, b);
      copy(tile.at(p, b), tile.planes[p].stride, samples_[p].data(), SQUARE, own);
      copy(tile.syntax.levels(p, b), Syntax::LEVELS_STRIDE, levels_[p].data(), SQUARE, own);
    }
    size_t n = 0;
    tile.syntax.for_each_unit(b, [&](const Unit& u) { units_[n++] = u; });
  }

  void restore(Tile& tile, const Block& b, int first, int last) const {
    for (int p = first; p <= last; ++p) {
      const Shape own = tile.own_shape(p, b);
      copy(samples_[p].data(), SQUARE, tile.at(p, b), tile.planes[p].stride, own);
      copy(levels_[p].data(), SQUARE, tile.syntax.levels(p, b), Syntax::LEVELS_STRIDE, own);
    }
    size_t n = 0;
    tile.syntax.for_each_unit(b, [&](Unit& u) { u = units_[n++]; });
  }

 private:
  static void copy(const int16_t* from, int from_stride, int16_t* to, int to_stride, const Shape& shape) {
    for (int j = 0; j < shape.height(); ++j)
      std::memcpy(to + j * to_stride, from + j * from_stride, sizeof(int16_t) * shape.width());
  }

  std::array<std::array<int16_t, SQUARE * SQUARE>, 3> samples_, levels_;
  std::array<Unit, (SQUARE / UNIT) * (SQUARE / UNIT)> units_;
};

}  // namespace ncodec::dct
