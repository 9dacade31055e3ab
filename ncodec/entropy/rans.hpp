// Interleaved range asymmetric numeral systems (rANS), specs/entropy.md. Knows nothing of Python.
//
//   payload   | log2 lanes | states, u32 x lanes | words, u16 ... -> | <- ... escape bytes |
//               1 byte                             read forwards       read backwards
//
// State 32 bits in [2^16, 2^32), 16-bit words, frequencies of 14 bits; symbol j (of those that are
// coded, not skipped) belongs to lane j mod lanes. The decoder reads words in symbol order, so the
// encoder runs backwards. After Duda 2013 (https://arxiv.org/abs/1311.2540) and Giesen 2014
// (https://arxiv.org/abs/1402.3392). Every read is bounded; errors are returned, never thrown.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ncodec {

constexpr int FREQ_BITS = 14;
constexpr uint32_t FREQ_SUM = 1u << FREQ_BITS;
constexpr uint32_t STATE_LOW = 1u << 16;  // lower end of the state's interval
constexpr int MAX_LOG_LANES = 5;
constexpr int LUT_SHIFT = 6;  // a bucket of the look-up table spans 64 of the 2^14 slots
constexpr int LUT_SIZE = 1 << (FREQ_BITS - LUT_SHIFT);

enum class Status {
  ok, index_out_of_range, skipped_not_zero, truncated, bad_lanes, bad_escape, left_over, bad_first_state, bad_final_state
};

// Zigzag: 0, -1, 1, -2, 2 ... -> 0, 1, 2, 3, 4 ..., so that likely symbols come first.
inline uint32_t entry_of(int32_t symbol) { return (static_cast<uint32_t>(symbol) << 1) ^ (symbol < 0 ? ~0u : 0u); }
inline int32_t symbol_of(uint32_t entry) { return static_cast<int32_t>(entry >> 1) ^ -static_cast<int32_t>(entry & 1); }

// Returns the first row that does not have positive frequencies that sum to 2^14, then zeros; -1 where all
// do, with their numbers of positive entries in `sizes`. stride <= 2^14, so no sum overflows.
inline long check_frequencies(const uint16_t* frequencies, size_t rows, size_t stride, std::vector<uint32_t>& sizes) {
  for (size_t r = 0; r < rows; ++r) {
    const uint16_t* row = frequencies + r * stride;
    uint32_t size = 0, sum = 0;
    while (size < stride && row[size] > 0) sum += row[size++];
    for (size_t e = size; e < stride; ++e) sum += row[e] > 0 ? FREQ_SUM + 1 : 0;  // a hole
    if (sum != FREQ_SUM) return static_cast<long>(r);
    sizes.push_back(size);
  }
  return -1;
}

// Rows of frequencies. Entry e of a row stands for symbol_of(e); the last entry is the escape.
class Tables {
 public:
  // Row r has sizes[r] >= 1 positive frequencies that sum to 2^14 (see check_frequencies).
  Tables(const uint16_t* frequencies, size_t rows, size_t stride, const std::vector<uint32_t>& sizes) {
    for (size_t r = 0; r < rows; ++r) {
      Row row{static_cast<uint32_t>(starts_.size()), sizes[r]};
      uint32_t start = 0;
      std::array<uint16_t, LUT_SIZE> lut{};
      size_t bucket = 0;
      for (uint32_t e = 0; e < sizes[r]; ++e) {
        starts_.push_back(static_cast<uint16_t>(start));
        start += frequencies[r * stride + e];
        for (; bucket < LUT_SIZE && (bucket << LUT_SHIFT) < start; ++bucket) lut[bucket] = static_cast<uint16_t>(e);
      }
      starts_.push_back(static_cast<uint16_t>(start));  // 2^14: closes the last interval
      rows_.push_back(row);
      luts_.push_back(lut);
    }
  }

  struct Row {
    uint32_t offset;  // of the row's first start
    uint32_t size;    // entries, escape included
  };

  size_t rows() const { return rows_.size(); }
  const Row& row(size_t r) const { return rows_[r]; }
  const uint16_t* starts(const Row& row) const { return starts_.data() + row.offset; }

