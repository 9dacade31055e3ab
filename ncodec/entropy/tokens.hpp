// Grids of tokens, in stages, coded place by place: P of every decision comes from a small network of what is decoded.
//
//   values of this stage:   b c d     of the stages before it, at 3x3 places:   . . .
//                           a                                                   . + .
//                                                                               . . .
//     x = [a; b; c; d; nine places], 0 outside --hidden--> ReLU --head--> + --> logit of a decision ---> mixed --> P
//     values of the token's digits so far ------------------own-----------^     context of the decision -^
//     perhaps logits of each place from elsewhere ------------------------^     context of it and the logit's band -^
//
// A token is a list of digits, each in turn: centre? which side? further? ...; or a path from the root of a tree. The
// rows of a payload depend on nothing outside them. specs/tokenizer.md has the integers of it. Encoder and decoder
// share one text, `code_tokens`.

#pragma once

#include <cstdlib>

#include "binary.hpp"
#include "logistic.hpp"

namespace ncodec {

constexpr int TOKEN_VALUE_MAX = 127;
constexpr int TOKEN_LAYER_MAX = 32767;
constexpr size_t TOKEN_LANES = 16;  // inputs of a layer are padded to a multiple of it
constexpr int TOKEN_MIXER_RATE = 13;
constexpr int BAND_BITS = 8;  // a band of logits is 1 nat wide
constexpr size_t N_BANDS = 4096 >> BAND_BITS;

inline size_t padded(size_t n) { return (n + TOKEN_LANES - 1) / TOKEN_LANES * TOKEN_LANES; }

inline int32_t rounded(int32_t a, int shift) { return (a + (1 << (shift - 1))) >> shift; }

// A matrix of weights whose rows are padded with zeros.
struct TokenLayer {
  size_t outputs = 0, stride = 0;
  std::vector<int16_t> weights;  // [outputs, stride]
  std::vector<int32_t> bias;     // [outputs]
  int shift = 0;

  TokenLayer() = default;
  TokenLayer(const int16_t* rows, const int32_t* biases, size_t n_outputs, size_t n_inputs, int shift_)
      : outputs(n_outputs),
        stride(padded(n_inputs)),
        weights(n_outputs * stride),
        bias(biases, biases + n_outputs),
        shift(shift_) {
    for (size_t o = 0; o < outputs; ++o)
      std::copy(rows + o * n_inputs, rows + (o + 1) * n_inputs,
                weights.begin() + static_cast<std::ptrdiff_t>(o * stride));
  }

  const int16_t* row(size_t o) const { return &weights[o * stride]; }

  // The largest sum there can be, in any order, of row o with inputs within ±bound, bias and rounding.
  int64_t largest_sum(size_t o, int64_t bound) const {
    int64_t sum = std::abs(int64_t{bias[o]}) + (int64_t{1} << (shift - 1));
    for (size_t k = 0; k < stride; ++k) sum += bound * std::abs(int64_t{row(o)[k]});
    return sum;
  }
};

// What a stage's tokens are, and its network.
struct TokenStage {
  std::vector<int32_t> levels;  // of each digit; none: a tree
  int bits = 0;                 // of an index of a tree
  size_t channels = 0;          // values of a token
  size_t before = 0;            // values of the stages before
  std::vector<int16_t> values;  // tree: [2^(bits + 1) - 1, channels], by heap row
  TokenLayer hidden, head;
  std::vector<int16_t> own;  // digits: [nodes, own_inputs]
  size_t own_inputs = 0;     // digits: channels, or twice as many: values, then their magnitudes

  bool is_tree() const { return levels.empty(); }
  int units() const { return is_tree() ? bits : static_cast<int>(levels.size()); }
  size_t inputs() const { return 4 * channels + 9 * before; }

  int64_t size() const {
    int64_t product = int64_t{1} << bits;
    for (const int32_t l : levels) product *= l;
    return product;
  }

  size_t nodes() const {
    size_t sum = is_tree() ? (size_t{1} << bits) - 1 : 0;
    for (const int32_t l : levels) sum += static_cast<size_t>(l) - 1;
    return sum;
  }

