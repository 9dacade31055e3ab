// kernels.hpp with AVX-512 VNNI: vpdpwssd is vpmaddwd and the addition in one, for sixteen outputs at once.

#pragma once

#include "kernels_avx2.hpp"

#if defined(NCODEC_EXACT_X86)
#define NCODEC_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

namespace ncodec::exact {

inline bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

// The panel from output o of n pixels, from their sums. (Kept out of the loops of sums: GCC 12 would spill them.)
NCODEC_AVX512 inline void store_panel_avx512(const Operation& op, const __m512i* sum, size_t n, size_t o, int slope,
                                             int16_t* y) {
  const size_t there = std::min(PANEL, static_cast<size_t>(op.channels) - o);
  const auto mask = static_cast<__mmask16>((1u << there) - 1);
  const __m512i shift = _mm512_load_si512(op.shift.get() + o);
  const __m256i least = _mm256_set1_epi16(-LARGEST), slopes = _mm256_set1_epi16(static_cast<int16_t>(slope));
  for (size_t i = 0; i < n; ++i, y += op.channels) {
    __m256i all = _mm512_maskz_cvtsepi32_epi16(0xFFFF, _mm512_maskz_srav_epi32(0xFFFF, sum[i], shift));
    all = _mm256_max_epi16(all, least);
    if (slope != NO_SLOPE) all = _mm256_max_epi16(all, _mm256_mulhrs_epi16(all, slopes));
    _mm256_mask_storeu_epi16(y + o, mask, all);
  }
}

// Two channels of a pixel.
template <int V>
NCODEC_AVX512 NCODEC_INLINE void add_pair_avx512(__m512i (&sum)[V], int32_t x, __m512i w0, __m512i w1) {
  const __m512i pair = _mm512_set1_epi32(x);
  sum[0] = _mm512_dpwssd_epi32(sum[0], pair, w0);
  if constexpr (V == 2) sum[1] = _mm512_dpwssd_epi32(sum[1], pair, w1);
}

// V panels, 1 or 2, from output o, of pixels I….
template <int V, size_t... I>
NCODEC_AVX512 inline void conv_tile_avx512(std::index_sequence<I...>, const Operation& op, const int16_t* x, size_t o,
                                           int slope, int16_t* y) {
  const size_t pairs = op.pairs(), inputs = 2 * pairs;
  const auto* w = reinterpret_cast<const __m512i*>(op.weights.get() + o * pairs * 2);
  const auto* start = reinterpret_cast<const __m512i*>(op.start.get() + o);
  constexpr size_t P = sizeof...(I);
  __m512i sum[P][V], made[V][P];
  ((sum[I][0] = start[0], sum[I][V - 1] = start[V - 1]), ...);
  for (size_t c = 0; c < pairs; ++c, ++w, x += 2)
    (add_pair_avx512(sum[I], load_pair(x + I * inputs), w[0], w[(V - 1) * pairs]), ...);
  ((made[0][I] = sum[I][0], made[V - 1][I] = sum[I][V - 1]), ...);
  for (size_t v = 0; v < V; ++v) store_panel_avx512(op, made[v], P, o + v * PANEL, slope, y);
}

// P pixels at a time, then the rest of them at once.
template <int P, int V>
NCODEC_AVX512 inline void conv_tiles_avx512(const Operation& op, const int16_t* x, size_t n, size_t o, int slope,
                                            int16_t* y) {
  for (; n >= P; n -= P, x += P * 2 * op.pairs(), y += P * op.channels)
    conv_tile_avx512<V>(std::make_index_sequence<P>(), op, x, o, slope, y);
  if constexpr (P > 1)
    if (n > 0) conv_tiles_avx512<P - 1, V>(op, x, n, o, slope, y);
}

NCODEC_AVX512 inline void conv_avx512(const Operation& op, const int16_t* x, size_t n, int slope, int16_t* y) {
  const size_t outputs = static_cast<size_t>(op.channels);
  size_t o = 0;
  for (; o + PANEL < outputs; o += 2 * PANEL) conv_tiles_avx512<12, 2>(op, x, n, o, slope, y);
  if (o < outputs) conv_tiles_avx512<12, 1>(op, x, n, o, slope, y);
}

// As depthwise_side_avx2, 32 channels at a time, which are a cache line; what is left of them is AVX2's.
template <size_t SIDE>
NCODEC_AVX512 inline void depthwise_side_avx512(const Operation& op, const int16_t* const* taps, size_t n, int16_t* y) {
  constexpr size_t AREA = SIDE * SIDE, PAIRS = (AREA + 1) / 2;
  const size_t channels = static_cast<size_t>(op.channels), whole = channels / 32 * 32, row = n + SIDE - 1;
  const __m512i least = _mm512_set1_epi16(-LARGEST);
  for (size_t c = 0; c < whole; c += 32) {
    __m512i low[PAIRS], high[PAIRS];
    for (size_t t = 0; t < PAIRS; ++t) {
      const int16_t* w = op.weights.get() + 2 * t * channels + c;
      const __m512i a = _mm512_loadu_si512(w), b = _mm512_loadu_si512(w + channels);
      low[t] = _mm512_maskz_unpacklo_epi16(~0u, a, b);
      high[t] = _mm512_maskz_unpackhi_epi16(~0u, a, b);
    }
    const __m512i start0 = _mm512_loadu_si512(op.start.get() + c), start1 = _mm512_loadu_si512(op.start.get() + c + 16);
    const __m512i shift0 = _mm512_loadu_si512(op.shift.get() + c), shift1 = _mm512_loadu_si512(op.shift.get() + c + 16);
    const __m512i start_low = _mm512_maskz_shuffle_i32x4(0xFFFF, start0, start1, 0x88);
    const __m512i start_high = _mm512_maskz_shuffle_i32x4(0xFFFF, start0, start1, 0xDD);
    const __m512i shift_low = _mm512_maskz_shuffle_i32x4(0xFFFF, shift0, shift1, 0x88);
    const __m512i shift_high = _mm512_maskz_shuffle_i32x4(0xFFFF, shift0, shift1, 0xDD);
    for (size_t i = 0; i < n; ++i) {
      __m512i sum_low = start_low, sum_high = start_high;
      for (size_t t = 0; t < PAIRS; ++t) {
        const size_t a = 2 * t, b = std::min(2 * t + 1, AREA - 1);
        const __m512i x_a = _mm512_loadu_si512(taps[a / SIDE * row + a % SIDE + i] + c);
        const __m512i x_b = _mm512_loadu_si512(taps[b / SIDE * row + b % SIDE + i] + c);
        sum_low = _mm512_dpwssd_epi32(sum_low, _mm512_maskz_unpacklo_epi16(~0u, x_a, x_b), low[t]);
        sum_high = _mm512_dpwssd_epi32(sum_high, _mm512_maskz_unpackhi_epi16(~0u, x_a, x_b), high[t]);
      }
      const __m512i all = _mm512_maskz_packs_epi32(~0u, _mm512_maskz_srav_epi32(0xFFFF, sum_low, shift_low),
                                                   _mm512_maskz_srav_epi32(0xFFFF, sum_high, shift_high));
      _mm512_storeu_si512(y + i * channels + c, _mm512_maskz_max_epi16(~0u, all, least));
    }
  }
  depthwise_side_avx2<SIDE>(op, taps, n, y, whole);
}

NCODEC_AVX512 inline void depthwise_avx512(const Operation& op, const int16_t* const* taps, size_t n, int16_t* y) {
  op.side == 3 ? depthwise_side_avx512<3>(op, taps, n, y) : depthwise_side_avx512<5>(op, taps, n, y);
}

NCODEC_AVX512 inline void values_avx512(const Operation& op, const int16_t* const* in, size_t row, size_t column,
                                        size_t n, int16_t* out) {
  values(op, in, row, column, n, out);
}

inline constexpr Kernels AVX512{"avx512", conv_avx512, depthwise_avx512, values_avx512};

}  // namespace ncodec::exact
#endif
