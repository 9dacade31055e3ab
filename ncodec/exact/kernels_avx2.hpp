// kernels.hpp with AVX2: vpmaddwd, two channels of a pixel times their weights, for eight outputs at once. It is exact
// as neither factor is -32768.

#pragma once

#include "kernels.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#define NCODEC_EXACT_X86 1
#include <immintrin.h>

#include <utility>
#define NCODEC_AVX2 __attribute__((target("avx2")))

namespace ncodec::exact {

inline bool has_avx2() { return __builtin_cpu_supports("avx2"); }

NCODEC_AVX2 NCODEC_INLINE void add_pair_avx2(__m256i (&sum)[2], int32_t x, __m256i w0, __m256i w1) {
  const __m256i pair = _mm256_set1_epi32(x);
  sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(pair, w0));
  sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(pair, w1));
}

// The panel from output o of n pixels, from their sums.
NCODEC_AVX2 inline void store_panel_avx2(const Product& w, const __m256i (*sum)[2], size_t n, size_t o, int16_t* y) {
  const size_t there = std::min(PANEL, w.outputs - o);
  const auto* shift = reinterpret_cast<const __m256i*>(w.shift + o);
  const __m256i least = _mm256_set1_epi16(-LARGEST), slopes = _mm256_set1_epi16(static_cast<int16_t>(w.slope));
  for (size_t i = 0; i < n; ++i, y += w.y_step) {
    __m256i all = _mm256_packs_epi32(_mm256_srav_epi32(sum[i][0], shift[0]), _mm256_srav_epi32(sum[i][1], shift[1]));
    all = _mm256_max_epi16(_mm256_permute4x64_epi64(all, 0xD8), least);
    if (w.slope != NO_SLOPE) all = _mm256_max_epi16(all, _mm256_mulhrs_epi16(all, slopes));
    if (there == PANEL) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + o), all);
    } else {
      alignas(32) int16_t some[PANEL];
      _mm256_store_si256(reinterpret_cast<__m256i*>(some), all);
      std::memcpy(y + o, some, there * sizeof(int16_t));
    }
  }
}

NCODEC_AVX2 inline void store_panel_avx2(const Product& w, const __m256i (*sum)[2], size_t n, size_t o, int32_t* y) {
  for (size_t i = 0; i < n; ++i, y += w.y_step) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + o), sum[i][0]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + o + 8), sum[i][1]);
  }
}

// The panel from output o, of pixels I….
template <class T, size_t... I>
NCODEC_AVX2 inline void product_tile_avx2(std::index_sequence<I...>, const Product& product, const int16_t* x, size_t o,
                                          T* y) {
  const size_t pairs = product.pairs, step = product.x_step;
  const auto* w = reinterpret_cast<const __m256i*>(product.weights + o * pairs * 2);
  const auto* start = reinterpret_cast<const __m256i*>(product.start + o);
  constexpr size_t P = sizeof...(I);
  __m256i sum[P][2], made[P][2];
  ((sum[I][0] = start[0], sum[I][1] = start[1]), ...);
  for (size_t c = 0; c < pairs; ++c, w += 2, x += 2) (add_pair_avx2(sum[I], load_pair(x + I * step), w[0], w[1]), ...);
  ((made[I][0] = sum[I][0], made[I][1] = sum[I][1]), ...);
  store_panel_avx2(product, made, P, o, y);
}

// P pixels at a time, then the rest of them at once.
template <int P, class T>
NCODEC_AVX2 inline void product_tiles_avx2(const Product& w, const int16_t* x, size_t n, size_t o, T* y) {
  for (; n >= P; n -= P, x += P * w.x_step, y += P * w.y_step)
    product_tile_avx2(std::make_index_sequence<P>(), w, x, o, y);
  if constexpr (P > 1)
    if (n > 0) product_tiles_avx2<P - 1>(w, x, n, o, y);
}

template <class T>
NCODEC_AVX2 inline void product_avx2(const Product& w, const int16_t* x, size_t n, T* y) {
  for (size_t o = 0; o < w.outputs; o += PANEL) product_tiles_avx2<6>(w, x, n, o, y);
}

