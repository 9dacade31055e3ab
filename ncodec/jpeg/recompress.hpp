// A JPEG file as its skeleton (all but the scans), the scans' padding and the coded coefficients, and back.
//
//   file     | markers | scan | markers | scan | EOI, tail |
//              `---------|--- skeleton ----|-----------'
//                        `- coefficients --'  -> model -> coded

#pragma once

#include <algorithm>
#include <memory>

#include "model.hpp"

namespace ncodec::jpeg {

// A block has 13 bins or more (counts 6 + 3 + 3, DC) of 0.0014 bits or more: 0.0183 bits.
constexpr uint64_t MOST_BLOCKS_A_BYTE = 438;

struct Parts {
  std::vector<uint8_t> skeleton, padding, coded;
};

template <class Coder>
Status code_frame(Frame& frame, const std::array<std::array<uint16_t, BLOCK>, 4>& tables, Coder& coder) {
  // Two sets: luma's, and what the other components share.
  const auto contexts = std::make_unique<Contexts[]>(2);
  for (size_t i = 0; i < frame.components.size(); ++i) {
    Component& c = frame.components[i];
    const Component* previous = i > 0 ? &frame.components[i - 1] : nullptr;
    if (previous && (previous->rows != c.rows || previous->columns != c.columns)) previous = nullptr;
    const auto& table = tables[static_cast<size_t>(c.table)];
    const auto& others = previous ? tables[static_cast<size_t>(previous->table)] : table;
    const Status status = Model<Coder>(coder, contexts[i > 0]).code_component(c, previous, table, others);
    if (status != Status::ok) return status;
  }
  return Status::ok;
}

// Unsupported: keep the file as it is. Ok does not say that `restore` gives the same file: try it.
inline Status take_apart(const uint8_t* bytes, size_t size, uint64_t most_blocks, Parts& parts) {
  Markers markers;
  Scan scan;
  std::array<std::array<uint16_t, BLOCK>, 4> tables{};
  size_t position = 0;
  bool is_first = true;
  while (true) {
    const size_t start = position;
    bool has_scan = false;
    Status status = markers.read(bytes, size, position, scan, has_scan);
    if (status != Status::ok) return status;
    parts.skeleton.insert(parts.skeleton.end(), bytes + start, bytes + position);
    if (!has_scan) break;
    if (is_first) {
      // Every file that is worth it has a bit or more a block.
      const uint64_t n_blocks = markers.frame.n_blocks();
      if (n_blocks > 8 * static_cast<uint64_t>(size)) return Status::unsupported;
      if (n_blocks > most_blocks) return Status::too_large;
      markers.frame.allocate();
      tables = markers.quantisation;
      is_first = false;
    }
    ScanReader reader(markers, scan, bytes, size, position, parts.padding);
    status = walk(markers.frame, scan, markers.restart_interval, reader);
    if (status != Status::ok) return status;
    position = reader.position();
  }
  if (is_first) return Status::unsupported;
  if (std::all_of(parts.padding.begin(), parts.padding.end(), [](uint8_t p) { return p == 0xFF; }))
    parts.padding.clear();
  Encoder coder;
  const Status status = code_frame(markers.frame, tables, coder);
  parts.coded = coder.finish();
  return status;
}

inline Status put_together(Bytes skeleton, Bytes padding, Bytes coded, uint64_t file_size, uint64_t most_blocks,
                           std::vector<uint8_t>& file) {
  Markers markers;
  Scan scan;
  size_t position = 0, interval = 0;
  bool is_first = true;
  while (true) {
    const size_t start = position;
    bool has_scan = false;
    Status status = markers.read(skeleton.data, skeleton.size, position, scan, has_scan);
    if (status != Status::ok) return status;
    if (position - start > file_size - file.size()) return Status::wrong_size;
    file.insert(file.end(), skeleton.data + start, skeleton.data + position);
    if (!has_scan) break;
    if (is_first) {
      const uint64_t n_blocks = markers.frame.n_blocks();
      if (n_blocks > most_blocks) return Status::too_large;
      if (n_blocks > MOST_BLOCKS_A_BYTE * (uint64_t{coded.size} + 1)) return Status::truncated;
      markers.frame.allocate();
      Decoder coder(coded.data, coded.size);
      status = code_frame(markers.frame, markers.quantisation, coder);
      if (status != Status::ok) return status;
      if (coder.finish() == BinaryStatus::truncated) return Status::truncated;
      if (coder.finish() == BinaryStatus::left_over) return Status::left_over;
      if (coder.finish() != BinaryStatus::ok) return Status::bad_end;
      is_first = false;
    }
    ScanWriter writer(markers, scan, file, file_size, padding, interval);
    status = walk(markers.frame, scan, markers.restart_interval, writer);
    if (status != Status::ok) return status;
  }
  if (is_first) return Status::unsupported;
  if (padding.size > 0 && interval != padding.size) return Status::bad_padding;
  return file.size() == file_size ? Status::ok : Status::wrong_size;
}

}  // namespace ncodec::jpeg
