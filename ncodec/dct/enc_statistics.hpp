// What training wants to know of an encoding: counts of bins by context, coefficients of the blocks chosen, and the
// sums that filters are solved from. Not part of the codec.

#pragma once

#include "enc_tile.hpp"

namespace ncodec::dct {

// An Encoder that keeps no bytes and counts.
template <bool ADAPTS>
class AnyCounter {
 public:
  static constexpr bool DECODES = false;
  explicit AnyCounter(Model& model) : model_(model), counts(contexts::COUNT) {}

  uint32_t bin(uint32_t value, const Bin& at) {
    const Mixture<3> m = mix(model_, at);
    bits += cost(m.p, value);
    if (ADAPTS) learn(model_, at, m, value);
    for (const int context : {at.a, at.b, at.c}) ++counts[context][value];
    return value;
  }

  uint32_t bit(uint32_t value, int context) {
    bits += cost(model_.contexts[context].p, value);
    if (ADAPTS) model_.contexts[context].update(value);
    ++counts[context][value];
    return value;
  }

  uint32_t bypass(uint32_t value) {
    bits += 1;
    return value;
  }

 private:
  Model& model_;

 public:
  std::vector<std::array<uint32_t, 2>> counts;
  double bits = 0;
};

using Counter = AnyCounter<true>;
using StaticCounter = AnyCounter<false>;

// Sums for least squares: of products of features, of features with the error that is to be removed.
struct Normal {
  std::vector<double> products, targets;
  explicit Normal(int features) : products(static_cast<size_t>(features) * features), targets(features) {}

  void add(const double* f, int n, double target) {
    for (int i = 0; i < n; ++i) {
      for (int k = 0; k < n; ++k) products[static_cast<size_t>(i) * n + k] += f[i] * f[k];
      targets[i] += f[i] * target;
    }
  }
};

inline double clipped_pair(const int16_t* a, const int16_t* b, const int16_t* c, int clip) {
  return std::clamp(*a - *c, -clip, clip) + std::clamp(*b - *c, -clip, clip);
}

// Luma's sums by class, of a tile that is deblocked but not filtered; 12 features each.
inline void luma_sums(const Tile& tile, const Samples& source, const Filter& filter, std::vector<Normal>& out) {
  const ClassFilter by_class(tile, filter);
  const Plane& plane = tile.planes[0];
  for (int y = 0; y < plane.height; ++y)
    for (int x = 0; x < plane.width; ++x) {
      const BlockClass& c = by_class.class_at(x, y);
      const int16_t* centre = by_class.luma().row(y) + x;
      double f[LUMA_PAIRS] = {};
      for (int k = 0; k < LUMA_PAIRS; ++k) {
        const auto [dx, dy] = PAIRS[k];
        f[ClassFilter::weight_of_pair(c, k)] = clipped_pair(
            by_class.luma().row(y + dy) + x + dx, by_class.luma().row(y - dy) + x - dx, centre, filter.luma_clip);
      }
      out[c.number].add(f, LUMA_PAIRS, *source.planes[0].at(x, y) - *centre);
    }
}

// Chroma's sums by plane and activity, 4:4:4 only; 11 features each. Luma is filtered here.
inline void chroma_sums(const Tile& tile, const Samples& source, const Filter& filter, std::vector<Normal>& out) {
  const ClassFilter by_class(tile, filter);
  Plane luma_now = tile.planes[0];
  std::vector<int16_t> samples(static_cast<size_t>(luma_now.stride) * luma_now.height);
  luma_now.samples = samples.data();
  by_class.filter_luma(luma_now);
  for (int p = 1; p < 3; ++p) {
    const Padded chroma(tile.planes[p]);
    const Plane& plane = tile.planes[p];
    for (int y = 0; y < plane.height; ++y)
      for (int x = 0; x < plane.width; ++x) {
        const BlockClass& c = by_class.class_at(x, y);
        const int16_t *centre = chroma.row(y) + x, *luma = by_class.luma().row(y) + x;
        double f[CHROMA_WEIGHTS];
        for (int k = 0; k < CHROMA_PAIRS + CROSS_PAIRS; ++k) {
          const bool own = k < CHROMA_PAIRS;
          const auto [dx, dy] = PAIRS[own ? k : k - CHROMA_PAIRS];
          const Padded& from = own ? chroma : by_class.luma();
          f[k] = clipped_pair(from.row(y + dy) + x + dx, from.row(y - dy) + x - dx, own ? centre : luma,
                              own ? filter.chroma_clip : filter.luma_clip);
        }
        f[CHROMA_WEIGHTS - 1] = *luma_now.at(x, y) - *luma;
        out[static_cast<size_t>(p - 1) * 5 + c.activity()].add(f, CHROMA_WEIGHTS, *source.planes[p].at(x, y) - *centre);
      }
  }
}

// What an encoding transforms, by size: of each block its plane, intra mode, energy around, and index of its leaf;
// orthonormal coefficients (10-bit samples) and levels of its coded side. Square blocks alone.
struct Leaves {
  static constexpr int ABOUT = 4;
  std::array<std::vector<int32_t>, SIZES> about;
  std::array<std::vector<float>, SIZES> coefficients;
  std::array<std::vector<int16_t>, SIZES> levels;
  int32_t n = 0;  // leaves so far

