// Grids of tokens of any stages, weights, depth and rows, perhaps with logits from elsewhere, and any payload.
//
//   weights                   are refused, or no sum of theirs leaves 32 bits (the sanitizer's part)
//   a valid payload           decodes to its tokens
//   an edited one, any bytes  is refused, or encoding what it decodes to gives the same bytes again

#include "tokens.hpp"

#include "harness.hpp"

using namespace fuzz;

template <class T>
static std::vector<T> numbers(Stream& stream, size_t n, int shift) {
  std::vector<T> values(n);
  for (auto& v : values) v = static_cast<T>((static_cast<int8_t>(stream.u8()) * 256 + stream.u8()) >> shift);
  return values;
}

static TokenStage make_stage(Source& source, Stream& stream, size_t before) {
  TokenStage stage;
  stage.before = before;
  const uint8_t kind = source.u8(), size = source.u8();
  if (kind & 1) {
    stage.bits = 1 + size % 6;
    stage.channels = 1 + kind / 2 % 3u;
    stage.values = numbers<int16_t>(stream, (2 * stage.nodes() + 1) * stage.channels, 8);
    for (auto& v : stage.values) v = std::max<int16_t>(v, -TOKEN_VALUE_MAX);
  } else {
    stage.channels = 1 + kind / 2 % 4u;
    for (size_t k = 0; k < stage.channels; ++k) stage.levels.push_back(2 + (size + 5 * static_cast<int>(k)) % 15);
  }
  const size_t width = 1 + source.u8() % 20u, nodes = stage.nodes();
  const int shift = source.u8() % 12;  // small weights or large ones
  const auto hidden = numbers<int16_t>(stream, width * stage.inputs(), shift);
  const auto head = numbers<int16_t>(stream, nodes * width, shift);
  const auto biases = numbers<int32_t>(stream, width + nodes, 0);
  if (!stage.is_tree()) {
    stage.own_inputs = (kind & 128 ? 2 : 1) * stage.channels;
    stage.own = numbers<int16_t>(stream, nodes * stage.own_inputs, shift);
  }
  stage.hidden = TokenLayer(hidden.data(), biases.data(), width, stage.inputs(), 1 + source.u8() % 30);
  stage.head = TokenLayer(head.data(), biases.data() + width, nodes, width, 1 + source.u8() % 30);
  return stage;
}

// `token` where `depth` units of it are coded: the others are 0.
static int32_t known(const TokenStage& stage, int32_t token, int depth) {
  if (stage.is_tree()) return token >> (stage.bits - depth) << (stage.bits - depth);
  int32_t product = 1;
  for (int k = 0; k < depth; ++k) product *= stage.levels[static_cast<size_t>(k)];
  return token % product;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Source source(data, size);
  const uint8_t mode = source.u8();
  Stream stream(source);
  std::vector<TokenStage> stages;
  size_t channels = 0;
  for (size_t s = 0; s < 1 + mode / 2 % 3u; ++s) {
    stages.push_back(make_stage(source, stream, channels));
    if (!stages.back().is_exact()) return 0;
    channels += stages.back().channels;
  }
  const size_t s = stages.size() - 1, height = source.u8() % 9, width = source.u8() % 9;
  const int depth = source.u8() % (stages[s].units() + 1);
  const size_t end = source.u8() % (height + 1), first = source.u8() % (end + 1);
  const TokenRows rows{height, width, first, end};
  std::vector<int32_t> tokens;
  for (const TokenStage& stage : stages)
    for (size_t i = 0; i < height * width; ++i)
      tokens.push_back(static_cast<int32_t>((stream.u8() + 256 * stream.u8()) % stage.size()));
  require(find_bad_token(stages, s, 0, tokens.data(), rows) == -1, "tokens in range are accepted");

  std::vector<int16_t> logits;
  if (mode & 128) logits = numbers<int16_t>(stream, (end - first) * width * stages[s].nodes(), mode / 8 % 8);
  const int16_t* given = logits.empty() ? nullptr : logits.data();

  std::vector<uint8_t> payload;
  bool is_valid = false;
  if (mode & 1) {
    payload = encode_tokens(stages, s, depth, tokens.data(), rows, given);
    const std::vector<uint8_t> before = payload;
    edit(source, payload);
    is_valid = payload == before;
  } else {
    payload = source.rest();
  }
  std::unique_ptr<uint8_t[]> bytes(new uint8_t[payload.size()]);
  std::copy(payload.begin(), payload.end(), bytes.get());
  std::vector<int32_t> decoded = tokens;
  const BinaryStatus status = decode_tokens(stages, s, depth, bytes.get(), payload.size(), decoded.data(), rows, given);
  require(find_bad_token(stages, s, 0, decoded.data(), rows) == -1, "decoded tokens are in range");
  if (is_valid) {
    require(status == BinaryStatus::ok, "a valid payload decodes");
    for (size_t at = rows.at(s, 0, 0); at < rows.at(s, end - first, 0); ++at)
      tokens[at] = known(stages[s], tokens[at], depth);
    require(decoded == tokens, "a valid payload decodes to its tokens");
  }
  if (status == BinaryStatus::ok)
    require(encode_tokens(stages, s, depth, decoded.data(), rows, given) == payload,
            "an accepted payload is the only one for its tokens");
  return 0;
}
