// The markers of a JPEG file (ITU-T T.81, annex B): tables, frame, scan headers. Knows nothing of Python.
//
//   SOI | APPn COM DQT DHT DRI SOF .. SOS | scan | DHT .. SOS | scan | EOI | anything
//       `--------- read_markers ---------'       `----------'        `-- the tail --'
//
// Reads the bytes around the scans, whether a file or a skeleton (a file without its scans). What we do not
// model (arithmetic coding, 12 bits, lossless, hierarchical, DNL) is refused; so is what is not a JPEG.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace ncodec::jpeg {

enum class Status {
  ok,
  unsupported,  // a JPEG, or the start of one, that is not modelled
  bad_padding,
  no_code,  // a coefficient without a Huffman code
  truncated,
  left_over,
  bad_end,
  too_large,
  wrong_size,
};

constexpr int MAX_COMPONENTS = 4;
constexpr int BLOCK = 64;              // coefficients, in zigzag order
constexpr int MAX_COEFFICIENT = 2047;  // 8 bits a sample: 11 bits and a sign (T.81, F.1.2)
constexpr int MAX_SCANS = 256;         // bounds the time that a small hostile file takes

// Row and column (T.81, figure A.6) of each coefficient in zigzag order, as 8 * row + column.
constexpr uint8_t ZIGZAG[BLOCK] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,
                                   12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
                                   35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
                                   58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

// The usual Huffman tables (T.81, K.3 to K.6), of luminance and of chrominance: how many codes of each length, symbols.
constexpr uint8_t DC_TABLES[2][16 + 12] = {
    {0x00, 0x01, 0x05, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B},
    {0x00, 0x03, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B}};
constexpr uint8_t AC_TABLES[2][16 + 162] = {
    {0x00, 0x02, 0x01, 0x03, 0x03, 0x02, 0x04, 0x03, 0x05, 0x05, 0x04, 0x04, 0x00, 0x00, 0x01, 0x7D, 0x01, 0x02,
     0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71, 0x14, 0x32,
     0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09,
     0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39,
     0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63,
     0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83, 0x84, 0x85,
     0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5,
     0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5,
     0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2, 0xE3, 0xE4,
     0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA},
    {0x00, 0x02, 0x01, 0x02, 0x04, 0x04, 0x03, 0x04, 0x07, 0x05, 0x04, 0x04, 0x00, 0x01, 0x02, 0x77, 0x00, 0x01,
     0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22, 0x32, 0x81,
     0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0, 0x15, 0x62, 0x72, 0xD1, 0x0A, 0x16,
     0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x35, 0x36, 0x37, 0x38,
     0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A,
     0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x82, 0x83,
     0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3,
     0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3,
     0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE2, 0xE3,
     0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA}};

struct Bytes {
  const uint8_t* data;
  size_t size;
};

// A Huffman table (T.81, annex C), ready for both directions.
struct HuffmanTable {
  static constexpr int FAST_BITS = 10;
  bool is_defined = false;
  std::array<uint16_t, 256> codes;
  std::array<uint8_t, 256> lengths;           // 0: the symbol has no code
  std::array<uint16_t, 1 << FAST_BITS> fast;  // length << 8 | symbol, for codes of up to 10 bits
  std::array<int32_t, 17> limits, offsets;    // of longer ones: code < limits[length] -> symbols[code + offset]
  std::array<uint8_t, 256> symbols;

  bool build(const uint8_t* counts, const uint8_t* values, int n) {
    codes.fill(0);
    lengths.fill(0);
    fast.fill(0);
    std::memcpy(symbols.data(), values, static_cast<size_t>(n));
    int code = 0, k = 0;
    for (int length = 1; length <= 16; ++length, code <<= 1) {
      offsets[static_cast<size_t>(length)] = k - code;
      for (int i = 0; i < counts[length - 1]; ++i, ++k, ++code) {
        if (code >= 1 << length) return false;
        codes[values[k]] = static_cast<uint16_t>(code);
        lengths[values[k]] = static_cast<uint8_t>(length);
        if (length > FAST_BITS) continue;
        const int shift = FAST_BITS - length;
        for (int rest = 0; rest < 1 << shift; ++rest)
          fast[static_cast<size_t>((code << shift) + rest)] = static_cast<uint16_t>(length << 8 | values[k]);
      }
      limits[static_cast<size_t>(length)] = code;
    }
    return is_defined = true;
  }
};

struct Component {
  int id = 0, h = 1, v = 1, table = 0;
  int width = 0, height = 0;       // in blocks: of the picture, as a scan of this component alone has them
  int columns = 0, rows = 0;       // in blocks, up to whole MCUs, as interleaved scans have them
  std::vector<int16_t> blocks;     // [rows, columns, 64]
  std::vector<int16_t> surprises;  // [rows, columns]: DC less what the seams make of it (model.hpp)

