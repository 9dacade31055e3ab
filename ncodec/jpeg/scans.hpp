// The scans of a JPEG file (ITU-T T.81, annexes F and G): Huffman-coded bytes to coefficients and back.
//
//   | MCU MCU .. MCU padding | RST0 | MCU .. padding | RST1 | ...    padding: bits up to a whole byte
//
// One walk over the blocks, `walk`, serves ScanReader and ScanWriter. T.81 leaves an encoder few choices; the
// writer makes libjpeg's (longest end-of-band runs, no run of zeros that nothing follows), and compress()
// finds by trial whether they are the file's. Padding is kept apart, one byte an interval.

#pragma once

#include "markers.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace ncodec::jpeg {

// What a scan codes of each block.
enum class Pass { sequential, dc_first, dc_refine, ac_first, ac_refine };

inline Pass pass_of(const Frame& frame, const Scan& scan) {
  if (!frame.is_progressive) return Pass::sequential;
  if (scan.first == 0) return scan.high ? Pass::dc_refine : Pass::dc_first;
  return scan.high ? Pass::ac_refine : Pass::ac_first;
}

inline int bit_length(uint32_t value) {
#if defined(__GNUC__)
  return value ? 32 - __builtin_clz(value) : 0;
#else
  int n = 0;
  for (; value; value >>= 1) ++n;
  return n;
#endif
}

// Bit k: coefficient k is not 0.
inline uint64_t nonzeros(const int16_t* block) {
  uint64_t mask = 0;
#if defined(__SSE2__)
  const __m128i zero = _mm_setzero_si128();
  for (int k = 0; k < BLOCK; k += 16) {
    const __m128i* at = reinterpret_cast<const __m128i*>(block + k);
    const __m128i low = _mm_cmpeq_epi16(_mm_loadu_si128(at), zero),
                  high = _mm_cmpeq_epi16(_mm_loadu_si128(at + 1), zero);
    mask |= static_cast<uint64_t>(~_mm_movemask_epi8(_mm_packs_epi16(low, high)) & 0xFFFF) << k;
  }
#else
  for (int k = 0; k < BLOCK; ++k) mask |= static_cast<uint64_t>(block[k] != 0) << k;
#endif
  return mask;
}

inline int lowest_bit(uint64_t mask) {  // mask != 0
#if defined(__GNUC__)
  return __builtin_ctzll(mask);
#else
  int k = 0;
  for (; (mask & 1) == 0; mask >>= 1) ++k;
  return k;
#endif
}

inline uint32_t count_bits(uint64_t mask) {  // in pairs, fours, bytes: not every x86-64 has an instruction
  mask -= mask >> 1 & 0x5555555555555555;
  mask = (mask & 0x3333333333333333) + (mask >> 2 & 0x3333333333333333);
  return static_cast<uint32_t>(((mask + (mask >> 4)) & 0x0F0F0F0F0F0F0F0F) * 0x0101010101010101 >> 56);
}

// Calls coder.block(coefficients, part) in the order of the scan (A.2), coder.restart() between intervals.
template <class Coder>
Status walk(Frame& frame, const Scan& scan, int restart_interval, Coder& coder) {
  Status status = Status::ok;
  int left = restart_interval;
  const auto restart = [&] {
    if (restart_interval == 0) return;
    if (left == 0) {
      status = coder.restart();
      left = restart_interval;
    }
    --left;
  };
  if (scan.parts.size() == 1) {
    Component& c = frame.components[static_cast<size_t>(scan.parts[0].component)];
    for (int y = 0; y < c.height; ++y) {
      for (int x = 0; x < c.width; ++x) {
        restart();
        if (status == Status::ok) status = coder.block(c.block(y, x), 0);
        if (status != Status::ok) return status;
      }
    }
    return coder.finish();
  }
  for (int row = 0; row < frame.mcu_rows; ++row) {
    for (int column = 0; column < frame.mcu_columns; ++column) {
      restart();
      for (size_t i = 0; i < scan.parts.size(); ++i) {
        Component& c = frame.components[static_cast<size_t>(scan.parts[i].component)];
        for (int y = row * c.v; y < (row + 1) * c.v; ++y) {
          for (int x = column * c.h; x < (column + 1) * c.h; ++x) {
            if (status == Status::ok) status = coder.block(c.block(y, x), i);
          }
        }
      }
      if (status != Status::ok) return status;
    }
  }
  return coder.finish();
}