  // The entry whose interval holds `slot`; slot < 2^14.
  uint32_t find(size_t r, const uint16_t* starts, uint32_t slot) const {
    uint32_t e = luts_[r][slot >> LUT_SHIFT];
    while (starts[e + 1] <= slot) ++e;
    return e;
  }

 private:
  std::vector<Row> rows_;
  std::vector<uint16_t> starts_;
  std::vector<std::array<uint16_t, LUT_SIZE>> luts_;
};

// Lanes cost about 3 bytes each: twice as many for every doubling of the payload, under 0.3 % of it.
inline int log_lanes_for(size_t payload_bytes) {
  int log_lanes = 0;
  while (log_lanes < MAX_LOG_LANES && payload_bytes >= (size_t{1024} << (log_lanes + 1))) ++log_lanes;
  return log_lanes;
}

inline void put_u32(uint8_t* p, uint32_t v) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<uint8_t>(v >> (8 * i));
}
inline uint32_t get_u32(const uint8_t* p) {
  uint32_t v = 0;
  for (int i = 0; i < 4; ++i) v |= static_cast<uint32_t>(p[i]) << (8 * i);
  return v;
}

// One pass backwards over the symbols with a given number of lanes.
inline Status encode_pass(const Tables& tables, const int32_t* symbols, const uint16_t* indexes, size_t n,
                          uint32_t skip_below, size_t n_coded, int log_lanes, std::vector<uint8_t>& payload) {
  const size_t lanes = size_t{1} << log_lanes;
  std::array<uint32_t, size_t{1} << MAX_LOG_LANES> states;
  states.fill(STATE_LOW);
  std::vector<uint16_t> words(n_coded);  // a symbol emits one word at most
  size_t first_word = n_coded;
  std::vector<uint8_t> escapes;  // in decreasing symbol order: the last escape's bytes come first
  size_t j = n_coded;
  for (size_t i = n; i-- > 0;) {
    if (indexes[i] < skip_below) continue;
    --j;
    const Tables::Row& row = tables.row(indexes[i]);
    const uint16_t* starts = tables.starts(row);
    uint32_t e = entry_of(symbols[i]);
    if (e >= row.size - 1) {
      uint32_t rest = e - (row.size - 1);
      uint8_t bytes[5];
      int count = 0;
      for (; rest >= 0x80; rest >>= 7) bytes[count++] = static_cast<uint8_t>(rest | 0x80);
      bytes[count++] = static_cast<uint8_t>(rest);
      while (count > 0) escapes.push_back(bytes[--count]);
      e = row.size - 1;
    }
    const uint32_t start = starts[e], freq = starts[e + 1] - start;
    uint32_t& x = states[j & (lanes - 1)];
    const bool full = x >= static_cast<uint64_t>(freq) << (32 - FREQ_BITS);
    if (full) {
      words[--first_word] = static_cast<uint16_t>(x);
      x >>= 16;
    }
    x = ((x / freq) << FREQ_BITS) + (x % freq) + start;
  }
  payload.clear();
  payload.reserve(1 + 4 * lanes + 2 * (n_coded - first_word) + escapes.size());
  payload.push_back(static_cast<uint8_t>(log_lanes));
  for (size_t lane = 0; lane < lanes; ++lane) {
    uint8_t bytes[4];
    put_u32(bytes, states[lane]);
    payload.insert(payload.end(), bytes, bytes + 4);
  }
  for (size_t w = first_word; w < n_coded; ++w) {
    payload.push_back(static_cast<uint8_t>(words[w]));
    payload.push_back(static_cast<uint8_t>(words[w] >> 8));
  }
  payload.insert(payload.end(), escapes.begin(), escapes.end());
  return Status::ok;
}

