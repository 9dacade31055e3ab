// Python types in and out of decoder.hpp and enc_tile.hpp, and its errors as ncodec's exceptions. No coding here.

#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>

#include "arrays.hpp"
#include "enc_statistics.hpp"

using namespace ncodec;
using namespace ncodec::dct;
using namespace nb::literals;

template <class T>
void take(const nb::dict& tensors, const char* name, T* out, size_t bytes) {
  if (!tensors.contains(name)) throw nb::key_error(name);
  const auto array = nb::cast<nb::ndarray<nb::c_contig, nb::device::cpu>>(tensors[name]);
  if (array.dtype() != nb::dtype<T>() || array.nbytes() != bytes)
    throw nb::value_error((std::string(name) + ": expected " + std::to_string(bytes) + " bytes, found " +
                           std::to_string(array.nbytes()) + ", or another type")
                              .c_str());
  std::memcpy(static_cast<void*>(out), array.data(), bytes);
}

// A tensor of the network, as exact::Graph takes it.
exact::Array array_of(const nb::dict& tensors, const char* name) {
  if (!tensors.contains(name)) throw nb::key_error(name);
  const auto array = nb::cast<nb::ndarray<nb::c_contig, nb::device::cpu>>(tensors[name]);
  exact::Array found{array.data(), "another type", {}, true};
  if (array.dtype() == nb::dtype<int16_t>()) found.type = "int16";
  if (array.dtype() == nb::dtype<int32_t>()) found.type = "int32";
  if (array.dtype() == nb::dtype<uint8_t>()) found.type = "uint8";
  for (size_t i = 0; i < array.ndim(); ++i) found.shape.push_back(array.shape(i));
  return found;
}

// Copies of the tensors of a weights file, their ranges checked.
Parameters parameters_of(const nb::dict& tensors) {
  Parameters p;
  p.start.resize(2 * contexts::COUNT);
  p.confidence.resize(contexts::COUNT);
  p.weights.resize(3 * mixers::COUNT);
  take(tensors, "colour", &p.colour[0][0], sizeof p.colour);
  take(tensors, "log_step", &p.log_step[0][0], sizeof p.log_step);
  take(tensors, "matrix", &p.matrix[0][0][0][0], sizeof p.matrix);
  take(tensors, "strength", &p.strength[0][0], sizeof p.strength);
  take(tensors, "luma_filter", &p.luma_filter[0][0][0], sizeof p.luma_filter);
  take(tensors, "chroma_filter", &p.chroma_filter[0][0][0][0], sizeof p.chroma_filter);
  take(tensors, "learned", &p.learned[0][0][0][0], sizeof p.learned);
  take(tensors, "start", p.start.data(), p.start.size());
  take(tensors, "confidence", p.confidence.data(), p.confidence.size());
  take(tensors, "weights", p.weights.data(), 2 * p.weights.size());
  if (tensors.contains("network.gain")) try {
      p.network = std::make_shared<Network>([&](const std::string& name) { return array_of(tensors, name.c_str()); });
    } catch (const exact::WeightsError& error) { throw nb::value_error(error.what()); }
  for (const int8_t s : p.start)
    if (s == -128) throw nb::value_error("start: expected -127 to 127, found -128");
  for (const auto& row : p.colour) {
    int64_t sum = 0;
    for (const int64_t v : row) sum += std::abs(v);
    if (sum > MOST_COLOUR) throw nb::value_error("colour: expected rows of at most 4 together, found more");
  }
  if (std::abs(determinant_of(p.colour)) < LEAST_DETERMINANT)
    throw nb::value_error("colour: expected a determinant of at least 1/64");
  return p;
}

using Pixels = nb::ndarray<const uint8_t, nb::device::cpu>;
using AnyPixels = nb::ndarray<nb::ro, nb::device::cpu>;

template <class Array>
Picture picture_of(const Array& pixels, int bit_depth = 8) {
  const bool is_grey = pixels.ndim() == 2;
  const bool is_deep = pixels.dtype() == nb::dtype<uint16_t>();
  if (!is_grey && !(pixels.ndim() == 3 && pixels.shape(2) == 3 && pixels.stride(2) == 1))
    raise("InputError", "pixels: expected [h, w, 3] or [h, w]");
  if (!(is_deep ? bit_depth > 8 && bit_depth <= 16 : bit_depth == 8 && pixels.dtype() == nb::dtype<uint8_t>()))
    raise("InputError", "pixels: expected uint8 of 8 bits, or uint16 of 9 to 16");
  for (int i = 0; i < 2; ++i)
    if (pixels.shape(i) < 1 || pixels.shape(i) > 65535) raise("InputError", "pixels: expected sides of 1 to 65535");
  const ptrdiff_t bytes = is_deep ? 2 : 1;
  return {static_cast<const uint8_t*>(static_cast<const void*>(pixels.data())),
          static_cast<int>(pixels.shape(1)),
          static_cast<int>(pixels.shape(0)),
          is_grey ? 1 : 3,
          bytes * pixels.stride(0),
          bytes * pixels.stride(1),
          bit_depth};
}

