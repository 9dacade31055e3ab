// check_frequencies and Tables on any matrix of frequencies.
//
//   accepted  exactly where a plain reading of the rule says so; every slot is found in its interval,
//             and every entry survives encoding and decoding
//   refused   with the first bad row

#include <numeric>

#include "harness.hpp"

using namespace fuzz;

// The rule once more, in other words: zeros only at the end, and a sum of 2^14.
static bool row_is_valid(const uint16_t* row, size_t stride) {
  for (size_t e = 1; e < stride; ++e)
    if (row[e] != 0 && row[e - 1] == 0) return false;
  return std::accumulate(row, row + stride, uint64_t{0}) == FREQ_SUM;
}

// Rows from the input: raw, or repaired so that they sum to 2^14, or long ones of equal entries.
static void make_row(Source& source, uint16_t* row, size_t stride) {
  const uint8_t kind = source.u8();
  if (stride == 0) return;
  if (kind % 4 == 3) {
    const size_t size = 1 + source.u16() % stride;
    const auto each = static_cast<uint16_t>(FREQ_SUM / size);
    std::fill(row, row + size, each);
    row[source.u16() % size] += static_cast<uint16_t>(FREQ_SUM - each * size);
  } else {
    const size_t size = std::min<size_t>(stride, source.u8());
    uint32_t sum = 0;
    for (size_t e = 0; e < size; ++e) sum += row[e] = kind % 4 == 0 ? source.u16() : source.u8();
    if (kind % 4 == 2 && size > 0) row[0] = static_cast<uint16_t>(row[0] + FREQ_SUM - sum);
  }
  if (kind & 0x80) row[source.u16() % stride] ^= static_cast<uint16_t>(1u << (source.u8() % 16));
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Source source(data, size);
  const size_t rows = source.u8() % 5;
  const size_t wide = source.u8();
  const size_t stride = wide < 240 ? wide : 1 + source.u16() % FREQ_SUM;
  std::unique_ptr<uint16_t[]> frequencies(new uint16_t[rows * stride]());
  for (size_t r = 0; r < rows; ++r) make_row(source, frequencies.get() + r * stride, stride);

  long expected = -1;
  for (size_t r = rows; r-- > 0;)
    if (!row_is_valid(frequencies.get() + r * stride, stride)) expected = static_cast<long>(r);
  std::vector<uint32_t> sizes;
  require(check_frequencies(frequencies.get(), rows, stride, sizes) == expected,
          "rows are refused by the rule, the first one first");
  if (expected >= 0) return 0;

  require(sizes.size() == rows, "every row has a size");
  const Tables tables(frequencies.get(), stride, sizes);
  frequencies.reset();  // Tables keep nothing of their argument
  require(tables.rows() == rows, "every row is kept");
  std::vector<int32_t> symbols;
  std::vector<uint16_t> indexes;
  for (size_t r = 0; r < rows; ++r) {
    require(tables.size(r) == sizes[r], "a row keeps its size");
    uint32_t start = 0;
    for (uint32_t e = 0; e < sizes[r]; ++e) {
      const uint32_t entry = tables.first(r) + e, interval = tables.intervals()[entry];
      require(start_of(interval) == start, "intervals follow each other");
      start += freq_of(interval);
      require(tables.find(r, start_of(interval)) == entry && tables.find(r, start - 1) == entry,
              "a slot is found in its interval");
      symbols.push_back(symbol_of(e));
      indexes.push_back(static_cast<uint16_t>(r));
    }
    require(start == FREQ_SUM, "a row spans 0 to 2^14");
  }
  size_t place = 0;
  std::vector<uint8_t> payload;
  const Settings settings{-1, 1, 1};
  std::vector<int32_t> decoded(symbols.size());
  require(encode(tables, symbols, indexes, 0, settings, payload, place) == Status::ok, "every entry is encoded");
  require(decode(tables, payload.data(), payload.size(), indexes, 0, 1, decoded, place) == Status::ok,
          "every entry is decoded");
  require(decoded == symbols, "every entry survives");
  return 0;
}
