// In which direction a block of the source changes: splits along it need not be tried (vvenc's rule).

#pragma once

#include <vector>

#include "syntax.hpp"

namespace ncodec::dct {

class Gradients {
 public:
  explicit Gradients(const Plane& luma) : wide_(luma.width / UNIT + 1) {
    sums_.resize(static_cast<size_t>(wide_) * (luma.height / UNIT + 1));
    const auto sample = [&](int x, int y) {
      return static_cast<int>(*luma.at(std::clamp(x, 0, luma.width - 1), std::clamp(y, 0, luma.height - 1)));
    };
    for (int y = 0; y < luma.height; ++y)
      for (int x = 0; x < luma.width; ++x) {
        Sums& s = at(x / UNIT + 1, y / UNIT + 1);
        s[0] += std::abs(sample(x + 1, y) - sample(x - 1, y));
        s[1] += std::abs(sample(x, y + 1) - sample(x, y - 1));
        s[2] += std::abs(sample(x + 1, y + 1) - sample(x - 1, y - 1));
        s[3] += std::abs(sample(x + 1, y - 1) - sample(x - 1, y + 1));
      }
    for (int j = 1; j <= luma.height / UNIT; ++j)  // of all to the left and above
      for (int i = 1; i < wide_; ++i)
        for (int k = 0; k < 4; ++k) at(i, j)[k] += at(i - 1, j)[k] + at(i, j - 1)[k] - at(i - 1, j - 1)[k];
  }

  // Does the block change mostly along the cuts of a split, `ratio` times as much as across them?
  bool run_across(const Block& b, Split split, float ratio) const {
    const int x = b.x / UNIT, y = b.y / UNIT, right = x + b.width() / UNIT, below = y + b.height() / UNIT;
    std::array<float, 4> g;
    for (int k = 0; k < 4; ++k)
      g[k] = static_cast<float>(at(right, below)[k] - at(x, below)[k] - at(right, y)[k] + at(x, y)[k]);
    const float along = is_vertical(split) ? g[1] : g[0], across = is_vertical(split) ? g[0] : g[1];
    return along > ratio * across && along > 0.85f * 0.7071f * g[2] && along > 0.85f * 0.7071f * g[3];
  }

 private:
  using Sums = std::array<int64_t, 4>;  // horizontal, vertical, the two diagonals
  Sums& at(int i, int j) { return sums_[static_cast<size_t>(j) * wide_ + i]; }
  const Sums& at(int i, int j) const { return sums_[static_cast<size_t>(j) * wide_ + i]; }

  int wide_;
  std::vector<Sums> sums_;
};

}  // namespace ncodec::dct