  // Whether no partial sum leaves 32 bits, in any order.
  bool is_exact() const {
    constexpr int64_t END = int64_t{1} << 31;
    for (const int shift : {hidden.shift, head.shift})
      if (shift < 1 || shift > 30) return false;
    for (size_t o = 0; o < hidden.outputs; ++o)
      if (hidden.largest_sum(o, TOKEN_VALUE_MAX) >= END) return false;
    for (size_t n = 0; n < head.outputs; ++n) {
      int64_t sum = head.largest_sum(n, TOKEN_LAYER_MAX);
      for (size_t k = 0; k < own_inputs; ++k) sum += TOKEN_VALUE_MAX * std::abs(int64_t{own[n * own_inputs + k]});
      if (sum >= END) return false;
    }
    return true;
  }

  // The values of a token of which `depth` units are coded, [channels]. An absent token, -1, has none. Any number is
  // safe.
  void values_of(int32_t token, int depth, int16_t* out) const {
    if (token < 0) {
      std::fill_n(out, channels, int16_t{0});
    } else if (is_tree()) {
      const size_t end = size_t{1} << depth,
                   row = end - 1 + ((static_cast<size_t>(token) >> (bits - depth)) & (end - 1));
      std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(row * channels), channels, out);
    } else {
      for (size_t k = 0; k < channels; ++k) {
        out[k] = static_cast<int>(k) < depth ? value_of(k, token % levels[k]) : int16_t{0};
        token /= levels[k];
      }
    }
  }

  int16_t value_of(size_t k, int32_t level) const { return static_cast<int16_t>(2 * level - (levels[k] - 1)); }
};

// The sum of a[k] b[k], k < 16 blocks.
NCODEC_INLINE int32_t token_dot(const int16_t* a, const int16_t* b, size_t blocks) {
  int32_t sum = 0;
  for (size_t k = 0; k < blocks * TOKEN_LANES; ++k) sum += a[k] * b[k];
  return sum;
}

// out[o] = max(0, sat(round(bias[o] + weights[o] x))).
NCODEC_CLONES static void hidden_layer(const TokenLayer& layer, const int16_t* x, int16_t* out) {
  for (size_t o = 0; o < layer.outputs; ++o) {
    const int32_t sum = layer.bias[o] + token_dot(layer.row(o), x, layer.stride / TOKEN_LANES);
    out[o] = static_cast<int16_t>(std::clamp(rounded(sum, layer.shift), 0, TOKEN_LAYER_MAX));
  }
}

// What the tokens of some rows of a stage are coded with.
class TokenModel {
 public:
  TokenModel(const TokenStage& stage)
      : x(padded(stage.inputs())),
        stage_(stage),
        own_(stage.own_inputs),
        hidden_(padded(stage.hidden.outputs)),
        contexts_(stage.nodes()),
        bands_(stage.nodes()),
        mixers_(stage.is_tree() ? static_cast<size_t>(stage.bits) : stage.nodes(), Mixer<3>{{1 << 16, 0, 0}}) {}

  std::vector<int16_t> x;  // [inputs, padded with 0]

  // Go to the place that `x` tells of, and perhaps logits [nodes] from elsewhere.
  void enter(const int16_t* given) {
    hidden_layer(stage_.hidden, x.data(), hidden_.data());
    std::fill(own_.begin(), own_.end(), int16_t{0});
    given_ = given;
  }

  // Digit k of this token has a value.
  void learn_digit(size_t k, int16_t value) {
    own_[k] = value;
    if (own_.size() > stage_.channels) own_[stage_.channels + k] = static_cast<int16_t>(std::abs(value));
  }

  // A decision. A coder takes the bin's value and returns it; the decoder ignores what it is given.
  template <class Coder>
  uint32_t decide(Coder& coder, uint32_t value, size_t node, size_t mixer) {
    const int logit = logit_of(node);
    Context &context = contexts_[node], &band = bands_[node][static_cast<size_t>(logit + 2048) >> BAND_BITS];
    Mixture<3> m{{logit, context.stretched(), band.stretched()}, 0};
    mix(mixers_[mixer], m);
    const uint32_t bin = coder.bin(value, m.share());
    learn(mixers_[mixer], m, TOKEN_MIXER_RATE, bin);
    context.update(bin);
    band.update(bin);
    return bin;
  }

