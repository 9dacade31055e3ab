// Adaptive binary arithmetic coding (a range coder), specs/binary.md. Knows nothing of Python.
//
//   encoder   | bytes out ............ | low: carry, 32 bits |     low + range is the end of the interval
//             <- a carry goes this way
//   decoder   | bytes read ........... | 32-bit window |           offset = window - low < range
//             payload .................. x |0  0  0  |             the last 3 bytes of the window are not stored
//
// A context is two estimates of P(1), one quick and one slow, that are averaged; a bypass bin has
// P(1) = 1/2 and no context. Range encoding after Martin 1979, bytes out, carries added to the bytes
// already written; the two rates are VVC's (H.266, 9.3.4.3.2). Every read is bounded; errors are returned,
// never thrown (memory apart). `encode` and `decode` are cheap enough to call once a bin.

#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace ncodec {

constexpr int QUICK_RATE = 4;
constexpr int SLOW_RATE = 7;
constexpr int PROBABILITY_BITS = 17;                // of the sum of two 16-bit estimates
constexpr uint64_t RANGE_FULL = uint64_t{1} << 32;  // before the first bin, and never again
constexpr uint64_t RANGE_LOW = uint64_t{1} << 24;   // below it a byte is shifted out
constexpr size_t MISSING_BYTES = 3;                 // of the last window, all 0
constexpr uint16_t BYPASS = 0xFFFF;                 // instead of a context's number
constexpr size_t MAX_CONTEXTS = BYPASS;

enum class BinaryStatus { ok, not_a_bin, context_out_of_range, truncated, left_over, bad_end };

// Estimates of P(1), in 1/65536. `quick` stays in [15, 65520] and `slow` in [127, 65408] (rule B3), so
// that their sum is in [142, 130928] of 2^17 and both parts of a range of 2^24 hold over 2^14.
class BinaryContext {
 public:
  uint32_t sum() const { return uint32_t{quick_} + slow_; }

  void update(uint32_t bin) {
    const uint32_t mask = 0u - bin;
    quick_ = static_cast<uint16_t>(quick_ - (quick_ >> QUICK_RATE) + (mask & (0xFFFFu >> QUICK_RATE)));
    slow_ = static_cast<uint16_t>(slow_ - (slow_ >> SLOW_RATE) + (mask & (0xFFFFu >> SLOW_RATE)));
  }

 private:
  uint16_t quick_ = 0x8000, slow_ = 0x8000;
};

// Bins are 0 or 1. Bin 0 has the lower part of the range, bin 1 the upper.
class BinaryEncoder {
 public:
  void encode(uint32_t bin, BinaryContext& context) {
    narrow(bin, (range_ * context.sum()) >> PROBABILITY_BITS);
    context.update(bin);
  }

  // P(1) = share / 2^17 from elsewhere, such as a mixture of contexts; 128 <= share <= 2^17 - 128.
  void encode_share(uint32_t bin, uint32_t share) { narrow(bin, (range_ * share) >> PROBABILITY_BITS); }

  void encode_bypass(uint32_t bin) { narrow(bin, range_ >> 1); }

  // The payload; the encoder is used up. Its end is the smallest number in the interval whose 24 low
  // bits are 0: there is one, for range >= 2^24.
  std::vector<uint8_t> finish() {
    if (range_ < RANGE_FULL) {
      low_ += RANGE_LOW - 1;
      put_byte();
    }
    return std::move(bytes_);
  }

 private:
  void narrow(uint32_t bin, uint64_t upper) {
    const uint64_t mask = uint64_t{0} - bin, lower = range_ - upper;
    low_ += mask & lower;
    range_ = lower ^ (mask & (lower ^ upper));  // without a branch: bins are hard to predict
    while (range_ < RANGE_LOW) {
      range_ <<= 8;
      put_byte();
      low_ = (low_ & (RANGE_LOW - 1)) << 8;
    }
  }

  // low < 2^33: bit 32 is a carry into the bytes before. One of them is not FF, for the number that
  // is coded is below 1. A byte that is written can change only once, so this is linear.
  void put_byte() {
    if (low_ >= RANGE_FULL) {
      size_t i = bytes_.size();
      while (++bytes_[--i] == 0) {}
    }
    bytes_.push_back(static_cast<uint8_t>(low_ >> 24));
  }

  std::vector<uint8_t> bytes_;
  uint64_t low_ = 0;
  uint64_t range_ = RANGE_FULL;
};

