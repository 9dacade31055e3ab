// A tile's samples: what decoder and encoder both do with the levels of a block (specs/dct.md section 6).
//
//   levels -> x step -> inverse transform -+-> + -> samples          (predict.hpp from the samples around)
//                          prediction -----/

#pragma once

#include <memory>
#include <vector>

#include "parameters.hpp"
#include "signs.hpp"
#include "syntax.hpp"

namespace ncodec::dct {

// Steps as half-steps of what `inverse` takes, of 1/512 (D32): a kind's rows of other norms are scaled here (the sine
// transform's are the DCT's). `steps`: of a shape that is odd, half an octave coarser.
inline std::vector<int32_t> scale_steps(std::vector<int32_t> steps, Kind kind, const Shape& shape) {
  const Shape coded = coded_of(shape);
  const uint16_t *down = scales(kind, shape.log2_h), *across = scales(kind, shape.log2_w);
  int32_t* step = steps.data();
  for (int v = 0; v < coded.height(); ++v)
    for (int u = 0; u < coded.width(); ++u, ++step)
      *step = static_cast<int32_t>((int64_t{*step} * down[v] * across[u] + (1 << 23)) >> 24);
  return steps;
}

class Tile : public Samples {
 public:
  Tile(const Geometry& geometry, const Parameters& parameters, int quality_code, Kind kind, bool has_offsets,
       const Turn& turn)
      : Samples(geometry),
        syntax(geometry, kind == Kind::dct, has_offsets),
        kind(kind),
        colour(turned(parameters.colour, turn)),
        turn(turn),
        parameters_(parameters),
        quality_code_(quality_code) {}

  // The shape of a block of one plane, in its samples.
  Shape own_shape(int plane, const Block& b) const { return b.shape.shrunk(syntax.geometry().shift(plane)); }

  // Of a plane's blocks, at an offset.
  std::vector<int32_t> steps(int plane, const Shape& own, int offset, bool for_inverse) const {
    const int more = OFFSET_UNIT * offset + (for_inverse && own.is_odd() ? ODD_UNIT : 0);
    return steps_of(parameters_, quality_code_, plane, own, more);
  }

  // The samples of a block of one plane, rows of the plane's stride.
  int16_t* at(int plane, const Block& b) const {
    const int s = syntax.geometry().shift(plane);
    return planes[plane].at(b.x >> s, b.y >> s);
  }

  // What a block of one plane is predicted from (D36).
  void gather_references(int plane, const Block& b, References& r) const {
    const int s = syntax.geometry().shift(plane);
    const auto decoded = [](int side, auto is_decoded) {  // how many of twice the side, in a row
      int i = side;
      while (i < 2 * side && is_decoded(i)) i += UNIT;
      return i;
    };
    const int n_top = b.y ? decoded(b.width(), [&](int i) { return syntax.is_decoded(b.x + i, b.y - 1); }) : 0;
    const int n_left = b.x ? decoded(b.height(), [&](int i) { return syntax.is_decoded(b.x - 1, b.y + i); }) : 0;
    gather(planes[plane], b.x >> s, b.y >> s, own_shape(plane, b), n_left >> s, n_top >> s, r);
  }

  // The two directions that the luma above and to the left runs in most (JVET's decoder-side intra mode derivation);
  // DC where there is none.
  std::array<int, 2> derive_modes(const Block& b) const {
    std::array<int, MODES> counters = {};
    const Plane& p = planes[0];
    int16_t gx[MAX_SIDE], gy[MAX_SIDE], strengths[MAX_SIDE];
    uint8_t slopes[MAX_SIDE];
    const auto count = [&](int n) {
      kernels::slopes(gx, gy, n, slopes, strengths);
      for (int i = 0; i < n; ++i) counters[MODE_OF_SLOPE[slopes[i]]] += strengths[i];
    };
    if (b.y) {
      const int first = b.x ? -1 : 1, n = b.width() - 1 - first;
      const int16_t* centre = p.at(b.x + first, b.y - 2);
      kernels::gradients_of_line(centre - p.stride, centre, centre + p.stride, n, gx, gy);
      count(n);
    }
    if (b.x) {
      const int first = b.y ? 0 : 1, n = b.height() - 1 - first;
      int16_t columns[3][MAX_SIDE + 1];
      for (int j = 0; j < n + 2; ++j)
        for (int i = 0; i < 3; ++i) columns[i][j] = *p.at(b.x - 3 + i, b.y + first - 1 + j);
      kernels::gradients_of_line(columns[0] + 1, columns[1] + 1, columns[2] + 1, n, gy, gx);
      count(n);
    }
    const auto take_largest = [&] {
      const auto largest = std::max_element(counters.begin(), counters.end());
      const int mode = *largest ? static_cast<int>(largest - counters.begin()) : static_cast<int>(DC);
      *largest = 0;
      return mode;
    };
    const int first = take_largest();
    return {first, take_largest()};
  }

