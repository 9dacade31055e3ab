// One chunk, eight lanes at once with AVX2: the same bytes and symbols as rans.hpp, by test.
//
// A group is one symbol for every lane. Groups near the ends of the payload, and those in error, are left to
// the scalar coder, so nothing is read or written here that it would not reach.

#pragma once

#include "rans.hpp"

#if defined(__x86_64__) || defined(_M_X64)
#define NCODEC_RANS_AVX2 1
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
NCODEC_TARGET_AVX2 inline void decode_groups(ChunkDecoder& d, const uint16_t* rows, size_t& begin, size_t finish,
                                             int32_t* symbols) {
  constexpr size_t lanes = 8 * V;
  const auto *quick = reinterpret_cast<const int*>(d.tables.quick()),
             *fines = reinterpret_cast<const int*>(d.tables.fine());
  const __m256i quick_mask = _mm256_set1_epi32((1 << QUICK_BITS) - 1),
                in_fine = _mm256_set1_epi32((1 << FINE_BITS) - 1);
  const __m256i fine_mask = _mm256_set1_epi32(MAX_FINE_FREQ - 1);
  const __m256i slot_mask = _mm256_set1_epi32(FREQ_SUM - 1), one = _mm256_set1_epi32(1), zero = _mm256_setzero_si256();
  __m256i x[V];
  for (int v = 0; v < V; ++v) x[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(&d.states[8 * v]));
  while (finish - begin >= lanes && d.end - d.word >= 16 * V) {
    __m256i next[V];
    uint32_t escaped = 0;
    const uint8_t* word = d.word;
    for (int v = 0; v < V; ++v) {
      const uint16_t* row = rows + begin + 8 * v;
      const __m256i slot = _mm256_and_si256(x[v], slot_mask);
      const __m256i bucket = _mm256_or_si256(
          _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row))), LOG_QUICK),
          _mm256_srli_epi32(slot, QUICK_BITS));
      const __m256i found = _mm256_i32gather_epi32(quick, bucket, 4);
      __m256i entry = _mm256_srli_epi32(found, 28);
      __m256i freq = _mm256_add_epi32(_mm256_and_si256(_mm256_srli_epi32(found, 14), slot_mask), one);
      __m256i offset = _mm256_sub_epi32(slot, _mm256_and_si256(found, slot_mask));
      const __m256i look_on = _mm256_cmpeq_epi32(entry, _mm256_set1_epi32(15));
      if (_mm256_movemask_epi8(look_on) != 0) {
        const __m256i place = _mm256_add_epi32(_mm256_and_si256(found, _mm256_set1_epi32(static_cast<int>(~NOT_QUICK))),
                                               _mm256_srli_epi32(_mm256_and_si256(slot, quick_mask), FINE_BITS));
        const __m256i fine = _mm256_mask_i32gather_epi32(zero, fines, place, look_on, 4);
        const __m256i fine_freq = _mm256_add_epi32(_mm256_and_si256(_mm256_srli_epi32(fine, 11), fine_mask), one);
        const __m256i fine_offset =
            _mm256_add_epi32(_mm256_and_si256(fine, fine_mask), _mm256_and_si256(slot, in_fine));
        entry = _mm256_blendv_epi8(entry, _mm256_srli_epi32(fine, 22), look_on);
        freq = _mm256_blendv_epi8(freq, fine_freq, look_on);
        offset = _mm256_blendv_epi8(offset, fine_offset, look_on);
        const __m256i not_fine = _mm256_cmpeq_epi32(fine, _mm256_set1_epi32(static_cast<int>(NOT_FINE)));
        unsigned slow = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(not_fine)));
        if (slow != 0) {
          alignas(32) uint32_t slots[8], offsets[8], freqs[8], entries[8];
          _mm256_store_si256(reinterpret_cast<__m256i*>(slots), slot);
          _mm256_store_si256(reinterpret_cast<__m256i*>(offsets), offset);
          _mm256_store_si256(reinterpret_cast<__m256i*>(freqs), freq);
          _mm256_store_si256(reinterpret_cast<__m256i*>(entries), entry);
          for (; slow != 0; slow &= slow - 1) {
            const int lane = _mm_popcnt_u32(~slow & (slow - 1));  // the lowest set bit
            const uint32_t at = d.tables.find(row[lane], slots[lane]), interval = d.tables.intervals()[at];
            offsets[lane] = slots[lane] - start_of(interval);
            freqs[lane] = freq_of(interval);
            entries[lane] = at - d.tables.first(row[lane]);
            escaped |= static_cast<uint32_t>(entries[lane] == d.tables.size(row[lane]) - 1) << (8 * v + lane);
          }
          offset = _mm256_load_si256(reinterpret_cast<const __m256i*>(offsets));
          freq = _mm256_load_si256(reinterpret_cast<const __m256i*>(freqs));
          entry = _mm256_load_si256(reinterpret_cast<const __m256i*>(entries));
        }
      }
      const __m256i sign = _mm256_sub_epi32(zero, _mm256_and_si256(entry, one));
      const __m256i symbol = _mm256_xor_si256(_mm256_srli_epi32(entry, 1), sign);
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
    if (!d.end_group(word, escaped, rows + begin, symbols + begin)) break;
    for (int v = 0; v < V; ++v) x[v] = next[v];
    begin += lanes;
  }
  for (int v = 0; v < V; ++v) _mm256_storeu_si256(reinterpret_cast<__m256i*>(&d.states[8 * v]), x[v]);
}

// As ChunkEncoder::run, for 8 * V lanes and whole groups: symbols [0, end), of which none are left then.
template <int V>
NCODEC_TARGET_AVX2 inline void encode_groups(ChunkEncoder& c, const int32_t* symbols, const uint16_t* rows,
                                             size_t& end) {
  constexpr size_t lanes = 8 * V;
  const auto* firsts = reinterpret_cast<const int*>(c.tables.firsts());
  const auto* sizes = reinterpret_cast<const int*>(c.tables.sizes());
  const auto* intervals = reinterpret_cast<const int*>(c.tables.intervals());
  const __m256i low16 = _mm256_set1_epi32(0xFFFF), one = _mm256_set1_epi32(1);
  __m256i x[V];
  for (int v = 0; v < V; ++v) x[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(&c.states[8 * v]));
  for (; end > 0; end -= lanes) {
    __m256i interval[V];
    uint32_t escaped = 0;
    for (int v = 0; v < V; ++v) {
      const size_t at = end - lanes + 8 * v;
      const __m256i symbol = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(symbols + at));
      const __m256i row = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + at)));
      const __m256i e = _mm256_xor_si256(_mm256_slli_epi32(symbol, 1), _mm256_srai_epi32(symbol, 31));
      const __m256i last = _mm256_sub_epi32(_mm256_i32gather_epi32(sizes, row, 4), one);
      const __m256i escapes = _mm256_cmpeq_epi32(_mm256_max_epu32(e, last), e);
      escaped |= static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(escapes))) << 8 * v;
      const __m256i within = _mm256_min_epu32(e, last);
      interval[v] =
          _mm256_i32gather_epi32(intervals, _mm256_add_epi32(_mm256_i32gather_epi32(firsts, row, 4), within), 4);
    }
    if (escaped != 0) c.put_escapes(escaped, symbols + end - lanes, rows + end - lanes);
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
      const __m256 yf =
          _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(y, 16)), _mm256_set1_ps(65536.0f)),
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