// Bits up to the next marker, without the 00 after FF (F.1.2.3); zeros from there on.
class BitReader {
 public:
  BitReader(const uint8_t* bytes, size_t size, size_t position) : bytes_(bytes), size_(size), at_(position) {}

  // At least 32 bits are in the window after this, unless a marker or the end comes before.
  void refill() {
    if (n_ >= 32) return;
    if (size_ - at_ >= 4) {
      const uint32_t next = static_cast<uint32_t>(bytes_[at_]) << 24 | static_cast<uint32_t>(bytes_[at_ + 1]) << 16 |
                            static_cast<uint32_t>(bytes_[at_ + 2]) << 8 | bytes_[at_ + 3];
      if ((next & ~(next + 0x01010101u) & 0x80808080u) == 0 && n_ >= 0) {  // no byte is FF
        window_ |= static_cast<uint64_t>(next) << (32 - n_);
        n_ += 32;
        at_ += 4;
        return;
      }
    }
    while (n_ >= 0 && n_ <= 56 && at_ < size_) {
      const uint8_t byte = bytes_[at_];
      if (byte == 0xFF) {
        if (size_ - at_ < 2 || bytes_[at_ + 1] != 0) return;
        ++at_;
      }
      ++at_;
      window_ |= static_cast<uint64_t>(byte) << (56 - n_);
      n_ += 8;
    }
  }
  uint32_t peek(int n) const { return static_cast<uint32_t>(window_ >> (64 - n)); }  // 1 <= n <= 32
  void skip(int n) {
    window_ <<= n;
    n_ -= n;
  }
  uint32_t take(int n) {
    const uint32_t value = peek(n);
    skip(n);
    return value;
  }
  bool is_overrun() const { return n_ < 0; }  // then every later bit is 0
  size_t position() const { return at_; }

  // The end of an interval: its padding, in the low bits; position() is then behind its last byte.
  bool end(uint8_t& padding, int& n) {
    refill();
    if (n_ < 0) return false;
    n = n_ & 7;
    padding = n ? static_cast<uint8_t>(take(n)) : 0;
    for (; n_ > 0; n_ -= 8) at_ -= bytes_[at_ - 1] == 0 && bytes_[at_ - 2] == 0xFF ? 2 : 1;  // a scan header is before
    window_ = 0;
    return true;
  }
  bool marker(uint8_t code) {
    if (size_ - at_ < 2 || bytes_[at_] != 0xFF || bytes_[at_ + 1] != code) return false;
    at_ += 2;
    return true;
  }

 private:
  const uint8_t* bytes_;
  size_t size_, at_;
  uint64_t window_ = 0;  // from the top bit down
  int n_ = 0;            // bits in the window; below 0: taken beyond the end
};

class ScanReader {
 public:
  ScanReader(const Markers& markers, const Scan& scan, const uint8_t* bytes, size_t size, size_t position,
             std::vector<uint8_t>& padding)
      : scan_(scan), pass_(pass_of(markers.frame, scan)), bits_(bytes, size, position), padding_(padding) {
    for (size_t i = 0; i < scan.parts.size(); ++i) {
      dc_[i] = &markers.dc[static_cast<size_t>(scan.parts[i].dc)];
      ac_[i] = &markers.ac[static_cast<size_t>(scan.parts[i].ac)];
    }
  }
  size_t position() const { return bits_.position(); }

