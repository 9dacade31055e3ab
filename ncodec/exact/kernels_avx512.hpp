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
NCODEC_AVX512 inline void store_panel_avx512(const Product& w, const __m512i* sum, size_t n, size_t o, int16_t* y) {
  const size_t there = std::min(PANEL, w.outputs - o);
  const auto mask = static_cast<__mmask16>((1u << there) - 1);
  const __m512i shift = _mm512_load_si512(w.shift + o);
  const __m256i least = _mm256_set1_epi16(-LARGEST), slopes = _mm256_set1_epi16(static_cast<int16_t>(w.slope));
  for (size_t i = 0; i < n; ++i, y += w.y_step) {
    __m256i all = _mm512_maskz_cvtsepi32_epi16(0xFFFF, _mm512_maskz_srav_epi32(0xFFFF, sum[i], shift));
    all = _mm256_max_epi16(all, least);
    if (w.slope != NO_SLOPE) all = _mm256_max_epi16(all, _mm256_mulhrs_epi16(all, slopes));
    _mm256_mask_storeu_epi16(y + o, mask, all);
  }
}

NCODEC_AVX512 inline void store_panel_avx512(const Product& w, const __m512i* sum, size_t n, size_t o, int32_t* y) {
  for (size_t i = 0; i < n; ++i, y += w.y_step) _mm512_storeu_si512(y + o, sum[i]);
}

// Two channels of a pixel.
template <int V>
NCODEC_AVX512 NCODEC_INLINE void add_pair_avx512(__m512i (&sum)[V], int32_t x, __m512i w0, __m512i w1) {
  const __m512i pair = _mm512_set1_epi32(x);
  sum[0] = _mm512_dpwssd_epi32(sum[0], pair, w0);
  if constexpr (V == 2) sum[1] = _mm512_dpwssd_epi32(sum[1], pair, w1);
}

// V panels, 1 or 2, from output o, of pixels I….
template <int V, class T, size_t... I>
NCODEC_AVX512 inline void product_tile_avx512(std::index_sequence<I...>, const Product& product, const int16_t* x,
                                              size_t o, T* y) {
  const size_t pairs = product.pairs, step = product.x_step;
  const auto* w = reinterpret_cast<const __m512i*>(product.weights + o * pairs * 2);
  const auto* start = reinterpret_cast<const __m512i*>(product.start + o);
  constexpr size_t P = sizeof...(I);
  __m512i sum[P][V], made[V][P];
  ((sum[I][0] = start[0], sum[I][V - 1] = start[V - 1]), ...);
  for (size_t c = 0; c < pairs; ++c, ++w, x += 2)
    (add_pair_avx512(sum[I], load_pair(x + I * step), w[0], w[(V - 1) * pairs]), ...);
  ((made[0][I] = sum[I][0], made[V - 1][I] = sum[I][V - 1]), ...);
  for (size_t v = 0; v < V; ++v) store_panel_avx512(product, made[v], P, o + v * PANEL, y);
}

// P pixels at a time, then the rest of them at once.
template <int P, int V, class T>
NCODEC_AVX512 inline void product_tiles_avx512(const Product& w, const int16_t* x, size_t n, size_t o, T* y) {
  for (; n >= P; n -= P, x += P * w.x_step, y += P * w.y_step)
    product_tile_avx512<V>(std::make_index_sequence<P>(), w, x, o, y);
  if constexpr (P > 1)
    if (n > 0) product_tiles_avx512<P - 1, V>(w, x, n, o, y);
}

template <class T>
NCODEC_AVX512 inline void product_avx512(const Product& w, const int16_t* x, size_t n, T* y) {
  size_t o = 0;
  for (; o + PANEL < w.outputs; o += 2 * PANEL) product_tiles_avx512<12, 2>(w, x, n, o, y);
  if (o < w.outputs) product_tiles_avx512<12, 1>(w, x, n, o, y);
}

// EXP of 32 keys at once: vpermi2w looks up `fine`, vpavgw adds with a carry. (Reductions are in memory, as GCC 12
// warns of its own headers' _mm512_reduce.)
NCODEC_AVX512 inline void softmax_avx512(const int32_t* s, size_t t, size_t padded, int shift, int16_t* p) {
  __m512i most = _mm512_set1_epi32(s[0]);
  for (size_t j = 0; j < padded; j += 16) most = _mm512_maskz_max_epi32(0xFFFF, most, _mm512_loadu_si512(s + j));
  most = _mm512_set1_epi32(Lanes<16>(&most).most());
  alignas(64) int16_t places[32];
  for (int16_t i = 0; i < 32; ++i) places[i] = static_cast<int16_t>(2 * i);
  const __m512i even = _mm512_load_si512(places), fine0 = _mm512_load_si512(EXPONENTIALS.fine);
  const __m512i fine1 = _mm512_load_si512(EXPONENTIALS.fine + 32), one = _mm512_set1_epi16(1);
  const __m512i last = _mm512_set1_epi32(1023), last16 = _mm512_set1_epi16(1023);
  const __m128i shifts = _mm_cvtsi32_si128(shift);
  __m512i total = _mm512_setzero_si512();
  for (size_t j = 0; j < padded; j += 32) {
    __m512i below[2];
    for (size_t v = 0; v < 2; ++v) {
      const __m512i less = _mm512_sub_epi32(most, _mm512_loadu_si512(s + j + 16 * v));
      below[v] = _mm512_maskz_min_epu32(0xFFFF, _mm512_maskz_srl_epi32(0xFFFF, less, shifts), last);
    }
    const __m512i d = _mm512_permutex2var_epi16(below[0], even, below[1]);
    const __m512i k = _mm512_maskz_srli_epi16(~0u, d, 6);
    const __m512i half = _mm512_sub_epi16(_mm512_maskz_sllv_epi16(~0u, one, k), one);
    const __m512i sum = _mm512_maskz_avg_epu16(~0u, _mm512_permutex2var_epi16(fine0, d, fine1), half);
    const __m512i w = _mm512_maskz_srlv_epi16(_mm512_cmplt_epi16_mask(d, last16), sum, k);
    total = _mm512_dpwssd_epi32(total, w, one);
    _mm512_storeu_si512(p + j, w);
  }
  const uint32_t inverse = inverse_of(p, t, padded, Lanes<16>(&total).sum());
  if (inverse > 65535) return;  // weights of 32768 at most: p = w
  const __m512i factor = _mm512_set1_epi16(static_cast<int16_t>(inverse));
  for (size_t j = 0; j < padded; j += 32)
    _mm512_storeu_si512(p + j, _mm512_maskz_mulhi_epu16(~0u, _mm512_loadu_si512(p + j), factor));
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

NCODEC_AVX512 inline void modulate_avx512(const int16_t* weights, size_t k, int bits, int16_t* x, int16_t* other) {
  modulate(weights, k, bits, x, other);
}

inline constexpr Kernels AVX512{"avx512",         product_avx512<int16_t>, product_avx512<int32_t>, softmax_avx512,
                                depthwise_avx512, values_avx512,           modulate_avx512};

}  // namespace ncodec::exact
#endif
