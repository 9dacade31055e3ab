// One chunk, eight lanes at once with AVX2: the same bytes and symbols as rans.hpp, by test.
//
// A group is one symbol for every lane. Groups with an escape, and those near the ends of the payload, are
// left to the scalar coder, so nothing is read or written here that it would not reach.

#pragma once

#include "rans.hpp"

#if defined(__x86_64__) || defined(_M_X64)
#define NCODEC_AVX2 1
#include <immintrin.h>
#ifdef _MSC_VER
#include <intrin.h>
#define NCODEC_TARGET_AVX2
#else
#define NCODEC_TARGET_AVX2 __attribute__((target("avx2,popcnt")))
#endif

namespace ncodec {

inline bool has_avx2() {
#ifdef _MSC_VER
  int info[4];
  __cpuidex(info, 7, 0);
  const bool avx2 = info[1] & 1 << 5;
  __cpuid(info, 1);
  return avx2 && (info[2] & 1 << 27) && (_xgetbv(0) & 6) == 6;
#else
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
#endif
}

// For a mask of lanes: which word a lane takes (expand), and which lane a word comes from (compress; the
// words end at the top).
struct LanePermutations {
  alignas(32) std::array<std::array<int32_t, 8>, 256> expand{}, compress{};
  LanePermutations() {
    for (int mask = 0; mask < 256; ++mask) {
      int taken = 0, at = 7;
      for (int lane = 0; lane < 8; ++lane) expand[mask][lane] = mask >> lane & 1 ? taken++ : 0;
      for (int lane = 7; lane >= 0; --lane)
        if (mask >> lane & 1) compress[mask][at--] = lane;
    }
  }
};
inline const LanePermutations LANE_PERMUTATIONS;

// As ChunkDecoder::run, for 8 * V lanes; stops short of `finish` where the scalar coder has to go on.
template <int V>
NCODEC_TARGET_AVX2 inline Status decode_groups(ChunkDecoder& d, const uint16_t* rows, size_t& begin, size_t finish,
                                               int32_t* symbols) {
  constexpr size_t lanes = 8 * V;
  const auto* buckets = reinterpret_cast<const int*>(d.tables.buckets());
  const auto* lookups = reinterpret_cast<const int*>(d.tables.lookups());
  const auto* intervals = reinterpret_cast<const int*>(d.tables.intervals());
  const int* values = d.tables.symbols();
  const __m256i slot_mask = _mm256_set1_epi32(FREQ_SUM - 1), low16 = _mm256_set1_epi32(0xFFFF);
  const __m256i zero = _mm256_setzero_si256(), escape = _mm256_set1_epi32(ESCAPE);
  __m256i x[V];
  for (int v = 0; v < V; ++v) x[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(&d.states[8 * v]));
  while (finish - begin >= lanes && d.end - d.word >= 16 * V) {
    __m256i next[V], escaped = zero;
    const uint8_t* word = d.word;
    for (int v = 0; v < V; ++v) {
      const __m256i row = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + begin + 8 * v)));
      const __m256i slot = _mm256_and_si256(x[v], slot_mask);
      const uint16_t* rr = rows + begin + 8 * v;
      const __m256i lookup = _mm256_setr_epi32(lookups[rr[0]], lookups[rr[1]], lookups[rr[2]], lookups[rr[3]], lookups[rr[4]], lookups[rr[5]], lookups[rr[6]], lookups[rr[7]]);
      const __m256i bucket = _mm256_add_epi32(_mm256_srli_epi32(lookup, 3),
                                              _mm256_srlv_epi32(slot, _mm256_and_si256(lookup, _mm256_set1_epi32(7))));
      __m256i entry = _mm256_i32gather_epi32(buckets, bucket, 4);
      __m256i interval = _mm256_i32gather_epi32(intervals, entry, 4);
      __m256i freq = _mm256_srli_epi32(interval, 16);
      __m256i offset = _mm256_sub_epi32(slot, _mm256_and_si256(interval, low16));
      __m256i found = _mm256_cmpgt_epi32(freq, offset);
      while (_mm256_movemask_epi8(found) != -1) {  // the next entry, for lanes whose interval ends before the slot
        entry = _mm256_sub_epi32(entry, _mm256_andnot_si256(found, _mm256_set1_epi32(-1)));
        interval = _mm256_i32gather_epi32(intervals, entry, 4);
        freq = _mm256_srli_epi32(interval, 16);
        offset = _mm256_sub_epi32(slot, _mm256_and_si256(interval, low16));
        found = _mm256_cmpgt_epi32(freq, offset);
      }
      const __m256i symbol = _mm256_i32gather_epi32(values, entry, 4);
      escaped = _mm256_or_si256(escaped, _mm256_cmpeq_epi32(symbol, escape));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(symbols + begin + 8 * v), symbol);
      const __m256i y = _mm256_add_epi32(_mm256_mullo_epi32(freq, _mm256_srli_epi32(x[v], FREQ_BITS)), offset);
      const __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(y, 16), zero);
      const int mask = _mm256_movemask_ps(_mm256_castsi256_ps(low));
      const __m256i words = _mm256_permutevar8x32_epi32(
          _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(word))),
          _mm256_load_si256(reinterpret_cast<const __m256i*>(LANE_PERMUTATIONS.expand[mask].data())));
      next[v] = _mm256_blendv_epi8(y, _mm256_or_si256(_mm256_slli_epi32(y, 16), words), low);
      word += 2 * _mm_popcnt_u32(static_cast<unsigned>(mask));
    }
    if (_mm256_movemask_epi8(escaped) != 0) break;
    for (int v = 0; v < V; ++v) x[v] = next[v];
    d.word = word;
    begin += lanes;
  }
  for (int v = 0; v < V; ++v) _mm256_storeu_si256(reinterpret_cast<__m256i*>(&d.states[8 * v]), x[v]);
  return Status::ok;
}