  Status block(int16_t* block, size_t part) {
    bool is_valid = true;
    switch (pass_) {
      case Pass::sequential: is_valid = dc_first(block, part) && ac_sequential(block, *ac_[part]); break;
      case Pass::dc_first: is_valid = dc_first(block, part); break;
      case Pass::dc_refine: is_valid = dc_refine(block); break;
      case Pass::ac_first: is_valid = ac_first(block, *ac_[0]); break;
      case Pass::ac_refine: is_valid = ac_refine(block, *ac_[0]); break;
    }
    return is_valid && !bits_.is_overrun() ? Status::ok : Status::unsupported;
  }

  Status restart() {
    const uint8_t code = static_cast<uint8_t>(0xD0 + (n_restarts_++ & 7));
    if (finish() != Status::ok || !bits_.marker(code)) return Status::unsupported;
    predictions_.fill(0);
    return Status::ok;
  }

  Status finish() {
    uint8_t padding = 0;
    int n = 0;
    if (run_ != 0 || !bits_.end(padding, n)) return Status::unsupported;
    padding_.push_back(static_cast<uint8_t>(padding | 0xFF << n));
    return Status::ok;
  }

 private:
  // A symbol, or -1.
  int symbol(const HuffmanTable& table) {
    bits_.refill();
    const uint32_t entry = table.fast[bits_.peek(HuffmanTable::FAST_BITS)];
    if (entry) {
      bits_.skip(static_cast<int>(entry >> 8));
      return static_cast<int>(entry & 0xFF);
    }
    const int32_t window = static_cast<int32_t>(bits_.peek(16));
    for (int length = HuffmanTable::FAST_BITS + 1; length <= 16; ++length) {
      const int32_t code = window >> (16 - length);
      if (code < table.limits[static_cast<size_t>(length)]) {
        bits_.skip(length);
        return table.symbols[static_cast<size_t>(code + table.offsets[static_cast<size_t>(length)])];
      }
    }
    return -1;
  }

  // EXTEND (F.2.2.1); the window still holds 16 bits after a symbol.
  int value(int n) {
    if (n == 0) return 0;
    const int bits = static_cast<int>(bits_.take(n));
    return bits < 1 << (n - 1) ? bits - (1 << n) + 1 : bits;
  }

  bool dc_first(int16_t* block, size_t part) {
    const int n = symbol(*dc_[part]);
    if (n < 0 || n > 12) return false;
    const int dc = predictions_[part] += value(n);
    const int scaled = dc * (1 << scan_.low);
    if (scaled < -MAX_COEFFICIENT || scaled > MAX_COEFFICIENT) return false;
    block[0] = static_cast<int16_t>(scaled);
    return true;
  }

  bool dc_refine(int16_t* block) {
    bits_.refill();
    block[0] = static_cast<int16_t>(block[0] | static_cast<int>(bits_.take(1)) << scan_.low);
    return true;  // |= of a bit below 2048 keeps [-2047, 2047] (-2048 | bit is at least -2047)
  }

  bool ac_sequential(int16_t* block, const HuffmanTable& table) {
    for (int k = 1; k < BLOCK; ++k) {
      const int code = symbol(table);
      if (code < 0) return false;
      const int n = code & 15;
      if (n == 0) {
        if (code == 0) return true;
        if (code != 0xF0) return false;
        k += 15;
        continue;
      }
      k += code >> 4;
      if (k >= BLOCK || n > 11) return false;
      block[k] = static_cast<int16_t>(value(n));
    }
    return true;
  }

  bool ac_first(int16_t* block, const HuffmanTable& table) {
    if (run_ > 0) {
      --run_;
      return true;
    }
    for (int k = scan_.first; k <= scan_.last; ++k) {
      const int code = symbol(table);
      if (code < 0) return false;
      const int zeros = code >> 4, n = code & 15;
      if (n == 0 && zeros < 15) {
        run_ = (1 << zeros) - 1 + (zeros ? static_cast<int>(bits_.take(zeros)) : 0);
        return true;
      }
      k += zeros;
      if (n == 0) continue;
      const int scaled = k <= scan_.last && n <= 11 ? value(n) * (1 << scan_.low) : MAX_COEFFICIENT + 1;
      if (scaled < -MAX_COEFFICIENT || scaled > MAX_COEFFICIENT) return false;
      block[k] = static_cast<int16_t>(scaled);
    }
    return true;
  }

