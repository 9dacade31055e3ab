// Interleaved range asymmetric numeral systems (rANS), specs/entropy.md. Knows nothing of Python.
//
//   payload  | lanes | [chunks, sizes] | chunk | chunk | ...        tables.hpp      frequencies, look-up
//   chunk    | states, u32 x lanes | words ->   <- escape bytes |   rans.hpp        one chunk, scalar
//                                                                   rans_avx2.hpp   one chunk, 8 lanes at once
//                                                                   rans_neon.hpp   one chunk, 4 lanes at once
//                                                                   payload.hpp     chunks to payloads, threads
//                                                                   steps.hpp       a payload, a step at a time
//
// State 32 bits in [2^16, 2^32), 16-bit words, frequencies of 14 bits; symbol j of a chunk belongs to
// lane j mod lanes. The decoder reads words in symbol order, so the encoder runs backwards. After Duda
// 2013 (https://arxiv.org/abs/1311.2540) and Giesen 2014 (https://arxiv.org/abs/1402.3392). Every read
// is bounded; errors are returned; only std::bad_alloc is thrown.

#pragma once

#include <algorithm>
#include <array>
#include <memory>

#include "tables.hpp"

namespace ncodec {

constexpr uint32_t STATE_LOW = 1u << 16;  // lower end of the state's interval
constexpr int MAX_LOG_LANES = 5;
constexpr size_t MAX_LANES = size_t{1} << MAX_LOG_LANES;

enum class Status {
  ok,
  index_out_of_range,
  skipped_not_zero,
  truncated,
  bad_lanes,
  bad_chunks,
  bad_escape,
  left_over,
  bad_first_state,
  bad_final_state,
  out_of_grid,
  not_one_chunk
};

inline void put_u32(uint8_t* p, uint32_t v) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<uint8_t>(v >> (8 * i));
}
inline uint32_t get_u32(const uint8_t* p) {
  uint32_t v = 0;
  for (int i = 0; i < 4; ++i) v |= static_cast<uint32_t>(p[i]) << (8 * i);
  return v;
}

// Unsigned LEB128.
inline void put_varint(std::vector<uint8_t>& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<uint8_t>(value | 0x80));
  out.push_back(static_cast<uint8_t>(value));
}

// Encodes the symbols of one chunk, the last ones first. No symbol is skipped.
struct ChunkEncoder {
  const Tables& tables;
  const size_t lanes;
  std::array<uint32_t, MAX_LANES> states;
  const size_t room;
  const std::unique_ptr<uint8_t[]> buffer;  // words, written downwards; not zeroed, as most of it stays unused
  uint8_t* word;                            // the first word so far
  std::vector<uint8_t> escapes;             // in decreasing symbol order: the last escape's bytes come first

  // For n symbols: each emits one word at most.
  ChunkEncoder(const Tables& t, size_t n_lanes, size_t n)
      : tables(t), lanes(n_lanes), room(2 * n + 16), buffer(new uint8_t[room]), word(buffer.get() + room) {
    states.fill(STATE_LOW);
  }

  // Symbols [begin, end), where symbol `begin` belongs to lane 0.
  void run(const int32_t* symbols, const uint16_t* rows, size_t begin, size_t end) {
    for (size_t i = end; i-- > begin;) {
      const uint32_t escape = tables.size(rows[i]) - 1;
      uint32_t e = entry_of(symbols[i]);
      if (e >= escape) {
        put_escape(e - escape);
        e = escape;
      }
      const uint32_t interval = tables.intervals()[tables.first(rows[i]) + e];
      const uint32_t start = start_of(interval), freq = freq_of(interval);
      uint32_t& x = states[(i - begin) & (lanes - 1)];
      if (x >> (32 - FREQ_BITS) >= freq) {
        *--word = static_cast<uint8_t>(x >> 8);
        *--word = static_cast<uint8_t>(x);
        x >>= 16;
      }
      x = ((x / freq) << FREQ_BITS) + (x % freq) + start;
    }
  }

  void put_escape(uint32_t rest) {
    const auto before = static_cast<std::ptrdiff_t>(escapes.size());
    put_varint(escapes, rest);
    std::reverse(escapes.begin() + before, escapes.end());
  }