  size_t at(int y, int x) const {
    return (static_cast<size_t>(y) * static_cast<size_t>(columns) + static_cast<size_t>(x)) * BLOCK;
  }
  int16_t* block(int y, int x) { return blocks.data() + at(y, x); }
  const int16_t* block(int y, int x) const { return blocks.data() + at(y, x); }
};

struct Frame {
  bool is_progressive = false;
  int width = 0, height = 0, mcu_columns = 0, mcu_rows = 0;
  std::vector<Component> components;

  uint64_t n_blocks() const {
    uint64_t n = 0;
    for (const Component& c : components) n += static_cast<uint64_t>(c.rows) * static_cast<uint64_t>(c.columns);
    return n;
  }
  void allocate() {
    for (Component& c : components)
      c.blocks.assign(static_cast<size_t>(c.rows) * static_cast<size_t>(c.columns) * BLOCK, 0);
  }
};

struct Scan {
  struct Part {
    int component, dc, ac;
  };
  std::vector<Part> parts;
  int first = 0, last = 63, high = 0, low = 0;  // Ss, Se, Ah, Al
};

// What the markers have said so far.
class Markers {
 public:
  Frame frame;
  std::array<std::array<uint16_t, BLOCK>, 4> quantisation{};  // zigzag order
  std::array<HuffmanTable, 4> dc, ac;  // those of annex K where the file has none, as frames of Motion JPEG
  int restart_interval = 0;

  Markers() {
    for (size_t i = 0; i < 2; ++i) {
      dc[i].build(DC_TABLES[i], DC_TABLES[i] + 16, 12);
      ac[i].build(AC_TABLES[i], AC_TABLES[i] + 16, 162);
    }
  }