  // The prediction of a block, [height, width] in its plane.
  void predict_luma(const References& r, int mode, const Shape& shape, int16_t* out) const {
    if (mode >= MODES) return predict_learned(r, parameters_.learned, mode, shape, out);
    predict(r, mode, shape, out);
  }

  void predict_luma(const Block& b, int mode, int16_t* out) const {
    References r;
    gather_references(0, b, r);
    predict_luma(r, mode, b.shape, out);
  }

  void predict_chroma(int plane, const Block& b, int chroma_mode, int16_t* out) const {
    References chroma;
    gather_references(plane, b, chroma);
    if (chroma_mode == LINEAR) {
      Regressor luma, cb;
      gather_regressor(0, b, chroma, luma);
      if (plane == 2) gather_regressor(1, b, chroma, cb);
      return predict_linear(chroma, luma, plane == 2 ? &cb : nullptr, own_shape(plane, b), out);
    }
    const int mode = chroma_mode == SAME_AS_LUMA    ? usual_mode(syntax.unit(b).mode)
                     : chroma_mode == CHROMA_PLANAR ? static_cast<int>(PLANAR)
                                                    : static_cast<int>(DC);
    predict(chroma, mode, own_shape(plane, b), out);
  }

  const Learned& learned() const { return parameters_.learned; }

  // The bins of a block's residual, whose prediction is `prediction` (Syntax::code_residual).
  template <class Coder>
  bool code_residual(Coder& coder, int plane, const Block& b, bool is_coded, bool has_luma, const int16_t* prediction) {
    return syntax.code_residual(coder, plane, b, is_coded, has_luma, [&](const Places& places, const Surroundings& a) {
      code_signs(coder, plane, b, places, a, prediction);
    });
  }

  // Adds what the levels say to a prediction, into the plane (D33 to D35). Levels stay.
  void add_residual(int plane, const Block& b, bool is_coded, const int16_t* prediction) {
    const Shape own = own_shape(plane, b);
    int16_t residual[MAX_SIDE * MAX_SIDE];
    if (is_coded) {
      int16_t coefficients[MAX_SIDE * MAX_SIDE];
      int rows = 0, columns = 0;
      dequantise(syntax.levels(plane, b), scaled_steps(plane, own, syntax.offset(b)), own, coefficients, rows, columns);
      inverse(coefficients, residual, own.width(), own, kinds_of(plane, own, syntax.unit(b).is_sine), rows, columns);
    } else {
      std::memset(residual, 0, sizeof(int16_t) * own.area());
    }
    kernels::add(prediction, residual, own.width(), own.height(), at(plane, b), planes[plane].stride);
  }

  // Residuals of small luma blocks grow away from the border: the sine transform suits sides of 4 (Han et al. 2012)
  // and, where the encoder says so, of 8 and 16.
  Kinds kinds_of(int plane, const Shape& own, bool is_sine) const {
    const auto along = [&](int log2) {
      return kind == Kind::dct && plane == 0 && (log2 == 2 || is_sine) ? Kind::dst : kind;
    };
    return {along(own.log2_w), along(own.log2_h)};
  }

  Syntax syntax;
  Kind kind;
  Colour colour;
  Turn turn;