  // A correction bit of a coefficient that is known to be nonzero (G.1.2.3).
  bool correct(int16_t& coefficient) {
    bits_.refill();
    if (bits_.take(1) == 0) return true;
    const int corrected = coefficient + (coefficient < 0 ? -1 : 1) * (1 << scan_.low);
    coefficient = static_cast<int16_t>(corrected);
    return corrected >= -MAX_COEFFICIENT && corrected <= MAX_COEFFICIENT;
  }

  bool ac_refine(int16_t* block, const HuffmanTable& table) {
    int k = scan_.first;
    for (; run_ == 0 && k <= scan_.last; ++k) {
      const int code = symbol(table);
      if (code < 0) return false;
      int zeros = code >> 4, found = 0;
      if ((code & 15) > 1) return false;
      if ((code & 15) == 1) {
        found = bits_.take(1) ? 1 << scan_.low : -(1 << scan_.low);
      } else if (zeros < 15) {
        run_ = (1 << zeros) + (zeros ? static_cast<int>(bits_.take(zeros)) : 0);
        break;
      }
      for (; k <= scan_.last; ++k) {
        if (block[k] != 0) {
          if (!correct(block[k])) return false;
        } else if (zeros-- == 0) {
          break;
        }
      }
      if (found) {
        if (k > scan_.last) return false;
        block[k] = static_cast<int16_t>(found);
      }
    }
    if (run_ == 0) return true;
    --run_;
    for (; k <= scan_.last; ++k) {
      if (block[k] != 0 && !correct(block[k])) return false;
    }
    return true;
  }

  const Scan& scan_;
  Pass pass_;
  BitReader bits_;
  std::vector<uint8_t>& padding_;  // a byte an interval: the bits, 1s above
  std::array<const HuffmanTable*, MAX_COMPONENTS> dc_{}, ac_{};
  std::array<int, MAX_COMPONENTS> predictions_{};
  int run_ = 0;  // blocks that an end-of-band run still covers
  int n_restarts_ = 0;
};

// Bytes out, a 00 after every FF. `out` holds at most `limit` bytes.
class BitWriter {
 public:
  static constexpr size_t MOST_OF_BLOCK = 2048;  // 63 * 27 bits, or 1000 corrections and 64 * 27; twice for FF 00

  BitWriter(std::vector<uint8_t>& out, uint64_t limit) : out_(out), limit_(limit), at_(out.size()) {}

  bool reserve() {
    if (out_.size() - at_ < MOST_OF_BLOCK) {
      if (at_ > limit_) return false;
      out_.resize(at_ + at_ / 2 + 16 * MOST_OF_BLOCK);
    }
    return true;
  }
  void put(uint32_t value, int n) {  // n <= 32
    window_ = window_ << n | value;
    n_ += n;
    if (n_ < 32) return;
    n_ -= 32;
    const uint32_t next = static_cast<uint32_t>(window_ >> n_);
    if ((next & ~(next + 0x01010101u) & 0x80808080u) == 0) {  // no byte is FF
      for (int shift = 24; shift >= 0; shift -= 8) out_[at_++] = static_cast<uint8_t>(next >> shift);
    } else {
      for (int shift = 24; shift >= 0; shift -= 8) byte(static_cast<uint8_t>(next >> shift));
    }
  }
  void end(uint8_t padding) {
    const int n = -n_ & 7;
    put(padding & ((1u << n) - 1), n);
    for (; n_ > 0; n_ -= 8) byte(static_cast<uint8_t>(window_ >> (n_ - 8)));
  }
  void marker(uint8_t code) {
    out_[at_++] = 0xFF;
    out_[at_++] = code;
  }
  bool close() {
    out_.resize(at_);
    return at_ <= limit_;
  }

