// The samples that everything here works on: 10-bit planes, cut into blocks.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ncodec::dct {

constexpr int SAMPLE_BITS = 10;
constexpr int SAMPLE_MAX = (1 << SAMPLE_BITS) - 1;
constexpr int MIDDLE = 1 << (SAMPLE_BITS - 1);

constexpr int MIN_LOG2 = 2;  // sides of 4 ...
constexpr int MAX_LOG2 = 6;  // ... to 64
constexpr int MAX_SIDE = 1 << MAX_LOG2;
constexpr int MAX_CODED = 32;  // of larger blocks the 32x32 low frequencies are coded
constexpr int SIZES = MAX_LOG2 - MIN_LOG2 + 1;

// Of a block. Arrays of its samples and frequencies are [height][width].
struct Shape {
  int log2_w, log2_h;

  int width() const { return 1 << log2_w; }
  int height() const { return 1 << log2_h; }
  int log2_area() const { return log2_w + log2_h; }
  int area() const { return 1 << log2_area(); }
  // log2 of the side of about the same area, rounded up.
  int log2_side() const { return (log2_area() + 1) >> 1; }
  int size() const { return log2_side() - MIN_LOG2; }  // as contexts count it
  bool is_odd() const { return log2_area() & 1; }      // its area is no square
  int least() const { return std::min(log2_w, log2_h); }
  int most() const { return std::max(log2_w, log2_h); }
  Shape shrunk(int shift) const { return {log2_w - shift, log2_h - shift}; }
  Shape transposed() const { return {log2_h, log2_w}; }
  bool operator==(const Shape& other) const { return log2_w == other.log2_w && log2_h == other.log2_h; }
};
inline Shape square_of(int log2) { return {log2, log2}; }

struct Plane {
  int16_t* samples;
  int stride, width, height;
  int16_t* at(int x, int y) const { return samples + static_cast<ptrdiff_t>(y) * stride + x; }
};

struct Geometry {
  int width, height;  // luma samples, multiples of 8
  int planes;         // 1 or 3
  int chroma_shift;   // 0: 4:4:4, 1: 4:2:0

  int shift(int plane) const { return plane ? chroma_shift : 0; }
  bool has_chroma() const { return planes == 3; }
};

// Planes of a tile, all of them or those from `first` to `last`, all 0 at first.
struct Samples {
  std::array<Plane, 3> planes = {};

  explicit Samples(const Geometry& geometry) : Samples(geometry, 0, geometry.planes - 1) {}
  Samples(const Geometry& geometry, int first, int last) {
    for (int p = first; p <= last; ++p) {
      const int s = geometry.shift(p), width = geometry.width >> s, height = geometry.height >> s;
      values_[p].resize(static_cast<size_t>(width) * height);
      planes[p] = {values_[p].data(), width, width, height};
    }
  }
  Samples(const Samples&) = delete;
  Samples& operator=(const Samples&) = delete;

 private:
  std::array<std::vector<int16_t>, 3> values_;
};

}  // namespace ncodec::dct
