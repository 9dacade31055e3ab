// A grid of vectors of integers, coded position by position: table rows come from four neighbours, decoded before.
//
//    b c d      x = [a; b; c; d], 0 outside --hidden--> ReLU --head--> + --> mean and width of every channel
//    a z        x of the channel itself ------own----------------------^ + offset
//
//    z = whole + symbol: the mean is split into a whole number and eighths; eighths and width name the row
//
// specs/hyperprior.md has the integers of it. Encoder and decoder share `NeighbourRows`.

#pragma once

#include "payload.hpp"

namespace ncodec {

constexpr size_t N_NEIGHBOURS = 4;  // a left, b above left, c above, d above right
constexpr int32_t GRID_MAX = 127;   // bound of |z|
constexpr int32_t LAYER_MAX = 32767;
constexpr int32_t N_WIDTHS = 32;
constexpr int MEAN_BITS = 8;  // fraction of means, of rows' numbers too

struct NeighbourNetwork {
  size_t channels, width;
  std::vector<int16_t> hidden;       // [width, 4 channels]
  std::vector<int32_t> hidden_bias;  // [width]
  std::vector<int16_t> head;         // [2 channels, width]: means, then widths
  std::vector<int16_t> own;          // [4, channels]
  int hidden_shift, head_shift, own_shift;

  // Whether no partial sum leaves 32 bits, in any order.
  bool is_exact() const {
    for (const int shift : {hidden_shift, head_shift, own_shift})
      if (shift < 1 || shift > 30) return false;
    bool good = true;
    for (size_t o = 0; o < width; ++o)
      good &= fits(&hidden[o * N_NEIGHBOURS * channels], N_NEIGHBOURS * channels, 1, GRID_MAX, hidden_bias[o],
                   hidden_shift);
    for (size_t o = 0; o < 2 * channels; ++o) good &= fits(&head[o * width], width, 1, LAYER_MAX, 0, head_shift);
    for (size_t c = 0; c < channels; ++c) good &= fits(&own[c], N_NEIGHBOURS, channels, GRID_MAX, 0, own_shift);
    return good;
  }

 private:
  static bool fits(const int16_t* weights, size_t n, size_t stride, int64_t bound, int64_t bias, int shift) {
    int64_t sum = (bias < 0 ? -bias : bias) + (int64_t{1} << (shift - 1));
    for (size_t k = 0; k < n; ++k)
      sum += bound * (weights[k * stride] < 0 ? -weights[k * stride] : weights[k * stride]);
    return sum < int64_t{1} << 31;
  }
};

// The grid as far as it is known, and what it says of the next position.
class NeighbourRows {
 public:
  std::vector<uint16_t> rows;   // [channels]
  std::vector<int32_t> wholes;  // [channels]

  // offset [2 channels]: what the quality adds to means and widths.
  NeighbourRows(const NeighbourNetwork& network, const int16_t* offset, size_t grid_height, size_t grid_width)
      : rows(network.channels),
        wholes(network.channels),
        net_(network),
        offset_(offset),
        stride_(grid_width + 2),
        grid_((grid_height + 1) * stride_ * network.channels),
        x_(N_NEIGHBOURS * network.channels),
        between_(network.width) {}

  // z of position (i, j), [channels].
  int16_t* at(size_t i, size_t j) { return &grid_[((i + 1) * stride_ + j + 1) * net_.channels]; }