 private:
  void byte(uint8_t value) {
    out_[at_++] = value;
    if (value == 0xFF) out_[at_++] = 0;
  }

  std::vector<uint8_t>& out_;
  uint64_t limit_;
  size_t at_;
  uint64_t window_ = 0;  // the last bits, in the low ones
  int n_ = 0;            // of them not yet written, < 32
};

class ScanWriter {
 public:
  ScanWriter(const Markers& markers, const Scan& scan, std::vector<uint8_t>& out, uint64_t limit, Bytes padding,
             size_t& interval)
      : scan_(scan), pass_(pass_of(markers.frame, scan)), bits_(out, limit), padding_(padding), interval_(interval) {
    for (size_t i = 0; i < scan.parts.size(); ++i) {
      dc_[i] = &markers.dc[static_cast<size_t>(scan.parts[i].dc)];
      ac_[i] = &markers.ac[static_cast<size_t>(scan.parts[i].ac)];
    }
  }

  Status block(const int16_t* block, size_t part) {
    if (!bits_.reserve()) return Status::wrong_size;
    bool has_codes = true;
    switch (pass_) {
      case Pass::sequential: has_codes = dc_first(block, part) && ac_sequential(block, *ac_[part]); break;
      case Pass::dc_first: has_codes = dc_first(block, part); break;
      case Pass::dc_refine: bits_.put(static_cast<uint32_t>(block[0] >> scan_.low) & 1, 1); break;
      case Pass::ac_first: has_codes = ac_first(block, *ac_[0]); break;
      case Pass::ac_refine: has_codes = ac_refine(block, *ac_[0]); break;
    }
    return has_codes ? Status::ok : Status::no_code;
  }

  Status restart() {
    const Status status = end_interval();
    bits_.marker(static_cast<uint8_t>(0xD0 + (n_restarts_++ & 7)));
    predictions_.fill(0);
    return status;
  }

  Status finish() {
    const Status status = end_interval();
    return bits_.close() ? status : Status::wrong_size;
  }

 private:
  static constexpr int LONGEST_RUN = 0x7FFF;        // of end-of-band, in blocks (G.1.2.2)
  static constexpr size_t MOST_CORRECTIONS = 1000;  // kept behind a run: libjpeg's MAX_CORR_BITS

  bool symbol(const HuffmanTable& table, int symbol, uint32_t extra = 0, int n = 0) {
    const size_t i = static_cast<size_t>(symbol);
    bits_.put(static_cast<uint32_t>(table.codes[i]) << n | extra, table.lengths[i] + n);
    return table.lengths[i] != 0;
  }

  // A run of zeros and a value: the bits of a negative one are those of value - 1 (F.1.2.1).
  bool coefficient(const HuffmanTable& table, int zeros, int value) {
    const int n = bit_length(static_cast<uint32_t>(value < 0 ? -value : value));
    return symbol(table, zeros << 4 | n, static_cast<uint32_t>(value - (value < 0)) & ((1u << n) - 1), n);
  }

  bool zeros_by_16(const HuffmanTable& table, int& zeros) {
    for (; zeros > 15; zeros -= 16) {
      if (!symbol(table, 0xF0)) return false;
    }
    return true;
  }

  bool dc_first(const int16_t* block, size_t part) {
    const int dc = block[0] >> scan_.low, difference = dc - predictions_[part];
    predictions_[part] = dc;
    return coefficient(*dc_[part], 0, difference);
  }

  bool ac_sequential(const int16_t* block, const HuffmanTable& table) {
    int before = 0;
    for (uint64_t left = nonzeros(block) & ~uint64_t{1}; left; left &= left - 1) {
      const int k = lowest_bit(left);
      int zeros = k - before - 1;
      if (!zeros_by_16(table, zeros) || !coefficient(table, zeros, block[k])) return false;
      before = k;
    }
    return before == BLOCK - 1 || symbol(table, 0);
  }

