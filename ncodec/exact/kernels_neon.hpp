// kernels.hpp with NEON: smlal, eight products at once. Compilers make `values` of NEON without being asked.

#pragma once

#include "kernels.hpp"

#if defined(__aarch64__) && defined(__GNUC__)
#define NCODEC_EXACT_NEON 1
#include <arm_neon.h>

#include <utility>

namespace ncodec::exact {

// Two channels of a pixel, and their weights for sixteen outputs: [0] of the first, [1] of the second.
NCODEC_INLINE void add_pair_neon(int32x4_t (&sum)[4], int32_t x, const int16x8x2_t& w0, const int16x8x2_t& w1) {
  const int16x4_t pair = vreinterpret_s16_s32(vdup_n_s32(x));
  sum[0] = vmlal_lane_s16(sum[0], vget_low_s16(w0.val[0]), pair, 0);
  sum[1] = vmlal_high_lane_s16(sum[1], w0.val[0], pair, 0);
  sum[2] = vmlal_lane_s16(sum[2], vget_low_s16(w1.val[0]), pair, 0);
  sum[3] = vmlal_high_lane_s16(sum[3], w1.val[0], pair, 0);
  sum[0] = vmlal_lane_s16(sum[0], vget_low_s16(w0.val[1]), pair, 1);
  sum[1] = vmlal_high_lane_s16(sum[1], w0.val[1], pair, 1);
  sum[2] = vmlal_lane_s16(sum[2], vget_low_s16(w1.val[1]), pair, 1);
  sum[3] = vmlal_high_lane_s16(sum[3], w1.val[1], pair, 1);
}

// Eight results from their sums: shifted, and within ±32767.
NCODEC_INLINE int16x8_t narrow_neon(const int32x4_t* sum, const int32_t* shift) {
  const int32x4_t low = vshlq_s32(sum[0], vnegq_s32(vld1q_s32(shift)));
  const int32x4_t high = vshlq_s32(sum[1], vnegq_s32(vld1q_s32(shift + 4)));
  return vmaxq_s16(vcombine_s16(vqmovn_s32(low), vqmovn_s32(high)), vdupq_n_s16(-LARGEST));
}

// The panel from output o of n pixels, from their sums.
inline void store_panel_neon(const Product& w, const int32x4_t (*sum)[4], size_t n, size_t o, int16_t* y) {
  const size_t there = std::min(PANEL, w.outputs - o);
  const int16x8_t slopes = vdupq_n_s16(static_cast<int16_t>(w.slope));
  for (size_t i = 0; i < n; ++i, y += w.y_step) {
    int16_t all[PANEL];
    for (size_t k = 0; k < PANEL; k += 8) {
      int16x8_t some = narrow_neon(&sum[i][k / 4], w.shift + o + k);
      if (w.slope != NO_SLOPE) some = vmaxq_s16(some, vqrdmulhq_s16(some, slopes));
      vst1q_s16(all + k, some);
    }
    std::memcpy(y + o, all, there * sizeof(int16_t));
  }
}

inline void store_panel_neon(const Product& w, const int32x4_t (*sum)[4], size_t n, size_t o, int32_t* y) {
  for (size_t i = 0; i < n; ++i, y += w.y_step)
    for (size_t k = 0; k < 4; ++k) vst1q_s32(y + o + 4 * k, sum[i][k]);
}

// The panel from output o, of pixels I….
template <class T, size_t... I>
inline void product_tile_neon(std::index_sequence<I...>, const Product& product, const int16_t* x, size_t o, T* y) {
  const size_t pairs = product.pairs, step = product.x_step;
  const int16_t* w = product.weights + o * pairs * 2;
  int32x4_t start[4];
  for (size_t k = 0; k < 4; ++k) start[k] = vld1q_s32(product.start + o + 4 * k);
  constexpr size_t P = sizeof...(I);
  int32x4_t sum[P][4], made[P][4];
  ((sum[I][0] = start[0], sum[I][1] = start[1], sum[I][2] = start[2], sum[I][3] = start[3]), ...);
  for (size_t c = 0; c < pairs; ++c, w += 2 * PANEL, x += 2)
    (add_pair_neon(sum[I], load_pair(x + I * step), vld2q_s16(w), vld2q_s16(w + PANEL)), ...);
  ((made[I][0] = sum[I][0], made[I][1] = sum[I][1], made[I][2] = sum[I][2], made[I][3] = sum[I][3]), ...);
  store_panel_neon(product, made, P, o, y);
}

// P pixels at a time, then the rest of them at once.
template <int P, class T>
inline void product_tiles_neon(const Product& w, const int16_t* x, size_t n, size_t o, T* y) {
  for (; n >= P; n -= P, x += P * w.x_step, y += P * w.y_step)
    product_tile_neon(std::make_index_sequence<P>(), w, x, o, y);
  if constexpr (P > 1)
    if (n > 0) product_tiles_neon<P - 1>(w, x, n, o, y);
}

template <class T>
inline void product_neon(const Product& w, const int16_t* x, size_t n, T* y) {
  for (size_t o = 0; o < w.outputs; o += PANEL) product_tiles_neon<4>(w, x, n, o, y);
}

template <size_t SIDE>
inline void depthwise_side_neon(const Operation& op, const int16_t* const* taps, size_t n, int16_t* y) {
  const size_t channels = static_cast<size_t>(op.channels), whole = channels / 8 * 8, row = n + SIDE - 1;
  for (size_t c = 0; c < whole; c += 8) {
    const int32x4_t start_low = vld1q_s32(op.start.get() + c), start_high = vld1q_s32(op.start.get() + c + 4);
    for (size_t i = 0; i < n; ++i) {
      int32x4_t sum[2] = {start_low, start_high};
      for (size_t t = 0; t < SIDE * SIDE; ++t) {
        const int16x8_t w = vld1q_s16(op.weights.get() + t * channels + c);
        const int16x8_t x = vld1q_s16(taps[t / SIDE * row + t % SIDE + i] + c);
        sum[0] = vmlal_s16(sum[0], vget_low_s16(w), vget_low_s16(x));
        sum[1] = vmlal_high_s16(sum[1], w, x);
      }
      vst1q_s16(y + i * channels + c, narrow_neon(sum, op.shift.get() + c));
    }
  }
  depthwise_from(whole, op, taps, n, y);
}

inline void depthwise_neon(const Operation& op, const int16_t* const* taps, size_t n, int16_t* y) {
  op.side == 3 ? depthwise_side_neon<3>(op, taps, n, y) : depthwise_side_neon<5>(op, taps, n, y);
}

inline constexpr Kernels NEON{"neon",         product_neon<int16_t>, product_neon<int32_t>, softmax_plain,
                              depthwise_neon, values_plain,          modulate_plain};

}  // namespace ncodec::exact
#endif
