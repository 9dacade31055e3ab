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

// V panels from output o, of P pixels.
template <int P, int V>
NCODEC_AVX512 inline void conv_tile_avx512(const Operation& op, const int16_t* x, size_t o, int slope, int16_t* y) {
  const size_t inputs = static_cast<size_t>(op.x_channels), outputs = static_cast<size_t>(op.channels);
  const size_t pairs = (inputs + 1) / 2;
  const auto* w = reinterpret_cast<const __m512i*>(op.weights.get() + o * pairs * 2);
  const auto* start = reinterpret_cast<const __m512i*>(op.start.get() + o);
  const auto* shift = reinterpret_cast<const __m512i*>(op.shift.get() + o);
  __m512i sum[P][V];
  for (int i = 0; i < P; ++i)
    for (int v = 0; v < V; ++v) sum[i][v] = start[v];
  for (size_t c = 0; c < pairs; ++c, ++w) {
    __m512i weights[V];
    for (int v = 0; v < V; ++v) weights[v] = w[static_cast<size_t>(v) * pairs];
    for (int i = 0; i < P; ++i) {
      const __m512i pair = _mm512_set1_epi32(load_pair(x + static_cast<size_t>(i) * inputs + 2 * c));
      for (int v = 0; v < V; ++v) sum[i][v] = _mm512_dpwssd_epi32(sum[i][v], pair, weights[v]);
    }
  }
  const __m256i least = _mm256_set1_epi16(-LARGEST), slopes = _mm256_set1_epi16(static_cast<int16_t>(slope));
  for (int i = 0; i < P; ++i, y += outputs)
    for (int v = 0; v < V; ++v) {
      const size_t first = o + static_cast<size_t>(v) * PANEL;
      // Masks, of all, as GCC 12 warns of the other forms.
      const __m512i shifted = _mm512_maskz_srav_epi32(0xFFFF, sum[i][v], shift[v]);
      __m256i all = _mm512_maskz_cvtsepi32_epi16(0xFFFF, shifted);
      all = _mm256_max_epi16(all, least);
      if (slope != NO_SLOPE) all = _mm256_max_epi16(all, _mm256_mulhrs_epi16(all, slopes));
      if (first + PANEL <= outputs) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + first), all);
      } else {
        const auto some = static_cast<__mmask16>((1u << (outputs - first)) - 1);
        _mm256_mask_storeu_epi16(y + first, some, all);
      }
    }
}

// P pixels at a time, then the rest of them at once.
template <int P, int V>
NCODEC_AVX512 inline void conv_tiles_avx512(const Operation& op, const int16_t* x, size_t n, size_t o, int slope,
                                            int16_t* y) {
  for (; n >= P; n -= P, x += P * op.x_channels, y += P * op.channels) conv_tile_avx512<P, V>(op, x, o, slope, y);
  if constexpr (P > 1)
    if (n > 0) conv_tiles_avx512<P - 1, V>(op, x, n, o, slope, y);
}

NCODEC_AVX512 inline void conv_avx512(const Operation& op, const int16_t* x, size_t n, int slope, int16_t* y) {
  const size_t outputs = static_cast<size_t>(op.channels);
  size_t o = 0;
  for (; o + PANEL < outputs; o += 2 * PANEL) conv_tiles_avx512<12, 2>(op, x, n, o, slope, y);
  if (o < outputs) conv_tiles_avx512<12, 1>(op, x, n, o, slope, y);
}

NCODEC_AVX512 inline void values_avx512(const Operation& op, const int16_t* const* in, size_t row, size_t column,
                                        size_t n, int16_t* out) {
  values(op, in, row, column, n, out);
}

inline constexpr Kernels AVX512{"avx512", conv_avx512, depthwise_avx2, values_avx512};

}  // namespace ncodec::exact
#endif
