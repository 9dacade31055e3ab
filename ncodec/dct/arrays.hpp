// What the bindings of this folder share: vectors as numpy arrays.

#pragma once

#include <utility>
#include <vector>

#include "bindings.hpp"

template <class T>
nb::ndarray<nb::numpy, T> to_numpy(std::vector<T> values, std::vector<size_t> shape) {
  auto* raw = new std::vector<T>(std::move(values));
  nb::capsule owner(raw, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::ndarray<nb::numpy, T>(raw->data(), shape.size(), shape.data(), owner);
}

void bind_blocks(nb::module_& m);  // blocks_bindings.cpp
