// The forward transforms of square blocks of 10-bit residuals, for encoders: not normative.
//
// With C(u, v) the orthonormal coefficient of a residual, u the vertical frequency, `forward` gives C * 2^FORWARD_BITS
// at every size and of every kind.

#pragma once

#include "transform.hpp"

namespace ncodec::dct {

constexpr int FORWARD_BITS = 5;

namespace detail {

// Factors of the forward transform: [row][pair of samples], the rows that InverseFactors has.
template <Kind K, int N>
struct ForwardFactors {
  static constexpr bool ALL = K == Kind::dst || N == 2;
  static constexpr int OUTPUTS = ALL ? N : N / 2;
  static constexpr int PAIRS = OUTPUTS / 2;
  int32_t at[OUTPUTS][PAIRS];
};

template <Kind K, int N>
constexpr ForwardFactors<K, N> make_forward_factors() {
  using F = ForwardFactors<K, N>;
  F f{};
  for (int k = 0; k < F::OUTPUTS; ++k) {
    const int8_t* const row = MATRIX<K, N>.rows[F::ALL ? k : 2 * k + 1];
    for (int p = 0; p < F::PAIRS; ++p) f.at[k][p] = packed(row[2 * p], row[2 * p + 1]);
  }
  return f;
}

template <Kind K, int N>
inline constexpr ForwardFactors<K, N> FORWARD_FACTORS = make_forward_factors<K, N>();

// The 1-D forward transform of in[0 .. N) to outputs 0, step, 2 step, ..., unscaled. |in| * N / 2 < 2^15, except
// of dst. Overwrites `in`.
template <Kind K, int N>
inline void forward_columns(Words* in, int step, Longs* low, Longs* high) {
  using F = ForwardFactors<K, N>;
  Words odd[N];
  if constexpr (!F::ALL) {
    for (int n = 0; n < N / 2; ++n) {
      odd[n] = sub_words(in[n], in[N - 1 - n]);
      in[n] = add_words(in[n], in[N - 1 - n]);
    }
    forward_columns<K, N / 2>(in, 2 * step, low, high);
  } else {
    std::copy(in, in + N, odd);
  }
  Words pairs_low[F::PAIRS], pairs_high[F::PAIRS];
  for (int p = 0; p < F::PAIRS; ++p) {
    pairs_low[p] = pair_low(odd[2 * p], odd[2 * p + 1]);
    pairs_high[p] = pair_high(odd[2 * p], odd[2 * p + 1]);
  }
  for (int k = 0; k < F::OUTPUTS; ++k) {
    Longs sum_low = constant(0), sum_high = sum_low;
    for (int p = 0; p < F::PAIRS; ++p) {
      const Words factors = splat(FORWARD_FACTORS<K, N>.at[k][p]);
      sum_low = add(sum_low, dot(pairs_low[p], factors));
      sum_high = add(sum_high, dot(pairs_high[p], factors));
    }
    const int at = F::ALL ? k * step : (2 * k + 1) * step;
    low[at] = sum_low;
    high[at] = sum_high;
  }
}

// As above for any int16: butterflies on x >> 6 and on the 6 bits left.
template <Kind K, int N>
inline void forward_columns_wide(const Words* in, Longs* low, Longs* high) {
  Words part[N];
  if constexpr (K == Kind::dst) {
    std::copy(in, in + N, part);
    forward_columns<K, N>(part, 1, low, high);
  } else {
    Longs fine_low[N], fine_high[N];
    for (int n = 0; n < N; ++n) part[n] = upper_bits(in[n]);
    forward_columns<K, N>(part, 1, low, high);
    for (int n = 0; n < N; ++n) part[n] = sub_words(in[n], shift_up(upper_bits(in[n])));
    forward_columns<K, N>(part, 1, fine_low, fine_high);
    for (int n = 0; n < N; ++n) {
      low[n] = add(shift_up_longs(low[n]), fine_low[n]);
      high[n] = add(shift_up_longs(high[n]), fine_high[n]);
    }
  }
}

template <Kind K, int N>
inline void forward_block(const int16_t* residual, int stride, int32_t* coefficients) {
  constexpr int LOG2 = N == 4 ? 2 : N == 8 ? 3 : N == 16 ? 4 : N == 32 ? 5 : 6;
  constexpr bool ANGLE = K == Kind::angle;
  constexpr int FIRST = ANGLE ? std::max(0, LOG2 - 4) : LOG2 + 1;  // 1023 N fits int16
  constexpr int SECOND = ANGLE ? 0 : 6;
  constexpr int WIDTH = std::min(N, LANES);
  int16_t middle[N * N];       // [y][horizontal frequency]
  int16_t columns[N * LANES];  // [x][8 rows]
  Words words[std::max(N, LANES)];
  Longs low[N], high[N];
  for (int n = N; n < LANES; ++n) words[n] = zero();
  for (int y = 0; y < N; y += WIDTH) {
    for (int x = 0; x < N; x += WIDTH) {
      for (int i = 0; i < WIDTH; ++i) words[i] = load_row<WIDTH>(residual + static_cast<ptrdiff_t>(y + i) * stride + x);
      transpose<LANES>(words, columns + x * LANES, LANES, WIDTH);
    }
    for (int x = 0; x < N; ++x) words[x] = load(columns + x * LANES);
    forward_columns<K, N>(words, 1, low, high);
    const Longs half = constant(1 << FIRST >> 1);
    for (int v = 0; v < N; ++v) words[v] = narrow<FIRST>(add(low[v], half), add(high[v], half));
    for (int v = 0; v < N; v += WIDTH) transpose<WIDTH>(words + v, middle + y * N + v, N, WIDTH);
  }
  for (int v = 0; v < N; v += WIDTH) {
    for (int y = 0; y < N; ++y) words[y] = load_row<WIDTH>(middle + y * N + v);
    forward_columns_wide<K, N>(words, low, high);
    const Longs half = constant(1 << SECOND >> 1);
    for (int u = 0; u < N; ++u) {
      store_longs(coefficients + u * N + v, shift_down_longs<SECOND>(add(low[u], half)));
      if constexpr (WIDTH == LANES)
        store_longs(coefficients + u * N + v + 4, shift_down_longs<SECOND>(add(high[u], half)));
    }
  }
  if constexpr (ANGLE) {
    constexpr int SHIFT = 2 * SCALE_BITS + LOG2 - FORWARD_BITS - FIRST;
    for (int u = 0; u < N; ++u) {
      for (int v = 0; v < N; ++v) {
        const int64_t scale = static_cast<int64_t>(ROWS<K, N>.scales[u]) * ROWS<K, N>.scales[v];
        int32_t& c = coefficients[u * N + v];
        c = static_cast<int32_t>((c * scale + (int64_t{1} << (SHIFT - 1))) >> SHIFT);
      }
    }
  }
}

}  // namespace detail

// Writes [N * N] coefficients, C * 2^FORWARD_BITS, below 2^22. |residual| < 2^SAMPLE_BITS. Not normative.
inline void forward(const int16_t* residual, int stride, int32_t* coefficients, int log2_size, Kind kind) {
  detail::with_transform(kind, log2_size, [&](auto tag) {
    detail::forward_block<decltype(tag)::KIND, decltype(tag)::SIZE>(residual, stride, coefficients);
  });
}

}  // namespace ncodec::dct
