// Python types in and out of graph.hpp and executor.hpp, and their errors as ncodec's exceptions. No arithmetic here.

#include "bindings.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "executor.hpp"
#include "variants.hpp"

using namespace ncodec::exact;

using AnyArray = nb::ndarray<nb::ro, nb::device::cpu>;
using Tensor16 = nb::ndarray<nb::numpy, int16_t>;

static Array array_of(const AnyArray& array) {
  Array found{array.data(), "another type", {}, true};
  if (array.dtype() == nb::dtype<int16_t>()) found.type = "int16";
  if (array.dtype() == nb::dtype<int32_t>()) found.type = "int32";
  if (array.dtype() == nb::dtype<uint8_t>()) found.type = "uint8";
  int64_t stride = 1;
  for (size_t i = array.ndim(); i-- > 0; stride *= static_cast<int64_t>(array.shape(i))) {
    found.shape.insert(found.shape.begin(), array.shape(i));
    if (array.shape(i) > 1 && array.stride(i) != stride) found.is_contiguous = false;
  }
  return found;
}

static AnyArray cast_array(nb::handle object, const char* error, const std::string& place) {
  AnyArray array;
  if (!nb::try_cast(object, array)) raise(error, place + ": expected an array");
  return array;
}

static int add(Graph& graph, const std::string& kind, const std::string& name, const std::vector<int>& inputs,
               const std::vector<int>& numbers, const nb::list& arrays) {
  std::vector<AnyArray> owners;
  std::vector<Array> found;
  for (const nb::handle object : arrays) {
    owners.push_back(cast_array(object, "WeightsMismatchError", "arrays"));
    found.push_back(array_of(owners.back()));
  }
  try {
    return graph.add(kind, name, inputs, numbers, found);
  } catch (const WeightsError& error) { raise("WeightsMismatchError", error.what()); }
}

static nb::tuple describe(const Graph& graph, int number) {
  if (number < 0 || static_cast<size_t>(number) >= graph.operations().size())
    raise("WeightsMismatchError", "there is no operation " + std::to_string(number));
  const Operation& operation = *graph.operations()[static_cast<size_t>(number)];
  return nb::make_tuple(operation.channels, operation.bound);
}

static Tensor16 to_numpy(Result& result) {
  const size_t shape[] = {result.h, result.w, result.channels};
  int16_t* data = result.data.get();
  nb::capsule owner(data, [](void* p) noexcept { Aligned<int16_t>::free(p); });
  result.data.release();
  return Tensor16(data, 3, shape, owner);
}

static nb::list run(const Graph& graph, const nb::list& feeds, const std::vector<int>& wanted, int threads,
                    const std::string& variant) {
  if (threads < 1) raise("InputError", "threads: expected 1 to 2**31 - 1, found " + std::to_string(threads));
  const Kernels* kernels = variant.empty() ? variants().back() : nullptr;
  std::string names;
  for (const Kernels* one : variants()) {
    if (variant == one->name) kernels = one;
    names += (names.empty() ? "" : " or ") + std::string(one->name);
  }
  if (!kernels) raise("InputError", "variant " + variant + ": expected " + names);
  std::vector<AnyArray> owners;
  std::vector<Feed> found;
  for (const nb::handle feed : feeds) {
    const nb::tuple pair = nb::cast<nb::tuple>(feed);
    const int number = nb::cast<int>(pair[0]);
    owners.push_back(cast_array(pair[1], "InputError", "feed " + std::to_string(number)));
    found.push_back({number, array_of(owners.back())});
  }
  const Graph::Operations operations = graph.operations();  // ours, in case another thread adds to them
  std::vector<Result> results;
  std::string wrong;
  {
    nb::gil_scoped_release release;
    try {
      results = Run(operations, found, wanted).run(*kernels, static_cast<size_t>(threads));
    } catch (const FeedError& error) { wrong = error.what(); }
  }
  if (!wrong.empty()) raise("InputError", wrong);
  nb::list arrays;
  for (Result& result : results) arrays.append(to_numpy(result));
  return arrays;
}

NB_MODULE(_exact, m) {
  nb::set_leak_warnings(false);
  nb::class_<Graph>(m, "Graph").def(nb::init<>()).def("add", &add).def("describe", &describe).def("run", &run);
  m.def("variants", [] {
    nb::list names;
    for (const Kernels* one : variants()) names.append(one->name);
    return names;
  });
}