void check(BinaryStatus status) {
  if (status == BinaryStatus::truncated) raise("TruncatedError", "section 'dct': ends before the last bin");
  if (status == BinaryStatus::left_over)
    raise("CorruptPayloadError", "section 'dct': bytes are left over after the last bin");
  if (status != BinaryStatus::ok) raise("CorruptPayloadError", "section 'dct': not what an encoder makes");
}

nb::bytes encode(AnyPixels pixels, const Parameters& parameters, int quality_code, int kind, int chroma_shift,
                 const EncoderOptions& options, int bit_depth) {
  const Picture picture = picture_of(pixels, bit_depth);
  std::vector<uint8_t> payload;
  {
    nb::gil_scoped_release release;
    payload = encode_tile(picture, parameters, quality_code, static_cast<Kind>(kind), chroma_shift, options);
  }
  return nb::bytes(payload.data(), payload.size());
}

template <class Out>
nb::object decode_to(nb::bytes payload, const Parameters& parameters, int quality_code, int width, int height,
                     bool is_grey, int bit_depth) {
  const size_t channels = is_grey ? 1 : 3;
  std::vector<Out> out;
  BinaryStatus status;
  {
    nb::gil_scoped_release release;
    out.resize(static_cast<size_t>(width) * height * channels);
    status = decode_tile(static_cast<const uint8_t*>(payload.data()), payload.size(), parameters, quality_code, width,
                         height, static_cast<int>(channels), (1 << bit_depth) - 1, out.data());
  }
  check(status);
  std::vector<size_t> shape = {static_cast<size_t>(height), static_cast<size_t>(width)};
  if (!is_grey) shape.push_back(3);
  return nb::cast(to_numpy(std::move(out), shape));
}

// uint8, or uint16 of more than 8 bits.
nb::object decode(nb::bytes payload, const Parameters& parameters, int quality_code, int width, int height,
                  bool is_grey, int bit_depth) {
  if (bit_depth < 8 || bit_depth > 16) raise("InputError", "bit_depth: expected 8 to 16");
  const auto run = bit_depth == 8 ? decode_to<uint8_t> : decode_to<uint16_t>;
  return run(payload, parameters, quality_code, width, height, is_grey, bit_depth);
}

// Counts [contexts, 2], weights [mixers, 3] and bits of an encoding.
nb::tuple count(Pixels pixels, const Parameters& parameters, int quality_code, const EncoderOptions& options) {
  const Picture picture = picture_of(pixels);
  std::vector<uint32_t> counts;
  std::vector<int32_t> weights;
  double bits = 0;
  {
    nb::gil_scoped_release release;
    TileJob job(picture, parameters, quality_code, Kind::dct, 0, options);
    Counter coder(job.model);
    encode_with(coder, job, options);
    for (const auto& c : coder.counts) counts.insert(counts.end(), c.begin(), c.end());
    for (const Mixer<3>& m : job.model.mixers) weights.insert(weights.end(), m.w.begin(), m.w.end());
    bits = coder.bits;
  }
  return nb::make_tuple(to_numpy(std::move(counts), {contexts::COUNT, 2}),
                        to_numpy(std::move(weights), {mixers::COUNT, 3}), bits);
}

// Sums for least squares of the filters: (products [classes, n, n], targets [classes, n]).
nb::tuple filter_sums(Pixels pixels, const Parameters& parameters, int quality_code, const EncoderOptions& options,
                      bool is_chroma) {
  const Picture picture = picture_of(pixels);
  const size_t n = is_chroma ? CHROMA_WEIGHTS : LUMA_PAIRS, classes = is_chroma ? 2 * ACTIVITIES : FILTER_CLASSES;
  std::vector<double> products, targets;
  {
    nb::gil_scoped_release release;
    TileJob job(picture, parameters, quality_code, Kind::dct, 0, options);
    Counter coder(job.model);
    encode_squares(coder, job, options, Masking(job.source.planes[0], options.tuning), [](const Block&) {});
    for (int p = 0; p < job.geometry.planes; ++p) deblock(job.tile, p, job.filter.deblocking[p]);
    std::vector<Normal> sums(classes, Normal(static_cast<int>(n)));
    if (is_chroma) {
      chroma_sums(job.tile, job.source, job.filter, sums);
    } else {
      luma_sums(job.tile, job.source, job.filter, sums);
    }
    for (const Normal& s : sums) {
      products.insert(products.end(), s.products.begin(), s.products.end());
      targets.insert(targets.end(), s.targets.begin(), s.targets.end());
    }
  }
  return nb::make_tuple(to_numpy(std::move(products), {classes, n, n}), to_numpy(std::move(targets), {classes, n}));
}