  // Of a square as Search chose it, before its levels are cleared: the samples that a block is predicted from are final
  // then, and those after it are not read.
  void add_square(Tile& tile, const Samples& source, const Block& square) {
    tile.syntax.set_decoded(square, false);
    add_tree(tile, source, {square}, tile.syntax.geometry().has_chroma());
  }

 private:
  void add_tree(Tile& tile, const Samples& source, const Node& node, bool has_chroma) {
    const Block& b = node.block;
    if (tile.syntax.is_outside(b)) return;
    const Split split = tile.syntax.must_split(b) ? QUAD : node.split_in(tile.syntax.unit(b).path);
    if (split == NO_SPLIT) return add_leaf(tile, source, b, true, has_chroma);
    const Parts parts = parts_of(b, split);
    const bool is_whole = has_chroma && !tile.syntax.must_split(b) && tile.syntax.unit(b).chroma_depth == node.depth;
    for (int i = 0; i < parts.n; ++i)
      add_tree(tile, source, node.part(parts.blocks[i], split), has_chroma && !is_whole);
    if (is_whole) add_leaf(tile, source, b, false, true);
  }

  void add_leaf(Tile& tile, const Samples& source, const Block& b, bool has_luma, bool has_chroma) {
    int16_t prediction[MAX_SIDE * MAX_SIDE];
    const Unit& u = tile.syntax.unit(b);
    if (has_luma) {
      tile.predict_luma(b, u.mode, prediction);
      add_block(tile, source, 0, b, prediction);
      tile.syntax.set_decoded(b, true);
    }
    for (int p = 1; has_chroma && p < 3; ++p) {
      tile.predict_chroma(p, b, u.chroma_mode, prediction);
      add_block(tile, source, p, b, prediction);
    }
    ++n;
  }

  void add_block(Tile& tile, const Samples& source, int plane, const Block& b, const int16_t* prediction) {
    const int s = tile.syntax.geometry().shift(plane);
    const Shape own = tile.own_shape(plane, b);
    if (own.log2_w != own.log2_h) return;
    const int side = own.width(), coded = coded_of(own).width(), size = own.size();
    const Plane& from = source.planes[plane];
    const Unit& unit = tile.syntax.unit(b);
    int16_t residual[MAX_SIDE * MAX_SIDE];
    int32_t c[MAX_CODED * MAX_CODED];
    kernels::subtract(from.at(b.x >> s, b.y >> s), from.stride, prediction, side, side, residual);
    forward(residual, side, c, own, tile.kinds_of(plane, own, unit.is_sine));
    const int16_t* chosen = tile.syntax.levels(plane, b);
    for (const int value : {plane, static_cast<int>(unit.mode), tile.syntax.energy_around(plane, b), n})
      about[size].push_back(value);
    for (int v = 0; v < coded; ++v)
      for (int h = 0; h < coded; ++h) {
        coefficients[size].push_back(std::ldexp(static_cast<float>(c[v * coded + h]), -FORWARD_BITS));
        levels[size].push_back(chosen[v * Syntax::LEVELS_STRIDE + h]);
      }
  }
};

// What learned modes are trained on: the luma blocks of an encoding that may have them, by learned_shape, those that
// are higher than wide transposed.
struct LearnedBlocks {
  struct OfShape {
    std::vector<int16_t> inputs, residuals;  // [n, 2, LEARNED_INPUTS], as they are and turned; [n, h, w], less the mean
    std::vector<float> costs;                // [n]: bits and the estimate of the mode chosen
  };
  std::array<OfShape, LEARNED_SHAPES> of_shape;

