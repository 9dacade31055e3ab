// Forward and inverse transforms of square blocks of 10-bit residuals, specs/dct_transforms.md.
//
//   coefficients --columns--> >> first, clip to int16 --rows--> >> second, clip to int16 --> residual
//
// With C(u, v) the orthonormal coefficient of a residual, u the vertical frequency, `forward` returns
// C * 2^FORWARD_BITS at every size and of every kind, and `inverse` takes, in int16,
//
//   C(u, v) * 2^(5 - log2 N) * scales[u] * scales[v] / 2^28     (scales of transform_tables.hpp)
//
// `inverse` is exact and normative: the same result from every build. Eight columns at a time, as pairs of
// int16 products summed to int32 (SSE2's pmaddwd), the even half of each size by the next smaller one.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "transform_tables.hpp"

#if defined(__SSE2__) || defined(_M_X64)
#define NCODEC_SSE2 1
#include <emmintrin.h>
#endif

namespace ncodec::dct {

constexpr int SAMPLE_BITS = 10;
constexpr int FORWARD_BITS = 5;

// Fractional bits of the coefficients that `inverse` takes; -1 at size 64: |C| <= 1023 N fills int16.
constexpr int coefficient_bits(int log2_size) { return 15 - SAMPLE_BITS - log2_size; }

namespace detail {

constexpr int LANES = 8;
constexpr int FINE_BITS = 6;  // of forward_columns_wide

#ifdef NCODEC_SSE2
using Words = __m128i;   // 8 int16, or 4 pairs of them
using Longs = __m128i;   // 4 int32
inline Words load(const int16_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
inline void store(int16_t* to, Words a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), a); }
inline Words load_half(const int16_t* from) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)); }
inline void store_half(int16_t* to, Words a) { _mm_storel_epi64(reinterpret_cast<__m128i*>(to), a); }
inline Words zero() { return _mm_setzero_si128(); }
inline Words pair_low(Words a, Words b) { return _mm_unpacklo_epi16(a, b); }
inline Words pair_high(Words a, Words b) { return _mm_unpackhi_epi16(a, b); }
inline Words splat(int32_t pair) { return _mm_set1_epi32(pair); }
inline Longs dot(Words a, Words b) { return _mm_madd_epi16(a, b); }
inline Longs add(Longs a, Longs b) { return _mm_add_epi32(a, b); }
inline Longs sub(Longs a, Longs b) { return _mm_sub_epi32(a, b); }
inline Longs constant(int32_t value) { return _mm_set1_epi32(value); }
template <int SHIFT>
inline Words narrow(Longs low, Longs high) {
  return _mm_packs_epi32(_mm_srai_epi32(low, SHIFT), _mm_srai_epi32(high, SHIFT));
}
inline Words add_words(Words a, Words b) { return _mm_add_epi16(a, b); }
inline Words sub_words(Words a, Words b) { return _mm_sub_epi16(a, b); }
inline Words upper_bits(Words a) { return _mm_srai_epi16(a, FINE_BITS); }
inline Words shift_up(Words a) { return _mm_slli_epi16(a, FINE_BITS); }
inline Longs shift_up_longs(Longs a) { return _mm_slli_epi32(a, FINE_BITS); }
template <int SHIFT>
inline Longs shift_down_longs(Longs a) { return _mm_srai_epi32(a, SHIFT); }
inline void store_longs(int32_t* to, Longs a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), a); }
#else
struct Words { int16_t at[8]; };
struct Longs { int32_t at[4]; };
inline Words load(const int16_t* from) { Words a; std::memcpy(a.at, from, sizeof a.at); return a; }
inline void store(int16_t* to, Words a) { std::memcpy(to, a.at, sizeof a.at); }
inline Words load_half(const int16_t* from) { Words a{}; std::memcpy(a.at, from, sizeof a.at / 2); return a; }
inline void store_half(int16_t* to, Words a) { std::memcpy(to, a.at, sizeof a.at / 2); }
inline Words zero() { return Words{}; }
inline Words pair_low(Words a, Words b) {
  Words c;
  for (int i = 0; i < 4; ++i) { c.at[2 * i] = a.at[i]; c.at[2 * i + 1] = b.at[i]; }
  return c;
}
inline Words pair_high(Words a, Words b) {
  Words c;
  for (int i = 0; i < 4; ++i) { c.at[2 * i] = a.at[4 + i]; c.at[2 * i + 1] = b.at[4 + i]; }
  return c;
}
inline Words splat(int32_t pair) {
  Words a;
  for (int i = 0; i < 4; ++i) {
    a.at[2 * i] = static_cast<int16_t>(pair & 0xFFFF);
    a.at[2 * i + 1] = static_cast<int16_t>(pair >> 16);
  }
  return a;
}
inline Longs dot(Words a, Words b) {
  Longs c;
  for (int i = 0; i < 4; ++i) c.at[i] = a.at[2 * i] * b.at[2 * i] + a.at[2 * i + 1] * b.at[2 * i + 1];
  return c;
}
inline Longs add(Longs a, Longs b) {
  for (int i = 0; i < 4; ++i) a.at[i] += b.at[i];
  return a;
}
inline Longs sub(Longs a, Longs b) {
  for (int i = 0; i < 4; ++i) a.at[i] -= b.at[i];
  return a;
}
inline Longs constant(int32_t value) { return Longs{{value, value, value, value}}; }
template <int SHIFT>
inline Words narrow(Longs low, Longs high) {
  Words c;
  for (int i = 0; i < 4; ++i) {
    c.at[i] = static_cast<int16_t>(std::clamp(low.at[i] >> SHIFT, -32768, 32767));
    c.at[4 + i] = static_cast<int16_t>(std::clamp(high.at[i] >> SHIFT, -32768, 32767));
  }
  return c;
}
template <typename F>
inline Words each(Words a, F f) {
  for (int16_t& value : a.at) value = static_cast<int16_t>(f(value));
  return a;
}
inline Words add_words(Words a, Words b) {
  for (int i = 0; i < 8; ++i) a.at[i] = static_cast<int16_t>(a.at[i] + b.at[i]);
  return a;
}
inline Words sub_words(Words a, Words b) {
  for (int i = 0; i < 8; ++i) a.at[i] = static_cast<int16_t>(a.at[i] - b.at[i]);
  return a;
}
inline Words upper_bits(Words a) { return each(a, [](int x) { return x >> FINE_BITS; }); }
inline Words shift_up(Words a) { return each(a, [](int x) { return x * (1 << FINE_BITS); }); }
inline Longs shift_up_longs(Longs a) {
  for (int32_t& value : a.at) value *= 1 << FINE_BITS;
  return a;
}
template <int SHIFT>
inline Longs shift_down_longs(Longs a) {
  for (int32_t& value : a.at) value >>= SHIFT;
  return a;
}
inline void store_longs(int32_t* to, Longs a) { std::memcpy(to, a.at, sizeof a.at); }
#endif

