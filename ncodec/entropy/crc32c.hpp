// CRC-32C (Castagnoli, reflected 0x82F63B78), as in iSCSI (RFC 3720) and the .nc container.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace ncodec {

inline uint32_t crc32c(const uint8_t* data, size_t size, uint32_t crc = 0) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t v = i;
      for (int bit = 0; bit < 8; ++bit) v = (v >> 1) ^ (v & 1 ? 0x82F63B78u : 0u);
      t[i] = v;
    }
    return t;
  }();
  crc = ~crc;
  for (size_t i = 0; i < size; ++i) crc = (crc >> 8) ^ table[(crc ^ data[i]) & 0xFF];
  return ~crc;
}

}  // namespace ncodec
