// The inverse transforms of blocks of 10-bit residuals, specs/dct_transforms.md. Exact and normative: the same
// result from every build.
//
//   coefficients --columns--> >> first, clip to int16 --rows--> >> second, clip to int16 --> residual
//
// With C(u, v) the orthonormal coefficient of a residual, u the vertical frequency, `inverse` takes, in int16,
//
//   C(u, v) * 2^5 / sqrt(width * height) * scales[u] * scales[v] / 2^28     (scales of transform_tables.hpp)
//
// Eight columns at a time, as pairs of int16 products summed to int32 (SSE2's pmaddwd), the even half of each size by
// the next smaller one.

#pragma once

#include "samples.hpp"
#include "transform_lanes.hpp"
#include "transform_tables.hpp"

namespace ncodec::dct {

// Fractional bits of the coefficients that `inverse` takes, of shapes that are not odd; |C| <= 1023 sqrt(w h) fits
// int16.
inline int coefficient_bits(const Shape& shape) { return 15 - SAMPLE_BITS - shape.log2_side(); }

namespace detail {

// Factors of the inverse: [output][pair of rows]. Of dct and angle the odd rows, left half; of size 2, the end
// of the recursion, and of dst, all rows.
template <Kind K, int N>
struct InverseFactors {
  static constexpr bool ALL = K == Kind::dst || N == 2;
  static constexpr int OUTPUTS = ALL ? N : N / 2;
  static constexpr int PAIRS = ALL ? N / 2 : std::max(N / 4, 1);
  int32_t at[OUTPUTS][PAIRS];
};

template <Kind K, int N>
constexpr InverseFactors<K, N> make_inverse_factors() {
  using F = InverseFactors<K, N>;
  F f{};
  for (int n = 0; n < F::OUTPUTS; ++n)
    for (int p = 0; p < F::PAIRS; ++p)
      f.at[n][p] = F::ALL ? packed(MATRIX<K, N>.rows[2 * p][n], MATRIX<K, N>.rows[2 * p + 1][n])
                          : packed(MATRIX<K, N>.rows[4 * p + 1][n], MATRIX<K, N>.rows[4 * p + 3][n]);
  return f;
}

template <Kind K, int N>
inline constexpr InverseFactors<K, N> INVERSE_FACTORS = make_inverse_factors<K, N>();

// Columns of a block, 8 or 4.
template <int WIDTH>
struct Columns {
  const int16_t* at;
  int stride;
  int used;  // rows from here on are zero, and not read

