// Python types in and out of tokens.hpp, and its errors as ncodec's exceptions. No coding here.

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include "bindings.hpp"
#include "tokens.hpp"

using namespace ncodec;

using Weights = nb::ndarray<const int16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Biases = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Tokens = nb::ndarray<const int32_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using DecodedTokens = nb::ndarray<int32_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Logits = std::optional<Weights>;
using Values = nb::ndarray<int16_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

template <class Array>
static void expect(const char* name, const Array& array, std::vector<size_t> shape) {
  std::string wanted, found;
  for (size_t i = 0; i < shape.size(); ++i) {
    wanted += (i ? ", " : "") + std::to_string(shape[i]);
    found += (i ? ", " : "") + std::to_string(array.shape(i));
  }
  if (wanted != found)
    raise("WeightsMismatchError", std::string(name) + ": expected shape [" + wanted + "], found [" + found + "]");
}

// Levels are 2 to 128 and bits 1 to 16, one of them: entropy/tokens.py has checked. `table`: a tree's values, or a
// digit stage's weights of own values, and perhaps of their magnitudes.
static TokenStage make_stage(const std::vector<int32_t>& levels, int bits, size_t before, Weights table, Weights hidden,
                             Biases hidden_bias, Weights head, Biases head_bias, std::array<int, 2> shifts) {
  TokenStage stage;
  stage.levels = levels;
  stage.bits = bits;
  stage.before = before;
  stage.channels = stage.is_tree() ? table.shape(1) : levels.size();
  if (stage.is_tree()) expect("values", table, {2 * stage.nodes() + 1, stage.channels});
  else expect("own.weight", table, {stage.nodes(), stage.own_inputs = table.shape(1)});
  if (!stage.is_tree() && table.shape(1) != stage.channels && table.shape(1) != 2 * stage.channels)
    raise("WeightsMismatchError", "own.weight: expected " + std::to_string(stage.channels) +
                                      " columns or twice as many, found " + std::to_string(table.shape(1)));
  const size_t width = hidden_bias.shape(0);
  expect("hidden.weight", hidden, {width, stage.inputs()});
  expect("head.weight", head, {stage.nodes(), width});
  expect("head.bias", head_bias, {stage.nodes()});
  for (const int shift : shifts)
    if (shift < 1 || shift > 30)
      raise("WeightsMismatchError", "shifts: expected 1 to 30, found " + std::to_string(shift));
  (stage.is_tree() ? stage.values : stage.own).assign(table.data(), table.data() + table.size());
  for (const int16_t value : stage.values)
    if (std::abs(value) > TOKEN_VALUE_MAX)
      raise("WeightsMismatchError", "values: expected magnitudes up to 127, found " + std::to_string(value));
  stage.hidden = TokenLayer(hidden.data(), hidden_bias.data(), width, stage.inputs(), shifts[0]);
  stage.head = TokenLayer(head.data(), head_bias.data(), stage.nodes(), width, shifts[1]);
  if (!stage.is_exact()) raise("WeightsMismatchError", "weights: expected sums below 2^31");
  return stage;
}

class TokenStages {
 public:
  explicit TokenStages(std::vector<TokenStage> stages) : stages_(std::move(stages)) {}

  nb::bytes encode(Tokens tokens, size_t stage, int depth, size_t first, size_t end, Logits logits) const {
    const TokenRows rows = check(tokens, stage, depth, first, end);
    check_tokens(stage, 0, tokens.data(), rows);
    const int16_t* given = check_logits(logits, stage, rows);
    std::vector<uint8_t> payload;
    {
      nb::gil_scoped_release release;
      payload = encode_tokens(stages_, stage, depth, tokens.data(), rows, given);
    }
    return nb::bytes(payload.data(), payload.size());
  }

  void decode(nb::bytes payload, DecodedTokens tokens, size_t stage, int depth, size_t first, size_t end,
              Logits logits) const {
    const TokenRows rows = check(tokens, stage, depth, first, end);
    if (stage > 0) check_tokens(stage - 1, 0, tokens.data(), rows);
    const int16_t* given = check_logits(logits, stage, rows);
    BinaryStatus status;
    {
      const auto* data = static_cast<const uint8_t*>(payload.data());
      const size_t size = payload.size();
      nb::gil_scoped_release release;
      status = decode_tokens(stages_, stage, depth, data, size, tokens.data(), rows, given);
    }
    if (status == BinaryStatus::truncated) raise("TruncatedError", "the payload ends before the last token");
    if (status == BinaryStatus::left_over) raise("CorruptPayloadError", "bytes are left over after the last token");
    if (status == BinaryStatus::bad_end)
      raise("CorruptPayloadError", "the last byte is not the smallest in the final interval, as the encoder makes it");
  }

