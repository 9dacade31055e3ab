// Python types in and out of recompress.hpp, and its errors as ncodec's exceptions. No coding here.

#include "bindings.hpp"
#include "recompress.hpp"

using namespace ncodec::jpeg;

static void check(Status status) {
  switch (status) {
    case Status::ok: return;
    case Status::unsupported: raise("CorruptPayloadError", "JPEG: the skeleton is not one of a file that is modelled");
    case Status::bad_padding:
      raise("CorruptPayloadError", "JPEG: the padding is not one byte for each restart interval");
    case Status::no_code: raise("CorruptPayloadError", "JPEG: a coefficient has no Huffman code");
    case Status::truncated: raise("TruncatedError", "JPEG: the coefficients end before the last block");
    case Status::left_over: raise("CorruptPayloadError", "JPEG: bytes are left over after the last block");
    case Status::bad_end: raise("CorruptPayloadError", "JPEG: the coefficients do not end as the encoder makes them");
    case Status::too_large: raise("LimitError", "JPEG: more blocks than the limit");
    case Status::wrong_size: raise("CorruptPayloadError", "JPEG: the file is not of the size that the payload says");
  }
}

static const uint8_t* bytes_of(const nb::bytes& data) { return static_cast<const uint8_t*>(data.data()); }
static nb::bytes to_bytes(const std::vector<uint8_t>& data) { return nb::bytes(data.data(), data.size()); }

// None if the file is not modelled.
static nb::object py_take_apart(const nb::bytes& data, uint64_t max_blocks) {
  Parts parts;
  Status status;
  {
    nb::gil_scoped_release release;
    status = take_apart(bytes_of(data), data.size(), max_blocks, parts);
  }
  if (status == Status::unsupported) return nb::none();
  check(status);
  return nb::make_tuple(to_bytes(parts.skeleton), to_bytes(parts.padding), to_bytes(parts.coded));
}

static nb::bytes py_put_together(const nb::bytes& skeleton, const nb::bytes& padding, const nb::bytes& coded,
                                 uint64_t size, uint64_t max_blocks) {
  std::vector<uint8_t> file;
  Status status;
  {
    nb::gil_scoped_release release;
    status = put_together({bytes_of(skeleton), skeleton.size()}, {bytes_of(padding), padding.size()},
                          {bytes_of(coded), coded.size()}, size, max_blocks, file);
  }
  check(status);
  return to_bytes(file);
}

// K.3, K.5, K.4, K.6 of T.81: how many codes of each length, symbols.
static nb::list py_huffman_tables() {
  nb::list tables;
  for (size_t i = 0; i < 2; ++i) {
    tables.append(nb::bytes(DC_TABLES[i], sizeof DC_TABLES[i]));
    tables.append(nb::bytes(AC_TABLES[i], sizeof AC_TABLES[i]));
  }
  return tables;
}

NB_MODULE(_jpeg, m) {
  m.def("take_apart", &py_take_apart, nb::arg("data"), nb::arg("max_blocks"));
  m.def("put_together", &py_put_together, nb::arg("skeleton"), nb::arg("padding"), nb::arg("coded"), nb::arg("size"),
        nb::arg("max_blocks"));
  m.def("huffman_tables", &py_huffman_tables);
}