  // Read on from `position` to the end of a scan header, or (has_scan: false) to the end of the bytes.
  Status read(const uint8_t* bytes, size_t size, size_t& position, Scan& scan, bool& has_scan) {
    has_scan = false;
    while (true) {
      size_t at = position;
      // As libjpeg does: what is no marker is passed over, and so are fill bytes (B.1.1.2).
      while (at < size && (bytes[at] != 0xFF || (size - at > 1 && bytes[at + 1] == 0))) ++at;
      while (at < size && bytes[at] == 0xFF) ++at;
      if (at == size) break;
      const uint8_t marker = bytes[at++];
      if (marker == 0xD9) break;
      if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) {  // no parameters
        if (marker == 0xD8 && position != 0) return Status::unsupported;
        position = at;
        continue;
      }
      if (size - at < 2) break;
      const size_t length = static_cast<size_t>(bytes[at] << 8 | bytes[at + 1]);
      if (length < 2) return Status::unsupported;
      if (length > size - at) break;  // cut off: part of the tail
      const Status status = segment(marker, bytes + at + 2, length - 2, scan);
      if (status != Status::ok) return status;
      position = at + length;
      if (marker == 0xDA) {
        has_scan = true;
        return ++n_scans_ <= MAX_SCANS ? Status::ok : Status::unsupported;
      }
    }
    position = size;
    return Status::ok;
  }

 private:
  Status segment(uint8_t marker, const uint8_t* p, size_t n, Scan& scan) {
    switch (marker) {
      case 0xC0:
      case 0xC1:
      case 0xC2: return start_of_frame(p, n, marker == 0xC2);
      case 0xC4: return huffman_tables(p, n);
      case 0xDA: return start_of_scan(p, n, scan);
      case 0xDB: return quantisation_tables(p, n);
      case 0xDD:
        if (n != 2) return Status::unsupported;
        restart_interval = p[0] << 8 | p[1];
        return Status::ok;
      case 0xC3:
      case 0xC5:
      case 0xC6:
      case 0xC7:
      case 0xC8:
      case 0xC9:
      case 0xCA:
      case 0xCB:
      case 0xCC:
      case 0xCD:
      case 0xCE:
      case 0xCF:
      case 0xDC:
      case 0xDE:
      case 0xDF: return Status::unsupported;
      default: return Status::ok;  // APPn, COM
    }
  }

  Status start_of_frame(const uint8_t* p, size_t n, bool is_progressive) {
    if (!frame.components.empty() || n < 6 || p[0] != 8) return Status::unsupported;
    frame.is_progressive = is_progressive;
    frame.height = p[1] << 8 | p[2];
    frame.width = p[3] << 8 | p[4];
    const int n_components = p[5];
    if (frame.height == 0 || frame.width == 0 || n_components < 1 || n_components > MAX_COMPONENTS ||
        n != 6 + 3 * static_cast<size_t>(n_components))
      return Status::unsupported;
    int h_max = 1, v_max = 1;
    std::vector<Component> components(static_cast<size_t>(n_components));
    for (Component& c : components) {
      p += 3;
      c.id = p[3];
      c.h = p[4] >> 4;
      c.v = p[4] & 15;
      c.table = p[5];
      if (c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4 || c.table > 3) return Status::unsupported;
      h_max = c.h > h_max ? c.h : h_max;
      v_max = c.v > v_max ? c.v : v_max;
    }
    frame.mcu_columns = up(frame.width, 8 * h_max);
    frame.mcu_rows = up(frame.height, 8 * v_max);
    for (Component& c : components) {
      c.width = up(up(frame.width * c.h, h_max), 8);
      c.height = up(up(frame.height * c.v, v_max), 8);
      c.columns = frame.mcu_columns * c.h;
      c.rows = frame.mcu_rows * c.v;
    }
    frame.components = std::move(components);
    return Status::ok;
  }

  Status quantisation_tables(const uint8_t* p, size_t n) {
    while (n > 0) {
      const size_t wide = p[0] >> 4, bytes = 1 + BLOCK * (wide + 1);
      if (wide > 1 || (p[0] & 15) > 3 || n < bytes) return Status::unsupported;
      auto& table = quantisation[p[0] & 15];
      for (size_t k = 0; k < BLOCK; ++k)
        table[k] = static_cast<uint16_t>(wide ? p[1 + 2 * k] << 8 | p[2 + 2 * k] : p[1 + k]);
      p += bytes;
      n -= bytes;
    }
    return Status::ok;
  }

  Status huffman_tables(const uint8_t* p, size_t n) {
    while (n > 0) {
      if (n < 17 || (p[0] & 0xEC) != 0) return Status::unsupported;
      int n_values = 0;
      for (int i = 1; i <= 16; ++i) n_values += p[i];
      if (n_values > 256 || n < 17 + static_cast<size_t>(n_values)) return Status::unsupported;
      HuffmanTable& table = (p[0] >> 4 ? ac : dc)[p[0] & 3];
      if (!table.build(p + 1, p + 17, n_values)) return Status::unsupported;
      p += 17 + n_values;
      n -= 17 + static_cast<size_t>(n_values);
    }
    return Status::ok;
  }

  Status start_of_scan(const uint8_t* p, size_t n, Scan& scan) {
    if (frame.components.empty() || n < 1) return Status::unsupported;
    const size_t n_parts = p[0];
    if (n_parts < 1 || n_parts > frame.components.size() || n != 4 + 2 * n_parts) return Status::unsupported;
    scan.first = p[1 + 2 * n_parts];
    scan.last = p[2 + 2 * n_parts];
    scan.high = p[3 + 2 * n_parts] >> 4;
    scan.low = p[3 + 2 * n_parts] & 15;
    const bool has_dc = scan.first == 0, has_ac = scan.last > 0, refines = scan.high > 0;
    if (frame.is_progressive) {  // G.1.1.1
      if (scan.first > scan.last || scan.last > 63 || (has_dc && has_ac) || (has_ac && n_parts > 1) || scan.low > 10 ||
          (refines && scan.high != scan.low + 1))
        return Status::unsupported;
    } else if (scan.first != 0 || scan.last != 63 || scan.high != 0 || scan.low != 0) {
      return Status::unsupported;
    }
    scan.parts.clear();
    int sampled = 0;
    for (size_t i = 0; i < n_parts; ++i) {
      Scan::Part part{-1, p[2 + 2 * i] >> 4, p[2 + 2 * i] & 15};
      for (size_t c = 0; c < frame.components.size(); ++c)
        if (frame.components[c].id == p[1 + 2 * i] && part.component < 0) part.component = static_cast<int>(c);
      if (part.component < 0 || part.dc > 3 || part.ac > 3) return Status::unsupported;
      if (has_dc && !refines && !dc[static_cast<size_t>(part.dc)].is_defined) return Status::unsupported;
      if (has_ac && !ac[static_cast<size_t>(part.ac)].is_defined) return Status::unsupported;
      const Component& c = frame.components[static_cast<size_t>(part.component)];
      sampled += c.h * c.v;
      scan.parts.push_back(part);
    }
    // Without the standard's limit of 10 blocks an MCU (B.2.3) nothing breaks, but no file needs it.
    return n_parts > 1 && sampled > 10 ? Status::unsupported : Status::ok;
  }

  static int up(int a, int b) { return (a + b - 1) / b; }

  int n_scans_ = 0;
};

}  // namespace ncodec::jpeg
