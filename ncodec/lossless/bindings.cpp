// Python types in and out of codec.hpp, and its errors as ncodec's exceptions. No coding here.

#include <string>

#include "bindings.hpp"
#include "codec.hpp"

using namespace ncodec;
using namespace ncodec::lossless;
using namespace nb::literals;

constexpr int MOST_SIDE = 65535;

Shape shape_of(size_t width, size_t height, size_t channels, int bit_depth) {
  if (width < 1 || width > MOST_SIDE || height < 1 || height > MOST_SIDE)
    raise("InputError", "pixels: expected sides of 1 to 65535");
  if (channels < 1 || channels > 4) raise("InputError", "pixels: expected 1 to 4 channels");
  if (bit_depth < 1 || bit_depth > 16) raise("InputError", "pixels: expected a bit depth of 1 to 16");
  return {static_cast<int>(width), static_cast<int>(height), static_cast<int>(channels), bit_depth};
}

void check(Status status) {
  const std::string place = "section 'lossless': ";
  switch (status) {
    case Status::ok: return;
    case Status::truncated: raise("TruncatedError", place + "ends before the last bin");
    case Status::left_over: raise("CorruptPayloadError", place + "bytes are left over after the last bin");
    case Status::bad_end: raise("CorruptPayloadError", place + "not what an encoder makes");
    case Status::bad_values: raise("CorruptPayloadError", place + "values beyond the bit depth");
    case Status::bad_palette:
      raise("CorruptPayloadError", place + "a palette, or the number of a colour, out of range");
  }
}

template <class Value>
nb::bytes encode_pixels(nb::ndarray<const Value, nb::ndim<3>, nb::c_contig, nb::device::cpu> pixels, int bit_depth,
                        int effort, bool exact) {
  const Shape shape = shape_of(pixels.shape(1), pixels.shape(0), pixels.shape(2), bit_depth);
  if (effort < 1 || effort > 3) raise("InputError", "effort: expected 1, 2 or 3");
  const Value* values = pixels.data();
  if (bit_depth > static_cast<int>(8 * sizeof(Value))) raise("InputError", "pixels: a bit depth beyond their type");
  for (size_t i = 0; i < pixels.size(); ++i) {
    if (values[i] >> bit_depth) raise("InputError", "pixels: a value beyond the bit depth");
  }
  std::vector<uint8_t> payload;
  {
    nb::gil_scoped_release unlocked;
    Tile tile = tile_of(values, shape, !exact);
    payload = encode(tile, effort);
  }
  return nb::bytes(payload.data(), payload.size());
}

template <class Value>
nb::ndarray<nb::numpy, Value> decode_pixels(nb::bytes payload, const Shape& shape) {
  const size_t n = shape.pixels() * static_cast<size_t>(shape.channels);
  auto* pixels = new Value[n];
  nb::capsule owner(pixels, [](void* p) noexcept { delete[] static_cast<Value*>(p); });
  const auto* data = static_cast<const uint8_t*>(payload.data());
  const size_t size = payload.size();
  Status status;
  {
    nb::gil_scoped_release unlocked;
    status = decode(data, size, shape, pixels);
  }
  check(status);
  return nb::ndarray<nb::numpy, Value>(
      pixels, {static_cast<size_t>(shape.h), static_cast<size_t>(shape.w), static_cast<size_t>(shape.channels)}, owner);
}

NB_MODULE(_lossless, m) {
  m.def("encode", &encode_pixels<uint8_t>, "pixels"_a.noconvert(), "bit_depth"_a, "effort"_a, "exact"_a);
  m.def("encode", &encode_pixels<uint16_t>, "pixels"_a.noconvert(), "bit_depth"_a, "effort"_a, "exact"_a);
  m.def(
      "decode",
      [](nb::bytes payload, size_t width, size_t height, size_t channels, int bit_depth) -> nb::object {
        const Shape shape = shape_of(width, height, channels, bit_depth);
        if (bit_depth <= 8) return nb::cast(decode_pixels<uint8_t>(payload, shape));
        return nb::cast(decode_pixels<uint16_t>(payload, shape));
      },
      "payload"_a, "width"_a, "height"_a, "channels"_a, "bit_depth"_a);
}
