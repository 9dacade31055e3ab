// What the bindings of the coders share: ncodec's exceptions.

#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <string>

namespace nb = nanobind;

[[noreturn]] inline void raise(const char* error, const std::string& message) {
  PyErr_SetString(nb::module_::import_("ncodec.errors").attr(error).ptr(), message.c_str());
  throw nb::python_error();
}

void bind_binary(nb::module_& m);  // binary_bindings.cpp
void bind_tokens(nb::module_& m);  // token_bindings.cpp
