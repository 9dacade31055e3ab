// A tile's samples: what decoder and encoder both do with the levels of a block.
//
//   levels -> x step -> inverse transform -+-> + -> samples          (predict.hpp from the samples around)
//                          prediction -----/

#pragma once

#include <vector>

#include "parameters.hpp"

namespace ncodec::dct {

// Steps as half-steps of what `inverse` takes, of 1/512: a kind's rows of other norms are scaled here (the sine
// transform's are the DCT's).
inline std::vector<int32_t> scale_steps(std::vector<int32_t> steps, Kind kind, int log2) {
  const size_t side = size_t{1} << coded_log2(log2);
  const uint16_t* scale = scales(kind, log2);
  for (size_t v = 0; v < side; ++v)
    for (size_t u = 0; u < side; ++u) {
      int32_t& step = steps[v * side + u];
      step = static_cast<int32_t>((int64_t{step} * scale[v] * scale[u] + (1 << 23)) >> 24);
    }
  return steps;
}

class Tile {
 public:
  Tile(const Geometry& geometry, const Parameters& parameters, int quality_code, Kind kind)
      : syntax(geometry, kind == Kind::dct), steps(steps_of(parameters, quality_code)), kind(kind) {
    for (int p = 0; p < geometry.planes; ++p)
      for (int log2 = 2; log2 <= MAX_LOG2; ++log2) scaled_steps_[p][log2 - 2] = scale_steps(steps[p][log2 - 2], kind, log2);
    for (int p = 0; p < geometry.planes; ++p) {
      const int s = geometry.shift(p), width = geometry.width >> s, height = geometry.height >> s;
      samples_[p].assign(static_cast<size_t>(width) * height, 0);
      planes[p] = {samples_[p].data(), width, width, height};
    }
  }

  // Border of a block of one plane; (x, y) and log2 are luma's, as everywhere.
  void gather_border(int plane, int x, int y, int log2, References& r) const {
    const int s = syntax.geometry().shift(plane), side = 1 << log2;
    gather(planes[plane], x >> s, y >> s, side >> s, x > 0, y > 0, x > 0 && y > 0, syntax.is_decoded(x - side, y + side, x, y),
           syntax.is_decoded(x + side, y - side, x, y), r);
  }

  // The two directions that the luma above and to the left runs in most (H.266 JVET's DIMD): DC where there is none.
  std::array<int, 2> derive(int x, int y, int log2) const {
    std::array<int, MODES> weights = {};
    const Plane& p = planes[0];
    const auto add = [&](int cx, int cy) {
      const int16_t *a = p.at(cx, cy - 1), *b = p.at(cx, cy), *c = p.at(cx, cy + 1);
      const int gx = a[1] + 2 * b[1] + c[1] - a[-1] - 2 * b[-1] - c[-1];
      const int gy = c[-1] + 2 * c[0] + c[1] - a[-1] - 2 * a[0] - a[1];
      if (gx || gy) weights[mode_along(gx, gy)] += std::abs(gx) + std::abs(gy);
    };
    const int side = 1 << log2;
    if (y)
      for (int i = x ? -1 : 1; i < side - 1; ++i) add(x + i, y - 2);
    if (x)
      for (int j = y ? 0 : 1; j < side - 1; ++j) add(x - 2, y + j);
    const int first = static_cast<int>(std::max_element(weights.begin(), weights.end()) - weights.begin());
    if (!weights[first]) return {DC, DC};
    weights[first] = 0;
    const int second = static_cast<int>(std::max_element(weights.begin(), weights.end()) - weights.begin());
    return {first, weights[second] ? second : static_cast<int>(DC)};
  }

  // Luma and its border at chroma's resolution.
  void gather_luma(int x, int y, int log2, const References& chroma, int16_t* luma, References& border) const {
    const int s = syntax.geometry().chroma_shift, side = 1 << (log2 - s);
    const Plane& p = planes[0];
    const auto mean = [&](int cx, int cy) -> int16_t {
      if (s == 0) return *p.at(cx, cy);
      const int16_t* q = p.at(2 * cx, 2 * cy);
      return static_cast<int16_t>((q[0] + q[1] + q[p.stride] + q[p.stride + 1] + 2) >> 2);
    };
    const int cx = x >> s, cy = y >> s;
    for (int j = 0; j < side; ++j)
      for (int i = 0; i < side; ++i) luma[j * side + i] = mean(cx + i, cy + j);
    if (chroma.n_top)
      for (int i = 0; i < side; ++i) border.top[1 + i] = mean(cx + i, cy - 1);
    if (chroma.n_left)
      for (int j = 0; j < side; ++j) border.left[1 + j] = mean(cx - 1, cy + j);
  }