  // values [height, width, channels of all stages], all 0 before.
  void values(Tokens tokens, int depth, Values values) const {
    const size_t n = tokens.shape(0);
    if (n == 0) return;
    const TokenRows rows = check(tokens, n - 1, depth, 0, tokens.shape(1));
    check_tokens(n - 1, -1, tokens.data(), rows);
    size_t channel = 0;
    for (size_t k = 0; k < n; channel += stages_[k++].channels)
      for (size_t i = 0; i < rows.height; ++i)
        for (size_t j = 0; j < rows.width; ++j)
          stages_[k].values_of(tokens.data()[rows.at(k, i, j)], k + 1 == n ? depth : stages_[k].units(),
                               values.data() + (i * rows.width + j) * values.shape(2) + channel);
  }

 private:
  template <class Array>
  TokenRows check(const Array& tokens, size_t stage, int depth, size_t first, size_t end) const {
    if (stage >= stages_.size() || stage >= tokens.shape(0))
      raise("InputError", "stage " + std::to_string(stage) + ": expected one of " + std::to_string(stages_.size()) +
                              ", and tokens of it, found " + std::to_string(tokens.shape(0)) + " stages of tokens");
    if (depth < 0 || depth > stages_[stage].units())
      raise("InputError",
            "depth: expected 0 to " + std::to_string(stages_[stage].units()) + ", found " + std::to_string(depth));
    if (first > end || end > tokens.shape(1))
      raise("InputError", "rows: expected some of " + std::to_string(tokens.shape(1)) + ", found " +
                              std::to_string(first) + " to " + std::to_string(end));
    return {tokens.shape(1), tokens.shape(2), first, end};
  }

  const int16_t* check_logits(const Logits& logits, size_t stage, const TokenRows& rows) const {
    if (!logits) return nullptr;
    const size_t places = (rows.end - rows.first) * rows.width, nodes = stages_[stage].nodes();
    if (logits->shape(0) != places || logits->shape(1) != nodes)
      raise("InputError", "logits: expected [" + std::to_string(places) + ", " + std::to_string(nodes) + "], found [" +
                              std::to_string(logits->shape(0)) + ", " + std::to_string(logits->shape(1)) + "]");
    return logits->data();
  }

  // Tokens of stages up to `last`.
  void check_tokens(size_t last, int32_t low, const int32_t* tokens, const TokenRows& rows) const {
    const int64_t at = find_bad_token(stages_, last, low, tokens, rows);
    if (at < 0) return;
    const size_t place = static_cast<size_t>(at), k = place / (rows.height * rows.width);
    raise("InputError", "stage " + std::to_string(k) + ", row " + std::to_string(place / rows.width % rows.height) +
                            ", column " + std::to_string(place % rows.width) + ": expected a token of " +
                            std::to_string(low) + " to " + std::to_string(stages_[k].size() - 1) + ", found " +
                            std::to_string(tokens[place]));
  }

  std::vector<TokenStage> stages_;
};

void bind_tokens(nb::module_& m) {
  nb::class_<TokenStage>(m, "TokenStage");
  m.def("make_token_stage", &make_stage, nb::arg("levels"), nb::arg("bits"), nb::arg("before"),
        nb::arg("table").noconvert(), nb::arg("hidden").noconvert(), nb::arg("hidden_bias").noconvert(),
        nb::arg("head").noconvert(), nb::arg("head_bias").noconvert(), nb::arg("shifts"));
  nb::class_<TokenStages>(m, "TokenStages")
      .def(nb::init<std::vector<TokenStage>>(), nb::arg("stages"))
      .def("encode", &TokenStages::encode, nb::arg("tokens").noconvert(), nb::arg("stage"), nb::arg("depth"),
           nb::arg("first"), nb::arg("end"), nb::arg("logits").noconvert().none())
      .def("decode", &TokenStages::decode, nb::arg("payload"), nb::arg("tokens").noconvert(), nb::arg("stage"),
           nb::arg("depth"), nb::arg("first"), nb::arg("end"), nb::arg("logits").noconvert().none())
      .def("values", &TokenStages::values, nb::arg("tokens").noconvert(), nb::arg("depth"),
           nb::arg("values").noconvert());
}
