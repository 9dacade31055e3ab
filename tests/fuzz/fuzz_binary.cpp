// The adaptive binary coder on any bins, contexts and payload, coded in several calls.
//
//   a valid payload           decodes to its bins
//   an edited one, any bytes  is refused, or encoding what it decodes to gives the same bytes again

#include "binary.hpp"
#include "harness.hpp"

using namespace fuzz;

struct Input {
  size_t n_contexts;
  std::vector<uint16_t> numbers;
  size_t batch;  // bins in a call
};

static BinaryStatus encode(const Input& input, const std::vector<uint8_t>& bins, std::vector<uint8_t>& payload,
                           size_t& place) {
  BinaryEncoder coder;
  std::vector<BinaryContext> contexts(input.n_contexts);
  BinaryStatus status = check_bins(bins.data(), bins.size(), place);
  if (status == BinaryStatus::ok) status = check_contexts(input.numbers.data(), bins.size(), input.n_contexts, place);
  for (size_t i = 0; i < bins.size() && status == BinaryStatus::ok; i += input.batch) {
    const size_t count = std::min(input.batch, bins.size() - i);
    status = encode_bins(coder, contexts, bins.data() + i, input.numbers.data() + i, count, place);
    if (status != BinaryStatus::ok) place += i;
  }
  payload = coder.finish();
  return status;
}

static BinaryStatus decode(const Input& input, const uint8_t* payload, size_t size, std::vector<uint8_t>& bins,
                           size_t& place) {
  BinaryDecoder coder(payload, size);
  std::vector<BinaryContext> contexts(input.n_contexts);
  BinaryStatus status = BinaryStatus::ok;
  place = 0;
  for (size_t i = 0; i < bins.size() && status == BinaryStatus::ok; i += input.batch) {
    const size_t count = std::min(input.batch, bins.size() - i);
    status = decode_bins(coder, contexts, input.numbers.data() + i, count, bins.data() + i, place);
    place += i;
  }
  return status == BinaryStatus::ok ? coder.finish() : status;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Source source(data, size);
  const uint8_t mode = source.u8();
  const size_t n = source.u16() % 8193;
  Input input{source.u8() % 16u, std::vector<uint16_t>(n), 1 + source.u16() % 4096u};
  const uint8_t skew = source.u8();  // P(1) of the bins, so that contexts reach both ends
  Stream stream(source);
  std::vector<uint8_t> bins(n), decoded(n, 0xAA);
  for (size_t i = 0; i < n; ++i) {
    const uint8_t number = stream.u8();
    input.numbers[i] =
        number >= 224 || input.n_contexts == 0 ? BYPASS : static_cast<uint16_t>(number % input.n_contexts);
    bins[i] = stream.u8() < skew;
  }
  if (n > 0 && mode & 2) input.numbers[source.u16() % n] = source.u16();
  if (n > 0 && mode & 4) bins[source.u16() % n] = source.u8();

  size_t place = 0;
  std::vector<uint8_t> payload;
  bool is_valid = false;
  if (mode & 1) {
    const BinaryStatus status = encode(input, bins, payload, place);
    is_valid = status == BinaryStatus::ok;
    require(is_valid || place < n, "an error names a bin");
    if (!source.empty()) {
      const std::vector<uint8_t> before = payload;
      edit(source, payload);
      is_valid = is_valid && payload == before;
    }
  } else {
    payload = source.rest();
  }
  std::unique_ptr<uint8_t[]> bytes(new uint8_t[payload.size()]);
  std::copy(payload.begin(), payload.end(), bytes.get());
  const BinaryStatus status = decode(input, bytes.get(), payload.size(), decoded, place);
  if (is_valid) {
    require(status == BinaryStatus::ok, "a valid payload decodes");
    require(decoded == bins, "a valid payload decodes to its bins");
  }
  if (status == BinaryStatus::ok) {
    std::vector<uint8_t> again;
    require(encode(input, decoded, again, place) == BinaryStatus::ok, "what decodes can be encoded");
    require(again == payload, "an accepted payload is the only one for its bins");
  }
  return 0;
}
