// The forward transforms of blocks of 10-bit residuals, for encoders: not normative.
//
// With C(u, v) the orthonormal coefficient of a residual, u the vertical frequency, `forward` gives C * 2^FORWARD_BITS
// of squares of every size and kind, and times sqrt(height / width) of others. ALL frequencies, or those below
// MAX_CODED.

#pragma once

#include "transform.hpp"

namespace ncodec::dct {

constexpr int FORWARD_BITS = 5;

namespace detail {

// Of the first pass: 1023 N fits int16.
constexpr int forward_shift(Kind kind, int n) {
  int log2 = 0;
  while (1 << log2 < n) ++log2;
  return kind == Kind::angle ? std::max(0, log2 - 4) : log2 + 1;
}

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

// The 1-D forward transform of in[0 .. N) to outputs 0, STEP, 2 STEP, ... below KEPT, unscaled. |in| * N / 2 <
// 2^15, except of dst. Overwrites `in`.
template <Kind K, int N, int KEPT, int STEP = 1>
inline void forward_columns(Words* in, Longs* low, Longs* high) {
  using F = ForwardFactors<K, N>;
  Words odd[N];
  if constexpr (!F::ALL) {
    for (int n = 0; n < N / 2; ++n) {
      odd[n] = sub_words(in[n], in[N - 1 - n]);
      in[n] = add_words(in[n], in[N - 1 - n]);
    }
    forward_columns<K, N / 2, KEPT, 2 * STEP>(in, low, high);
  } else {
    std::copy(in, in + N, odd);
  }
  Words pairs_low[F::PAIRS], pairs_high[F::PAIRS];
  for (int p = 0; p < F::PAIRS; ++p) {
    pairs_low[p] = pair_low(odd[2 * p], odd[2 * p + 1]);
    pairs_high[p] = pair_high(odd[2 * p], odd[2 * p + 1]);
  }
  constexpr int OUTPUTS = KEPT * F::OUTPUTS / (N * STEP);
  for (int k = 0; k < OUTPUTS; ++k) {
    Longs sum_low = constant(0), sum_high = sum_low;
    for (int p = 0; p < F::PAIRS; ++p) {
      const Words factors = splat(FORWARD_FACTORS<K, N>.at[k][p]);
      sum_low = add(sum_low, dot(pairs_low[p], factors));
      sum_high = add(sum_high, dot(pairs_high[p], factors));
    }
    const int at = F::ALL ? k * STEP : (2 * k + 1) * STEP;
    low[at] = sum_low;
    high[at] = sum_high;
  }
}

// As above for any int16: butterflies on x >> 6 and on the 6 bits left.
template <Kind K, int N, int KEPT>
inline void forward_columns_wide(const Words* in, Longs* low, Longs* high) {
  Words part[N];
  if constexpr (K == Kind::dst) {
    std::copy(in, in + N, part);
    forward_columns<K, N, KEPT>(part, low, high);
  } else {
    Longs fine_low[N], fine_high[N];
    for (int n = 0; n < N; ++n) part[n] = upper_bits(in[n]);
    forward_columns<K, N, KEPT>(part, low, high);
    for (int n = 0; n < N; ++n) part[n] = sub_words(in[n], shift_up(upper_bits(in[n])));
    forward_columns<K, N, KEPT>(part, fine_low, fine_high);
    for (int n = 0; n < KEPT; ++n) {
      low[n] = add(shift_up_longs(low[n]), fine_low[n]);
      high[n] = add(shift_up_longs(high[n]), fine_high[n]);
    }
  }
}

// Rows of N, `height` of them, to [y][horizontal frequency].
template <Kind K, int N, int KEPT>
inline void forward_rows(const int16_t* residual, int stride, int height, int16_t* middle) {
  constexpr int SHIFT = forward_shift(K, N), PART = std::min(N, LANES);
  const int n_rows = std::min(height, LANES);
  int16_t columns[N * LANES];  // [x][8 rows]
  Words words[std::max(N, LANES)];
  Longs low[N], high[N];
  const Longs half = constant(1 << SHIFT >> 1);
  for (int y = 0; y < height; y += n_rows) {
    for (int x = 0; x < N; x += PART) {
      for (int i = 0; i < LANES; ++i)
        words[i] = i < n_rows ? load_row<PART>(residual + static_cast<ptrdiff_t>(y + i) * stride + x) : zero();
      transpose<LANES>(words, columns + x * LANES, LANES, PART);
    }
    for (int x = 0; x < N; ++x) words[x] = load(columns + x * LANES);
    forward_columns<K, N, KEPT>(words, low, high);
    for (int v = 0; v < KEPT; ++v) words[v] = narrow<SHIFT>(add(low[v], half), add(high[v], half));
    for (int v = N; v < LANES; ++v) words[v] = zero();
    for (int v = 0; v < KEPT; v += PART) transpose<PART>(words + v, middle + y * KEPT + v, KEPT, n_rows);
  }
}

// Columns of N, `width` of them, WIDTH at a time.
template <Kind K, int N, int KEPT, int WIDTH>
inline void forward_down(const int16_t* middle, int width, int32_t* coefficients) {
  constexpr int SHIFT = K == Kind::angle ? 0 : 6;
  Words words[N];
  Longs low[N], high[N];
  const Longs half = constant(1 << SHIFT >> 1);
  for (int v = 0; v < width; v += WIDTH) {
    for (int y = 0; y < N; ++y) words[y] = load_row<WIDTH>(middle + y * width + v);
    forward_columns_wide<K, N, KEPT>(words, low, high);
    for (int u = 0; u < KEPT; ++u) {
      store_longs(coefficients + u * width + v, shift_down_longs<SHIFT>(add(low[u], half)));
      if constexpr (WIDTH == LANES)
        store_longs(coefficients + u * width + v + 4, shift_down_longs<SHIFT>(add(high[u], half)));
    }
  }
}

}  // namespace detail

// Bits by which `forward` multiplies orthonormal coefficients.
inline float forward_bits(const Shape& shape) {
  return FORWARD_BITS + static_cast<float>(shape.log2_h - shape.log2_w) / 2;
}

// Writes [kept height, kept width] coefficients, C * 2^forward_bits, below 2^25. |residual| < 2^SAMPLE_BITS. Not
// normative.
template <bool ALL = false>
inline void forward(const int16_t* residual, int stride, int32_t* coefficients, const Shape& shape,
                    const Kinds& kinds) {
  constexpr auto kept = [](int n) { return ALL ? n : std::min(n, MAX_CODED); };
  const int height = shape.height(), kept_width = kept(shape.width()), kept_height = kept(height);
  int16_t middle[MAX_SIDE * MAX_SIDE];  // [y][horizontal frequency]
  detail::with_transform(kinds.horizontal, shape.log2_w, [&](auto tag) {
    constexpr int N = decltype(tag)::SIZE;
    detail::forward_rows<decltype(tag)::KIND, N, kept(N)>(residual, stride, height, middle);
  });
  detail::with_transform(kinds.vertical, shape.log2_h, [&](auto tag) {
    constexpr Kind K = decltype(tag)::KIND;
    constexpr int N = decltype(tag)::SIZE;
    if (kept_width < detail::LANES) {
      detail::forward_down<K, N, kept(N), 4>(middle, kept_width, coefficients);
    } else {
      detail::forward_down<K, N, kept(N), detail::LANES>(middle, kept_width, coefficients);
    }
  });
  if (kinds.vertical != Kind::angle) return;
  const uint16_t *across = scales(Kind::angle, shape.log2_w), *down = scales(Kind::angle, shape.log2_h);
  const int shift = 2 * SCALE_BITS + shape.log2_w - FORWARD_BITS - detail::forward_shift(Kind::angle, shape.width());
  for (int u = 0; u < kept_height; ++u)
    for (int v = 0; v < kept_width; ++v) {
      int32_t& c = coefficients[u * kept_width + v];
      c = static_cast<int32_t>((c * (static_cast<int64_t>(down[u]) * across[v]) + (int64_t{1} << (shift - 1))) >>
                               shift);
    }
}

}  // namespace ncodec::dct
