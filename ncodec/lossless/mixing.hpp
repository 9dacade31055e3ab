// Adaptive probabilities of bins, mixed (specs/lossless.md, section 3). Encoder and decoder are one text, `code`.
//
//   slot of context 0 --stretch--\ w[0]  w'[0]
//   slot of context 1 --stretch---+ ..     ..  --> two mixtures, averaged --> refined by what came of such averages -->
//   share
//   ...            1 --stretch--/ w[N]  w'[N]        after the bin: slots, both weight sets and the refinement move
//
// Logistic mixing as in PAQ (Mahoney 2005), integers alone: the same shares on every machine.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "binary.hpp"
#include "clones.hpp"
#include "logistic.hpp"

namespace ncodec::lossless {

struct Encoder {
  static constexpr bool DECODES = false;
  BinaryEncoder coder;
  uint32_t code(uint32_t bin, uint32_t share) {
    coder.encode_share(bin, share);
    return bin;
  }
  bool is_ok() const { return true; }
};

struct Decoder {
  static constexpr bool DECODES = true;
  BinaryDecoder coder;
  uint32_t code(uint32_t, uint32_t share) { return coder.decode_share(share); }
  bool is_ok() const { return coder.status() == BinaryStatus::ok; }
};

inline int log2_of(uint64_t v) { return 63 - __builtin_clzll(v | 1); }  // rounded down; 0 of 0

// L5: P(1) that follows the bins, the slower the more it has seen.
struct Slot {
  uint16_t p = 0x8000, n = 0;

  NCODEC_INLINE int stretched() const { return LOGISTIC.stretch[p >> 4]; }
  NCODEC_INLINE void update(uint32_t bin) {
    const int target = bin ? 65535 : 0;
    p = static_cast<uint16_t>(p + ((int64_t{target - p} * RATES.rate[n]) >> 16));
    n = static_cast<uint16_t>(n + (n < 255));
  }
};

constexpr size_t INPUTS = 16;                // slots, 256, zeros: one vector or two
constexpr int WEIGHT_BITS = 18;              // of 1
constexpr int WEIGHT_BOUND = (1 << 20) - 1;  // 16 products of (w >> 4) and a stretch stay below 2^31

struct Weights {
  std::array<int32_t, INPUTS> w{};
  explicit Weights(size_t n) { std::fill_n(w.begin(), n, (3 << (WEIGHT_BITS - 1)) / static_cast<int>(n)); }
};

// L7: P(1) after a mixture of about (i - 16) * 128.
struct Refinement {
  std::array<uint16_t, 33> p;
  Refinement() {
    for (int i = 0; i < 33; ++i) p[i] = LOGISTIC.squash[std::clamp((i - 16) * 128, -2047, 2047) + 2048];
  }
};

// L6, L7: a bin of N slots; RATE: of learning, the more the slower.
template <size_t N, int RATE, class Coder>
NCODEC_INLINE uint32_t code_mixed(Coder& coder, uint32_t bin, Slot* const* slots, Weights& a, Weights& b,
                                  Refinement& refinement) {
  static_assert(N < INPUTS);
  int32_t s[INPUTS] = {};
  for (size_t i = 0; i < N; ++i) s[i] = slots[i]->stretched();
  s[N] = 256;
  int32_t dot_a = 0, dot_b = 0;
  for (size_t i = 0; i < INPUTS; ++i) dot_a += (a.w[i] >> 4) * s[i], dot_b += (b.w[i] >> 4) * s[i];
  dot_a = std::clamp(dot_a >> (WEIGHT_BITS - 4), -2047, 2047);
  dot_b = std::clamp(dot_b >> (WEIGHT_BITS - 4), -2047, 2047);
  const int mixed = (dot_a + dot_b) >> 1, at = (mixed + 2048) >> 7, rest = (mixed + 2048) & 127;
  const int refined = (refinement.p[at] * (128 - rest) + refinement.p[at + 1] * rest) >> 7;
  const int p = std::clamp((LOGISTIC.squash[mixed + 2048] + refined + 1) >> 1, SHARE_LOW, 65536 - SHARE_LOW);
  bin = coder.code(bin, static_cast<uint32_t>(p) * 2);

  const int target = bin ? 65535 : 0;
  const int error_a = target - LOGISTIC.squash[dot_a + 2048], error_b = target - LOGISTIC.squash[dot_b + 2048];
  constexpr int HALF = 1 << (RATE - 1);
  for (size_t i = 0; i < INPUTS; ++i) {
    a.w[i] = std::clamp(a.w[i] + ((s[i] * error_a + HALF) >> RATE), -WEIGHT_BOUND, WEIGHT_BOUND);
    b.w[i] = std::clamp(b.w[i] + ((s[i] * error_b + HALF) >> RATE), -WEIGHT_BOUND, WEIGHT_BOUND);
  }
  uint16_t& nearest = refinement.p[at + (rest >= 64)];
  nearest = static_cast<uint16_t>(nearest + ((target - nearest) >> 6));
  for (size_t i = 0; i < N; ++i) slots[i]->update(bin);
  return bin;
}

// L4: a bin of one slot.
template <class Coder>
uint32_t code_alone(Coder& coder, uint32_t bin, Slot& slot) {
  bin = coder.code(bin, static_cast<uint32_t>(std::clamp<int>(slot.p, SHARE_LOW, 65536 - SHARE_LOW)) * 2);
  slot.update(bin);
  return bin;
}

// L4: numbers below 2^17 - 1, small ones cheapest: the length of v + 1 in unary, its other bits from the top.
class Numbers {
 public:
  template <class Coder>
  uint32_t code(Coder& coder, uint32_t v) {
    const int own = log2_of(v + 1);
    int length = 0;
    while (length < 16 && code_alone(coder, own > length, lengths_[length])) ++length;
    uint32_t out = 1;
    for (int i = length - 1; i >= 0; --i) out = out << 1 | code_alone(coder, (v + 1) >> i & 1, bits_[length][i]);
    return out - 1;
  }

 private:
  Slot lengths_[17], bits_[17][17];
};

}  // namespace ncodec::lossless