  void predict_chroma(int plane, int x, int y, int log2, int chroma_mode, int16_t* out) const {
    const int own_log2 = log2 - syntax.geometry().chroma_shift;
    References plain, other;
    gather_border(plane, x, y, log2, plain);
    if (chroma_mode == LINEAR) {
      int16_t luma[MAX_SIDE * MAX_SIDE];
      gather_luma(x, y, log2, plain, luma, other);
      predict_from_luma(plain, other, luma, own_log2, out);
      return;
    }
    const int mode = chroma_mode == SAME_AS_LUMA    ? syntax.unit(x, y).mode
                     : chroma_mode == CHROMA_PLANAR ? static_cast<int>(PLANAR)
                                                    : static_cast<int>(DC);
    if (wants_smooth(mode, own_log2)) smooth(plain, 1 << own_log2, other);
    predict(plain, other, mode, own_log2, false, out);
  }

  // Adds what the levels say to a prediction (rows of the block's side), into the plane. Levels stay.
  void add_residual(int plane, int x, int y, int log2, bool is_coded, const int16_t* prediction) {
    const int s = syntax.geometry().shift(plane), own_log2 = log2 - s, side = 1 << own_log2;
    int16_t residual[MAX_SIDE * MAX_SIDE];
    if (is_coded) {
      int16_t coefficients[MAX_SIDE * MAX_SIDE];
      int rows = 0, columns = 0;
      dequantise(syntax.levels(plane, x, y), plane, own_log2, coefficients, rows, columns);
      inverse(coefficients, residual, side, own_log2, kind_of(plane, own_log2, syntax.unit(x, y).is_sine), rows, columns);
    } else {
      std::memset(residual, 0, sizeof(int16_t) * side * side);
    }
    kernels::add(prediction, residual, side, planes[plane].at(x >> s, y >> s), planes[plane].stride);
  }

  void clear_levels(int plane, int x, int y, int log2) {
    const int side = 1 << coded_log2(log2 - syntax.geometry().shift(plane));
    int16_t* levels = syntax.levels(plane, x, y);
    for (int j = 0; j < side; ++j) std::memset(levels + j * Syntax::LEVELS_STRIDE, 0, sizeof(int16_t) * side);
  }

  // Residuals of small luma blocks grow away from the border: the sine transform suits those of 4x4 (Han et al. 2012)
  // and, where the encoder says so, of 8x8 and 16x16.
  Kind kind_of(int plane, int log2, bool is_sine) const {
    return kind == Kind::dct && plane == 0 && (log2 == 2 || is_sine) ? Kind::dst : kind;
  }

  Syntax syntax;
  Steps steps;
  Kind kind;
  std::array<Plane, 3> planes;

 private:
  void dequantise(const int16_t* levels, int plane, int log2, int16_t* out, int& rows, int& columns) const {
    const int side = 1 << coded_log2(log2), full = 1 << log2;
    uint32_t used_columns = 0;
    for (int v = 0; v < side; ++v) {
      uint32_t used = 0;
      for (int u = 0; u < side; ++u) {
        const int level = levels[v * Syntax::LEVELS_STRIDE + u];
        used |= static_cast<uint32_t>(level != 0) << u;
      }
      if (!used) continue;
      for (; rows < v; ++rows) std::memset(out + rows * full, 0, sizeof(int16_t) * side);  // between those that have any
      rows = v + 1;
      used_columns |= used;
      kernels::scale(levels + v * Syntax::LEVELS_STRIDE, scaled_steps_[plane][log2 - 2].data() + v * side, side,
                     9 - coefficient_bits(log2), out + v * full);
    }
    while (columns < 32 && used_columns >> columns) ++columns;
  }

  Steps scaled_steps_;
  std::array<std::vector<int16_t>, 3> samples_;
};

}  // namespace ncodec::dct
