// The variants that this processor has. All are bit-identical.

#pragma once

#include "kernels_avx512.hpp"
#include "kernels_neon.hpp"

namespace ncodec::exact {

inline constexpr Kernels PLAIN{"plain",         product_plain<int16_t>, product_plain<int32_t>, softmax_plain,
                               depthwise_plain, values_plain,           modulate_plain};

// The fastest last.
inline const std::vector<const Kernels*>& variants() {
  static const std::vector<const Kernels*> found = [] {
    std::vector<const Kernels*> list{&PLAIN};
#if defined(NCODEC_EXACT_X86)
    if (has_avx2()) list.push_back(&AVX2);
    if (has_avx2() && has_avx512()) list.push_back(&AVX512);
#elif defined(NCODEC_EXACT_NEON)
    list.push_back(&NEON);
#endif
    return list;
  }();
  return found;
}

}  // namespace ncodec::exact
