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

// A coder that keeps its state between calls: who may use it, and when.
class Stream {
 protected:
  // Held while coding: the interpreter's lock is released then, and another thread may call us.
  class Use {
   public:
    explicit Use(Stream& stream) : stream_(stream) {
      if (stream.is_in_use_) raise("InputError", "the coder is in use by another thread");
      if (stream.is_finished_) raise("InputError", "the coder is finished: make a new one");
      stream.is_in_use_ = true;
    }
    ~Use() { stream_.is_in_use_ = false; }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    Stream& stream_;
  };

  bool is_finished_ = false;

 private:
  bool is_in_use_ = false;
};

void bind_binary(nb::module_& m);  // binary_bindings.cpp
void bind_tokens(nb::module_& m);  // token_bindings.cpp
