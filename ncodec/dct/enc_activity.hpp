// How much the source changes in any block, and in which direction: sums over all to the left and above.

#pragma once

#include <vector>

#include "syntax.hpp"

namespace ncodec::dct {

class Activity {
 public:
  // Means over a block's samples: of differences across and down and along the two diagonals; the variance.
  struct Of {
    float across, down, falling, rising, variance;
    float all() const { return across + down; }
  };

  explicit Activity(const Plane& luma) : wide_(luma.width / UNIT + 1) {
    sums_.resize(static_cast<size_t>(wide_) * (luma.height / UNIT + 1));
    const auto sample = [&](int x, int y) {
      return static_cast<int>(*luma.at(std::clamp(x, 0, luma.width - 1), std::clamp(y, 0, luma.height - 1)));
    };
    for (int y = 0; y < luma.height; ++y)
      for (int x = 0; x < luma.width; ++x) {
        Sums& s = at(x / UNIT + 1, y / UNIT + 1);
        const int own = sample(x, y);
        s[0] += std::abs(sample(x + 1, y) - sample(x - 1, y));
        s[1] += std::abs(sample(x, y + 1) - sample(x, y - 1));
        s[2] += std::abs(sample(x + 1, y + 1) - sample(x - 1, y - 1));
        s[3] += std::abs(sample(x + 1, y - 1) - sample(x - 1, y + 1));
        s[4] += own, s[5] += own * own;
      }
    for (int j = 1; j <= luma.height / UNIT; ++j)
      for (int i = 1; i < wide_; ++i)
        for (size_t k = 0; k < Sums().size(); ++k)
          at(i, j)[k] += at(i - 1, j)[k] + at(i, j - 1)[k] - at(i - 1, j - 1)[k];
  }

  Of operator()(const Block& b) const {
    const int x = b.x / UNIT, y = b.y / UNIT, right = x + b.width() / UNIT, below = y + b.height() / UNIT;
    std::array<float, Sums().size()> m;
    for (size_t k = 0; k < m.size(); ++k)
      m[k] = static_cast<float>(at(right, below)[k] - at(x, below)[k] - at(right, y)[k] + at(x, y)[k]) /
             static_cast<float>(b.shape.area());
    return {m[0], m[1], m[2], m[3], std::max(m[5] - m[4] * m[4], 0.f)};
  }

 private:
  using Sums = std::array<int64_t, 6>;
  Sums& at(int i, int j) { return sums_[static_cast<size_t>(j) * wide_ + i]; }
  const Sums& at(int i, int j) const { return sums_[static_cast<size_t>(j) * wide_ + i]; }

  int wide_;
  std::vector<Sums> sums_;
};

}  // namespace ncodec::dct