template <class T>
NCODEC_AVX2 NCODEC_INLINE __m256i load(const T* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

// EXP of 16 keys at once.
NCODEC_AVX2 inline void softmax_avx2(const int32_t* s, size_t t, size_t padded, int shift, int16_t* p) {
  __m256i most = load(s);
  for (size_t j = 8; j < padded; j += 8) most = _mm256_max_epi32(most, load(s + j));
  most = _mm256_set1_epi32(Lanes<8>(&most).most());
  const __m256i last = _mm256_set1_epi32(1023);
  const __m128i shifts = _mm_cvtsi32_si128(shift);
  __m256i total = _mm256_setzero_si256();
  for (size_t j = 0; j < padded; j += 16) {
    __m256i w[2];
    for (size_t v = 0; v < 2; ++v) {
      const __m256i below = _mm256_srl_epi32(_mm256_sub_epi32(most, load(s + j + 8 * v)), shifts);
      w[v] = _mm256_i32gather_epi32(EXPONENTIALS.exp, _mm256_min_epu32(below, last), 4);
      total = _mm256_add_epi32(total, w[v]);
    }
    const __m256i all = _mm256_permute4x64_epi64(_mm256_packs_epi32(w[0], w[1]), 0xD8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + j), all);
  }
  const uint32_t inverse = inverse_of(p, t, padded, Lanes<8>(&total).sum());
  if (inverse > 65535) return;  // weights of 32768 at most: p = w
  const __m256i factor = _mm256_set1_epi16(static_cast<int16_t>(inverse));
  for (size_t j = 0; j < padded; j += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + j), _mm256_mulhi_epu16(load(p + j), factor));
}

// Two taps interleaved are what vpmaddwd multiplies; as there is an odd number, one of weight 0 is added. Channels are
// in the order of vpunpck, 0 - 3 and 8 - 11 in `low`, 4 - 7 and 12 - 15 in `high`, which vpackssdw undoes.
template <int SIDE>
NCODEC_AVX2 inline void depthwise_side_avx2(const Operation& op, const int16_t* const* taps, size_t n, int16_t* y,
                                            size_t first = 0) {
  constexpr size_t AREA = SIDE * SIDE, PAIRS = (AREA + 1) / 2;
  const size_t channels = static_cast<size_t>(op.channels), whole = channels / 16 * 16, row = n + SIDE - 1;
  const __m256i least = _mm256_set1_epi16(-LARGEST);
  for (size_t c = first; c < whole; c += 16) {
    __m256i low[PAIRS], high[PAIRS];
    for (size_t t = 0; t < PAIRS; ++t) {
      const int16_t* w = op.weights.get() + 2 * t * channels + c;
      low[t] = _mm256_unpacklo_epi16(load(w), load(w + channels));
      high[t] = _mm256_unpackhi_epi16(load(w), load(w + channels));
    }
    const __m256i start0 = load(op.start.get() + c), start1 = load(op.start.get() + c + 8);
    const __m256i shift0 = load(op.shift.get() + c), shift1 = load(op.shift.get() + c + 8);
    const __m256i start_low = _mm256_permute2x128_si256(start0, start1, 0x20);
    const __m256i start_high = _mm256_permute2x128_si256(start0, start1, 0x31);
    const __m256i shift_low = _mm256_permute2x128_si256(shift0, shift1, 0x20);
    const __m256i shift_high = _mm256_permute2x128_si256(shift0, shift1, 0x31);
    for (size_t i = 0; i < n; ++i) {
      __m256i sum_low = start_low, sum_high = start_high;
      for (size_t t = 0; t < PAIRS; ++t) {
        const size_t a = 2 * t, b = std::min(2 * t + 1, AREA - 1);
        const __m256i x_a = load(taps[a / SIDE * row + a % SIDE + i] + c);
        const __m256i x_b = load(taps[b / SIDE * row + b % SIDE + i] + c);
        sum_low = _mm256_add_epi32(sum_low, _mm256_madd_epi16(_mm256_unpacklo_epi16(x_a, x_b), low[t]));
        sum_high = _mm256_add_epi32(sum_high, _mm256_madd_epi16(_mm256_unpackhi_epi16(x_a, x_b), high[t]));
      }
      const __m256i all =
          _mm256_packs_epi32(_mm256_srav_epi32(sum_low, shift_low), _mm256_srav_epi32(sum_high, shift_high));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i * channels + c), _mm256_max_epi16(all, least));
    }
  }
  depthwise_from(whole, op, taps, n, y);
}

NCODEC_AVX2 inline void depthwise_avx2(const Operation& op, const int16_t* const* taps, size_t n, int16_t* y) {
  op.side == 3 ? depthwise_side_avx2<3>(op, taps, n, y) : depthwise_side_avx2<5>(op, taps, n, y);
}

NCODEC_AVX2 inline void values_avx2(const Operation& op, const int16_t* const* in, size_t row, size_t column, size_t n,
                                    int16_t* out) {
  values(op, in, row, column, n, out);
}

NCODEC_AVX2 inline void modulate_avx2(const int16_t* weights, size_t k, int bits, int16_t* x, int16_t* other) {
  modulate(weights, k, bits, x, other);
}

inline constexpr Kernels AVX2{"avx2",         product_avx2<int16_t>, product_avx2<int32_t>, softmax_avx2,
                              depthwise_avx2, values_avx2,           modulate_avx2};

}  // namespace ncodec::exact
#endif