  // The escape bytes of a group, whose bit in `escaped` is set.
  void put_escapes(uint32_t escaped, const int32_t* symbols, const uint16_t* rows) {
    for (size_t lane = lanes; lane-- > 0;)
      if (escaped >> lane & 1) put_escape(entry_of(symbols[lane]) - (tables.size(rows[lane]) - 1));
  }

  // The chunk's bytes: states, words, escape bytes.
  void append_to(std::vector<uint8_t>& out) const {
    uint8_t bytes[4];
    for (size_t lane = 0; lane < lanes; ++lane) {
      put_u32(bytes, states[lane]);
      out.insert(out.end(), bytes, bytes + 4);
    }
    out.insert(out.end(), word, buffer.get() + room);
    out.insert(out.end(), escapes.begin(), escapes.end());
  }
};

// Decodes one chunk, in as many calls of `run` as its owner likes. No symbol is skipped.
struct ChunkDecoder {
  const Tables& tables;
  const size_t lanes;
  std::array<uint32_t, MAX_LANES> states{};
  const uint8_t* word = nullptr;
  const uint8_t* end = nullptr;  // escape bytes are taken from here, downwards

  ChunkDecoder(const Tables& t, size_t n_lanes) : tables(t), lanes(n_lanes) {}

  Status open(const uint8_t* data, size_t size) {
    if (size < 4 * lanes) return Status::truncated;
    for (size_t lane = 0; lane < lanes; ++lane) {
      states[lane] = get_u32(data + 4 * lane);
      if (states[lane] < STATE_LOW) return Status::bad_first_state;
    }
    word = data + 4 * lanes;
    end = data + size;
    return Status::ok;
  }

  // Symbols [begin, finish), where symbol `begin` belongs to lane 0; `begin` moves to the place of an error.
  Status run(const uint16_t* rows, size_t& begin, size_t finish, int32_t* symbols) {
    const size_t lane0 = begin;
    for (; begin < finish; ++begin) {
      const uint16_t row = rows[begin];
      uint32_t& x = states[(begin - lane0) & (lanes - 1)];
      const uint32_t slot = x & (FREQ_SUM - 1);
      const uint32_t entry = tables.find(row, slot), interval = tables.intervals()[entry];
      x = freq_of(interval) * (x >> FREQ_BITS) + slot - start_of(interval);
      if (x < STATE_LOW) {
        if (end - word < 2) return Status::truncated;
        x = (x << 16) | static_cast<uint32_t>(word[0] | (word[1] << 8));
        word += 2;
      }
      symbols[begin] = tables.symbols()[entry];
      if (symbols[begin] == ESCAPE) {
        const Status status = get_escape(tables.size(row) - 1, symbols[begin]);
        if (status != Status::ok) return status;
      }
    }
    return Status::ok;
  }

  Status get_escape(uint32_t escape, int32_t& symbol) {
    uint64_t rest = 0;
    for (int shift = 0;; shift += 7) {
      if (end == word) return Status::truncated;
      if (shift > 28) return Status::bad_escape;
      const uint8_t byte = *--end;
      if (byte == 0 && shift > 0) return Status::bad_escape;  // not the shortest form
      rest |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) break;
    }
    if (rest + escape > UINT32_MAX) return Status::bad_escape;
    symbol = symbol_of(static_cast<uint32_t>(rest) + escape);
    return Status::ok;
  }

  // End a group, whose words end at `next`, with its escape bytes; false, and nothing read, where there is an error.
  bool end_group(const uint8_t* next, uint32_t escaped, const uint16_t* rows, int32_t* symbols) {
    const uint8_t *const first = word, *const last = end;
    word = next;
    for (size_t lane = 0; escaped != 0; ++lane, escaped >>= 1) {
      if ((escaped & 1) && get_escape(tables.size(rows[lane]) - 1, symbols[lane]) != Status::ok) {
        word = first;
        end = last;
        return false;
      }
    }
    return true;
  }

  // All bytes must be used, and every state must end where the encoder began.
  Status close() const {
    if (word != end) return Status::left_over;
    for (size_t lane = 0; lane < lanes; ++lane) {
      if (states[lane] != STATE_LOW) return Status::bad_final_state;
    }
    return Status::ok;
  }
};

}  // namespace ncodec