 private:
  int logit_of(size_t node) const {
    const TokenLayer& head = stage_.head;
    int32_t sum = head.bias[node] + token_dot(head.row(node), hidden_.data(), head.stride / TOKEN_LANES);
    for (size_t k = 0; k < own_.size(); ++k) sum += stage_.own[node * own_.size() + k] * own_[k];
    return std::clamp(rounded(sum, head.shift) + (given_ ? given_[node] : 0), -STRETCH_MAX, STRETCH_MAX);
  }

  const TokenStage& stage_;
  std::vector<int16_t> own_;  // [own_inputs], of the digits of this token so far
  const int16_t* given_ = nullptr;
  std::vector<int16_t> hidden_;
  std::vector<Context> contexts_;                    // of nodes
  std::vector<std::array<Context, N_BANDS>> bands_;  // of nodes and logits about as large
  std::vector<Mixer<3>> mixers_;                     // digits: of nodes; tree: of depths
};

// The level of a digit whose nodes begin at `node`: [centre?] which side? [further from the centre? ...].
template <class Coder>
int32_t code_digit(Coder& coder, TokenModel& model, size_t node, int32_t n_levels, int32_t level) {
  const auto decide = [&](bool value, size_t at) { return model.decide(coder, value, at, at) != 0; };
  const int32_t side = n_levels / 2;  // levels on each
  if (n_levels % 2 == 1 && !decide(level != side, node++)) return side;
  const bool is_above = decide(level >= n_levels - side, node++);
  const int32_t distance = is_above ? level - (n_levels - side) : side - 1 - level;
  if (is_above) node += static_cast<size_t>(side) - 1;
  int32_t i = 0;
  while (i < side - 1 && decide(distance > i, node + static_cast<size_t>(i))) ++i;
  return is_above ? n_levels - side + i : side - 1 - i;
}

// The token at the place that `model` has entered, to `depth` units; what is not coded of it is 0.
template <class Coder>
int32_t code_token(Coder& coder, const TokenStage& stage, TokenModel& model, int depth, int32_t token) {
  if (stage.is_tree()) {
    int32_t prefix = 0;
    for (int t = 0; t < depth; ++t) {
      const auto row = static_cast<size_t>((1 << t) - 1 + prefix);
      const auto bit = static_cast<uint32_t>(token >> (stage.bits - 1 - t)) & 1u;
      prefix = 2 * prefix + static_cast<int32_t>(model.decide(coder, bit, row, static_cast<size_t>(t)));
    }
    return prefix << (stage.bits - depth);
  }
  int32_t coded = 0, radix = 1;
  size_t node = 0;
  for (size_t k = 0; k < static_cast<size_t>(depth); ++k) {
    const int32_t n = stage.levels[k], level = code_digit(coder, model, node, n, token % n);
    model.learn_digit(k, stage.value_of(k, level));
    coded += level * radix;
    token /= n;
    radix *= n;
    node += static_cast<size_t>(n) - 1;
  }
  return coded;
}

// A grid of vectors of values with a border of 0 above, left and right (and below).
class TokenGrid {
 public:
  TokenGrid(size_t height, size_t width, size_t channels)
      : channels_(channels), stride_((width + 2) * channels), values_((height + 2) * stride_) {}

  int16_t* at(size_t i, size_t j) { return values_.data() + (i + 1) * stride_ + (j + 1) * channels_; }
  const int16_t* left_of(size_t i, size_t j) const { return values_.data() + (i + 1) * stride_ + j * channels_; }
  const int16_t* above_left_of(size_t i, size_t j) const { return values_.data() + i * stride_ + j * channels_; }
  size_t stride() const { return stride_; }

 private:
  size_t channels_, stride_;
  std::vector<int16_t> values_;
};

// Rows of a tile's grid: tokens [stages, height, width], rows from `first` up to `end`.
struct TokenRows {
  size_t height, width, first, end;