// Two factors as `dot` takes them.
constexpr int32_t packed(int first, int second) {
  return static_cast<int32_t>((static_cast<uint32_t>(second) << 16) | (static_cast<uint32_t>(first) & 0xFFFF));
}

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

// The first WIDTH of the lanes, 8 or 4; the others are zero, or not written.
template <int WIDTH>
inline Words load_row(const int16_t* from) {
  if constexpr (WIDTH < LANES) return load_half(from);
  else return load(from);
}

template <int WIDTH>
inline void store_row(int16_t* to, Words a) {
  if constexpr (WIDTH < LANES) store_half(to, a);
  else store(to, a);
}

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

// Writes lane i of in[0 .. 8) to row i of `out`.
template <int WIDTH>
inline void transpose(const Words* in, int16_t* out, int stride, int n_rows) {
  Words a[8], b[8];
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = pair_low(in[i], in[i + 4]);
    a[2 * i + 1] = pair_high(in[i], in[i + 4]);
  }
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = pair_low(a[i], a[i + 4]);
    b[2 * i + 1] = pair_high(a[i], a[i + 4]);
  }
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = pair_low(b[i], b[i + 4]);
    a[2 * i + 1] = pair_high(b[i], b[i + 4]);
  }
  for (int i = 0; i < n_rows; ++i) store_row<WIDTH>(out + static_cast<ptrdiff_t>(i) * stride, a[i]);
}

