// The variants that this processor has. All are bit-identical.

#pragma once

#include "kernels.hpp"

namespace ncodec::exact {

inline constexpr Kernels PLAIN{"plain", conv_plain, depthwise_plain, values_plain};

// The fastest last.
inline const std::vector<const Kernels*>& variants() {
  static const std::vector<const Kernels*> found = [] {
    std::vector<const Kernels*> list{&PLAIN};
    return list;
  }();
  return found;
}

}  // namespace ncodec::exact
