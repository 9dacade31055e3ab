// A payload of one chunk, decoded a step at a time: the indexes of a step may follow from the symbols of the steps
// before it (specs/entropy.md, section 9). The same symbols and errors as `decode` of all steps at once.
//
//   step          s s s s s | s s | s s s s      symbols that are coded
//   lane          0 1 2 3 0   1 2   3 0 1 2      their lanes, counted on
//   states[0] of     0      |  1  |    3         a step begins with states[0], so the states turn after each

#pragma once

#include <optional>

#include "payload.hpp"

namespace ncodec {

class SymbolDecoder {
 public:
  // Tables and payload must outlive it. Nothing is read of the payload before there is a symbol to decode.
  SymbolDecoder(const Tables& tables, const uint8_t* payload, size_t size, uint32_t skip_below, Variant variant)
      : tables_(tables), payload_(payload), size_(size), skip_below_(skip_below), variant_(variant) {}

  size_t done() const { return done_; }  // symbols decoded, and skipped
  bool failed() const { return status_ != Status::ok; }

  // The next n symbols. `place` names the symbol of an error, counted from the first of all steps. After an error of
  // the payload every later call returns it; an index that is not a row leaves all as it was.
  Status decode(const uint16_t* indexes, size_t n, int32_t* symbols, size_t& place) {
    if (status_ == Status::ok) {
      const Status rows = check_rows(tables_, indexes, 0, n, skip_below_, place);
      place += done_;
      if (rows != Status::ok) return rows;
      status_ = step(indexes, n, symbols);
    }
    place = place_;
    return status_;
  }

  // After the last step, as the end of `decode`.
  Status finish(size_t& place) {
    place = place_;
    if (status_ != Status::ok) return status_;
    if (!chunk_) return size_ == 0 ? Status::ok : Status::left_over;
    return chunk_->close();
  }

 private:
  Status step(const uint16_t* indexes, size_t n, int32_t* symbols) {
    size_t coded = 0;
    for (size_t i = 0; i < n; ++i) coded += indexes[i] >= skip_below_;
    if (coded == 0) {
      std::fill(symbols, symbols + n, 0);
    } else {
      Status status = chunk_ ? Status::ok : open();
      if (status != Status::ok) return status;
      status = decode_chunk(*chunk_, indexes, 0, n, skip_below_, variant_, symbols, place_);
      place_ += done_;
      if (status != Status::ok) return status;
      const auto states = chunk_->states.begin();
      std::rotate(states, states + coded % chunk_->lanes, states + chunk_->lanes);
    }
    done_ += n;
    return Status::ok;
  }

  Status open() {
    if (size_ == 0) return Status::truncated;
    if ((payload_[0] & ~CHUNKED) > MAX_LOG_LANES) return Status::bad_lanes;
    if (payload_[0] & CHUNKED) return Status::not_one_chunk;
    chunk_.emplace(tables_, size_t{1} << payload_[0]);
    return chunk_->open(payload_ + 1, size_ - 1);
  }

  const Tables& tables_;
  const uint8_t* const payload_;
  const size_t size_;
  const uint32_t skip_below_;
  const Variant variant_;
  std::optional<ChunkDecoder> chunk_;
  size_t done_ = 0, place_ = 0;
  Status status_ = Status::ok;
};

}  // namespace ncodec