  size_t at(size_t stage, size_t i, size_t j) const { return (stage * height + first + i) * width + j; }
};

// Code `tokens` of stage s, which the decoder writes and the encoder only reads, to `depth` units. The stages before
// are there in full. `given`: logits [places of the rows, nodes], or null. False: the coder asks to stop.
template <class Coder, class Token>
bool code_tokens(Coder& coder, const std::vector<TokenStage>& stages, size_t s, int depth, Token* tokens,
                 const TokenRows& rows, const int16_t* given) {
  const TokenStage& stage = stages[s];
  const size_t n = stage.channels, m = stage.before, height = rows.end - rows.first;
  TokenGrid before(height, rows.width, m), here(height, rows.width, n);
  for (size_t i = 0; i < height; ++i)
    for (size_t j = 0; j < rows.width; ++j) {
      int16_t* values = before.at(i, j);
      for (size_t k = 0; k < s; values += stages[k++].channels)
        stages[k].values_of(tokens[rows.at(k, i, j)], stages[k].units(), values);
    }
  TokenModel model(stage);
  for (size_t i = 0; i < height; ++i)
    for (size_t j = 0; j < rows.width; ++j) {
      int16_t* x = std::copy_n(here.left_of(i, j), n, model.x.data());
      x = std::copy_n(here.above_left_of(i, j), 3 * n, x);
      for (size_t row = 0; row < 3; ++row) x = std::copy_n(before.above_left_of(i + row, j), 3 * m, x);
      Token& token = tokens[rows.at(s, i, j)];
      model.enter(given ? given + (i * rows.width + j) * stage.nodes() : nullptr);
      const int32_t coded = code_token(coder, stage, model, depth, token);
      if constexpr (Coder::DECODES) token = coded;
      stage.values_of(coded, depth, here.at(i, j));
      if (coder.is_over()) return false;
    }
  return true;
}

class TokenEncoder {
 public:
  static constexpr bool DECODES = false;
  uint32_t bin(uint32_t value, uint32_t share) {
    coder_.encode_share(value, share);
    return value;
  }
  bool is_over() const { return false; }
  std::vector<uint8_t> finish() { return coder_.finish(); }

 private:
  BinaryEncoder coder_;
};

class TokenDecoder {
 public:
  static constexpr bool DECODES = true;
  TokenDecoder(const uint8_t* payload, size_t size) : coder_(payload, size) {}
  uint32_t bin(uint32_t, uint32_t share) { return coder_.decode_share(share); }
  bool is_over() const { return coder_.status() != BinaryStatus::ok; }
  BinaryStatus finish() const { return coder_.finish(); }

 private:
  BinaryDecoder coder_;
};

// The first token of stages up to `last` in `rows` that is not in [low, size), by its place in the array; -1: none.
inline int64_t find_bad_token(const std::vector<TokenStage>& stages, size_t last, int32_t low, const int32_t* tokens,
                              const TokenRows& rows) {
  for (size_t k = 0; k <= last; ++k) {
    const int64_t size = stages[k].size();
    for (size_t at = rows.at(k, 0, 0); at < rows.at(k, rows.end - rows.first, 0); ++at)
      if (tokens[at] < low || tokens[at] >= size) return static_cast<int64_t>(at);
  }
  return -1;
}

inline std::vector<uint8_t> encode_tokens(const std::vector<TokenStage>& stages, size_t s, int depth,
                                          const int32_t* tokens, const TokenRows& rows, const int16_t* given) {
  TokenEncoder coder;
  code_tokens(coder, stages, s, depth, tokens, rows, given);
  return coder.finish();
}

inline BinaryStatus decode_tokens(const std::vector<TokenStage>& stages, size_t s, int depth, const uint8_t* payload,
                                  size_t size, int32_t* tokens, const TokenRows& rows, const int16_t* given) {
  TokenDecoder coder(payload, size);
  return code_tokens(coder, stages, s, depth, tokens, rows, given) ? coder.finish() : BinaryStatus::truncated;
}

}  // namespace ncodec
