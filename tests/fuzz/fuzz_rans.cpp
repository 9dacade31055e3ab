// ncodec::encode and ncodec::decode on any symbols, tables, indexes and payload.
//
//   a valid payload          decodes to its symbols
//   an edited one, any bytes  is refused, or encoding what it decodes to gives the same bytes again
//
// The second is stronger than "does not crash": rANS is a bijection between states, and the format
// leaves no freedom (shortest varints, no bytes left over, final states fixed), so there is one
// payload for each list of symbols, number of lanes and number of chunks.

#include "harness.hpp"

using namespace fuzz;

// The settings that a payload names: byte 0 has log2 of lanes, plus 8 before a number of chunks.
static Settings settings_of(const std::vector<uint8_t>& payload, int threads) {
  Settings s{payload.empty() ? 0 : payload[0] & 7, 1, threads};
  if (!payload.empty() && payload[0] & 8) {
    uint64_t chunks = 0;
    for (size_t i = 1; i < payload.size() && i <= 5; ++i) {
      chunks |= static_cast<uint64_t>(payload[i] & 0x7F) << (7 * (i - 1));
      if (payload[i] < 0x80) break;
    }
    s.chunks = static_cast<int>(chunks);
  }
  return s;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Source source(data, size);
  const uint8_t mode = source.u8();
  const bool valid_first = mode & 1, indexes_in_range = !(mode & 6);
  const int threads = mode & 8 ? 2 : 1;
  Settings settings{static_cast<int>(source.u8() % 7) - 1, 1 + source.u8() % 16, threads};
  const uint32_t skip_below = source.u8() % 4;
  const size_t n = source.u16() % 4097;

  const Rows rows(source);
  const Tables tables = rows.tables();
  Stream stream(source);
  std::vector<uint16_t> indexes(n);
  std::vector<int32_t> symbols(n), decoded(n);
  for (size_t i = 0; i < n; ++i) {
    const uint16_t index = stream.u8();
    indexes[i] = index % (rows.rows + (indexes_in_range || index != 255 ? 0 : 1));
    if (indexes[i] >= skip_below) symbols[i] = make_symbol(stream, rows.sizes[indexes[i] % rows.rows]);
  }

  size_t place = 0;
  std::vector<uint8_t> payload;
  bool is_valid = false;
  if (valid_first) {
    is_valid = encode(tables, symbols, indexes, skip_below, settings, payload, place) == Status::ok;
    if (is_valid && !source.empty()) {
      const std::vector<uint8_t> before = payload;
      edit(source, payload);
      is_valid = payload == before;
    }
  } else {
    payload = source.rest();
  }
  // A block of its own, of exactly this size: AddressSanitizer sees a read one byte past it.
  std::unique_ptr<uint8_t[]> bytes(new uint8_t[payload.size()]);
  std::copy(payload.begin(), payload.end(), bytes.get());
  const Status status = decode(tables, bytes.get(), payload.size(), indexes, skip_below, threads, decoded, place);
  if (is_valid) {
    require(status == Status::ok, "a valid payload decodes");
    require(decoded == symbols, "a valid payload decodes to its symbols");
  }
  if (status == Status::ok) {
    std::vector<uint8_t> again;
    settings = settings_of(payload, threads);
    require(encode(tables, decoded, indexes, skip_below, settings, again, place) == Status::ok,
            "what decodes can be encoded");
    require(again == payload, "an accepted payload is the only one for its symbols");
  }
  require(status == Status::ok || place <= n, "an error names a symbol");
  return 0;
}