  // Of a square as Leaves has it.
  void add_square(Tile& tile, const Plane& source, const ResidualTrial& trial, const Prices& prices,
                  const Block& square) {
    tile.syntax.set_decoded(square, false);
    add_tree(tile, source, trial, prices, {square});
  }

 private:
  void add_tree(Tile& tile, const Plane& source, const ResidualTrial& trial, const Prices& prices, const Node& node) {
    const Block& b = node.block;
    if (tile.syntax.is_outside(b)) return;
    const Split split = tile.syntax.must_split(b) ? QUAD : node.split_in(tile.syntax.unit(b).path);
    if (split != NO_SPLIT) {
      const Parts parts = parts_of(b, split);
      for (int i = 0; i < parts.n; ++i) add_tree(tile, source, trial, prices, node.part(parts.blocks[i], split));
      return;
    }
    if (learned_modes(b.shape)) add_block(tile, source, trial, prices, b);
    tile.syntax.set_decoded(b, true);
  }

  void add_block(const Tile& tile, const Plane& source, const ResidualTrial& trial, const Prices& prices,
                 const Block& b) {
    OfShape& out = of_shape[learned_shape(b.shape)];
    const int w = b.width(), h = b.height(), mode = tile.syntax.unit(b).mode;
    References r;
    tile.gather_references(0, b, r);
    const LearnedBorder border(r, b.shape);
    const bool is_high = h > w;
    for (const bool is_turned : {is_high, !is_high})
      out.inputs.insert(out.inputs.end(), border.inputs(is_turned), border.inputs(is_turned) + LEARNED_INPUTS);
    for (int i = 0; i < w * h; ++i) {
      const int x = is_high ? i / h : i % w, y = is_high ? i % h : i / w;
      out.residuals.push_back(static_cast<int16_t>(*source.at(b.x + x, b.y + y) - border.mean()));
    }
    int16_t prediction[MAX_SIDE * MAX_SIDE];
    tile.predict_luma(b, mode, prediction);
    const LikelyModes likely = tile.syntax.likely_modes(b, tile.derive_modes(b));
    out.costs.push_back(estimate_bits(prices, [&](Estimator& e) { tile.syntax.code_luma_mode(e, mode, likely, b); }));
    out.costs.push_back(trial.estimate_cost(0, b, tile.syntax.unit(b).is_sine, prediction));
  }
};

// Residuals of intra prediction as an encoder with one block size makes them: of each block of `source`, in raster
// order, the mode of least Hadamard sum, predicted from the samples around it in `reference`. Both have `width` x
// `height` samples, multiples of the side.
inline void predict_all(const Plane& source, const Plane& reference, int log2, int16_t* residuals, uint8_t* modes) {
  const Shape shape = square_of(log2);
  const int side = shape.width();
  int16_t prediction[MAX_SIDE * MAX_SIDE];
  for (int y = 0; y < source.height; y += side)
    for (int x = 0; x < source.width; x += side) {
      References r;
      const int n_top = y ? std::min(2 * side, source.width - x) : 0, n_left = x ? side : 0;
      gather(reference, x, y, shape, n_left, n_top, r);
      int best = 0;
      int64_t least = std::numeric_limits<int64_t>::max();
      for (int mode = 0; mode < MODES; ++mode) {
        predict(r, mode, shape, prediction);
        const int64_t cost = kernels::satd(source.at(x, y), source.stride, prediction, side, side);
        if (cost < least) least = cost, best = mode;
      }
      predict(r, best, shape, prediction);
      kernels::subtract(source.at(x, y), source.stride, prediction, side, side, residuals);
      residuals += side * side;
      *modes++ = static_cast<uint8_t>(best);
    }
}

}  // namespace ncodec::dct