// Encode n symbols. Those whose index is below `skip_below` are not coded and must be 0.
// `log_lanes` < 0 chooses the lanes by the size of the payload. `place` names the symbol of an error.
inline Status encode(const Tables& tables, const int32_t* symbols, const uint16_t* indexes, size_t n,
                     uint32_t skip_below, int log_lanes, std::vector<uint8_t>& payload, size_t& place) {
  size_t n_coded = 0;
  for (size_t i = 0; i < n; ++i) {
    place = i;
    if (indexes[i] >= skip_below) {
      if (indexes[i] >= tables.rows()) return Status::index_out_of_range;
      ++n_coded;
    } else if (symbols[i] != 0) {
      return Status::skipped_not_zero;
    }
  }
  payload.clear();
  if (n_coded == 0) return Status::ok;
  if (log_lanes >= 0) return encode_pass(tables, symbols, indexes, n, skip_below, n_coded, log_lanes, payload);
  // Two passes at most: the size with full lanes tells how many lanes the payload pays for.
  encode_pass(tables, symbols, indexes, n, skip_below, n_coded, MAX_LOG_LANES, payload);
  const int fitting = log_lanes_for(payload.size());
  if (fitting == MAX_LOG_LANES) return Status::ok;
  return encode_pass(tables, symbols, indexes, n, skip_below, n_coded, fitting, payload);
}

// Decode n symbols; the mirror of `encode`. All of the payload must be used and every state must end
// where the encoder began.
inline Status decode(const Tables& tables, const uint8_t* payload, size_t size, const uint16_t* indexes, size_t n,
                     uint32_t skip_below, int32_t* symbols, size_t& place) {
  place = 0;
  size_t i = 0;
  for (; i < n && indexes[i] < skip_below; ++i) symbols[i] = 0;
  if (i == n) return size == 0 ? Status::ok : Status::left_over;
  if (size == 0) return Status::truncated;
  if (payload[0] > MAX_LOG_LANES) return Status::bad_lanes;
  const size_t lanes = size_t{1} << payload[0];
  if (size < 1 + 4 * lanes) return Status::truncated;
  std::array<uint32_t, size_t{1} << MAX_LOG_LANES> states;
  for (size_t lane = 0; lane < lanes; ++lane) {
    states[lane] = get_u32(payload + 1 + 4 * lane);
    if (states[lane] < STATE_LOW) return Status::bad_first_state;
  }
  const uint8_t* word = payload + 1 + 4 * lanes;
  const uint8_t* end = payload + size;  // escape bytes are taken from here, downwards
  size_t lane = 0;
  for (; i < n; ++i) {
    const size_t r = indexes[i];
    if (r < skip_below) {
      symbols[i] = 0;
      continue;
    }
    place = i;
    if (r >= tables.rows()) return Status::index_out_of_range;
    const Tables::Row& row = tables.row(r);
    const uint16_t* starts = tables.starts(row);
    uint32_t& x = states[lane];
    lane = (lane + 1) & (lanes - 1);
    const uint32_t slot = x & (FREQ_SUM - 1);
    uint32_t e = tables.find(r, starts, slot);
    x = (starts[e + 1] - starts[e]) * (x >> FREQ_BITS) + slot - starts[e];
    if (x < STATE_LOW) {
      if (end - word < 2) return Status::truncated;
      x = (x << 16) | static_cast<uint32_t>(word[0] | (word[1] << 8));
      word += 2;
    }
    if (e == row.size - 1) {
      uint64_t rest = 0;
      for (int shift = 0;; shift += 7) {
        if (end == word) return Status::truncated;
        if (shift > 28) return Status::bad_escape;
        const uint8_t byte = *--end;
        if (byte == 0 && shift > 0) return Status::bad_escape;  // not the shortest form
        rest |= static_cast<uint64_t>(byte & 0x7F) << shift;
        if (byte < 0x80) break;
      }
      if (rest + e > UINT32_MAX) return Status::bad_escape;
      e += static_cast<uint32_t>(rest);
    }
    symbols[i] = symbol_of(e);
  }
  if (word != end) return Status::left_over;
  for (size_t k = 0; k < lanes; ++k) {
    if (states[k] != STATE_LOW) return Status::bad_final_state;
  }
  return Status::ok;
}

// CRC-32C (Castagnoli, reflected 0x82F63B78), as in iSCSI (RFC 3720) and the .nc container.
inline uint32_t crc32c(const uint8_t* data, size_t size, uint32_t crc = 0) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t v = i;
      for (int bit = 0; bit < 8; ++bit) v = (v >> 1) ^ (v & 1 ? 0x82F63B78u : 0u);
      t[i] = v;
    }
    return t;
  }();
  crc = ~crc;
  for (size_t i = 0; i < size; ++i) crc = (crc >> 8) ^ table[(crc ^ data[i]) & 0xFF];
  return ~crc;
}

}  // namespace ncodec
