// Adaptive probabilities of bins, mixed (specs/dct.md section 3), and the coders that a text of bins is run with:
// encoder, decoder, and the encoder's estimator (enc_estimator.hpp).
//
//   context a --> P(1) --stretch--\ w_a
//   context b --> P(1) --stretch---+ w_b --> squash --> share of the range coder (entropy/binary.hpp)
//   context c --> P(1) --stretch--/ w_c            after the bin: P of a, b, c and the weights move
//
// Logistic mixing as in PAQ (Mahoney 2005): weights descend the gradient of the coding cost. A context
// adapts fast while it is new (rate 1 / (n + 1.5), Krichevsky-Trofimov-like) and starts from training.
// Everything is exact integer arithmetic: the same shares on every machine.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "binary.hpp"
#include "clones.hpp"

namespace ncodec::dct {

// squash(d) is about 65536 / (1 + exp(-d / 256)) at d = -2048, -1920, ... 2048.
constexpr std::array<int, 33> SQUASH = {22,    36,    60,    98,    162,   267,   439,   720,   1179,  1921,  3108,
                                        4971,  7812,  11955, 17625, 24743, 32768, 40793, 47911, 53581, 57724, 60565,
                                        62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514};
constexpr int STRETCH_MAX = 2047;
constexpr int SHARE_LOW = 64;  // of 2^16: both bins keep a share

struct LogisticTables {
  std::array<uint16_t, 4096> squash;  // of d + 2048
  std::array<int16_t, 4096> stretch;  // of P >> 4

  LogisticTables() {
    for (int i = 0; i < 4096; ++i) {
      const int low = SQUASH[i >> 7], high = SQUASH[(i >> 7) + 1];
      squash[i] = static_cast<uint16_t>(low + ((high - low) * (i & 127) + 64) / 128);
    }
    int d = 0;
    for (int p = 0; p < 4096; ++p) {  // the first d whose squash reaches the middle of the interval
      while (d < 4095 && squash[d] < p * 16 + 8) ++d;
      stretch[p] = static_cast<int16_t>(std::clamp(d - 2048, -STRETCH_MAX, STRETCH_MAX));
    }
  }
};
inline const LogisticTables LOGISTIC;

struct RateTables {
  std::array<uint16_t, 256> rate;  // of 2^16, after n bins
  RateTables() {
    for (int n = 0; n < 256; ++n) rate[n] = static_cast<uint16_t>(131072 / (2 * n + 3));
  }
};
inline const RateTables RATES;

// Bins are counted up to here. A start may be worth more (Parameters::confidence), and then adapts slower.
constexpr int PATIENCE = 120;

// D11.
struct Context {
  uint16_t p = 0x8000;  // P(1), of 2^16
  uint8_t n = 0;        // bins seen, up to PATIENCE, or what the start is worth

  int stretched() const { return LOGISTIC.stretch[p >> 4]; }

  void update(uint32_t bin) {
    const int target = bin ? 65535 : 0;
    p = static_cast<uint16_t>(p + ((int64_t{target - p} * RATES.rate[n]) >> 16));  // 65535 x rate[0] is over 2^31
    n = static_cast<uint8_t>(n + (n < PATIENCE));
  }
};

// |w| <= 2^18 and |stretch| < 2^11: the sum of three products is below 2^31.
constexpr int WEIGHT_MAX = 1 << 18;

struct Mixer {
  std::array<int32_t, 3> w = {26000, 26000, 26000};  // of 2^16
};

// Everything adaptive of one stream.
struct Model {
  std::vector<Context> contexts;
  std::vector<Mixer> mixers;
};

// The contexts of a mixed bin, indices of Model::contexts, and its mixer, of Model::mixers (contexts.hpp).
struct Bin {
  int a, b, c, mixer;
};

struct Mixture {
  int s[3];
  int p;  // P(1), of 2^16
};

// D9.
NCODEC_INLINE Mixture mix(const Model& model, const Bin& at) {
  Mixture m;
  m.s[0] = model.contexts[at.a].stretched();
  m.s[1] = model.contexts[at.b].stretched();
  m.s[2] = model.contexts[at.c].stretched();
  const auto& w = model.mixers[at.mixer].w;
  const int dot = (w[0] * m.s[0] + w[1] * m.s[1] + w[2] * m.s[2]) >> 16;
  const int p = LOGISTIC.squash[std::clamp(dot, -2048, 2047) + 2048];
  m.p = std::clamp(p, SHARE_LOW, 65536 - SHARE_LOW);
  return m;
}

constexpr int MIXER_RATE = 16;  // weights move by stretch * error / 2^16

// D10.
NCODEC_INLINE void learn(Model& model, const Bin& at, const Mixture& m, uint32_t bin) {
  const int error = (bin ? 65535 : 0) - m.p;
  auto& w = model.mixers[at.mixer].w;
  for (int i = 0; i < 3; ++i)
    w[i] = std::clamp(w[i] + ((m.s[i] * error + (1 << (MIXER_RATE - 1))) >> MIXER_RATE), -WEIGHT_MAX, WEIGHT_MAX);
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
    const Mixture m = mix(model_, at);
    coder_.encode_share(value, static_cast<uint32_t>(m.p) * 2);
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
    const Mixture m = mix(model_, at);
    const uint32_t value = coder_.decode_share(static_cast<uint32_t>(m.p) * 2);
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
