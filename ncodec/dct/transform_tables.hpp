// The matrices of the block transforms, specs/dct_transforms.md: sizes 4 to 64, row k is basis vector k.
//
//   dct    DCT-II, entry = 64 sqrt(2) cos(pi k (2n + 1) / 2N) as tuned integers; the DC row is 64
//   dst    DST-VII, sizes 4 to 16, the same amplitude: rows have norm 64 sqrt(N)
//   angle  orthogonal DCT-II approximations of entries 0, +-1, +-2, found by least angle to the DCT's rows
//
// dct and angle nest: the even rows of size N are size N/2 and its mirror image, the odd rows are
// antisymmetric. So a size is the odd rows of every size up to it, and butterflies compute it. Everything is
// made at compile time; tests/reference_transforms.py derives the literals.

#pragma once

#include <cstdint>

#include "samples.hpp"

namespace ncodec::dct {

enum class Kind : uint8_t { dct, dst, angle };

constexpr int MAX_DST_LOG2 = 4;
constexpr int SCALE_BITS = 14;

// 64 sqrt(2) cos(j pi / 128) for j = 1 .. 63, rounded, then moved by at most 0.9 until the rows of all sizes
// are as orthogonal as int8 allows: |cosine of two rows| < 0.0021 and norms within 0.13 %. Entry 0 is row 0's.
constexpr int8_t COSINES[65] = {64, 90, 90, 90, 90, 90, 90, 89, 89, 89, 88, 87, 87, 86, 85, 84, 84, 83, 82, 81, 79, 79,
                                78, 76, 75, 74, 73, 71, 70, 69, 67, 66, 64, 62, 61, 59, 57, 56, 54, 52, 50, 48, 46, 44,
                                43, 41, 39, 37, 34, 32, 31, 28, 27, 24, 22, 20, 18, 15, 13, 11, 9,  7,  4,  2,  0};

// 128 sqrt(N / (2N + 1)) sin(j pi / (2N + 1)) for j = 0 .. N, rounded and moved likewise.
constexpr int8_t SINES_4[5] = {0, 29, 55, 74, 84};
constexpr int8_t SINES_8[9] = {0, 16, 32, 46, 59, 70, 79, 85, 87};
constexpr int8_t SINES_16[17] = {0, 8, 16, 25, 33, 41, 48, 55, 62, 68, 73, 77, 81, 84, 87, 88, 88};

// Left halves of the odd rows of the angle matrices.
constexpr int8_t ANGLE_ODD_4[2][2] = {{2, 1}, {1, -2}};
constexpr int8_t ANGLE_ODD_8[4][4] = {{2, 2, 1, 0}, {1, 0, -2, -2}, {2, -2, 0, 1}, {0, -1, 2, -2}};
constexpr int8_t ANGLE_ODD_16[8][8] = {{2, 2, 2, 2, 2, 1, 1, 0},     {2, 2, 1, -1, -2, -2, -2, 0},
                                       {2, 0, -1, -1, -2, 2, 2, 2},  {2, 0, -2, -2, 2, 1, -1, -2},
                                       {1, -1, -1, 1, 1, -1, -1, 2}, {1, -2, 1, 1, -1, 1, -1, -1},
                                       {0, -1, 2, -2, 1, 0, 0, 1},   {1, -1, 0, 0, 0, -2, 2, -1}};

template <int N>
struct Matrix {
  int8_t rows[N][N];
};

// cos(j pi / 128) from the first quadrant.
constexpr int cosine(int j) {
  j %= 256;
  if (j > 128) j = 256 - j;
  return j > 64 ? -COSINES[128 - j] : COSINES[j];
}

template <int N>
constexpr Matrix<N> dct_matrix() {
  Matrix<N> m{};
  for (int k = 0; k < N; ++k)
    for (int n = 0; n < N; ++n) m.rows[k][n] = static_cast<int8_t>(cosine(64 / N * k * (2 * n + 1)));
  return m;
}

// Basis k of DST-VII is sin(pi (2k + 1)(n + 1) / (2N + 1)).
template <int N>
constexpr Matrix<N> dst_matrix() {
  static_assert(N <= 1 << MAX_DST_LOG2);
  const int8_t* const sines = N == 4 ? SINES_4 : N == 8 ? SINES_8 : SINES_16;
  constexpr int HALF_TURN = 2 * N + 1;
  Matrix<N> m{};
  for (int k = 0; k < N; ++k) {
    for (int n = 0; n < N; ++n) {
      const int j = (2 * k + 1) * (n + 1) % (2 * HALF_TURN);
      const int folded = j % HALF_TURN;
      const int value = sines[folded > N ? HALF_TURN - folded : folded];
      m.rows[k][n] = static_cast<int8_t>(j > HALF_TURN ? -value : value);
    }
  }
  return m;
}

// Sizes 32 and 64 take the next smaller matrix for their odd rows too (Jridi, Alfalou, Meher 2015).
template <int N>
constexpr Matrix<N> angle_matrix() {
  Matrix<N> m{};
  if constexpr (N == 1) {
    m.rows[0][0] = 1;
  } else {
    constexpr int HALF = N / 2;
    const Matrix<HALF> half = angle_matrix<HALF>();
    for (int k = 0; k < HALF; ++k) {
      for (int n = 0; n < HALF; ++n) {
        int8_t odd = half.rows[k][n];
        if constexpr (N == 4) odd = ANGLE_ODD_4[k][n];
        if constexpr (N == 8) odd = ANGLE_ODD_8[k][n];
        if constexpr (N == 16) odd = ANGLE_ODD_16[k][n];
        m.rows[2 * k][n] = m.rows[2 * k][N - 1 - n] = half.rows[k][n];
        m.rows[2 * k + 1][n] = odd;
        m.rows[2 * k + 1][N - 1 - n] = static_cast<int8_t>(-odd);
      }
    }
  }
  return m;
}

template <Kind K, int N>
constexpr Matrix<N> make_matrix() {
  if constexpr (K == Kind::dct) return dct_matrix<N>();
  else if constexpr (K == Kind::dst) return dst_matrix<N>();
  else return angle_matrix<N>();
}

template <Kind K, int N>
inline constexpr Matrix<N> MATRIX = make_matrix<K, N>();

constexpr uint32_t isqrt(uint64_t square) {
  uint64_t root = 0;
  for (uint64_t bit = uint64_t{1} << 31; bit != 0; bit >>= 1)
    if ((root + bit) * (root + bit) <= square) root += bit;
  return static_cast<uint32_t>(root);
}

template <int N>
struct Rows {
  uint32_t norms2[N];  // exact squared norms
  uint16_t scales[N];  // nominal norm / norm, in 1 / 2^SCALE_BITS: at most 1
};

// The nominal norm is 64 sqrt(N) for dct and dst, whose rows all have it to 0.3 %, so that their scales are
// 1; it is sqrt(N), the norm of row 0, for angle.
template <Kind K, int N>
constexpr Rows<N> make_rows() {
  Rows<N> r{};
  for (int k = 0; k < N; ++k) {
    for (const int8_t value : MATRIX<K, N>.rows[k]) r.norms2[k] += static_cast<uint32_t>(value * value);
    uint64_t scale = uint64_t{1} << SCALE_BITS;
    // sqrt of 4 N 2^28 / norm^2 is twice the scale; half of it plus one is the scale rounded.
    if (K == Kind::angle) scale = (isqrt((uint64_t{4 * N} << (2 * SCALE_BITS)) / r.norms2[k]) + 1) / 2;
    r.scales[k] = static_cast<uint16_t>(scale);
  }
  return r;
}

template <Kind K, int N>
inline constexpr Rows<N> ROWS = make_rows<K, N>();

constexpr bool is_valid(Kind kind, int log2_size) {
  return log2_size >= MIN_LOG2 && log2_size <= (kind == Kind::dst ? MAX_DST_LOG2 : MAX_LOG2);
}

namespace detail {

// f(std::integral_constant-like tag of K and N) for a size known at run time; is_valid(kind, log2_size).
template <Kind K, int N>
struct Tag {
  static constexpr Kind KIND = K;
  static constexpr int SIZE = N;
};

template <Kind K, typename F>
decltype(auto) with_size(int log2_size, F&& f) {
  if (log2_size == 2) return f(Tag<K, 4>{});
  if (log2_size == 3) return f(Tag<K, 8>{});
  if constexpr (K != Kind::dst) {
    if (log2_size == 5) return f(Tag<K, 32>{});
    if (log2_size == 6) return f(Tag<K, 64>{});
  }
  return f(Tag<K, 16>{});
}

template <typename F>
decltype(auto) with_transform(Kind kind, int log2_size, F&& f) {
  if (kind == Kind::dct) return with_size<Kind::dct>(log2_size, f);
  if (kind == Kind::dst) return with_size<Kind::dst>(log2_size, f);
  return with_size<Kind::angle>(log2_size, f);
}

}  // namespace detail

// [N * N], row-major; is_valid(kind, log2_size).
inline const int8_t* matrix(Kind kind, int log2_size) {
  return detail::with_transform(kind, log2_size, [](auto tag) -> const int8_t* {
    return MATRIX<decltype(tag)::KIND, decltype(tag)::SIZE>.rows[0];
  });
}

// [N] squared norms of the rows.
inline const uint32_t* norms2(Kind kind, int log2_size) {
  return detail::with_transform(kind, log2_size, [](auto tag) -> const uint32_t* {
    return ROWS<decltype(tag)::KIND, decltype(tag)::SIZE>.norms2;
  });
}

// [N] factors of the rows, in 1 / 2^SCALE_BITS (see transform.hpp).
inline const uint16_t* scales(Kind kind, int log2_size) {
  return detail::with_transform(kind, log2_size, [](auto tag) -> const uint16_t* {
    return ROWS<decltype(tag)::KIND, decltype(tag)::SIZE>.scales;
  });
}

}  // namespace ncodec::dct