 private:
  const std::vector<int32_t>& scaled_steps(int plane, const Shape& own, int offset) const {
    std::vector<int32_t>& found = steps_[offset + MAX_OFFSET][plane][own.log2_h - MIN_LOG2][own.log2_w - MIN_LOG2];
    if (found.empty()) found = scale_steps(steps(plane, own, offset, true), kind, own);
    return found;
  }

  template <class Coder>
  void code_signs(Coder& coder, int plane, const Block& b, const Places& places, const Surroundings& around,
                  const int16_t* prediction) {
    const Shape own = own_shape(plane, b);
    const Kinds kinds = kinds_of(plane, own, syntax.unit(b).is_sine);
    const std::vector<int32_t>& steps = scaled_steps(plane, own, syntax.offset(b));
    const int coded_width = coded_of(own).width(), shift = 9 - coefficient_bits(own);
    const auto coefficient = [&](Place at, int level) {
      return kernels::scale(level, steps[at.y * coded_width + at.x], shift);
    };
    Sides sides(own, kinds, places, coefficient({0, 0}, 2));
    const int16_t* corner = at(plane, b);
    const int stride = planes[plane].stride;
    if (b.y) sides.begin_top(corner - stride, stride, prediction);
    if (b.x) sides.begin_left(corner - 1, stride, prediction);
    dct::code_signs(coder, syntax.levels(plane, b), Syntax::LEVELS_STRIDE, places, coefficient, sides,
                    {plane, kind_of_mode(syntax.unit(b).mode), own, kinds, around});
  }

  // A plane's block and its border at chroma's resolution (D44).
  void gather_regressor(int plane, const Block& b, const References& chroma, Regressor& r) const {
    const int s = syntax.geometry().chroma_shift, x = b.x >> s, y = b.y >> s;
    const int width = b.width() >> s, height = b.height() >> s;
    const Plane& p = planes[plane];
    if (s == 0 || plane) {
      for (int j = 0; j < height; ++j) std::memcpy(r.samples + j * width, p.at(x, y + j), sizeof(int16_t) * width);
      if (chroma.n_top) std::memcpy(r.border.top + 1, p.at(x, y - 1), sizeof(int16_t) * width);
      if (chroma.n_left)
        for (int j = 0; j < height; ++j) r.border.left[1 + j] = *p.at(x - 1, y + j);
      return;
    }
    const auto mean = [&](int cx, int cy) {
      const int16_t* q = p.at(2 * cx, 2 * cy);
      return static_cast<int16_t>((q[0] + q[1] + q[p.stride] + q[p.stride + 1] + 2) >> 2);
    };
    for (int j = 0; j < height; ++j)
      for (int i = 0; i < width; ++i) r.samples[j * width + i] = mean(x + i, y + j);
    if (chroma.n_top)
      for (int i = 0; i < width; ++i) r.border.top[1 + i] = mean(x + i, y - 1);
    if (chroma.n_left)
      for (int j = 0; j < height; ++j) r.border.left[1 + j] = mean(x - 1, y + j);
  }

  // Coefficients of the rows and columns that have any (D33): what `inverse` reads.
  static void dequantise(const int16_t* levels, const std::vector<int32_t>& steps, const Shape& own, int16_t* out,
                         int& rows, int& columns) {
    const int width = coded_of(own).width(), height = coded_of(own).height(), full = own.width();
    uint32_t used_columns = 0;
    for (int v = 0; v < height; ++v) {
      const int16_t* row = levels + v * Syntax::LEVELS_STRIDE;
      uint32_t used = 0;
      for (int u = 0; u < width; ++u) used |= static_cast<uint32_t>(row[u] != 0) << u;
      if (!used) continue;
      for (; rows < v; ++rows)
        std::memset(out + rows * full, 0, sizeof(int16_t) * width);  // between those that have any
      rows = v + 1;
      used_columns |= used;
      kernels::scale(row, steps.data() + v * width, width, 9 - coefficient_bits(own), out + v * full);
    }
    while (columns < 32 && used_columns >> columns) ++columns;
  }

  const Parameters& parameters_;
  int quality_code_;
  // [offset][plane][height][width], made when they are asked for
  mutable Array<std::vector<int32_t>, 2 * MAX_OFFSET + 1, 3, SIZES, SIZES> steps_;
};

}  // namespace ncodec::dct
