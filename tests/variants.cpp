// Every variant of the coder against the scalar one, for processors that Python is not tested on (NEON under
// qemu): random streams, all lanes, skipped symbols, escapes, chunks, steps, and damaged payloads. Prints the variant.

#include <cstdio>
#include <random>

#include "../ncodec/entropy/steps.hpp"

using namespace ncodec;

int main() {
  if (!vector_name()) return std::puts("no vector variant"), 77;
  std::mt19937 random(1);
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  constexpr size_t rows = 20, stride = 300;
  std::vector<uint16_t> frequencies(rows * stride, 0);
  for (size_t r = 0; r < rows; ++r) {  // from nearly certain to nearly flat
    const size_t size = 2 + r * 15;
    uint32_t left = FREQ_SUM;
    for (size_t e = size; e-- > 0;) {
      const uint32_t freq = e == 0 ? left : 1 + below(1 + FREQ_SUM / static_cast<uint32_t>(2 * size));
      frequencies[r * stride + e] = static_cast<uint16_t>(freq);
      left -= freq;
    }
  }
  std::vector<uint32_t> sizes;
  if (check_frequencies(frequencies.data(), rows, stride, sizes) >= 0) return std::puts("bad tables"), 1;
  const Tables tables(frequencies.data(), stride, sizes);
  size_t streams = 0, refused = 0;
  for (int log_lanes = 0; log_lanes <= MAX_LOG_LANES; ++log_lanes) {
    for (const size_t chunks : {1, 2, 5}) {
      for (const size_t n : {1, 31, 64, 1000, 20000}) {
        for (const uint32_t skip_below : {0u, 3u}) {
          std::vector<int32_t> symbols(n), decoded[2] = {std::vector<int32_t>(n), std::vector<int32_t>(n)};
          std::vector<uint16_t> indexes(n);
          for (size_t i = 0; i < n; ++i) {
            indexes[i] = static_cast<uint16_t>(below(rows));
            const uint32_t e = below(1000) == 0 ? random() : below(below(sizes[indexes[i]]) + 1);
            symbols[i] = indexes[i] < skip_below ? 0 : symbol_of(e);
          }
          std::vector<uint8_t> payload, other;
          size_t place = 0;
          if (encode(tables, symbols.data(), indexes.data(), n, skip_below, log_lanes, chunks, 1, Variant::scalar,
                     payload, place) != Status::ok ||
              encode(tables, symbols.data(), indexes.data(), n, skip_below, log_lanes, chunks, 2, Variant::vector,
                     other, place) != Status::ok ||
              payload != other)
            return std::puts("encoders differ"), 1;
          for (int damage = 0; damage < 20; ++damage) {
            size_t places[2] = {0, 0};
            const Status a = decode(tables, payload.data(), payload.size(), indexes.data(), n, skip_below, 1,
                                    Variant::scalar, decoded[0].data(), places[0]);
            const Status b = decode(tables, payload.data(), payload.size(), indexes.data(), n, skip_below, 2,
                                    Variant::vector, decoded[1].data(), places[1]);
            if (a != b || places[0] != places[1] || (a == Status::ok && decoded[0] != decoded[1]))
              return std::puts("decoders differ"), 1;
            if (damage == 0 && (a != Status::ok || decoded[0] != symbols)) return std::puts("not what was encoded"), 1;
            if (chunks == 1 && !payload.empty() && (payload[0] & CHUNKED) == 0) {
              SymbolDecoder decoder(tables, payload.data(), payload.size(), skip_below, Variant::vector);
              Status c = Status::ok;
              std::fill(decoded[1].begin(), decoded[1].end(), 0);
              for (size_t at = 0, step; at < n && c == Status::ok; at += step) {
                step = std::min<size_t>(n - at, 1 + below(2000));
                c = decoder.decode(indexes.data() + at, step, decoded[1].data() + at, places[1]);
              }
              if (c == Status::ok) c = decoder.finish(places[1]);
              if (a != c || (a == Status::ok && decoded[0] != decoded[1])) return std::puts("steps differ"), 1;
            }
            ++streams;
            refused += a != Status::ok;
            if (payload.empty()) break;
            payload[below(static_cast<uint32_t>(payload.size()))] = static_cast<uint8_t>(random());
            if (below(8) == 0) payload.resize(1 + below(static_cast<uint32_t>(payload.size())));
          }
        }
      }
    }
  }
  std::printf("%s: %zu streams, %zu of them refused, all as the scalar coder does\n", vector_name(), streams, refused);
  return 0;
}