// One pass over `n_columns` columns, each written as a row of N.
template <Kind K, int N, int SHIFT>
inline void inverse_pass(const int16_t* in, int rows_used, int n_columns, int16_t* out, int out_stride) {
  constexpr int WIDTH = std::min(N, LANES);
  Words words[std::max(N, LANES)];
  for (int n = N; n < LANES; ++n) words[n] = zero();
  for (int column = 0; column < n_columns; column += WIDTH) {
    const Columns<WIDTH> columns{in + column, N, rows_used};
    // |sum| <= 2^15 * 64 * 90 + 2^9 < 2^28, and so is every part of it.
    inverse_columns<K, N>(columns, 1, constant(1 << (SHIFT - 1)), [&words](int n, Sums left, Sums right) {
      words[n] = narrow<SHIFT>(left.low, left.high);
      words[N - 1 - n] = narrow<SHIFT>(right.low, right.high);
    });
    int16_t* const rows = out + static_cast<ptrdiff_t>(column) * out_stride;
    for (int n = 0; n < N; n += WIDTH)
      transpose<WIDTH>(words + n, rows + n, out_stride, std::min(WIDTH, n_columns - column));
  }
}

template <Kind K, int N>
inline void inverse_block(const int16_t* coefficients, int16_t* residual, int stride, int rows_used,
                          int columns_used) {
  // A pass multiplies by sqrt(N) times the amplitude of a row: 64, or 1 of angle.
  constexpr int FIRST = K == Kind::angle ? 1 : 7;
  constexpr int SECOND = K == Kind::angle ? 4 : 10;
  if (K != Kind::dst && rows_used == 1 && columns_used == 1) {
    // All the products of row 0 are the same.
    constexpr int AMPLITUDE = MATRIX<K, N>.rows[0][0];
    const int across = (AMPLITUDE * coefficients[0] + (1 << (FIRST - 1))) >> FIRST;  // in int16
    const auto value = static_cast<int16_t>((AMPLITUDE * across + (1 << (SECOND - 1))) >> SECOND);
    for (int y = 0; y < N; ++y) std::fill_n(residual + static_cast<ptrdiff_t>(y) * stride, N, value);
    return;
  }
  int16_t middle[N * N];  // [horizontal frequency][y]
  inverse_pass<K, N, FIRST>(coefficients, rows_used, columns_used, middle, N);
  inverse_pass<K, N, SECOND>(middle, columns_used, N, residual, stride);
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
  int16_t middle[N * N];        // [y][horizontal frequency]
  int16_t columns[N * LANES];   // [x][8 rows]
  Words words[std::max(N, LANES)];
  Longs low[N], high[N];
  for (int n = N; n < LANES; ++n) words[n] = zero();
  for (int y = 0; y < N; y += WIDTH) {
    for (int x = 0; x < N; x += WIDTH) {
      for (int i = 0; i < WIDTH; ++i)
        words[i] = load_row<WIDTH>(residual + static_cast<ptrdiff_t>(y + i) * stride + x);
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

// Writes residual[y * stride + x], int16. Only the first rows_used x columns_used of the [N * N] coefficients
// are read, and cost time; the others count as zero. 1 <= rows_used, columns_used <= N; is_valid(kind, log2_size).
inline void inverse(const int16_t* coefficients, int16_t* residual, int stride, int log2_size, Kind kind,
                    int rows_used, int columns_used) {
  detail::with_transform(kind, log2_size, [&](auto tag) {
    detail::inverse_block<decltype(tag)::KIND, decltype(tag)::SIZE>(coefficients, residual, stride, rows_used,
                                                                   columns_used);
  });
}

// Writes [N * N] coefficients, C * 2^FORWARD_BITS, below 2^22. |residual| < 2^SAMPLE_BITS. Not normative.
inline void forward(const int16_t* residual, int stride, int32_t* coefficients, int log2_size, Kind kind) {
  detail::with_transform(kind, log2_size, [&](auto tag) {
    detail::forward_block<decltype(tag)::KIND, decltype(tag)::SIZE>(residual, stride, coefficients);
  });
}

}  // namespace ncodec::dct
