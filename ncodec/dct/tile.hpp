// A tile's samples: what decoder and encoder both do with the levels of a block (specs/dct.md section 6).
//
//   levels -> x step -> inverse transform -+-> + -> samples          (predict.hpp from the samples around)
//                          prediction -----/

#pragma once

#include <memory>
#include <vector>

#include "parameters.hpp"
#include "syntax.hpp"

namespace ncodec::dct {

// Steps as half-steps of what `inverse` takes, of 1/512 (D28): a kind's rows of other norms are scaled here (the sine
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

class Tile : public Samples {
 public:
  Tile(const Geometry& geometry, const Parameters& parameters, int quality_code, Kind kind, bool has_offsets)
      : Samples(geometry),
        syntax(geometry, kind == Kind::dct, has_offsets),
        kind(kind),
        parameters_(parameters),
        quality_code_(quality_code) {}

  // Of the planes that there are, at an offset.
  const Steps& steps(int offset) const { return at_offset(offset).plain; }

  int own_log2(int plane, const Block& b) const { return b.log2 - syntax.geometry().shift(plane); }

  // The samples of a block of one plane, rows of the plane's stride.
  int16_t* at(int plane, const Block& b) const {
    const int s = syntax.geometry().shift(plane);
    return planes[plane].at(b.x >> s, b.y >> s);
  }

  // What a block of one plane is predicted from (D32).
  void gather_references(int plane, const Block& b, References& r) const {
    const int s = syntax.geometry().shift(plane), side = b.side();
    gather(planes[plane], b.x >> s, b.y >> s, side >> s, b.x > 0, b.y > 0, b.x > 0 && b.y > 0,
           syntax.is_decoded(b.x - side, b.y + side, b), syntax.is_decoded(b.x + side, b.y - side, b), r);
  }

  // The two directions that the luma above and to the left runs in most (JVET's decoder-side intra mode derivation);
  // DC where there is none.
  std::array<int, 2> derive_modes(const Block& b) const {
    std::array<int, MODES> counters = {};
    const Plane& p = planes[0];
    const auto add = [&](int cx, int cy) {
      const int16_t *above = p.at(cx, cy - 1), *row = p.at(cx, cy), *below = p.at(cx, cy + 1);
      const int gx = above[1] + 2 * row[1] + below[1] - above[-1] - 2 * row[-1] - below[-1];
      const int gy = below[-1] + 2 * below[0] + below[1] - above[-1] - 2 * above[0] - above[1];
      if (gx || gy) counters[mode_along(gx, gy)] += std::abs(gx) + std::abs(gy);
    };
    if (b.y)
      for (int i = b.x ? -1 : 1; i < b.side() - 1; ++i) add(b.x + i, b.y - 2);
    if (b.x)
      for (int j = b.y ? 0 : 1; j < b.side() - 1; ++j) add(b.x - 2, b.y + j);
    const auto take_largest = [&] {
      const auto largest = std::max_element(counters.begin(), counters.end());
      const int mode = *largest ? static_cast<int>(largest - counters.begin()) : static_cast<int>(DC);
      *largest = 0;
      return mode;
    };
    const int first = take_largest();
    return {first, take_largest()};
  }

  // The prediction of a block, rows of its side in its plane.
  void predict_luma(const Block& b, int mode, int16_t* out) const {
    References r;
    gather_references(0, b, r);
    predict(r, mode, {b.log2, b.log2}, out);
  }

  void predict_chroma(int plane, const Block& b, int chroma_mode, int16_t* out) const {
    References chroma;
    gather_references(plane, b, chroma);
    if (chroma_mode == LINEAR) {
      References luma_border;
      int16_t luma[MAX_SIDE * MAX_SIDE];
      gather_luma(b, chroma, luma, luma_border);
      predict_from_luma(chroma, luma_border, luma, own_log2(plane, b), out);
      return;
    }
    const int mode = chroma_mode == SAME_AS_LUMA    ? syntax.unit(b).mode
                     : chroma_mode == CHROMA_PLANAR ? static_cast<int>(PLANAR)
                                                    : static_cast<int>(DC);
    predict(chroma, mode, {own_log2(plane, b), own_log2(plane, b)}, out);
  }