  Words row(int k) const { return k < used ? load_row<WIDTH>(at + static_cast<ptrdiff_t>(k) * stride) : zero(); }
};

// Eight sums of products, those of columns 0 to 3 in `low`.
struct Sums {
  Longs low, high;
};

// sums[n] = start + the products of the rows of InverseFactors<K, N> where row k of size N is row k * step.
template <Kind K, int N, int WIDTH>
inline void sum_pairs(const Columns<WIDTH>& columns, int step, Longs start, Sums* sums) {
  using F = InverseFactors<K, N>;
  const int first = F::ALL ? 0 : step;
  const int second = F::ALL ? step : 3 * step;
  const int between = F::ALL ? 2 * step : 4 * step;
  Words pairs_low[F::PAIRS], pairs_high[F::PAIRS];
  int n_pairs = 0;
  for (; n_pairs < F::PAIRS && first + n_pairs * between < columns.used; ++n_pairs) {
    const Words a = columns.row(first + n_pairs * between), b = columns.row(second + n_pairs * between);
    pairs_low[n_pairs] = pair_low(a, b);
    pairs_high[n_pairs] = pair_high(a, b);
  }
  constexpr int GROUP = F::OUTPUTS < 4 ? F::OUTPUTS : 4;
  for (int n = 0; n < F::OUTPUTS; n += GROUP) {
    Sums group[GROUP];
    for (Sums& sum : group) sum = {start, start};
    for (int p = 0; p < n_pairs; ++p) {
      for (int i = 0; i < GROUP; ++i) {
        const Words factors = splat(INVERSE_FACTORS<K, N>.at[n + i][p]);
        group[i].low = add(group[i].low, dot(pairs_low[p], factors));
        group[i].high = add(group[i].high, dot(pairs_high[p], factors));
      }
    }
    for (int i = 0; i < GROUP; ++i) sums[n + i] = group[i];
  }
}

// The 1-D inverse of rows 0, step, 2 step, ..., plus `start`: outputs n and N - 1 - n go to put(n, sum, sum).
template <Kind K, int N, int WIDTH, typename Put>
inline void inverse_columns(const Columns<WIDTH>& columns, int step, Longs start, Put put) {
  if constexpr (K == Kind::dst || N == 2) {
    Sums sums[N];
    sum_pairs<K, N>(columns, step, start, sums);
    for (int n = 0; n < N / 2; ++n) put(n, sums[n], sums[N - 1 - n]);
  } else {
    Sums even[N / 2], odd[N / 2];
    inverse_columns<K, N / 2>(columns, 2 * step, start, [&even](int n, Sums left, Sums right) {
      even[n] = left;
      even[N / 2 - 1 - n] = right;
    });
    sum_pairs<K, N>(columns, step, constant(0), odd);
    for (int n = 0; n < N / 2; ++n)
      put(n, Sums{add(even[n].low, odd[n].low), add(even[n].high, odd[n].high)},
          Sums{sub(even[n].low, odd[n].low), sub(even[n].high, odd[n].high)});
  }
}

// One pass over `n_columns` columns, WIDTH at a time, each written as a row of N.
template <Kind K, int N, int SHIFT, int WIDTH>
inline void inverse_pass(const int16_t* in, int in_stride, int rows_used, int n_columns, int16_t* out, int out_stride) {
  constexpr int PART = std::min(N, LANES);  // of a row
  Words words[std::max(N, LANES)];
  for (int n = N; n < LANES; ++n) words[n] = zero();
  for (int column = 0; column < n_columns; column += WIDTH) {
    const Columns<WIDTH> columns{in + column, in_stride, rows_used};
    // |sum| <= 2^15 * 64 * 90 + 2^9 < 2^28, and so is every part of it.
    inverse_columns<K, N>(columns, 1, constant(1 << (SHIFT - 1)), [&words](int n, Sums left, Sums right) {
      words[n] = narrow<SHIFT>(left.low, left.high);
      words[N - 1 - n] = narrow<SHIFT>(right.low, right.high);
    });
    int16_t* const rows = out + static_cast<ptrdiff_t>(column) * out_stride;
    for (int n = 0; n < N; n += PART)
      transpose<PART>(words + n, rows + n, out_stride, std::min(WIDTH, n_columns - column));
  }
}

// A pass multiplies by sqrt(N) times the amplitude of a row: 64, or 1 of angle.
constexpr int first_shift(Kind kind) { return kind == Kind::angle ? 1 : 7; }
constexpr int second_shift(Kind kind) { return kind == Kind::angle ? 4 : 10; }

// `n_columns` of the `width` columns.
template <bool IS_FIRST>
inline void inverse_pass(Kind kind, int log2_size, int width, const int16_t* in, int rows_used, int n_columns,
                         int16_t* out, int out_stride) {
  with_transform(kind, log2_size, [&](auto tag) {
    constexpr Kind K = decltype(tag)::KIND;
    constexpr int N = decltype(tag)::SIZE, SHIFT = IS_FIRST ? first_shift(K) : second_shift(K);
    if (width < LANES) {
      inverse_pass<K, N, SHIFT, 4>(in, width, rows_used, n_columns, out, out_stride);
    } else {
      inverse_pass<K, N, SHIFT, LANES>(in, width, rows_used, n_columns, out, out_stride);
    }
  });
}

}  // namespace detail

// The kinds of a block's transform along rows and columns: both `angle`, or neither.
struct Kinds {
  Kind horizontal, vertical;
};

// Writes residual[y * stride + x], int16. Only the first rows_used x columns_used of the [height * width] coefficients
// are read, and cost time; the others count as zero. 1 <= rows_used, columns_used; is_valid of both kinds.
inline void inverse(const int16_t* coefficients, int16_t* residual, int stride, const Shape& shape, const Kinds& kinds,
                    int rows_used, int columns_used) {
  const int width = shape.width(), height = shape.height();
  if (rows_used == 1 && columns_used == 1 && kinds.horizontal != Kind::dst && kinds.vertical != Kind::dst) {
    // All the products of row 0 are the same.
    const int amplitude = kinds.horizontal == Kind::angle ? 1 : 64;
    const int first = detail::first_shift(kinds.vertical), second = detail::second_shift(kinds.horizontal);
    const int across = (amplitude * coefficients[0] + (1 << (first - 1))) >> first;  // in int16
    const auto value = static_cast<int16_t>((amplitude * across + (1 << (second - 1))) >> second);
    for (int y = 0; y < height; ++y) std::fill_n(residual + static_cast<ptrdiff_t>(y) * stride, width, value);
    return;
  }
  int16_t middle[MAX_SIDE * MAX_SIDE];  // [horizontal frequency][y]
  detail::inverse_pass<true>(kinds.vertical, shape.log2_h, width, coefficients, rows_used, columns_used, middle,
                             height);
  detail::inverse_pass<false>(kinds.horizontal, shape.log2_w, height, middle, columns_used, height, residual, stride);
}

}  // namespace ncodec::dct