// What the network of a tile sees and what it is to find: decoded and source planes [planes, h, w], side inputs [h / 4,
// w / 4, SIDES].
nb::tuple reconstruct(Pixels pixels, const Parameters& parameters, int quality_code, const EncoderOptions& options) {
  const Picture picture = picture_of(pixels);
  std::vector<int16_t> decoded, source, sides;
  Geometry g;
  {
    nb::gil_scoped_release release;
    TileJob job(picture, parameters, quality_code, Kind::dct, 0, options);
    Counter coder(job.model);
    encode_with(coder, job, options);
    g = job.geometry;
    const size_t n = static_cast<size_t>(g.width) * g.height;
    for (int p = 0; p < g.planes; ++p) {
      decoded.insert(decoded.end(), job.tile.planes[p].samples, job.tile.planes[p].samples + n);
      source.insert(source.end(), job.source.planes[p].samples, job.source.planes[p].samples + n);
    }
    sides = Network::sides_of(job.tile);
  }
  const auto h = static_cast<size_t>(g.height), w = static_cast<size_t>(g.width),
             planes = static_cast<size_t>(g.planes);
  return nb::make_tuple(to_numpy(std::move(decoded), {planes, h, w}), to_numpy(std::move(source), {planes, h, w}),
                        to_numpy(std::move(sides), {h / UNIT, w / UNIT, size_t{Network::SIDES}}));
}

// The blocks of an encoding by size 4 ... 64: (plane, mode, energy around, leaf [n, 4], coefficients, levels [n, side,
// side]).
nb::list leaf_coefficients(Pixels pixels, const Parameters& parameters, int quality_code, int kind,
                           const EncoderOptions& options) {
  const Picture picture = picture_of(pixels);
  Leaves leaves;
  {
    nb::gil_scoped_release release;
    TileJob job(picture, parameters, quality_code, static_cast<Kind>(kind), 0, options);
    Counter coder(job.model);
    const Masking masking(job.source.planes[0], options.tuning);
    encode_squares(coder, job, options, masking,
                   [&](const Block& square) { leaves.add_square(job.tile, job.source, square); });
  }
  nb::list out;
  for (int size = 0; size < SIZES; ++size) {
    const size_t n = leaves.about[size].size() / Leaves::ABOUT, side = size_t{1} << coded_log2(size + MIN_LOG2);
    out.append(nb::make_tuple(to_numpy(std::move(leaves.about[size]), {n, Leaves::ABOUT}),
                              to_numpy(std::move(leaves.coefficients[size]), {n, side, side}),
                              to_numpy(std::move(leaves.levels[size]), {n, side, side})));
  }
  return out;
}

// The blocks that learned modes are trained on, of an encoding, by shape: (inputs [n, 2, 16], residuals [n, h, w],
// costs [n, 2]); and what levels cost there (Quantiser, [3, h, w]): half-steps of an orthonormal coefficient, bits of a
// squared half-step, bits of the place.
nb::list learned_blocks(Pixels pixels, const Parameters& parameters, int quality_code, const EncoderOptions& options) {
  const Picture picture = picture_of(pixels);
  LearnedBlocks blocks;
  {
    nb::gil_scoped_release release;
    TileJob job(picture, parameters, quality_code, Kind::dct, 0, options);
    Counter coder(job.model);
    const Masking masking(job.source.planes[0], options.tuning);
    const ResidualTrial trial(job.tile, job.source.planes, options, masking);
    Prices prices;
    encode_squares(coder, job, options, masking, [&](const Block& square) {
      prices.take(job.model);
      blocks.add_square(job.tile, job.source.planes[0], trial, prices, square);
    });
  }
  nb::list out;
  for (const Shape& shape : {Shape{2, 2}, Shape{3, 2}, Shape{4, 2}, Shape{3, 3}, Shape{4, 3}, Shape{4, 4}}) {
    LearnedBlocks::OfShape& found = blocks.of_shape[learned_shape(shape)];
    const size_t n = found.costs.size() / 2, h = static_cast<size_t>(shape.height()),
                 w = static_cast<size_t>(shape.width());
    const Quantiser quantiser(steps_of(parameters, quality_code, 0, shape), shape, options.lambda / 16.f);
    std::vector<float> tables;
    for (const float inverse : quantiser.inverse) tables.push_back(inverse * std::exp2(forward_bits(shape)));
    tables.insert(tables.end(), quantiser.error.begin(), quantiser.error.end());
    tables.insert(tables.end(), quantiser.place_bits.begin(), quantiser.place_bits.end());
    out.append(nb::make_tuple(to_numpy(std::move(found.inputs), {n, 2, LEARNED_INPUTS}),
                              to_numpy(std::move(found.residuals), {n, h, w}), to_numpy(std::move(found.costs), {n, 2}),
                              to_numpy(std::move(tables), {3, h, w})));
  }
  return out;
}

