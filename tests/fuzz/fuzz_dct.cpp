// Family dct on any picture, options, parameters, tuning and payload.
//
//   a valid payload           decodes to the samples that the encoder had
//   an edited one, any bytes  is refused, or decodes to a picture; the same one when it is decoded again

#include "enc_tile.hpp"
#include "harness.hpp"

using namespace fuzz;
using namespace ncodec::dct;

static Parameters make_parameters(Source& source, bool any) {
  Parameters p{};
  p.start.assign(2 * contexts::COUNT, 0);
  p.confidence.assign(contexts::COUNT, 0);
  p.weights.assign(3 * mixers::COUNT, 6500);
  p.colour = {{{65536, -46341, 46341}, {65536, -46341, -46341}, {65536, 92682, 0}}};
  for (int q = 0; q < ANCHORS; ++q) {
    for (auto& step : p.log_step[q]) step = static_cast<int16_t>(1900 - 215 * q);
    p.strength[q] = {58, 8, 58, 8, 32, 32};
  }
  if (!any) return p;
  Stream stream(source);
  const auto byte = [&] { return static_cast<int8_t>(stream.u8()); };
  for (auto& row : p.log_step)
    for (auto& step : row) step = static_cast<int16_t>(byte() * 256 + stream.u8());
  for (auto& at_quality : p.matrix)
    for (auto& of_plane : at_quality)
      for (auto& of_size : of_plane)
        for (auto& v : of_size) v = byte();
  for (auto& row : p.strength)
    for (auto& v : row) v = stream.u8();
  for (auto& at_quality : p.luma_filter)
    for (auto& of_class : at_quality)
      for (auto& v : of_class) v = byte();
  for (auto& at_quality : p.chroma_filter)
    for (auto& of_plane : at_quality)
      for (auto& of_class : of_plane)
        for (auto& v : of_class) v = byte();
  for (auto& v : p.start) v = std::max<int8_t>(byte(), -127);
  for (auto& v : p.confidence) v = stream.u8();
  for (auto& v : p.weights) v = static_cast<int16_t>(byte() * 256 + stream.u8());
  for (auto& of_shape : p.learned)
    for (auto& matrix : of_shape)
      for (auto& row : matrix)
        for (auto& v : row) v = static_cast<int16_t>(byte() * 256 + stream.u8());
  return p;
}

// One that adds a little, or much.
static std::shared_ptr<const Network> make_network(Source& source) {
  const int largest = 1 << source.u8() % 8;
  Stream stream(source);
  std::vector<int16_t> numbers(64 * 288);
  for (auto& v : numbers) v = static_cast<int16_t>(stream.u8() % (2 * largest) - largest);
  const std::vector<int32_t> biases(64, stream.u8());
  const std::vector<uint8_t> shifts(64, 12);
  return std::make_shared<Network>([&](const std::string& name) -> ncodec::exact::Array {
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    const bool is_squeezed = has("squeeze") || ((has("factor") || has("offset")) && !has(".4"));
    const bool is_wide = has("head") || has("sides") || has("conv") || has("factor") || has("offset");
    const size_t outputs = is_squeezed ? 32 : is_wide ? 64 : 48;
    if (has(".bias")) return {biases.data(), "int32", {outputs}, true};
    if (has(".shift")) return {shifts.data(), "uint8", {outputs}, true};
    if (has("high")) return {numbers.data(), "int16", {48, 3, 3}, true};
    if (!has(".weight")) return {numbers.data(), "int16", {8, outputs}, true};
    const size_t inputs = has("conv") ? 288 : has("sides") ? 12 : has("tail") || has("squeeze") ? 64 : 48;
    return {numbers.data(), "int16", {outputs, inputs}, true};
  });
}

// Any that ncodec/dct/parameters.py accepts.
static Tuning make_tuning(Source& source) {
  Stream stream(source);
  const auto between = [&](float low, float high) {
    return low + (high - low) * static_cast<float>(stream.u8()) / 255;
  };
  Tuning tuning;
  tuning.is_visual = true;
  tuning.weight_slope = between(0, 2);
  tuning.offset_slope = between(0, 2);
  tuning.constant = between(1, 10000);
  tuning.usual = between(-16, 0);
  for (auto& of_plane : tuning.sensitivity)
    for (auto& v : of_plane) v = between(-16, 16);
  return tuning;
}

