// Python types in and out of the coders, and their errors as ncodec's exceptions. No coding here.

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "bindings.hpp"
#include "crc32c.hpp"
#include "neighbours.hpp"
#include "steps.hpp"

using namespace ncodec;

using Frequencies = nb::ndarray<const uint16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Symbols = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Decoded = nb::ndarray<int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Indexes = nb::ndarray<const uint16_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

static void check(Status status, size_t place, size_t n) {
  const std::string at = "symbol " + std::to_string(place) + " of " + std::to_string(n) + ": ";
  switch (status) {
    case Status::ok: return;
    case Status::index_out_of_range: raise("InputError", at + "its index is not a row of the tables");
    case Status::skipped_not_zero: raise("InputError", at + "its index is below skip_below, expected 0");
    case Status::truncated: raise("TruncatedError", at + "the payload ends before it");
    case Status::bad_lanes:
      raise("CorruptPayloadError", "byte 0: expected log2 of at most 32 lanes, and 8 if in chunks");
    case Status::bad_chunks:
      raise("CorruptPayloadError", "chunks: expected 2 to as many as coded symbols, varints in shortest form");
    case Status::bad_escape:
      raise("CorruptPayloadError", at + "its escape exceeds 32 bits or is not the shortest form");
    case Status::left_over: raise("CorruptPayloadError", "bytes are left over after the last symbol");
    case Status::bad_first_state: raise("CorruptPayloadError", "a first coder state is below 2^16");
    case Status::bad_final_state:
      raise("CorruptPayloadError", "a final coder state is not 2^16, where the encoder began");
    case Status::out_of_grid:
      raise("CorruptPayloadError", at + "expected a magnitude of at most " + std::to_string(GRID_MAX));
    case Status::not_one_chunk:
      raise("CorruptPayloadError", "byte 0: expected one chunk, as the payload is decoded in steps");
  }
}

static Tables make_tables(Frequencies frequencies) {
  const size_t rows = frequencies.shape(0), stride = frequencies.shape(1);
  if (stride > FREQ_SUM) raise("InputError", "frequencies: expected at most 16384 entries a row");
  if (rows > MAX_ROWS) raise("InputError", "frequencies: expected at most 65536 rows");
  std::vector<uint32_t> sizes;
  const long bad = check_frequencies(frequencies.data(), rows, stride, sizes);
  if (bad >= 0)
    raise("InputError", "row " + std::to_string(bad) + ": expected positive frequencies that sum to 16384, then zeros");
  return Tables(frequencies.data(), stride, sizes);
}

static Variant variant_named(const std::optional<std::string>& name) {
  const char* vector = vector_name();
  if (!name) return vector ? Variant::vector : Variant::scalar;
  if (*name == "scalar") return Variant::scalar;
  if (vector && *name == vector) return Variant::vector;
  raise("InputError", "variant " + *name + ": expected scalar" + (vector ? std::string(" or ") + vector : ""));
}

static nb::bytes encode_bytes(const Tables& tables, Symbols symbols, Indexes indexes, uint32_t skip_below,
                              int log_lanes, size_t chunks, int threads, const std::optional<std::string>& variant) {
  if (symbols.shape(0) != indexes.shape(0))
    raise("InputError", "indexes: expected one per symbol, " + std::to_string(symbols.shape(0)) + ", found " +
                            std::to_string(indexes.shape(0)));
  if (log_lanes > MAX_LOG_LANES) raise("InputError", "lanes: expected at most 32");
  const Variant chosen = variant_named(variant);
  std::vector<uint8_t> payload;
  size_t place = 0;
  Status status;
  {
    nb::gil_scoped_release release;
    status = encode(tables, symbols.data(), indexes.data(), symbols.shape(0), skip_below, log_lanes, chunks, threads,
                    chosen, payload, place);
  }
  check(status, place, symbols.shape(0));
  return nb::bytes(payload.data(), payload.size());
}

static void decode_bytes(const Tables& tables, nb::bytes payload, Indexes indexes, uint32_t skip_below, int threads,
                         const std::optional<std::string>& variant, Decoded symbols) {
  const size_t n = indexes.shape(0);
  if (symbols.shape(0) != n) raise("InputError", "symbols: expected room for as many as indexes");
  const Variant chosen = variant_named(variant);
  size_t place = 0;
  Status status;
  {
    const auto* data = static_cast<const uint8_t*>(payload.data());
    const size_t size = payload.size();
    nb::gil_scoped_release release;
    status = decode(tables, data, size, indexes.data(), n, skip_below, threads, chosen, symbols.data(), place);
  }
  check(status, place, n);
}

class SymbolStream : Stream {
 public:
  SymbolStream(const Tables& tables, nb::bytes payload, size_t n_symbols, uint32_t skip_below,
               const std::optional<std::string>& variant)
      : payload_(std::move(payload)),
        n_symbols_(n_symbols),
        decoder_(tables, static_cast<const uint8_t*>(payload_.data()), payload_.size(), skip_below,
                 variant_named(variant)) {}

  void decode(Indexes indexes, Decoded symbols) {
    const Use use(*this);
    const size_t n = indexes.shape(0), left = n_symbols_ - decoder_.done();
    if (symbols.shape(0) != n) raise("InputError", "symbols: expected room for as many as indexes");
    if (n > left)
      raise("InputError", "indexes: expected at most the " + std::to_string(left) + " symbols left of " +
                              std::to_string(n_symbols_) + ", found " + std::to_string(n));
    size_t place = 0;
    Status status;
    {
      nb::gil_scoped_release release;
      status = decoder_.decode(indexes.data(), n, symbols.data(), place);
    }
    check(status, place, n_symbols_);
  }

