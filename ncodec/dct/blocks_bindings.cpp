// Python types in and out of blocks.hpp and enc_blocks.hpp. No coding here.

#include <nanobind/stl/tuple.h>

#include <stdexcept>

#include "arrays.hpp"
#include "enc_blocks.hpp"
#include "enc_statistics.hpp"

using namespace ncodec;
using namespace ncodec::dct;

using Blocks = nb::ndarray<const int16_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

BlockFormat format_of(int log2, int quality_code, int bit_depth, int entropy, int kind, bool is_flat, bool is_chroma) {
  if (log2 < 2 || log2 > MAX_LOG2 || quality_code < 0 || quality_code > MAX_QUALITY_CODE || bit_depth < 8 ||
      bit_depth > SAMPLE_BITS || entropy < 0 || entropy > 2 || kind < 0 || kind > 2 ||
      !is_valid(static_cast<Kind>(kind), log2))
    throw std::invalid_argument("BlockFormat: out of range");
  return {log2, quality_code, bit_depth, static_cast<Entropy>(entropy), static_cast<Kind>(kind), is_flat, is_chroma};
}

// The blocks' samples were checked by the caller's caller; their side is checked here.
size_t count_of(const Blocks& blocks, const BlockFormat& format) {
  const size_t side = size_t{1} << format.log2;
  if (blocks.shape(1) != side || blocks.shape(2) != side) throw std::invalid_argument("blocks: of another side");
  const int most = (1 << format.bit_depth) - 1;
  for (size_t i = 0; i < blocks.size(); ++i)
    if (blocks.data()[i] < -most || blocks.data()[i] > most)
      raise("InputError", "blocks: expected values of at most +-" + std::to_string(most) + ", found " +
                              std::to_string(blocks.data()[i]));
  return blocks.shape(0);
}

// Of a squared error of one 10-bit sample.
float weight_of(float lambda) { return std::ldexp(lambda, 2 * (8 - SAMPLE_BITS)); }

// Payload and levels.
nb::tuple encode_blocks(Blocks blocks, size_t width, const Parameters& parameters, const BlockFormat& format,
                        float lambda, bool optimised) {
  const size_t n = count_of(blocks, format), side = size_t{1} << format.log2;
  std::vector<uint8_t> payload;
  std::vector<int16_t> levels;
  {
    nb::gil_scoped_release release;
    BlockQuantiser quantiser(parameters, format, weight_of(lambda), optimised);
    Model model = block_model(parameters, format);
    const auto run = [&](auto coder) {
      levels = encode_blocks_with(coder, model, blocks.data(), n, width, format, quantiser);
      payload = coder.finish();
    };
    if (format.entropy == Entropy::adaptive) {
      run(Encoder(model));
    } else {
      run(StaticEncoder(model));
    }
  }
  return nb::make_tuple(nb::bytes(payload.data(), payload.size()), to_numpy(std::move(levels), {n, side, side}));
}

nb::ndarray<nb::numpy, int16_t> decode_blocks(nb::bytes payload, size_t offset, size_t n, size_t width,
                                              const Parameters& parameters, const BlockFormat& format) {
  const size_t side = size_t{1} << format.log2;
  std::vector<int16_t> blocks(n * side * side);
  BinaryStatus status;
  {
    nb::gil_scoped_release release;
    const BlockReconstruction samples(parameters, format);
    Model model = block_model(parameters, format);
    const auto* from = static_cast<const uint8_t*>(payload.data()) + std::min(offset, payload.size());
    const size_t size = payload.size() - std::min(offset, payload.size());
    const auto run = [&](auto coder) { return decode_blocks_with(coder, blocks.data(), n, width, samples, format); };
    status =
        format.entropy == Entropy::adaptive ? run(Decoder(model, from, size)) : run(StaticDecoder(model, from, size));
  }
  if (status == BinaryStatus::truncated) raise("TruncatedError", "blocks: the payload ends before the last bin");
  if (status == BinaryStatus::left_over) raise("CorruptPayloadError", "blocks: bytes are left over after the last bin");
  if (status != BinaryStatus::ok) raise("CorruptPayloadError", "blocks: not what an encoder makes");
  return to_numpy(std::move(blocks), {n, side, side});
}

// Coefficients of an orthonormal transform, in samples.
nb::ndarray<nb::numpy, float> transform_blocks(Blocks blocks, const Parameters&, const BlockFormat& format) {
  const size_t n = count_of(blocks, format), side = size_t{1} << format.log2, area = side * side;
  std::vector<float> out(n * area);
  {
    nb::gil_scoped_release release;
    int32_t c[MAX_SIDE * MAX_SIDE];
    for (size_t i = 0; i < n; ++i) {
      transform_block<true>(blocks.data() + i * area, format, c);
      for (size_t k = 0; k < area; ++k)
        out[i * area + k] = std::ldexp(static_cast<float>(c[k]), -FORWARD_BITS - (SAMPLE_BITS - format.bit_depth));
    }
  }
  return to_numpy(std::move(out), {n, side, side});
}