  // The run of blocks without further coefficients, then the correction bits inside it.
  bool end_run(const HuffmanTable& table) {
    if (run_ == 0) return true;
    const int n = bit_length(static_cast<uint32_t>(run_)) - 1;
    const bool has_code = symbol(table, n << 4, static_cast<uint32_t>(run_) & ((1u << n) - 1), n);
    run_ = 0;
    put_corrections(n_corrections_);
    return has_code;
  }

  void put_corrections(size_t n) {
    for (size_t i = 0; i < n; ++i) bits_.put(corrections_[i], 1);
    n_corrections_ = 0;
  }

  bool ac_first(const int16_t* block, const HuffmanTable& table) {
    int zeros = 0;
    for (int k = scan_.first; k <= scan_.last; ++k) {
      const int value = block[k] < 0 ? -(-block[k] >> scan_.low) : block[k] >> scan_.low;
      if (value == 0) {
        ++zeros;
        continue;
      }
      if (!end_run(table) || !zeros_by_16(table, zeros) || !coefficient(table, zeros, value)) return false;
      zeros = 0;
    }
    return zeros == 0 || ++run_ < LONGEST_RUN || end_run(table);
  }

  // G.1.2.3 as libjpeg does it: corrections since the last symbol follow the next one, and a run of 16 zeros
  // is only written if a new coefficient comes after it.
  bool ac_refine(const int16_t* block, const HuffmanTable& table) {
    int last_new = 0;
    for (int k = scan_.first; k <= scan_.last; ++k) {
      if ((block[k] < 0 ? -block[k] : block[k]) >> scan_.low == 1) last_new = k;
    }
    int zeros = 0;
    size_t start = n_corrections_;  // before it: corrections behind the run, after: of this block
    for (int k = scan_.first; k <= scan_.last; ++k) {
      const int value = (block[k] < 0 ? -block[k] : block[k]) >> scan_.low;
      if (value == 0) {
        ++zeros;
        continue;
      }
      while (zeros > 15 && k <= last_new) {
        if (!end_of_earlier(table, start) || !symbol(table, 0xF0)) return false;
        zeros -= 16;
        put_corrections(n_corrections_);
      }
      if (value > 1) {
        corrections_[n_corrections_++] = value & 1;
        continue;
      }
      if (!end_of_earlier(table, start) || !symbol(table, zeros << 4 | 1, block[k] > 0, 1)) return false;
      put_corrections(n_corrections_);
      zeros = 0;
    }
    if (zeros == 0 && n_corrections_ == start) return true;
    ++run_;
    return (run_ < LONGEST_RUN && n_corrections_ <= MOST_CORRECTIONS - BLOCK + 1) || end_run(table);
  }

  // Write the run before this block with its `start` corrections; this block's move to the front.
  bool end_of_earlier(const HuffmanTable& table, size_t& start) {
    const size_t own = n_corrections_ - start;
    n_corrections_ = start;
    const bool has_code = end_run(table);
    std::memmove(corrections_.data(), corrections_.data() + start, own);
    n_corrections_ = own;
    start = 0;
    return has_code;
  }

  Status end_interval() {
    if (!bits_.reserve()) return Status::wrong_size;
    if (run_ != 0 && !end_run(*ac_[0])) return Status::no_code;
    if (padding_.size > 0 && interval_ == padding_.size) return Status::bad_padding;
    bits_.end(padding_.size > 0 ? padding_.data[interval_++] : 0xFF);
    return Status::ok;
  }

  const Scan& scan_;
  Pass pass_;
  BitWriter bits_;
  const Bytes padding_;  // empty: all 1s
  size_t& interval_;
  std::array<const HuffmanTable*, MAX_COMPONENTS> dc_{}, ac_{};
  std::array<int, MAX_COMPONENTS> predictions_{};
  std::array<uint8_t, MOST_CORRECTIONS + BLOCK> corrections_{};
  size_t n_corrections_ = 0;
  int run_ = 0;
  int n_restarts_ = 0;
};

}  // namespace ncodec::jpeg
