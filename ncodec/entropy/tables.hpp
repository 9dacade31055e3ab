// Frequency tables, laid out for looking up many rows at once (specs/entropy.md, section 1).
//
//   row r        first(r) ... first(r) + size(r) - 1         entries of all rows, one after the other
//   intervals    start | freq << 16                          per entry
//   symbols      zigzag, ESCAPE for the last of a row        per entry
//   buckets      2^bits slots -> the first entry in them     per row, 2^14 / 2^bits
//   lookups      first bucket << 3 | bits                    per row; bits 6, fewer in rows of many entries
//   quick        entry << 28 | (freq - 1) << 14 | start      per row, 2^14 / 64: the interval that fills the bucket;
//                NOT_QUICK | place in fine                   where several do, an entry over 14, an escape
//   fine         entry << 22 | (freq - 1) << 11 | before     per bucket that is not quick, 64 / 4: the interval that
//                                                            fills these slots, and how far before them it starts;
//                                                            NOT_FINE where none of so few bits does

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ncodec {

constexpr int FREQ_BITS = 14;
constexpr uint32_t FREQ_SUM = 1u << FREQ_BITS;
constexpr uint32_t MAX_BUCKET_BITS = 6, MIN_BUCKET_BITS = 2;  // log2 of a bucket's slots
constexpr uint32_t STEPS_PER_LOOKUP = FREQ_SUM / 16;          // on average 1/16 entry is passed by after a look-up
constexpr int QUICK_BITS = 6, LOG_QUICK = FREQ_BITS - QUICK_BITS;
constexpr uint32_t NOT_QUICK = 15u << 28;
constexpr int FINE_BITS = 2;
constexpr uint32_t MAX_FINE_FREQ = 1u << 11, MAX_FINE_ENTRY = 1022, NOT_FINE = UINT32_MAX;
constexpr size_t FINE_BLOCK = 1u << (QUICK_BITS - FINE_BITS), MAX_FINE = 1u << 20;
constexpr int32_t ESCAPE = INT32_MIN;  // no row is long enough to hold this symbol
constexpr size_t MAX_ROWS = 1u << 16;

// Zigzag: 0, -1, 1, -2, 2 ... -> 0, 1, 2, 3, 4 ..., so that likely symbols come first.
inline uint32_t entry_of(int32_t symbol) { return (static_cast<uint32_t>(symbol) << 1) ^ (symbol < 0 ? ~0u : 0u); }
inline int32_t symbol_of(uint32_t entry) { return static_cast<int32_t>(entry >> 1) ^ -static_cast<int32_t>(entry & 1); }

inline uint32_t start_of(uint32_t interval) { return interval & 0xFFFF; }
inline uint32_t freq_of(uint32_t interval) { return interval >> 16; }

// The first row that is not positive from the left, then zero, with the sum 2^14; -1 if all are good.
inline long check_frequencies(const uint16_t* frequencies, size_t rows, size_t stride, std::vector<uint32_t>& sizes) {
  sizes.clear();
  for (size_t r = 0; r < rows; ++r) {
    const uint16_t* row = frequencies + r * stride;
    uint32_t size = 0;
    uint64_t sum = 0;
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
  // As `check_frequencies` accepts them: at most 2^16 rows, so at most 2^30 entries.
  Tables(const uint16_t* frequencies, size_t stride, const std::vector<uint32_t>& sizes)
      : sizes_(sizes), fine_(FINE_BLOCK, NOT_FINE) {
    for (size_t r = 0; r < sizes.size(); ++r) {
      firsts_.push_back(static_cast<uint32_t>(intervals_.size()));
      const uint32_t bits = bucket_bits(frequencies + r * stride, sizes[r]);
      lookups_.push_back(static_cast<uint32_t>(buckets_.size()) << 3 | bits);
      uint32_t start = 0, bucket = 0;
      quick_.resize((r + 1) << LOG_QUICK, NOT_QUICK);
      for (uint32_t e = 0; e < sizes[r]; ++e) {
        const uint32_t freq = frequencies[r * stride + e], entry = static_cast<uint32_t>(intervals_.size());
        intervals_.push_back(start | freq << 16);
        symbols_.push_back(e == sizes[r] - 1 ? ESCAPE : symbol_of(e));
        if (e < 15 && e < sizes[r] - 1) {
          uint32_t q = (start + (1u << QUICK_BITS) - 1) >> QUICK_BITS;
          for (; (q + 1) << QUICK_BITS <= start + freq; ++q)
            quick_[r << LOG_QUICK | q] = e << 28 | (freq - 1) << 14 | start;
        }
        start += freq;
        for (; bucket << bits < start; ++bucket) buckets_.push_back(entry);
      }
      add_fine(r);
    }
  }

  size_t rows() const { return sizes_.size(); }
  uint32_t size(size_t r) const { return sizes_[r]; }    // entries of row r, escape included
  uint32_t first(size_t r) const { return firsts_[r]; }  // its first entry
  const uint32_t* sizes() const { return sizes_.data(); }
  const uint32_t* firsts() const { return firsts_.data(); }
  const uint32_t* intervals() const { return intervals_.data(); }
  const int32_t* symbols() const { return symbols_.data(); }
  const uint32_t* quick() const { return quick_.data(); }
  const uint32_t* fine() const { return fine_.data(); }

  // The entry whose interval holds `slot`; slot < 2^14.
  uint32_t find(size_t r, uint32_t slot) const {
    uint32_t e = buckets_[(lookups_[r] >> 3) + (slot >> (lookups_[r] & 7))];
    while (slot - start_of(intervals_[e]) >= freq_of(intervals_[e])) ++e;
    return e;
  }

 private:
  // The fine buckets of the last row, as long as there is room: the others look at the first block, which knows none.
  void add_fine(size_t r) {
    const uint32_t last = std::min(sizes_[r] - 1, MAX_FINE_ENTRY + 1);
    for (uint32_t e = 0; e < last; ++e) {
      const uint32_t interval = intervals_[firsts_[r] + e], start = start_of(interval), freq = freq_of(interval);
      if (freq > MAX_FINE_FREQ) continue;
      uint32_t f = (start + (1u << FINE_BITS) - 1) >> FINE_BITS;
      for (; (f + 1) << FINE_BITS <= start + freq; ++f) {
        uint32_t& q = quick_[r << LOG_QUICK | f >> (QUICK_BITS - FINE_BITS)];
        if (q < NOT_QUICK) continue;
        if (q == NOT_QUICK) {
          if (fine_.size() >= MAX_FINE) return;
          q |= static_cast<uint32_t>(fine_.size());
          fine_.resize(fine_.size() + FINE_BLOCK, NOT_FINE);
        }
        fine_[(q ^ NOT_QUICK) | (f & (FINE_BLOCK - 1))] = e << 22 | (freq - 1) << 11 | ((f << FINE_BITS) - start);
      }
    }
  }

  // The largest buckets in which few entries start: an entry is passed by from each slot after its start.
  static uint32_t bucket_bits(const uint16_t* row, uint32_t size) {
    for (uint32_t bits = MAX_BUCKET_BITS; bits > MIN_BUCKET_BITS; --bits) {
      uint32_t start = 0, steps = 0;
      for (uint32_t e = 0; e < size; start += row[e++]) steps += -start & ((1u << bits) - 1);
      if (steps <= STEPS_PER_LOOKUP) return bits;
    }
    return MIN_BUCKET_BITS;
  }

  std::vector<uint32_t> sizes_, firsts_, intervals_, buckets_, lookups_, quick_, fine_;
  std::vector<int32_t> symbols_;
};

}  // namespace ncodec
