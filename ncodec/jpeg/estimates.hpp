// Probabilities of bins: adaptive estimates, and the mean of two or three.
//
//   context a -> estimate --,
//   context b -> estimate --+--> mean -> share of the interval -> binary coder (specs/binary.md)
//   context c -> estimate --'
//
// An estimate that has seen n bins moves by 1 / (n + 1.5) of its error, so that the first bins teach it most.
// Logistic mixing with learned weights made files half a per cent smaller still, and took half as long again.
// Exact: integers alone.

#pragma once

#include <array>
#include <cstdint>

#include "binary.hpp"

namespace ncodec::jpeg {

constexpr uint32_t LEAST_SHARE = 128;  // of 2^17: a bin costs 0.0014 bits or more

struct Rates {
  static constexpr uint32_t N = 80;
  std::array<uint32_t, N> rate{};  // in 1/65536
  constexpr Rates() {
    for (uint32_t n = 0; n < N; ++n) rate[n] = 131072 / (2 * n + 3);
  }
};
inline constexpr Rates RATES;

// P(1) in 1/65536, in [0, 65535], and how many bins it has seen, up to N - 1; in one word.
class Estimate {
 public:
  uint32_t p() const { return word_ >> 16; }
  void update(uint32_t bin) {
    const uint32_t n = word_ & 0xFFFF;
    const int32_t error = static_cast<int32_t>((0u - bin) & 0xFFFF) - static_cast<int32_t>(p());
    const uint32_t step =
        static_cast<uint32_t>(error * static_cast<int32_t>(RATES.rate[n])) & 0xFFFF0000;  // rounded down
    word_ += step + (n < Rates::N - 1);
  }

 private:
  uint32_t word_ = 0x80000000;
};

// The share of a mean of estimates, from its upper 12 bits. Means are less sure of themselves than they should
// be, so p becomes p + 0.2 p (1 - p) (2p - 1), and is then moved off both ends.
struct Shares {
  std::array<uint32_t, 4096> share{};
  constexpr Shares() {
    for (int64_t i = 0; i < 4096; ++i) {
      const int64_t x = 2 * i + 1, y = 8192 - x;  // p and 1 - p in 1/8192
      const int64_t p = (x << 26) + x * y * (x - y) / 5;
      share[static_cast<size_t>(i)] = LEAST_SHARE + static_cast<uint32_t>(p * ((1 << 17) - 2 * LEAST_SHARE) >> 39);
    }
  }
};
inline constexpr Shares SHARES;

// The mean of `n` estimates, as a share.
inline uint32_t share_of(uint32_t sum, uint32_t n) { return SHARES.share[sum * (65536 / n) >> 20]; }

// One text serves both directions: `bin` is what to encode, and what is returned was encoded or decoded.
class Encoder {
 public:
  static constexpr bool DECODES = false;
  uint32_t code(uint32_t bin, uint32_t share) {
    coder_.encode_share(bin, share);
    return bin;
  }
  uint32_t bypass(uint32_t bin) {
    coder_.encode_bypass(bin);
    return bin;
  }
  BinaryStatus status() const { return BinaryStatus::ok; }
  std::vector<uint8_t> finish() { return coder_.finish(); }

 private:
  BinaryEncoder coder_;
};

class Decoder {
 public:
  static constexpr bool DECODES = true;
  Decoder(const uint8_t* payload, size_t size) : coder_(payload, size) {}
  uint32_t code(uint32_t, uint32_t share) { return coder_.decode_share(share); }
  uint32_t bypass(uint32_t) { return coder_.decode_bypass(); }
  BinaryStatus status() const { return coder_.status(); }
  BinaryStatus finish() const { return coder_.finish(); }

 private:
  BinaryDecoder coder_;
};

template <class Coder>
inline uint32_t code(Coder& coder, uint32_t bin, Estimate& a) {
  bin = coder.code(bin, share_of(a.p(), 1));
  a.update(bin);
  return bin;
}

template <class Coder>
inline uint32_t code(Coder& coder, uint32_t bin, Estimate& a, Estimate& b) {
  bin = coder.code(bin, share_of(a.p() + b.p(), 2));
  a.update(bin);
  b.update(bin);
  return bin;
}

template <class Coder>
inline uint32_t code(Coder& coder, uint32_t bin, Estimate& a, Estimate& b, Estimate& c) {
  Estimate a_next = a, b_next = b, c_next = c;  // no two are the same: each is loaded and stored once
  bin = coder.code(bin, share_of(a.p() + b.p() + c.p(), 3));
  a_next.update(bin);
  b_next.update(bin);
  c_next.update(bin);
  a = a_next;
  b = b_next;
  c = c_next;
  return bin;
}

}  // namespace ncodec::jpeg
