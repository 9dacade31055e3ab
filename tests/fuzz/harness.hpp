// What the harnesses share: bytes of an input, tables and symbols made from them, and the only calls
// of the rANS coder (adapt those, and nothing else, when its signatures change).
//
//   input | settings | tables | indexes, symbols or a seed for them | payload, or edits of a valid one |

#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "steps.hpp"

namespace fuzz {

using namespace ncodec;

struct Settings {
  int log_lanes, chunks, threads;
};

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "property broken: %s\n", what);
  std::abort();
}

inline Variant fastest() { return vector_name() ? Variant::vector : Variant::scalar; }

// Both calls run the scalar coder too, and require the same of it.
inline Status encode(const Tables& tables, const std::vector<int32_t>& symbols, const std::vector<uint16_t>& indexes,
                     uint32_t skip_below, Settings s, std::vector<uint8_t>& payload, size_t& place) {
  std::vector<uint8_t> scalar;
  const size_t chunks = static_cast<size_t>(s.chunks);
  const Status expected = ncodec::encode(tables, symbols.data(), indexes.data(), symbols.size(), skip_below,
                                         s.log_lanes, chunks, 1, Variant::scalar, scalar, place);
  const Status status = ncodec::encode(tables, symbols.data(), indexes.data(), symbols.size(), skip_below, s.log_lanes,
                                       chunks, s.threads, fastest(), payload, place);
  require(status == expected && payload == scalar, "all variants encode alike");
  return status;
}

// Steps of 1 to 97 symbols of a payload of one chunk: as all at once.
inline void require_steps_alike(const Tables& tables, const uint8_t* payload, size_t size,
                                const std::vector<uint16_t>& indexes, uint32_t skip_below, Status expected,
                                const std::vector<int32_t>& symbols, size_t expected_place) {
  SymbolDecoder decoder(tables, payload, size, skip_below, fastest());
  std::vector<int32_t> decoded(indexes.size());
  size_t place = 0;
  Status status = Status::ok;
  for (size_t at = 0, step; at < indexes.size() && status == Status::ok; at += step) {
    step = std::min(indexes.size() - at, 1 + (size + 31 * at) % 97);
    status = decoder.decode(indexes.data() + at, step, decoded.data() + at, place);
  }
  if (status == Status::ok) status = decoder.finish(place);
  if (status == Status::not_one_chunk || expected == Status::index_out_of_range) return;
  require(status == expected, "steps are refused alike");
  require(status != Status::ok || decoded == symbols, "steps decode alike");
  const bool has_place = status == Status::truncated || status == Status::bad_escape;
  require(!has_place || place == expected_place, "errors of steps name the symbol");
}

inline Status decode(const Tables& tables, const uint8_t* payload, size_t size, const std::vector<uint16_t>& indexes,
                     uint32_t skip_below, int threads, std::vector<int32_t>& symbols, size_t& place) {
  std::vector<int32_t> scalar(symbols.size());
  size_t scalar_place = 0;
  const Status expected = ncodec::decode(tables, payload, size, indexes.data(), indexes.size(), skip_below, 1,
                                         Variant::scalar, scalar.data(), scalar_place);
  const Status status = ncodec::decode(tables, payload, size, indexes.data(), indexes.size(), skip_below, threads,
                                       fastest(), symbols.data(), place);
  require(status == expected && place == scalar_place, "all variants refuse alike");
  require(status != Status::ok || symbols == scalar, "all variants decode alike");
  require_steps_alike(tables, payload, size, indexes, skip_below, status, symbols, place);
  return status;
}

