// Eight lanes of int16 and what transforms and prediction do with them: SSE2, or the same in plain C++.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__SSE2__) || defined(_M_X64)
#define NCODEC_SSE2 1
#include <emmintrin.h>
#endif

namespace ncodec::dct::detail {

constexpr int LANES = 8;
constexpr int FINE_BITS = 6;  // of forward_columns_wide

#ifdef NCODEC_SSE2
using Words = __m128i;  // 8 int16, or 4 pairs of them
using Longs = __m128i;  // 4 int32
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
inline Words magnitude(Words a) { return _mm_max_epi16(a, _mm_subs_epi16(zero(), a)); }
inline Words clip(Words a, int16_t low, int16_t high) {
  return _mm_min_epi16(_mm_max_epi16(a, _mm_set1_epi16(low)), _mm_set1_epi16(high));
}
template <int SHIFT>
inline Words shift_down(Words a) {
  return _mm_srai_epi16(a, SHIFT);
}
inline Words shift_up(Words a) { return _mm_slli_epi16(a, FINE_BITS); }
inline Longs shift_up_longs(Longs a) { return _mm_slli_epi32(a, FINE_BITS); }
template <int SHIFT>
inline Longs shift_down_longs(Longs a) {
  return _mm_srai_epi32(a, SHIFT);
}
inline void store_longs(int32_t* to, Longs a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), a); }
#else
struct Words {
  int16_t at[8];
};
struct Longs {
  int32_t at[4];
};
inline Words load(const int16_t* from) {
  Words a;
  std::memcpy(a.at, from, sizeof a.at);
  return a;
}
inline void store(int16_t* to, Words a) { std::memcpy(to, a.at, sizeof a.at); }
inline Words load_half(const int16_t* from) {
  Words a{};
  std::memcpy(a.at, from, sizeof a.at / 2);
  return a;
}
inline void store_half(int16_t* to, Words a) { std::memcpy(to, a.at, sizeof a.at / 2); }
inline Words zero() { return Words{}; }
inline Words pair_low(Words a, Words b) {
  Words c;
  for (int i = 0; i < 4; ++i) {
    c.at[2 * i] = a.at[i];
    c.at[2 * i + 1] = b.at[i];
  }
  return c;
}
inline Words pair_high(Words a, Words b) {
  Words c;
  for (int i = 0; i < 4; ++i) {
    c.at[2 * i] = a.at[4 + i];
    c.at[2 * i + 1] = b.at[4 + i];
  }
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
inline Words magnitude(Words a) {
  return each(a, [](int x) { return std::min(std::abs(x), 32767); });
}
inline Words clip(Words a, int16_t low, int16_t high) {
  return each(a, [=](int x) { return std::clamp<int>(x, low, high); });
}
template <int SHIFT>
inline Words shift_down(Words a) {
  return each(a, [](int x) { return x >> SHIFT; });
}
inline Words shift_up(Words a) {
  return each(a, [](int x) { return x * (1 << FINE_BITS); });
}
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

// The upper bits of forward_columns_wide.
inline Words upper_bits(Words a) { return shift_down<FINE_BITS>(a); }

inline int sum_of(Longs a) {
  int32_t parts[4];
  store_longs(parts, a);
  return parts[0] + parts[1] + parts[2] + parts[3];
}

// Two factors as `dot` takes them.
constexpr int32_t packed(int first, int second) {
  return static_cast<int32_t>((static_cast<uint32_t>(second) << 16) | (static_cast<uint32_t>(first) & 0xFFFF));
}

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

}  // namespace ncodec::dct::detail
