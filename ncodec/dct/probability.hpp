// The coders that a text of bins is run with: encoder, decoder, and the encoder's estimator (enc_estimator.hpp).
// A mixed bin has three contexts and a mixer (specs/dct.md section 3; logistic.hpp).

#pragma once

#include <vector>

#include "binary.hpp"
#include "logistic.hpp"

namespace ncodec::dct {

// Everything adaptive of one stream.
struct Model {
  std::vector<Context> contexts;
  std::vector<Mixer<3>> mixers;
};

// The contexts of a mixed bin, indices of Model::contexts, and its mixer, of Model::mixers (contexts.hpp).
struct Bin {
  int a, b, c, mixer;
};

NCODEC_INLINE Mixture<3> mix(const Model& model, const Bin& at) {
  Mixture<3> m;
  m.s[0] = model.contexts[at.a].stretched();
  m.s[1] = model.contexts[at.b].stretched();
  m.s[2] = model.contexts[at.c].stretched();
  mix(model.mixers[at.mixer], m);
  return m;
}

constexpr int MIXER_RATE = 16;

NCODEC_INLINE void learn(Model& model, const Bin& at, const Mixture<3>& m, uint32_t bin) {
  learn(model.mixers[at.mixer], m, MIXER_RATE, bin);
  model.contexts[at.a].update(bin);
  model.contexts[at.b].update(bin);
  model.contexts[at.c].update(bin);
}

// A coder has `bin` (mixed), `bit` (one context) and `bypass`: each takes the bin's value and returns it;
// the decoder ignores what it is given.

// D12: of 2^17.
inline uint32_t share_of(const Context& c) {
  return static_cast<uint32_t>(std::clamp<int>(c.p, SHARE_LOW, 65536 - SHARE_LOW)) * 2;
}

// The model of a static coder stays as it is.
template <bool ADAPTS>
class AnyEncoder {
 public:
  static constexpr bool DECODES = false;
  explicit AnyEncoder(Model& model) : model_(model) {}

  uint32_t bin(uint32_t value, const Bin& at) {
    const Mixture<3> m = mix(model_, at);
    coder_.encode_share(value, m.share());
    if (ADAPTS) learn(model_, at, m, value);
    return value;
  }

  uint32_t bit(uint32_t value, int context) {
    Context& c = model_.contexts[context];
    coder_.encode_share(value, share_of(c));
    if (ADAPTS) c.update(value);
    return value;
  }

  uint32_t bypass(uint32_t value) {
    coder_.encode_bypass(value);
    return value;
  }

  std::vector<uint8_t> finish() { return coder_.finish(); }

 private:
  Model& model_;
  BinaryEncoder coder_;
};

template <bool ADAPTS>
class AnyDecoder {
 public:
  static constexpr bool DECODES = true;
  AnyDecoder(Model& model, const uint8_t* payload, size_t size) : model_(model), coder_(payload, size) {}

  uint32_t bin(uint32_t, const Bin& at) {
    const Mixture<3> m = mix(model_, at);
    const uint32_t value = coder_.decode_share(m.share());
    if (ADAPTS) learn(model_, at, m, value);
    return value;
  }

  uint32_t bit(uint32_t, int context) {
    Context& c = model_.contexts[context];
    const uint32_t value = coder_.decode_share(share_of(c));
    if (ADAPTS) c.update(value);
    return value;
  }

  uint32_t bypass(uint32_t) { return coder_.decode_bypass(); }

  BinaryStatus status() const { return coder_.status(); }
  BinaryStatus finish() const { return coder_.finish(); }

 private:
  Model& model_;
  BinaryDecoder coder_;
};

using Encoder = AnyEncoder<true>;
using Decoder = AnyDecoder<true>;
using StaticEncoder = AnyEncoder<false>;
using StaticDecoder = AnyDecoder<false>;

}  // namespace ncodec::dct