// An input, read once from the front; zeros when it is used up.
class Source {
 public:
  Source(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool empty() const { return at_ == end_; }
  uint8_t u8() { return empty() ? 0 : *at_++; }
  uint16_t u16() {
    const uint16_t low = u8();
    return static_cast<uint16_t>(low | (u8() << 8));
  }
  uint32_t u32() {
    const uint32_t low = u16();
    return low | (static_cast<uint32_t>(u16()) << 16);
  }
  std::vector<uint8_t> rest() {
    std::vector<uint8_t> bytes(at_, end_);
    at_ = end_;
    return bytes;
  }

 private:
  const uint8_t *at_, *end_;
};

// Bytes of the input, or (so that short inputs make long streams) of a generator that it seeds.
class Stream {
 public:
  explicit Stream(Source& source) : source_(source) {
    const uint8_t kind = source.u8();
    state_ = kind & 1 ? 0 : source.u32() | 1;  // 0: bytes of the input
  }
  uint8_t u8() {
    if (state_ == 0) return source_.u8();
    state_ ^= state_ << 13;  // xorshift32, Marsaglia 2003
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return static_cast<uint8_t>(state_ >> 8);
  }

 private:
  Source& source_;
  uint32_t state_;
};

// 1 to 8 valid rows of frequencies, from one entry (the escape) to 256.
struct Rows {
  size_t rows, stride;
  std::vector<uint16_t> frequencies;
  std::vector<uint32_t> sizes;

  explicit Rows(Source& source) : rows(1 + source.u8() % 8), stride(256), frequencies(rows * stride) {
    for (size_t r = 0; r < rows; ++r) {
      const size_t size = 1 + source.u8();
      Stream weights(source);
      std::vector<uint32_t> w(size);
      uint32_t sum = 0;
      for (auto& v : w) {
        const uint32_t byte = weights.u8();
        sum += v = byte * byte;  // squared: rare and frequent entries in one row
      }
      uint32_t left = FREQ_SUM;
      for (size_t e = size; e-- > 1;) {
        const uint32_t share = sum == 0 ? 0 : static_cast<uint64_t>(w[e]) * (FREQ_SUM - size) / sum;
        frequencies[r * stride + e] = static_cast<uint16_t>(1 + share);
        left -= 1 + share;
      }
      frequencies[r * stride] = static_cast<uint16_t>(left);
    }
    require(check_frequencies(frequencies.data(), rows, stride, sizes) == -1, "valid rows are accepted");
  }
  Tables tables() const { return Tables(frequencies.data(), stride, sizes); }
};

// A symbol near the row's own range, or one of those where varints and int32 end.
inline int32_t make_symbol(Stream& stream, uint32_t row_size) {
  static constexpr uint32_t EDGES[] = {0x7F,     0x80,      0x3FFF,     0x4000,    0x1FFFFF,
                                       0x200000, 0xFFFFFFF, 0x10000000, 0xFFFFFFFF};
  const uint8_t byte = stream.u8();
  if (byte < 240) return symbol_of(byte % (row_size + 1));
  const uint32_t edge = EDGES[byte % 9];
  const uint32_t entry = edge + (row_size - 1);  // the escape's value is the edge itself
  return symbol_of(edge == 0xFFFFFFFF || byte & 1 ? edge : entry);
}

// Few kinds of edits, each of 4 bytes of the input, applied to a payload.
inline void edit(Source& source, std::vector<uint8_t>& bytes) {
  for (int edits = 0; !source.empty() && edits < 64; ++edits) {
    const uint8_t kind = source.u8();
    const size_t place = source.u16() % (bytes.size() + 1);
    const uint8_t value = source.u8();
    const auto at = bytes.begin() + static_cast<std::ptrdiff_t>(place);
    switch (kind % 7) {
      case 0:
        if (at != bytes.end()) *at ^= static_cast<uint8_t>(1u << (value & 7));
        break;
      case 1:
        if (at != bytes.end()) *at = value;
        break;
      case 2: bytes.insert(at, value); break;
      case 3:
        if (at != bytes.end()) bytes.erase(at);
        break;
      case 4: bytes.resize(place); break;
      case 5: bytes.insert(bytes.end(), value & 15, static_cast<uint8_t>(value & 0xF0)); break;
      case 6:
        if (at != bytes.end()) bytes.back() = static_cast<uint8_t>(*at + value);
        break;
    }
  }
}

}  // namespace fuzz