// The mirror of BinaryEncoder. Once the payload is too short every bin is 0, so that loops over bins
// may ask for `status` rarely. The payload must outlive the decoder.
class BinaryDecoder {
 public:
  BinaryDecoder(const uint8_t* payload, size_t size) : payload_(payload), size_(size) {
    for (int i = 0; i < 4; ++i) shift_in();
  }

  uint32_t decode(BinaryContext& context) {
    const uint32_t bin = narrow((range_ * context.sum()) >> PROBABILITY_BITS);
    context.update(bin);
    return bin;
  }

  uint32_t decode_share(uint32_t share) { return narrow((range_ * share) >> PROBABILITY_BITS); }

  uint32_t decode_bypass() { return narrow(range_ >> 1); }

  // Truncated as soon as the bins so far need bytes that the payload lacks.
  BinaryStatus status() const {
    return range_ < RANGE_FULL && position_ > size_ + MISSING_BYTES ? BinaryStatus::truncated : BinaryStatus::ok;
  }

  // Ok if the payload is the one that the encoder makes of the bins that were decoded, and only then.
  BinaryStatus finish() const {
    if (range_ == RANGE_FULL) return size_ == 0 ? BinaryStatus::ok : BinaryStatus::left_over;
    if (position_ > size_ + MISSING_BYTES) return BinaryStatus::truncated;
    if (position_ < size_ + MISSING_BYTES) return BinaryStatus::left_over;
    return offset_ < RANGE_LOW ? BinaryStatus::ok : BinaryStatus::bad_end;
  }

 private:
  uint32_t narrow(uint64_t upper) {
    const uint64_t lower = range_ - upper;
    const uint32_t bin = offset_ >= lower;
    const uint64_t mask = uint64_t{0} - bin;
    offset_ -= mask & lower;
    range_ = lower ^ (mask & (lower ^ upper));
    while (range_ < RANGE_LOW) {
      range_ <<= 8;
      shift_in();
    }
    return bin;
  }

  void shift_in() {
    offset_ = (offset_ << 8) | (position_ < size_ ? payload_[position_] : 0u);
    if (++position_ > size_ + MISSING_BYTES) offset_ = 0;  // truncated: bin 0 from here on
  }

  const uint8_t* payload_;
  size_t size_;
  size_t position_ = 0;  // bytes shifted in, the missing ones too
  uint64_t offset_ = 0;  // < range_
  uint64_t range_ = RANGE_FULL;
};

// Arrays of bins, each with the number of its context or BYPASS. `place` names the bin of an error.

inline BinaryStatus check_bins(const uint8_t* bins, size_t n, size_t& place) {
  for (place = 0; place < n; ++place) {
    if (bins[place] > 1) return BinaryStatus::not_a_bin;
  }
  return BinaryStatus::ok;
}

inline BinaryStatus check_contexts(const uint16_t* numbers, size_t n, size_t n_contexts, size_t& place) {
  for (place = 0; place < n; ++place) {
    if (numbers[place] >= n_contexts && numbers[place] != BYPASS) return BinaryStatus::context_out_of_range;
  }
  return BinaryStatus::ok;
}

// Numbers are checked here again, at no cost: the caller's array may change while we read it.
inline BinaryStatus encode_bins(BinaryEncoder& coder, std::vector<BinaryContext>& contexts, const uint8_t* bins,
                                const uint16_t* numbers, size_t n, size_t& place) {
  for (place = 0; place < n; ++place) {
    const uint32_t bin = bins[place] & 1u;
    if (numbers[place] < contexts.size()) {
      coder.encode(bin, contexts[numbers[place]]);
    } else if (numbers[place] == BYPASS) {
      coder.encode_bypass(bin);
    } else {
      return BinaryStatus::context_out_of_range;
    }
  }
  return BinaryStatus::ok;
}

inline BinaryStatus decode_bins(BinaryDecoder& coder, std::vector<BinaryContext>& contexts, const uint16_t* numbers,
                                size_t n, uint8_t* bins, size_t& place) {
  for (place = 0; place < n; ++place) {
    if (numbers[place] < contexts.size()) {
      bins[place] = static_cast<uint8_t>(coder.decode(contexts[numbers[place]]));
    } else if (numbers[place] == BYPASS) {
      bins[place] = static_cast<uint8_t>(coder.decode_bypass());
    } else {
      return BinaryStatus::context_out_of_range;
    }
  }
  return coder.status();
}

}  // namespace ncodec