  // Set `rows` and `wholes` to those of position (i, j).
  void look(size_t i, size_t j) {
    const size_t n = net_.channels;
    const int16_t* z = at(i, j);
    std::copy(z - n, z, x_.begin());
    std::copy(z - (stride_ + 1) * n, z - (stride_ - 2) * n, x_.begin() + static_cast<std::ptrdiff_t>(n));
    for (size_t o = 0; o < net_.width; ++o) {
      const int32_t sum = dot(&net_.hidden[o * x_.size()], x_.data(), x_.size()) + net_.hidden_bias[o];
      between_[o] = static_cast<int16_t>(std::clamp(rounded(sum, net_.hidden_shift), 0, LAYER_MAX));
    }
    for (size_t c = 0; c < n; ++c) {
      int32_t own = 0;
      for (size_t k = 0; k < N_NEIGHBOURS; ++k) own += net_.own[k * n + c] * x_[k * n + c];
      const int32_t mean = rounded(own, net_.own_shift) + head(c) + offset_[c];
      const int32_t eighths = std::clamp(rounded(mean, MEAN_BITS - 3), -8 * GRID_MAX, 8 * GRID_MAX);
      const int32_t width = std::clamp(rounded(head(n + c) + offset_[n + c], MEAN_BITS), 0, N_WIDTHS - 1);
      wholes[c] = rounded(eighths, 3);
      rows[c] = static_cast<uint16_t>(8 * width + eighths - 8 * wholes[c] + 4);
    }
  }

 private:
  static int32_t rounded(int32_t a, int shift) { return (a + (1 << (shift - 1))) >> shift; }

  static int32_t dot(const int16_t* a, const int16_t* b, size_t n) {
    int32_t sum = 0;
    for (size_t k = 0; k < n; ++k) sum += a[k] * b[k];
    return sum;
  }

  int32_t head(size_t o) const {
    const int32_t sum = dot(&net_.head[o * net_.width], between_.data(), net_.width);
    return std::clamp(rounded(sum, net_.head_shift), -LAYER_MAX, LAYER_MAX);
  }

  const NeighbourNetwork& net_;
  const int16_t* offset_;
  const size_t stride_;
  std::vector<int16_t> grid_;  // [height + 1, width + 2, channels], 0 around
  std::vector<int16_t> x_, between_;
};

// z [height, width, channels], |z| <= GRID_MAX, as one section of one lane and one chunk.
inline Status encode_grid(const Tables& tables, const NeighbourNetwork& network, const int16_t* offset,
                          const int16_t* z, size_t height, size_t width, std::vector<uint8_t>& payload) {
  const size_t n = network.channels;
  NeighbourRows known(network, offset, height, width);
  std::vector<uint16_t> rows;
  std::vector<int32_t> symbols;
  for (size_t i = 0; i < height; ++i) {
    for (size_t j = 0; j < width; ++j, z += n) {
      known.look(i, j);
      rows.insert(rows.end(), known.rows.begin(), known.rows.end());
      for (size_t c = 0; c < n; ++c) symbols.push_back(z[c] - known.wholes[c]);
      std::copy(z, z + n, known.at(i, j));
    }
  }
  size_t place = 0;
  return encode(tables, symbols.data(), rows.data(), symbols.size(), 0, 0, 1, 1, Variant::scalar, payload, place);
}

// The mirror of `encode_grid`. `place` counts the values before an error; out_of_grid: one beyond ±GRID_MAX.
inline Status decode_grid(const Tables& tables, const NeighbourNetwork& network, const int16_t* offset,
                          const uint8_t* payload, size_t size, size_t height, size_t width, int16_t* z, size_t& place) {
  const size_t n = network.channels;
  place = 0;
  if (size == 0) return Status::truncated;
  if (payload[0] != 0) return Status::bad_lanes;
  NeighbourRows known(network, offset, height, width);
  ChunkDecoder decoder(tables, 1);
  Status status = decoder.open(payload + 1, size - 1);
  if (status != Status::ok) return status;
  std::vector<int32_t> symbols(n);
  for (size_t i = 0; i < height; ++i) {
    for (size_t j = 0; j < width; ++j, place += n) {
      known.look(i, j);
      size_t c = 0;
      status = decoder.run(known.rows.data(), c, n, symbols.data());
      if (status != Status::ok) {
        place += c;
        return status;
      }
      for (c = 0; c < n; ++c) {
        const int64_t value = int64_t{symbols[c]} + known.wholes[c];
        if (value < -GRID_MAX || value > GRID_MAX) {
          place += c;
          return Status::out_of_grid;
        }
        *z++ = known.at(i, j)[c] = static_cast<int16_t>(value);
      }
    }
  }
  return decoder.close();
}

}  // namespace ncodec
