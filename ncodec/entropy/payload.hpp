// Symbols to payloads and back: which symbols are coded, chunks, threads, and the fastest variant that the
// processor has (specs/entropy.md, sections 2, 3 and 7).

#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>

#include "rans_avx2.hpp"
#include "rans_neon.hpp"

namespace ncodec {

enum class Variant { scalar, vector };  // vector: AVX2 or NEON

inline const char* vector_name() {  // nullptr where there is none
#if defined(NCODEC_RANS_AVX2)
  return has_avx2() ? "avx2" : nullptr;
#elif defined(NCODEC_NEON)
  return "neon";
#else
  return nullptr;
#endif
}

constexpr uint8_t CHUNKED = 8;           // flag in byte 0
constexpr size_t LANE_BYTES = 1024;      // a lane costs about 3 bytes: under 0.3 % of this
constexpr size_t CHUNK_BYTES = 1 << 15;  // a chunk of 32 lanes costs about 100 bytes: 0.3 % of this
constexpr size_t BLOCK = 4096;           // symbols compacted at a time; a multiple of the lanes
constexpr size_t SEGMENT = 1 << 16;      // symbols counted at a time
constexpr size_t PER_THREAD = 1 << 20;   // symbols that are worth a thread to count them

// More lanes, the larger a chunk is.
inline int log_lanes_for(uint64_t chunk_bytes) {
  int log_lanes = 0;
  while (log_lanes < MAX_LOG_LANES && chunk_bytes >= LANE_BYTES << (log_lanes + 1)) ++log_lanes;
  return log_lanes;
}

// -log2(freq / 2^14) in 1/256 bits, linear between powers of two; integer, so the same on every machine.
inline uint32_t cost_of(uint32_t freq) {
  int log = 0;
  for (int step = 8; step > 0; step /= 2) log += freq >> (log + step) != 0 ? step : 0;
  return (FREQ_BITS << 8) - (log << 8) - ((freq << 8 >> log) & 0xFF);
}

// Reads a varint of at most 5 bytes in its shortest form.
inline Status get_varint(const uint8_t*& p, const uint8_t* end, uint64_t& value) {
  value = 0;
  for (int shift = 0; shift < 35; shift += 7) {
    if (p == end) return Status::truncated;
    const uint8_t byte = *p++;
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return byte == 0 && shift > 0 ? Status::bad_chunks : Status::ok;
  }
  return Status::bad_chunks;
}

// Call work(0) ... work(n - 1) on up to `threads` threads: each begins with a range of its own, as neighbours
// share pages that the system has yet to provide, and then helps the others. Throws what any of them threw.
template <class Work>
inline void for_each(size_t n, int threads, const Work& work) {
  const size_t wanted = std::min<size_t>(n, static_cast<size_t>(std::max(threads, 1)));
  std::vector<std::atomic<size_t>> next(wanted);
  std::vector<std::exception_ptr> thrown(wanted);
  for (size_t t = 0; t < wanted; ++t) next[t] = n * t / wanted;
  const auto loop = [&](size_t own) noexcept {
    try {
      for (size_t k = 0; k < wanted; ++k) {
        const size_t t = (own + k) % wanted, end = n * (t + 1) / wanted;
        for (size_t i; (i = next[t].fetch_add(1)) < end;) work(i);
      }
    } catch (...) {  // out of memory
      thrown[own] = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  try {
    for (size_t t = 1; t < wanted; ++t) others.emplace_back(loop, t);
  } catch (const std::exception&) {  // no more threads to be had: the ones there are do the work
  }
  if (n > 0) loop(0);
  for (std::thread& other : others) other.join();
  for (const std::exception_ptr& error : thrown)
    if (error) std::rethrow_exception(error);
}

// Where each chunk begins in the stream. Threads look through it in segments, and count the coded symbols.
struct Split {
  size_t n_coded = 0;
  std::vector<size_t> coded_before;  // one per segment, and n_coded at the end
  std::vector<size_t> positions;     // one per chunk, and n at the end

  // `symbols` is nullptr where they are not known. Error: skipped_not_zero, at `place`.
  Status count(const int32_t* symbols, const uint16_t* indexes, size_t n, uint32_t skip_below, int threads,
               size_t& place) {
    n_coded = n;
    if (skip_below == 0) return Status::ok;
    const size_t segments = n / SEGMENT + 1;
    std::vector<uint8_t> not_zero(segments);
    coded_before.assign(segments + 1, 0);
    for_each(segments, static_cast<int>(std::min<size_t>(threads, n / PER_THREAD + 1)), [&](size_t s) {
      const size_t begin = s * SEGMENT, end = std::min(n, begin + SEGMENT);
      uint32_t coded = 0;
      bool bad = false;
      for (size_t i = begin; i < end; ++i) coded += indexes[i] >= skip_below;
      for (size_t i = begin; i < end && symbols != nullptr; ++i) bad |= (indexes[i] < skip_below) & (symbols[i] != 0);
      coded_before[s + 1] = coded;
      not_zero[s] = bad;
    });
    for (size_t s = 0; s < segments; ++s) coded_before[s + 1] += coded_before[s];
    n_coded = coded_before.back();
    for (size_t s = 0; s < segments; ++s) {
      if (!not_zero[s]) continue;
      for (place = s * SEGMENT; indexes[place] >= skip_below || symbols[place] == 0;) ++place;
      return Status::skipped_not_zero;
    }
    return Status::ok;
  }

  // In one pass, however many chunks: from the last position, or from the segment where the next one lies.
  void into_chunks(size_t chunks, const uint16_t* indexes, size_t n, uint32_t skip_below) {
    positions.assign(chunks + 1, n);
    size_t i = 0, seen = 0, s = 0;
    for (size_t c = 0; c < chunks; ++c) {
      const size_t target = begin(c, chunks);
      if (skip_below == 0) {
        positions[c] = target;
        continue;
      }
      while (coded_before[s + 1] < target) {  // the last is n_coded > target
        seen = coded_before[++s];
        i = s * SEGMENT;
      }
      while (seen < target)
        for (const size_t stop = i + (target - seen); i < stop; ++i)
          seen += indexes[i] >= skip_below;  // cannot pass it
      positions[c] = i;
    }
  }

  size_t begin(size_t c, size_t chunks) const {  // floor(c * n_coded / chunks) without overflow
    return c * (n_coded / chunks) + c * (n_coded % chunks) / chunks;
  }
};

// Whether all coded symbols of [begin, end) have a row; the place of the first that has none.
inline Status check_rows(const Tables& tables, const uint16_t* indexes, size_t begin, size_t end, uint32_t skip_below,
                         size_t& place) {
  uint16_t largest = 0;
  for (size_t i = begin; i < end; ++i) largest = std::max(largest, indexes[i]);
  if (largest < tables.rows()) return Status::ok;
  for (place = begin; place < end; ++place)
    if (indexes[place] >= skip_below && indexes[place] >= tables.rows()) return Status::index_out_of_range;
  return Status::ok;
}

// The first error of the chunks, and its place.
inline Status first_error(const std::vector<Status>& results, const std::vector<size_t>& places, size_t& place) {
  for (size_t c = 0; c < results.size(); ++c) {
    if (results[c] == Status::ok) continue;
    place = places[c];
    return results[c];
  }
  return Status::ok;
}

// `status`, but an index that is not a row comes before any other error.
inline Status rows_first(Status status, const Tables& tables, const uint16_t* indexes, size_t n, uint32_t skip_below,
                         size_t& place) {
  size_t other = 0;
  if (status == Status::ok || check_rows(tables, indexes, 0, n, skip_below, other) == Status::ok) return status;
  place = other;
  return Status::index_out_of_range;
}

// About the size of the payload, from all symbols of a short stream and 1024 runs of 16 of a long one. Their places
// are multiples of the golden ratio: evenly spread, and no period of the stream, such as its channels, is theirs.
inline uint64_t estimate_bytes(const Tables& tables, const int32_t* symbols, const uint16_t* indexes, size_t n,
                               uint32_t skip_below, size_t n_coded) {
  const size_t runs = n <= 1 << 14 ? 1 : 1024, length = n <= 1 << 14 ? n : 16;
  uint64_t cost = 0, counted = 0;
  for (size_t run = 0; run < runs; ++run) {
    const uint64_t part = static_cast<uint32_t>(run * 0x9E3779B1u);  // of 2^32
    const size_t first = static_cast<size_t>(part * (n - length + 1) >> 32);
    for (size_t i = first; i < first + length; ++i) {
      if (indexes[i] < skip_below || indexes[i] >= tables.rows()) continue;  // not checked yet
      const uint32_t escape = tables.size(indexes[i]) - 1, e = entry_of(symbols[i]);
      if (e >= escape) cost += 8 << 8;
      cost += cost_of(freq_of(tables.intervals()[tables.first(indexes[i]) + std::min(e, escape)]));
      ++counted;
    }
  }
  return counted == 0 ? 0 : cost / 2048 * n_coded / counted;
}

inline void run_encoder(ChunkEncoder& c, const int32_t* symbols, const uint16_t* rows, size_t n, Variant variant) {
  const size_t whole = n / c.lanes * c.lanes;
  c.run(symbols, rows, whole, n);
  size_t end = whole;
#if defined(NCODEC_RANS_AVX2)
  if (variant == Variant::vector) {
    if (c.lanes == 32) encode_groups<4>(c, symbols, rows, end);
    if (c.lanes == 16) encode_groups<2>(c, symbols, rows, end);
    if (c.lanes == 8) encode_groups<1>(c, symbols, rows, end);
  }
#endif
  (void)variant;
  for (; end > 0; end -= c.lanes) c.run(symbols, rows, end - c.lanes, end);
}

// As ChunkDecoder::run.
inline Status run_decoder(ChunkDecoder& d, const uint16_t* rows, size_t& at, size_t n, int32_t* symbols,
                          Variant variant) {
  while (at < n) {
    if (variant == Variant::vector) {
#if defined(NCODEC_RANS_AVX2)
      if (d.lanes == 32) decode_groups<4>(d, rows, at, n, symbols);
      if (d.lanes == 16) decode_groups<2>(d, rows, at, n, symbols);
      if (d.lanes == 8) decode_groups<1>(d, rows, at, n, symbols);
#elif defined(NCODEC_NEON)
      if (d.lanes == 32) decode_groups<8>(d, rows, at, n, symbols);
      if (d.lanes == 16) decode_groups<4>(d, rows, at, n, symbols);
      if (d.lanes == 8) decode_groups<2>(d, rows, at, n, symbols);
#endif
    }
    const size_t stop = std::min(n, at + (variant == Variant::vector ? d.lanes : n));
    const Status status = d.run(rows, at, stop, symbols);
    if (status != Status::ok) return status;
  }
  return Status::ok;
}

// One chunk of the stream: the coded symbols among [begin, end).
inline void encode_chunk(ChunkEncoder& c, const int32_t* symbols, const uint16_t* indexes, size_t begin, size_t end,
                         size_t count, uint32_t skip_below, Variant variant) {
  if (skip_below == 0) return run_encoder(c, symbols + begin, indexes + begin, count, variant);
  std::vector<int32_t> values(count + 1);
  std::vector<uint16_t> rows(count + 1);
  size_t k = 0;
  for (size_t i = begin; i < end; ++i) {
    values[k] = symbols[i];
    rows[k] = indexes[i];
    k += indexes[i] >= skip_below;
  }
  run_encoder(c, values.data(), rows.data(), count, variant);
}

// One chunk of the stream: the coded symbols among [begin, end); the others are 0.
inline Status decode_chunk(ChunkDecoder& d, const uint16_t* indexes, size_t begin, size_t end, uint32_t skip_below,
                           Variant variant, int32_t* symbols, size_t& place) {
  if (skip_below == 0) {
    size_t at = 0;
    const Status status = run_decoder(d, indexes + begin, at, end - begin, symbols + begin, variant);
    place = begin + at;
    return status;
  }
  std::array<uint16_t, BLOCK> rows;
  std::array<int32_t, BLOCK + 1> values{};
  for (size_t first = begin; first < end;) {
    size_t i = first, count = 0;
    while (i < end && count < BLOCK) {  // whole groups of lanes, as only the chunk's last block is not full
      for (const size_t stop = i + std::min(end - i, BLOCK - count); i < stop; ++i) {
        rows[count] = indexes[i];
        count += indexes[i] >= skip_below;
      }
    }
    size_t at = 0;
    const Status status = run_decoder(d, rows.data(), at, count, values.data(), variant);
    size_t k = 0;
    for (size_t j = first; j < i; ++j) {
      const bool coded = indexes[j] >= skip_below;
      if (status != Status::ok && coded && k == at) {
        place = j;
        return status;
      }
      symbols[j] = coded ? values[k] : 0;
      k += coded;
    }
    first = i;
  }
  place = end;
  return Status::ok;
}

inline Status encode_chunks(const Tables& tables, const int32_t* symbols, const uint16_t* indexes, size_t n,
                            uint32_t skip_below, int log_lanes, size_t chunks, int threads, Variant variant,
                            std::vector<uint8_t>& payload, size_t& place) {
  payload.clear();
  Split split;
  const Status status = split.count(symbols, indexes, n, skip_below, threads, place);
  if (status != Status::ok || split.n_coded == 0) return status;
  const bool is_given = log_lanes >= 0 && chunks > 0;
  const uint64_t bytes = is_given ? 0 : estimate_bytes(tables, symbols, indexes, n, skip_below, split.n_coded);
  if (chunks == 0) chunks = std::max<uint64_t>(1, bytes / CHUNK_BYTES);
  chunks = std::min(chunks, split.n_coded);
  if (log_lanes < 0) log_lanes = log_lanes_for(bytes / chunks);
  split.into_chunks(chunks, indexes, n, skip_below);
  std::vector<std::vector<uint8_t>> bodies(chunks);
  std::vector<Status> results(chunks);
  std::vector<size_t> places(chunks);
  for_each(chunks, threads, [&](size_t c) {
    const size_t begin = split.positions[c], end = split.positions[c + 1];
    const size_t count = split.begin(c + 1, chunks) - split.begin(c, chunks);
    results[c] = check_rows(tables, indexes, begin, end, skip_below, places[c]);
    if (results[c] != Status::ok) return;
    ChunkEncoder encoder(tables, size_t{1} << log_lanes, count);
    encode_chunk(encoder, symbols, indexes, begin, end, count, skip_below, variant);
    encoder.append_to(bodies[c]);
  });
  const Status error = first_error(results, places, place);
  if (error != Status::ok) return error;
  payload.push_back(static_cast<uint8_t>(log_lanes | (chunks > 1 ? CHUNKED : 0)));
  if (chunks > 1) put_varint(payload, chunks);
  for (size_t c = 0; c + 1 < chunks; ++c) put_varint(payload, bodies[c].size());
  size_t size = payload.size();
  for (const auto& body : bodies) size += body.size();
  payload.reserve(size);
  for (const auto& body : bodies) payload.insert(payload.end(), body.begin(), body.end());
  return Status::ok;
}

// Encode n symbols. Those whose index is below `skip_below` are not coded and must be 0. `log_lanes` < 0 and
// `chunks` 0 leave the choice to us. `place` names the symbol of an error. Throws std::bad_alloc.
inline Status encode(const Tables& tables, const int32_t* symbols, const uint16_t* indexes, size_t n,
                     uint32_t skip_below, int log_lanes, size_t chunks, int threads, Variant variant,
                     std::vector<uint8_t>& payload, size_t& place) {
  const Status status =
      encode_chunks(tables, symbols, indexes, n, skip_below, log_lanes, chunks, threads, variant, payload, place);
  return rows_first(status, tables, indexes, n, skip_below, place);
}

inline Status decode_chunks(const Tables& tables, const uint8_t* payload, size_t size, const uint16_t* indexes,
                            size_t n, uint32_t skip_below, int threads, Variant variant, int32_t* symbols,
                            size_t& place) {
  place = 0;
  Split split;
  split.count(nullptr, indexes, n, skip_below, threads, place);
  if (split.n_coded == 0) {
    std::fill(symbols, symbols + n, 0);
    return size == 0 ? Status::ok : Status::left_over;
  }
  if (size == 0) return Status::truncated;
  const uint8_t *p = payload + 1, *const end = payload + size;
  if ((payload[0] & ~CHUNKED) > MAX_LOG_LANES) return Status::bad_lanes;
  const size_t lanes = size_t{1} << (payload[0] & ~CHUNKED);
  uint64_t chunks = 1;
  if (payload[0] & CHUNKED) {
    const Status status = get_varint(p, end, chunks);
    if (status != Status::ok) return status;
    if (chunks < 2 || chunks > split.n_coded) return Status::bad_chunks;
    if (chunks - 1 > static_cast<size_t>(end - p))
      return Status::truncated;  // a size has a byte: bounds what we allocate
  }
  std::vector<size_t> sizes;
  uint64_t total = 0;
  for (size_t c = 0; c + 1 < chunks; ++c) {
    uint64_t length = 0;
    const Status status = get_varint(p, end, length);
    if (status != Status::ok) return status;
    sizes.push_back(length);
    total += length;
    if (total > size) return Status::truncated;
  }
  if (total > static_cast<size_t>(end - p)) return Status::truncated;
  sizes.push_back(static_cast<size_t>(end - p) - total);
  std::vector<const uint8_t*> starts;
  for (const size_t length : sizes) {
    starts.push_back(p);
    p += length;
  }
  split.into_chunks(chunks, indexes, n, skip_below);
  std::vector<Status> results(chunks);
  std::vector<size_t> places(chunks);
  for_each(chunks, threads, [&](size_t c) {
    const size_t begin = split.positions[c], end_of_chunk = split.positions[c + 1];
    results[c] = check_rows(tables, indexes, begin, end_of_chunk, skip_below, places[c]);
    if (results[c] != Status::ok) return;
    ChunkDecoder decoder(tables, lanes);
    places[c] = begin;
    results[c] = decoder.open(starts[c], sizes[c]);
    if (results[c] == Status::ok)
      results[c] = decode_chunk(decoder, indexes, begin, end_of_chunk, skip_below, variant, symbols, places[c]);
    if (results[c] == Status::ok) results[c] = decoder.close();
  });
  return first_error(results, places, place);
}

// Decode n symbols; the mirror of `encode`. `place` names the symbol or, for bad_chunks, nothing.
inline Status decode(const Tables& tables, const uint8_t* payload, size_t size, const uint16_t* indexes, size_t n,
                     uint32_t skip_below, int threads, Variant variant, int32_t* symbols, size_t& place) {
  const Status status = decode_chunks(tables, payload, size, indexes, n, skip_below, threads, variant, symbols, place);
  return rows_first(status, tables, indexes, n, skip_below, place);
}

}  // namespace ncodec