nb::ndarray<nb::numpy, int16_t> reconstruct_blocks(Blocks levels, const Parameters& parameters,
                                                   const BlockFormat& format) {
  const size_t n = levels.shape(0), side = size_t{1} << format.log2, area = side * side;
  if (levels.shape(1) != side || levels.shape(2) != side) throw std::invalid_argument("levels: of another side");
  std::vector<int16_t> out(n * area);
  {
    nb::gil_scoped_release release;
    const BlockReconstruction samples(parameters, format);
    for (size_t i = 0; i < n; ++i) samples.reconstruct(levels.data() + i * area, out.data() + i * area);
  }
  return to_numpy(std::move(out), {n, side, side});
}

// For training: counts [contexts, 2] of bins as an encoding meets them, the mixers' weights [mixers, 3] after it, its
// bits, and the energy around each block [n].
nb::tuple count_blocks(Blocks blocks, size_t width, const Parameters& parameters, const BlockFormat& format,
                       float lambda, bool optimised) {
  const size_t n = count_of(blocks, format);
  std::vector<uint32_t> counts;
  std::vector<int32_t> weights;
  std::vector<uint8_t> energies;
  double bits = 0;
  {
    nb::gil_scoped_release release;
    BlockQuantiser quantiser(parameters, format, weight_of(lambda), optimised);
    Model model = block_model(parameters, format);
    std::vector<int16_t> levels;
    const auto run = [&](auto coder) {
      levels = encode_blocks_with(coder, model, blocks.data(), n, width, format, quantiser);
      for (const auto& c : coder.counts) counts.insert(counts.end(), c.begin(), c.end());
      bits = coder.bits;
    };
    if (format.entropy == Entropy::adaptive) {
      run(Counter(model));
    } else {
      run(StaticCounter(model));
    }
    BlockSyntax syntax(format, width);
    Prices prices;
    prices.take(model);
    Estimator estimator(prices);
    const size_t area = size_t{1} << (2 * format.log2);
    for (size_t i = 0; i < n; ++i) {
      energies.push_back(static_cast<uint8_t>(syntax.surroundings().energy));
      int16_t* of_block = levels.data() + i * area;
      syntax.code(estimator, of_block, std::any_of(of_block, of_block + area, [](int16_t l) { return l != 0; }));
    }
    for (const Mixer<3>& m : model.mixers) weights.insert(weights.end(), m.w.begin(), m.w.end());
  }
  return nb::make_tuple(to_numpy(std::move(counts), {contexts::COUNT, 2}),
                        to_numpy(std::move(weights), {mixers::COUNT, 3}), bits, to_numpy(std::move(energies), {n}));
}

using Grey = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// 10-bit residuals [n, side, side] and modes [n] of whole blocks (enc_statistics.hpp).
nb::tuple intra_residuals(Grey source, Grey reference, int log2) {
  if (log2 < 2 || log2 > MAX_LOG2 || source.shape(0) != reference.shape(0) || source.shape(1) != reference.shape(1))
    throw std::invalid_argument("intra_residuals: shapes");
  const int side = 1 << log2, width = static_cast<int>(source.shape(1)) & -side,
            height = static_cast<int>(source.shape(0)) & -side;
  const size_t n = static_cast<size_t>(width / side) * (height / side), length = n * side * side;
  std::vector<int16_t> samples[2], residuals(length);
  std::vector<uint8_t> modes(n);
  {
    nb::gil_scoped_release release;
    Plane planes[2];
    for (int i = 0; i < 2; ++i) {
      const Grey& from = i ? reference : source;
      for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
          samples[i].push_back(static_cast<int16_t>(from.data()[static_cast<size_t>(y) * from.shape(1) + x] * 4));
      planes[i] = {samples[i].data(), width, width, height};
    }
    predict_all(planes[0], planes[1], log2, residuals.data(), modes.data());
  }
  return nb::make_tuple(to_numpy(std::move(residuals), {n, static_cast<size_t>(side), static_cast<size_t>(side)}),
                        to_numpy(std::move(modes), {n}));
}

void bind_blocks(nb::module_& m) {
  nb::class_<BlockFormat>(m, "BlockFormat")
      .def("__init__", [](BlockFormat* self, int log2, int quality_code, int bit_depth, int entropy, int kind,
                          bool is_flat, bool is_chroma) {
        new (self) BlockFormat(format_of(log2, quality_code, bit_depth, entropy, kind, is_flat, is_chroma));
      });
  const auto exact = nb::arg().noconvert();  // of another type: TypeError, no copy
  m.def("encode_blocks", &encode_blocks, exact, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg());
  m.def("decode_blocks", &decode_blocks);
  m.def("transform_blocks", &transform_blocks, exact, nb::arg(), nb::arg());
  m.def("reconstruct_blocks", &reconstruct_blocks, exact, nb::arg(), nb::arg());
  m.def("count_blocks", &count_blocks, exact, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg());
  m.def("intra_residuals", &intra_residuals, exact, exact, nb::arg());
}
