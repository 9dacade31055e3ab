// Family lossless on any picture and payload.
//
//   a valid payload           decodes to the picture
//   an edited one, any bytes  is refused, or decodes to a picture; the same one when it is decoded again

#include "codec.hpp"
#include "harness.hpp"

using namespace fuzz;
using namespace ncodec::lossless;

static std::vector<uint16_t> make_picture(Source& source, const Shape& shape) {
  const uint8_t style = source.u8();
  Stream stream(source);
  std::vector<uint16_t> out(shape.pixels() * static_cast<size_t>(shape.channels));
  const int most = (1 << shape.bit_depth) - 1, base = stream.u8(), slope = stream.u8();
  const int noise = style & 4 ? most : style & 8 ? 15 : 0, step = style & 16 ? 1 + most / 5 : 1;
  for (size_t i = 0; i < out.size(); ++i) {
    const int x = static_cast<int>(i) / shape.channels % shape.w, c = static_cast<int>(i) % shape.channels;
    const int ramp = style & 1 ? x * slope >> 2 : 0, again = style & 2 ? (x / 3 & 1) * 90 : 0;
    const int value = base + ramp + again + 3 * c + (noise ? (stream.u8() * 257) & noise : 0);
    out[i] = static_cast<uint16_t>((value & most) / step * step);
    if (style & 32 && shape.has_alpha() && c == shape.alpha() && stream.u8() & 1) out[i] = 0;
  }
  return out;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Source source(data, size);
  const uint8_t mode = source.u8();
  const Shape shape{1 + source.u8() % 40, 1 + source.u8() % 24, 1 + mode % 4, 1 + source.u8() % 16};
  std::vector<uint8_t> payload;
  std::vector<uint16_t> expected;
  bool is_valid = false;
  if (mode & 4) {
    expected = make_picture(source, shape);
    Tile tile = tile_of(expected.data(), shape, mode & 8);
    payload = encode(tile, 1 + (mode >> 4) % 3);
    const size_t n = static_cast<size_t>(shape.channels);
    for (size_t i = 0; i < expected.size(); ++i) {
      if (mode & 8 && shape.has_alpha() && expected[i / n * n + n - 1] == 0) expected[i] = 0;
    }
    const std::vector<uint8_t> before = payload;
    edit(source, payload);
    is_valid = payload == before;
  } else {
    payload = source.rest();
  }
  std::vector<uint16_t> decoded[2];
  ncodec::lossless::Status status[2];
  for (int i = 0; i < 2; ++i) {
    decoded[i].resize(shape.pixels() * static_cast<size_t>(shape.channels));
    status[i] = decode(payload.data(), payload.size(), shape, decoded[i].data());
  }
  require(status[0] == status[1] && decoded[0] == decoded[1], "a payload decodes alike every time");
  if (is_valid)
    require(status[0] == ncodec::lossless::Status::ok && decoded[0] == expected,
            "a valid payload decodes to its picture");
  return 0;
}