static std::vector<uint8_t> make_picture(Source& source, int width, int height, int channels) {
  const uint8_t style = source.u8();
  Stream stream(source);
  std::vector<uint8_t> out(static_cast<size_t>(width) * height * channels);
  const uint8_t base = stream.u8(), slope = stream.u8(), noise = style & 4 ? 255 : style & 8 ? 15 : 0;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c) {
        const int ramp = style & 1 ? (x * slope + y * 3 * c) >> 4 : 0,
                  disc = style & 2 && (x - 40) * (x - 40) + (y - 30) * (y - 30) < 300 ? 90 : 0;
        out[(static_cast<size_t>(y) * width + x) * channels + c] =
            static_cast<uint8_t>(base + ramp + disc + (noise ? stream.u8() & noise : 0));
      }
  return out;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Source source(data, size);
  const uint8_t mode = source.u8();
  const int quality_code = source.u8() % (MAX_QUALITY_CODE + 1), width = 1 + source.u8() % 96,
            height = 1 + source.u8() % 80;
  const int channels = mode & 4 ? 1 : 3;
  const uint8_t choices = source.u8();
  EncoderOptions options;
  options.least_log2 = 2 + choices % 5;
  options.most_log2 = std::max(std::max(options.least_log2, 3), 6 - (choices >> 3) % 4);
  options.optimised_levels = !(choices & 32);
  options.full_trials = std::array{1, 3, 8, 16}[choices >> 6];
  options.binary_depth = choices >> 2 & 3;
  options.ternary = choices & 1;
  options.is_quick = mode & 128;
  options.is_thorough = !options.is_quick && quality_code & 1;
  options.price = static_cast<float>(choices & 3);
  Parameters parameters = make_parameters(source, mode & 2);
  if (mode & 64) parameters.network = make_network(source);
  if (mode & 32) options.tuning = make_tuning(source);

  std::vector<uint8_t> payload, expected;
  bool is_valid = false;
  if (mode & 1) {
    const std::vector<uint8_t> pixels = make_picture(source, width, height, channels);
    const Picture picture = {pixels.data(), width, height, channels, width * channels, channels};
    const Kind kind = mode & 16 ? Kind::angle : Kind::dct;
    const int chroma_shift = channels == 3 && mode & 8 ? 1 : 0;
    payload = encode_tile(picture, parameters, quality_code, kind, chroma_shift, options);
    TileJob job(picture, parameters, quality_code, kind, chroma_shift, options);
    Encoder coder(job.model);
    encode_with(coder, job, options);
    expected.resize(pixels.size());
    to_picture(job.tile.planes, job.geometry, job.tile.colour, job.network(options) ? NETWORK_BITS : 0, width, height,
               255, expected.data());
    const std::vector<uint8_t> before = payload;
    edit(source, payload);
    is_valid = payload == before;
  } else {
    payload = source.rest();
  }
  std::unique_ptr<uint8_t[]> bytes(new uint8_t[payload.size()]);
  std::copy(payload.begin(), payload.end(), bytes.get());
  std::vector<uint8_t> decoded[2];
  BinaryStatus status[2];
  for (int i = 0; i < 2; ++i) {
    decoded[i].resize(static_cast<size_t>(width) * height * channels);
    status[i] = decode_tile(bytes.get(), payload.size(), parameters, quality_code, width, height, channels, 255,
                            decoded[i].data());
  }
  std::vector<uint16_t> deep(decoded[0].size());
  const int largest = (1 << (9 + quality_code % 8)) - 1;
  const BinaryStatus same =
      decode_tile(bytes.get(), payload.size(), parameters, quality_code, width, height, channels, largest, deep.data());
  require(same == status[0], "a payload decodes to any number of bits");
  require(std::all_of(deep.begin(), deep.end(), [&](uint16_t v) { return v <= largest; }), "of these bits");
  require(status[0] == status[1] && decoded[0] == decoded[1], "a payload decodes alike every time");
  if (is_valid) {
    require(status[0] == BinaryStatus::ok, "a valid payload decodes");
    require(decoded[0] == expected, "a valid payload decodes to the encoder's samples");
  }
  return 0;
}