  // Adds what the levels say to a prediction, into the plane (D29 to D31). Levels stay.
  void add_residual(int plane, const Block& b, bool is_coded, const int16_t* prediction) {
    const int log2 = own_log2(plane, b), side = 1 << log2;
    int16_t residual[MAX_SIDE * MAX_SIDE];
    if (is_coded) {
      int16_t coefficients[MAX_SIDE * MAX_SIDE];
      int rows = 0, columns = 0;
      dequantise(syntax.levels(plane, b), at_offset(syntax.offset(b)).scaled[plane][log2 - MIN_LOG2], log2,
                 coefficients, rows, columns);
      inverse(coefficients, residual, side, log2, kind_of(plane, log2, syntax.unit(b).is_sine), rows, columns);
    } else {
      std::memset(residual, 0, sizeof(int16_t) * side * side);
    }
    kernels::add(prediction, residual, side, at(plane, b), planes[plane].stride);
  }

  // Residuals of small luma blocks grow away from the border: the sine transform suits those of 4x4 (Han et al. 2012)
  // and, where the encoder says so, of 8x8 and 16x16.
  Kind kind_of(int plane, int log2, bool is_sine) const {
    return kind == Kind::dct && plane == 0 && (log2 == 2 || is_sine) ? Kind::dst : kind;
  }

  Syntax syntax;
  Kind kind;

 private:
  struct OffsetSteps {
    Steps plain, scaled;
  };

  const OffsetSteps& at_offset(int offset) const {
    std::unique_ptr<OffsetSteps>& found = steps_[offset + MAX_OFFSET];
    if (!found) {
      found = std::make_unique<OffsetSteps>();
      for (int p = 0; p < syntax.geometry().planes; ++p)
        for (int size = 0; size < SIZES; ++size) {
          const int log2 = size + MIN_LOG2;
          found->plain[p][size] = steps_of(parameters_, quality_code_, p, log2, offset);
          found->scaled[p][size] = scale_steps(found->plain[p][size], kind, log2);
        }
    }
    return *found;
  }

  // Luma and its border at chroma's resolution (D38).
  void gather_luma(const Block& b, const References& chroma, int16_t* luma, References& border) const {
    const int s = syntax.geometry().chroma_shift, side = b.side() >> s, x = b.x >> s, y = b.y >> s;
    const Plane& p = planes[0];
    const auto mean = [&](int cx, int cy) -> int16_t {
      if (s == 0) return *p.at(cx, cy);
      const int16_t* q = p.at(2 * cx, 2 * cy);
      return static_cast<int16_t>((q[0] + q[1] + q[p.stride] + q[p.stride + 1] + 2) >> 2);
    };
    for (int j = 0; j < side; ++j)
      for (int i = 0; i < side; ++i) luma[j * side + i] = mean(x + i, y + j);
    if (chroma.n_top)
      for (int i = 0; i < side; ++i) border.top[1 + i] = mean(x + i, y - 1);
    if (chroma.n_left)
      for (int j = 0; j < side; ++j) border.left[1 + j] = mean(x - 1, y + j);
  }

  // Coefficients of the rows and columns that have any (D29): what `inverse` reads.
  static void dequantise(const int16_t* levels, const std::vector<int32_t>& steps, int log2, int16_t* out, int& rows,
                         int& columns) {
    const int side = 1 << coded_log2(log2), full = 1 << log2;
    uint32_t used_columns = 0;
    for (int v = 0; v < side; ++v) {
      const int16_t* row = levels + v * Syntax::LEVELS_STRIDE;
      uint32_t used = 0;
      for (int u = 0; u < side; ++u) used |= static_cast<uint32_t>(row[u] != 0) << u;
      if (!used) continue;
      for (; rows < v; ++rows)
        std::memset(out + rows * full, 0, sizeof(int16_t) * side);  // between those that have any
      rows = v + 1;
      used_columns |= used;
      kernels::scale(row, steps.data() + v * side, side, 9 - coefficient_bits(log2), out + v * full);
    }
    while (columns < 32 && used_columns >> columns) ++columns;
  }

  const Parameters& parameters_;
  int quality_code_;
  mutable std::array<std::unique_ptr<OffsetSteps>, 2 * MAX_OFFSET + 1> steps_;  // made when they are asked for
};

}  // namespace ncodec::dct
