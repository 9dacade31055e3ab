// A picture to the payload of a tile: choices square by square (enc_search.hpp), bins by coding_tree.hpp.

#pragma once

#include <optional>

#include "decoder.hpp"
#include "enc_colour.hpp"
#include "enc_search.hpp"
#include "enc_turn.hpp"
#include "enc_wiener.hpp"

namespace ncodec::dct {

// What an encoder starts from: a tile to be reconstructed, the samples that it is to have, the quality's model.
struct TileJob {
  const Parameters& parameters;
  int quality_code;
  Geometry geometry;
  Samples source;
  Tile tile;
  Model model;
  Filter filter;

  TileJob(const Picture& picture, const Parameters& parameters, int quality_code, Kind kind, int chroma_shift,
          const EncoderOptions& options)
      : parameters(parameters),
        quality_code(quality_code),
        geometry(geometry_of(picture.width, picture.height, picture.channels, chroma_shift)),
        source(geometry),
        tile(geometry, parameters, quality_code, kind, options.tuning.is_visual, turn_of(picture, options)),
        model(start_of(parameters, quality_code)),
        filter(filter_of(parameters, quality_code)) {
    if (tile.turn != Turn{}) from_picture(picture, geometry, tile.colour, source);
  }

  // Fills `source` with what planes that are not turned would be.
  Turn turn_of(const Picture& picture, const EncoderOptions& options) {
    from_picture(picture, geometry, parameters.colour, source);
    if (!options.turned || options.tuning.is_visual || !geometry.has_chroma() || geometry.chroma_shift) return {};
    const int step = exp2_of(log_step_of(parameters, Interpolation(quality_code), 0));  // of 1/16
    return best_turn(source.planes, step / 16.0);
  }

  // The network that is to run, if any; chroma of 4:2:0 has none.
  const Network* network(const EncoderOptions& options) const {
    return options.network && !geometry.chroma_shift ? parameters.network.get() : nullptr;
  }
};

// Chooses and codes the squares; `look(square)` sees each while its levels are there.
template <class Coder, class Look>
void encode_squares(Coder& coder, TileJob& job, const EncoderOptions& options, const Masking& masking, Look look) {
  Search search(job.tile, job.source.planes, options, masking);
  for_each_square(job.geometry, [&](const Block& square) {
    search.choose(job.model, square);
    code_square(coder, job.tile, square);
    look(square);
    job.tile.syntax.clear_square();
  });
}

// Codes a tile with any coder of Encoder's kind; afterwards the job's tile has the decoder's samples, and its
// source as many bits.
template <class Coder>
void encode_with(Coder& coder, TileJob& job, const EncoderOptions& options) {
  const Masking masking(job.source.planes[0], options.tuning);
  encode_squares(coder, job, options, masking, [](const Block&) {});
  // Is a square worth its flag? `bits`: of a squared error of the samples as they are.
  const auto is_better = [&](int first, int last, const std::array<Plane, 3>& filtered, const Block& square,
                             int context, float bits) {
    float gain = 0;  // how much less the square's error weighs with the filter
    for (int p = first; p <= last; ++p) {
      const Plane &source = job.source.planes[p], &plain = job.tile.planes[p];
      const int s = job.geometry.shift(p);
      const auto less = [&](const Block& b) {
        return static_cast<float>(squared_error(source, plain, b, s) - squared_error(source, filtered[p], b, s));
      };
      gain += weight_of(options, job.tile, p) * (options.tuning.is_visual ? masking.sum(square, less) : less(square));
    }
    const int p = job.model.contexts[context].p;
    return gain * bits > cost(p, 1) - cost(p, 0);
  };
  filter_tile(coder, job.tile, job.filter, [&](int first, int last, const auto& filtered, const Block& square) {
    return is_better(first, last, filtered, square, contexts::FILTERED(first > 0), 1);
  });
  const Network* network = job.network(options);
  const Samples added(network ? job.geometry : Geometry{0, 0, 0, 0});
  if (network) {
    add_bits(job.source.planes);
    network_tile(coder, job.tile, *network, job.quality_code, added, [&](const auto& filtered, const Block& square) {
      return is_better(0, job.geometry.planes - 1, filtered, square, contexts::NETWORK(),
                       1.0f / (1 << 2 * NETWORK_BITS));
    });
  }
  const Samples* by_network = network ? &added : nullptr;
  const int extra = network ? NETWORK_BITS : 0;
  std::optional<std::array<WienerSums, 3>> sums;
  if (options.wiener && !options.tuning.is_visual) {
    std::array<double, 3> bits;
    for (int p = 0; p < 3; ++p) bits[p] = weight_of(options, job.tile, p) / (1 << 2 * extra);
    sums = wiener_sums(job.tile, by_network, job.source, bits);
  }
  wiener_tile(coder, job.tile, by_network, SAMPLE_MAX << extra,
              [&](int p) { return sums ? (*sums)[p].solve(job.model, p) : WienerWeights{}; });
}

inline std::vector<uint8_t> encode_tile(const Picture& picture, const Parameters& parameters, int quality_code,
                                        Kind kind, int chroma_shift, const EncoderOptions& options) {
  TileJob job(picture, parameters, quality_code, kind, chroma_shift, options);
  Encoder coder(job.model);
  encode_with(coder, job, options);
  std::vector<uint8_t> payload = head_of(job.tile, job.network(options));
  const std::vector<uint8_t> bins = coder.finish();
  payload.insert(payload.end(), bins.begin(), bins.end());
  return payload;
}

}  // namespace ncodec::dct