// The networks that are compiled in, as split_trials takes them.
nb::object worth_networks() {
  std::vector<float> values(sizeof worth::NETWORKS / sizeof(float));
  std::memcpy(values.data(), worth::NETWORKS.data(), sizeof worth::NETWORKS);
  return nb::cast(to_numpy(std::move(values), {worth::NETWORKS.size(), sizeof(worth::Network) / sizeof(float)}));
}

// Trials of leaves and splits (enc_worth.hpp): features [n, FEATURES], [n, (parent, split, x, y, width's log2,
// height's)], [n, (limit, cost, milliseconds)].
nb::tuple split_trials(Pixels pixels, const Parameters& parameters, int quality_code, EncoderOptions options,
                       float slack) {
  const Picture picture = picture_of(pixels);
  TrialLog log{slack, {}};
  std::vector<float> features, results;
  std::vector<int32_t> about;
  {
    nb::gil_scoped_release release;
    options.log = &log;
    TileJob job(picture, parameters, quality_code, Kind::dct, 0, options);
    Counter coder(job.model);
    encode_squares(coder, job, options, Masking(job.source.planes[0], options.tuning), [](const Block&) {});
    for (const auto& [x, b, parent, split, limit, cost, milliseconds] : log.trials) {
      features.insert(features.end(), x.begin(), x.end());
      about.insert(about.end(), {parent, split, b.x, b.y, b.shape.log2_w, b.shape.log2_h});
      results.insert(results.end(), {limit, cost, milliseconds});
    }
  }
  const size_t n = log.trials.size();
  return nb::make_tuple(to_numpy(std::move(features), {n, worth::FEATURES}), to_numpy(std::move(about), {n, 6}),
                        to_numpy(std::move(results), {n, 3}));
}

NB_MODULE(_dct, m) {
  m.attr("CONTEXTS") = static_cast<int>(contexts::COUNT);
  m.attr("MIXERS") = static_cast<int>(mixers::COUNT);
  m.attr("WORTH_SHAPE") = nb::make_tuple(worth::NETWORKS.size(), worth::FEATURES, worth::HIDDEN);
  nb::class_<Parameters>(m, "Parameters").def("__init__", [](Parameters* self, const nb::dict& tensors) {
    new (self) Parameters(parameters_of(tensors));
  });
  nb::class_<Tuning>(m, "Tuning")
      .def(nb::init<>())
      .def_rw("is_visual", &Tuning::is_visual)
      .def_rw("weight_slope", &Tuning::weight_slope)
      .def_rw("offset_slope", &Tuning::offset_slope)
      .def_rw("constant", &Tuning::constant)
      .def_rw("usual", &Tuning::usual)
      .def_rw("sensitivity", &Tuning::sensitivity);
  nb::class_<EncoderOptions>(m, "EncoderOptions")
      .def(nb::init<>())
      .def_rw("lmbda", &EncoderOptions::lambda)
      .def_rw("least_log2", &EncoderOptions::least_log2)
      .def_rw("most_log2", &EncoderOptions::most_log2)
      .def_rw("optimised_levels", &EncoderOptions::optimised_levels)
      .def_rw("full_trials", &EncoderOptions::full_trials)
      .def_rw("is_quick", &EncoderOptions::is_quick)
      .def_rw("is_thorough", &EncoderOptions::is_thorough)
      .def_rw("binary_depth", &EncoderOptions::binary_depth)
      .def_rw("ternary", &EncoderOptions::ternary)
      .def_rw("price", &EncoderOptions::price)
      .def_rw("network", &EncoderOptions::network)
      .def_rw("turned", &EncoderOptions::turned)
      .def_rw("wiener", &EncoderOptions::wiener)
      .def_rw("tuning", &EncoderOptions::tuning);
  m.def("encode", &encode, "pixels"_a, "parameters"_a, "quality_code"_a, "kind"_a, "chroma_shift"_a, "options"_a,
        "bit_depth"_a = 8);
  m.def("decode", &decode, "payload"_a, "parameters"_a, "quality_code"_a, "width"_a, "height"_a, "is_grey"_a,
        "bit_depth"_a = 8);
  m.def("count", &count);
  m.def("filter_sums", &filter_sums);
  m.def("reconstruct", &reconstruct);
  m.def("learned_blocks", &learned_blocks);
  m.def("leaf_coefficients", &leaf_coefficients);
  m.def("worth_networks", &worth_networks);
  m.def("split_trials", &split_trials);
  bind_blocks(m);
}