// As ChunkEncoder::run, for 8 * V lanes and whole groups; `end` moves down to where the scalar coder has to go on.
template <int V>
NCODEC_TARGET_AVX2 inline void encode_groups(ChunkEncoder& c, const int32_t* symbols, const uint16_t* rows, size_t begin,
                                             size_t& end) {
  constexpr size_t lanes = 8 * V;
  const auto* firsts = reinterpret_cast<const int*>(c.tables.firsts());
  const auto* sizes = reinterpret_cast<const int*>(c.tables.sizes());
  const auto* intervals = reinterpret_cast<const int*>(c.tables.intervals());
  const __m256i low16 = _mm256_set1_epi32(0xFFFF), one = _mm256_set1_epi32(1);
  __m256i x[V];
  for (int v = 0; v < V; ++v) x[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(&c.states[8 * v]));
  for (; end - begin >= lanes; end -= lanes) {
    __m256i interval[V], escaped = _mm256_setzero_si256();
    for (int v = 0; v < V; ++v) {
      const size_t at = end - lanes + 8 * v;
      const __m256i symbol = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(symbols + at));
      const __m256i row = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + at)));
      const __m256i e = _mm256_xor_si256(_mm256_slli_epi32(symbol, 1), _mm256_srai_epi32(symbol, 31));
      const __m256i last = _mm256_sub_epi32(_mm256_i32gather_epi32(sizes, row, 4), one);
      escaped = _mm256_or_si256(escaped, _mm256_cmpeq_epi32(_mm256_max_epu32(e, last), e));
      const __m256i within = _mm256_min_epu32(e, last);
      interval[v] = _mm256_i32gather_epi32(intervals, _mm256_add_epi32(_mm256_i32gather_epi32(firsts, row, 4), within), 4);
    }
    if (_mm256_movemask_epi8(escaped) != 0) break;
    for (int v = V - 1; v >= 0; --v) {
      const __m256i start = _mm256_and_si256(interval[v], low16), freq = _mm256_srli_epi32(interval[v], 16);
      const __m256i fits = _mm256_cmpgt_epi32(freq, _mm256_srli_epi32(x[v], 32 - FREQ_BITS));
      const int mask = ~_mm256_movemask_ps(_mm256_castsi256_ps(fits)) & 0xFF;
      const __m256i words = _mm256_permutevar8x32_epi32(
          _mm256_and_si256(x[v], low16),
          _mm256_load_si256(reinterpret_cast<const __m256i*>(LANE_PERMUTATIONS.compress[mask].data())));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(c.word - 16),
                       _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
      c.word -= 2 * _mm_popcnt_u32(static_cast<unsigned>(mask));
      const __m256i y = _mm256_blendv_epi8(_mm256_srli_epi32(x[v], 16), x[v], fits);  // y < freq * 2^18
      // y / freq in float is at most one off, as y / freq < 2^18 and float32 has 24 bits; then made exact.
      const __m256 yf = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(y, 16)), _mm256_set1_ps(65536.0f)),
                                      _mm256_cvtepi32_ps(_mm256_and_si256(y, low16)));
      __m256i quotient = _mm256_cvttps_epi32(_mm256_div_ps(yf, _mm256_cvtepi32_ps(freq)));
      __m256i rest = _mm256_sub_epi32(y, _mm256_mullo_epi32(quotient, freq));
      const __m256i negative = _mm256_srai_epi32(rest, 31);
      quotient = _mm256_add_epi32(quotient, negative);
      rest = _mm256_add_epi32(rest, _mm256_and_si256(negative, freq));
      const __m256i below = _mm256_cmpgt_epi32(freq, rest);
      quotient = _mm256_add_epi32(quotient, _mm256_andnot_si256(below, one));
      rest = _mm256_sub_epi32(rest, _mm256_andnot_si256(below, freq));
      x[v] = _mm256_add_epi32(_mm256_slli_epi32(quotient, FREQ_BITS), _mm256_add_epi32(rest, start));
    }
  }
  for (int v = 0; v < V; ++v) _mm256_storeu_si256(reinterpret_cast<__m256i*>(&c.states[8 * v]), x[v]);
}

}  // namespace ncodec
#endif
