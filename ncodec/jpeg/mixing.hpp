// Probabilities of bins: adaptive estimates, and mixtures of three by learned weights (logistic mixing).
//
//   estimate a -> stretch -> * w0 --,
//   estimate b -> stretch -> * w1 --+--> squash -> share -> binary coder
//   estimate c -> stretch -> * w2 --'       ^ weights learn from the error of the mixture
//
// stretch(p) = ln(p / (1 - p)), squash its inverse. After Mahoney, "Adaptive weighing of context models for
// lossless data compression", 2005. Exact: integers alone, tables made by integer arithmetic.

#pragma once

#include <array>
#include <cstdint>

#include "binary.hpp"

namespace ncodec::jpeg {

constexpr uint32_t LEAST_SHARE = 128;  // of 2^17: a bin costs 0.0014 bits or more

// P(1) in 1/65536, and how many bins it has seen: its rate is 1 / (n + 1.5), and stays at the last.
struct Estimate {
  uint16_t p = 0x8000, n = 0;
};
constexpr int N_RATES = 80;

struct Weights {
  std::array<int32_t, 2> w{32000, 32000};  // of 65536
};
constexpr int LEARNING_SHIFT = 15;
constexpr int32_t ROUNDING = 1 << (LEARNING_SHIFT - 1);

struct MixingTables {
  std::array<uint16_t, 4096> squash;   // of x / 256, x = index - 2048, in 1/65536
  std::array<int16_t, 4096> stretch;   // of (index + 1/2) / 4096, times 256
  std::array<uint16_t, N_RATES> rate;  // in 1/65536

  MixingTables() {
    uint64_t power = uint64_t{1} << 32;  // 2^32 e^(-x / 256)
    for (size_t x = 0; x < 2048; ++x) {
      const uint64_t p = (uint64_t{1} << 48) / ((uint64_t{1} << 32) + power);
      squash[2048 + x] = static_cast<uint16_t>(p);
      squash[2048 - x] = static_cast<uint16_t>(65536 - p);
      power = power * 4278222805 >> 32;  // 2^32 e^(-1 / 256)
    }
    squash[0] = squash[1];
    size_t x = 0;
    for (size_t i = 0; i < 4096; ++i) {
      while (x < 4095 && squash[x + 1] <= 16 * i + 8) ++x;
      stretch[i] = static_cast<int16_t>(static_cast<int>(x) - 2048);
    }
    for (size_t n = 0; n < N_RATES; ++n) rate[n] = static_cast<uint16_t>(131072 / (2 * n + 3));
  }
};
inline const MixingTables TABLES;

inline void adapt(Estimate& estimate, uint32_t bin) {
  const int32_t error = static_cast<int32_t>(bin * 0xFFFF) - estimate.p;
  estimate.p = static_cast<uint16_t>(estimate.p + ((error * static_cast<int32_t>(TABLES.rate[estimate.n])) >> 16));
  estimate.n = static_cast<uint16_t>(estimate.n + (estimate.n < N_RATES - 1));
}

inline uint32_t share_of(uint32_t p) {
  const uint32_t share = 2 * p;
  return share < LEAST_SHARE ? LEAST_SHARE : share > 131072 - LEAST_SHARE ? 131072 - LEAST_SHARE : share;
}

// One text for both directions: `bin` is what to encode, and what is returned was encoded or decoded.
class MixingEncoder {
 public:
  uint32_t code(uint32_t bin, uint32_t share) {
    coder_.encode_share(bin, share);
    return bin;
  }
  uint32_t bypass(uint32_t bin) {
    coder_.encode_bypass(bin);
    return bin;
  }
  std::vector<uint8_t> finish() { return coder_.finish(); }
  BinaryStatus status() const { return BinaryStatus::ok; }

 private:
  BinaryEncoder coder_;
};

class MixingDecoder {
 public:
  MixingDecoder(const uint8_t* payload, size_t size) : coder_(payload, size) {}
  uint32_t code(uint32_t, uint32_t share) { return coder_.decode_share(share); }
  uint32_t bypass(uint32_t) { return coder_.decode_bypass(); }
  BinaryStatus status() const { return coder_.status(); }
  BinaryStatus finish() const { return coder_.finish(); }

 private:
  BinaryDecoder coder_;
};

template <class Coder>
inline uint32_t code_single(Coder& coder, uint32_t bin, Estimate& estimate) {
  bin = coder.code(bin, share_of(estimate.p));
  adapt(estimate, bin);
  return bin;
}

template <class Coder>
inline uint32_t code_mixed(Coder& coder, uint32_t bin, Estimate& a, Estimate& b, Weights& weights) {
  const int32_t x[2] = {TABLES.stretch[a.p >> 4], TABLES.stretch[b.p >> 4]};
  auto& w = weights.w;
  const int64_t sum = int64_t{w[0]} * x[0] + int64_t{w[1]} * x[1];
  int64_t y = sum >> 16;
  y = y < -2047 ? -2047 : y > 2047 ? 2047 : y;
  const int32_t p = TABLES.squash[static_cast<size_t>(y + 2048)];
  bin = coder.code(bin, share_of(static_cast<uint32_t>(p)));
  const int32_t error = static_cast<int32_t>(bin << 16) - p;
  for (size_t i = 0; i < 2; ++i)  // modulo 2^32: hostile bins cannot overflow a weight
    w[i] = static_cast<int32_t>(static_cast<uint32_t>(w[i]) + static_cast<uint32_t>((x[i] * error + ROUNDING) >> LEARNING_SHIFT));
  adapt(a, bin);
  adapt(b, bin);
  return bin;
}

}  // namespace ncodec::jpeg
