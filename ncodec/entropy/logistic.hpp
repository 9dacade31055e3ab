// Adaptive probabilities of bins, mixed in the logistic domain (specs/dct.md section 3, specs/tokenizer.md section 3).
//
//   context --> P(1) --stretch--\ w[0]
//   another --> P(1) --stretch---+ w[1] --> squash --> share of the range coder (binary.hpp)
//   ...                    ...--/ w[N - 1]        after the bin: P of the contexts and the weights move
//
// Logistic mixing as in PAQ (Mahoney 2005): weights descend the gradient of the coding cost. A context
// adapts fast while it is new (rate 1 / (n + 1.5), Krichevsky-Trofimov-like) and may start from training.
// Everything is exact integer arithmetic: the same shares on every machine.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "clones.hpp"

namespace ncodec {

// squash(d) is about 65536 / (1 + exp(-d / 256)) at d = -2048, -1920, ... 2048.
constexpr std::array<int, 33> SQUASH = {22,    36,    60,    98,    162,   267,   439,   720,   1179,  1921,  3108,
                                        4971,  7812,  11955, 17625, 24743, 32768, 40793, 47911, 53581, 57724, 60565,
                                        62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514};
constexpr int STRETCH_MAX = 2047;
constexpr int SHARE_LOW = 64;  // of 2^16: both bins keep a share

struct LogisticTables {
  std::array<uint16_t, 4096> squash;  // of d + 2048
  std::array<int16_t, 4096> stretch;  // of P >> 4

  LogisticTables() {
    for (int i = 0; i < 4096; ++i) {
      const int low = SQUASH[i >> 7], high = SQUASH[(i >> 7) + 1];
      squash[i] = static_cast<uint16_t>(low + ((high - low) * (i & 127) + 64) / 128);
    }
    int d = 0;
    for (int p = 0; p < 4096; ++p) {  // the first d whose squash reaches the middle of the interval
      while (d < 4095 && squash[d] < p * 16 + 8) ++d;
      stretch[p] = static_cast<int16_t>(std::clamp(d - 2048, -STRETCH_MAX, STRETCH_MAX));
    }
  }
};
inline const LogisticTables LOGISTIC;

struct RateTables {
  std::array<uint16_t, 256> rate;  // of 2^16, after n bins
  RateTables() {
    for (int n = 0; n < 256; ++n) rate[n] = static_cast<uint16_t>(131072 / (2 * n + 3));
  }
};
inline const RateTables RATES;

// Bins are counted up to here. A start may be worth more (dct's Parameters::confidence), and then adapts slower.
constexpr int PATIENCE = 120;

// D11: P(1) that follows the bins.
struct Context {
  uint16_t p = 0x8000;  // P(1), of 2^16
  uint8_t n = 0;        // bins seen, up to PATIENCE, or what the start is worth

  int stretched() const { return LOGISTIC.stretch[p >> 4]; }

  void update(uint32_t bin) {
    const int target = bin ? 65535 : 0;
    p = static_cast<uint16_t>(p + ((int64_t{target - p} * RATES.rate[n]) >> 16));  // 65535 x rate[0] is over 2^31
    n = static_cast<uint8_t>(n + (n < PATIENCE));
  }
};

// |w| <= 2^18 and |stretch| < 2^11: the sum of three products is below 2^31.
constexpr int WEIGHT_MAX = 1 << 18;

template <size_t N>
struct Mixer {
  static_assert(N <= 3, "sums stay below 2^31");
  std::array<int32_t, N> w;  // of 2^16
};

template <size_t N>
struct Mixture {
  std::array<int, N> s;
  int p;  // P(1), of 2^16

  uint32_t share() const { return static_cast<uint32_t>(p) * 2; }
};

// D9: set m.p from m.s.
template <size_t N>
NCODEC_INLINE void mix(const Mixer<N>& mixer, Mixture<N>& m) {
  int dot = 0;
  for (size_t i = 0; i < N; ++i) dot += mixer.w[i] * m.s[i];
  const int p = LOGISTIC.squash[std::clamp(dot >> 16, -2048, 2047) + 2048];
  m.p = std::clamp(p, SHARE_LOW, 65536 - SHARE_LOW);
}

// D10: weights move by stretch * error / 2^rate.
template <size_t N>
NCODEC_INLINE void learn(Mixer<N>& mixer, const Mixture<N>& m, int rate, uint32_t bin) {
  const int error = (bin ? 65535 : 0) - m.p;
  for (size_t i = 0; i < N; ++i)
    mixer.w[i] = std::clamp(mixer.w[i] + ((m.s[i] * error + (1 << (rate - 1))) >> rate), -WEIGHT_MAX, WEIGHT_MAX);
}

}  // namespace ncodec