  void finish() {
    const Use use(*this);
    is_finished_ = true;
    size_t place = 0;
    const Status status = decoder_.finish(place);
    if (!decoder_.failed() && decoder_.done() != n_symbols_)
      raise("InputError", "finish: expected " + std::to_string(n_symbols_) + " symbols decoded, found " +
                              std::to_string(decoder_.done()));
    check(status, place, n_symbols_);
  }

 private:
  nb::bytes payload_;  // keeps the bytes alive
  size_t n_symbols_;
  SymbolDecoder decoder_;
};

using Weights = nb::ndarray<const int16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Biases = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Offset = nb::ndarray<const int16_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Grid = nb::ndarray<const int16_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using DecodedGrid = nb::ndarray<int16_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

static NeighbourNetwork make_network(Weights hidden, Biases hidden_bias, Weights head, Weights own,
                                     std::array<int, 3> shifts) {
  const size_t channels = own.shape(1), width = hidden.shape(0);
  if (own.shape(0) != N_NEIGHBOURS || hidden.shape(1) != N_NEIGHBOURS * channels || hidden_bias.shape(0) != width ||
      head.shape(0) != 2 * channels || head.shape(1) != width)
    raise("WeightsMismatchError", "neighbours: expected hidden [B, 4 Z], its bias [B], head [2 Z, B] and own [4, Z]");
  const auto values = [](const auto& array) { return std::vector(array.data(), array.data() + array.size()); };
  NeighbourNetwork network{channels,  width,     values(hidden), values(hidden_bias), values(head), values(own),
                           shifts[0], shifts[1], shifts[2]};
  if (!network.is_exact()) raise("WeightsMismatchError", "neighbours: expected sums below 2^31 and shifts of 1 to 30");
  return network;
}

static void check_grid(const Tables& tables, const NeighbourNetwork& network, Offset offset, size_t channels) {
  if (channels != network.channels || offset.shape(0) != 2 * network.channels || tables.rows() != 8 * N_WIDTHS)
    raise("InputError", "grid: expected " + std::to_string(network.channels) +
                            " channels, twice as many offsets, and " + std::to_string(8 * N_WIDTHS) +
                            " rows of tables");
}

static nb::bytes encode_grid_bytes(const NeighbourNetwork& network, const Tables& tables, Offset offset, Grid z) {
  check_grid(tables, network, offset, z.shape(2));
  std::vector<uint8_t> payload;
  Status status;
  {
    nb::gil_scoped_release release;
    status = encode_grid(tables, network, offset.data(), z.data(), z.shape(0), z.shape(1), payload);
  }
  check(status, 0, z.size());
  return nb::bytes(payload.data(), payload.size());
}

static void decode_grid_bytes(const NeighbourNetwork& network, const Tables& tables, Offset offset, nb::bytes payload,
                              DecodedGrid z) {
  check_grid(tables, network, offset, z.shape(2));
  size_t place = 0;
  Status status;
  {
    const auto* data = static_cast<const uint8_t*>(payload.data());
    const size_t size = payload.size();
    nb::gil_scoped_release release;
    status = decode_grid(tables, network, offset.data(), data, size, z.shape(0), z.shape(1), z.data(), place);
  }
  check(status, place, z.size());
}

NB_MODULE(_rans, m) {
  nb::set_leak_warnings(false);  // models cached until the interpreter exits are no leak
  bind_binary(m);
  bind_tokens(m);
  nb::class_<Tables>(m, "Tables")
      .def("encode", &encode_bytes, nb::arg("symbols").noconvert(), nb::arg("indexes").noconvert(),
           nb::arg("skip_below"), nb::arg("log_lanes"), nb::arg("chunks"), nb::arg("threads"),
           nb::arg("variant").none())
      .def("decode", &decode_bytes, nb::arg("payload"), nb::arg("indexes").noconvert(), nb::arg("skip_below"),
           nb::arg("threads"), nb::arg("variant").none(), nb::arg("symbols").noconvert());
  nb::class_<SymbolStream>(m, "SymbolDecoder")
      .def(nb::init<const Tables&, nb::bytes, size_t, uint32_t, const std::optional<std::string>&>(),
           nb::keep_alive<1, 2>(), nb::arg("tables"), nb::arg("payload"), nb::arg("n_symbols"), nb::arg("skip_below"),
           nb::arg("variant").none())
      .def("decode", &SymbolStream::decode, nb::arg("indexes").noconvert(), nb::arg("symbols").noconvert())
      .def("finish", &SymbolStream::finish);
  nb::class_<NeighbourNetwork>(m, "NeighbourNetwork")
      .def("encode", &encode_grid_bytes, nb::arg("tables"), nb::arg("offset").noconvert(), nb::arg("z").noconvert())
      .def("decode", &decode_grid_bytes, nb::arg("tables"), nb::arg("offset").noconvert(), nb::arg("payload"),
           nb::arg("z").noconvert());
  m.def("make_network", &make_network, nb::arg("hidden").noconvert(), nb::arg("hidden_bias").noconvert(),
        nb::arg("head").noconvert(), nb::arg("own").noconvert(), nb::arg("shifts"));
  m.def("vector_name", [] { return vector_name(); });
  m.def("make_tables", &make_tables, nb::arg("frequencies").noconvert());
  m.def(
      "crc32c",
      [](nb::bytes data, uint32_t crc) { return crc32c(static_cast<const uint8_t*>(data.data()), data.size(), crc); },
      nb::arg("data"), nb::arg("crc") = 0);
}
