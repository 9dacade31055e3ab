// One chunk, four lanes at once with NEON: the same symbols as rans.hpp, by test. NEON has no gather, so the
// look-ups stay scalar; states and words are vectors. Encoding is the scalar coder's.

#pragma once

#include "rans.hpp"

#if defined(__aarch64__)
#define NCODEC_NEON 1
#include <arm_neon.h>

namespace ncodec {

// For a mask of lanes: the bytes of the word that each lane takes, 255 (zero) for the upper half.
struct LaneShuffles {
  alignas(16) std::array<std::array<uint8_t, 16>, 16> expand{};
  LaneShuffles() {
    for (int mask = 0; mask < 16; ++mask) {
      uint8_t at = 0;
      for (int lane = 0; lane < 4; ++lane) {
        const bool takes = mask >> lane & 1;
        expand[mask][4 * lane] = takes ? at : 255;
        expand[mask][4 * lane + 1] = takes ? at + 1 : 255;
        expand[mask][4 * lane + 2] = expand[mask][4 * lane + 3] = 255;
        if (takes) at += 2;
      }
    }
  }
};
inline const LaneShuffles LANE_SHUFFLES;

// As ChunkDecoder::run, for 4 * V lanes; stops short of `finish` where the scalar coder has to go on.
template <int V>
inline void decode_groups(ChunkDecoder& d, const uint16_t* rows, size_t& begin, size_t finish, int32_t* symbols) {
  constexpr size_t lanes = 4 * V;
  const uint32_t bit_of_lane[4] = {1, 2, 4, 8};
  const uint32x4_t lane_bits = vld1q_u32(bit_of_lane);
  uint32x4_t x[V];
  for (int v = 0; v < V; ++v) x[v] = vld1q_u32(&d.states[4 * v]);
  while (finish - begin >= lanes && d.end - d.word >= static_cast<std::ptrdiff_t>(2 * lanes + 8)) {
    uint32x4_t next[V];
    uint32_t escaped = 0;
    const uint8_t* word = d.word;
    for (int v = 0; v < V; ++v) {
      uint32_t slots[4], found[4];
      const uint32x4_t slot = vandq_u32(x[v], vdupq_n_u32(FREQ_SUM - 1));
      vst1q_u32(slots, slot);
      for (int lane = 0; lane < 4; ++lane) {
        const size_t i = begin + 4 * v + lane;
        const uint32_t entry = d.tables.find(rows[i], slots[lane]);
        found[lane] = d.tables.intervals()[entry];
        symbols[i] = d.tables.symbols()[entry];
        escaped |= static_cast<uint32_t>(symbols[i] == ESCAPE) << (4 * v + lane);
      }
      const uint32x4_t interval = vld1q_u32(found);
      const uint32x4_t offset = vsubq_u32(slot, vandq_u32(interval, vdupq_n_u32(0xFFFF)));
      const uint32x4_t y = vmlaq_u32(offset, vshrq_n_u32(interval, 16), vshrq_n_u32(x[v], FREQ_BITS));
      const uint32x4_t low = vcltq_u32(y, vdupq_n_u32(STATE_LOW));
      const uint32_t mask = vaddvq_u32(vandq_u32(low, lane_bits));
      uint8x16_t bytes = vcombine_u8(vld1_u8(word), vdup_n_u8(0));
      bytes = vqtbl1q_u8(bytes, vld1q_u8(LANE_SHUFFLES.expand[mask].data()));
      next[v] = vbslq_u32(low, vorrq_u32(vshlq_n_u32(y, 16), vreinterpretq_u32_u8(bytes)), y);
      word += 2 * __builtin_popcount(mask);
    }
    if (!d.end_group(word, escaped, rows + begin, symbols + begin)) break;
    for (int v = 0; v < V; ++v) x[v] = next[v];
    begin += lanes;
  }
  for (int v = 0; v < V; ++v) vst1q_u32(&d.states[4 * v], x[v]);
}

}  // namespace ncodec
#endif
