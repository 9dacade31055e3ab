// X23 of specs/exact.md for one row and head, X26 for a window and head: two matrix products by the kernels of X1, and
// a softmax between them.
//
//     q [n, e] --+-- scores = q k' (+ bias) -- softmax -- p -- (p v + 2^14) >> 15 --> o [n, e]
//     k [t, e] --+ as weights [t, e]                           |
//     v [t, e] ------------------------------------------------+ as weights [e, t]
//
// A dozen queries at a time.

#pragma once

#include <utility>

#include "kernels.hpp"
#include "rearrange.hpp"

namespace ncodec::exact {

constexpr size_t QUERIES = 12;      // what the kernels like
constexpr size_t KEYS = 2 * PANEL;  // a multiple of them has scores; those that are not there are the first once more
constexpr int32_t VALUE_HALF = 1 << 14, VALUE_SHIFT = 15;

// A head of a row [n, e]; from one place to the next there are `step` values.
struct Head {
  int16_t* data;
  size_t n, channels, step;
};

// x [O, I] as packed weights of X1, [O/16, I/2, 16, 2]: output o's are those of place o.
inline void pack_places(const Head& x, size_t outputs, int16_t* to) {
  const size_t pairs = (x.channels + 1) / 2;
  for (size_t o = 0; o < outputs; ++o) {
    const int16_t* from = x.data + (o < x.n ? o * x.step : 0);
    int16_t* packed = to + (o / PANEL * pairs * PANEL + o % PANEL) * 2;
    for (size_t c = 0; c + 1 < x.channels; c += 2, packed += 2 * PANEL) copy(from + c, 2, packed);
    if (x.channels % 2) packed[0] = from[x.channels - 1], packed[1] = 0;
  }
}

// x [I, O] as packed weights of X1: output o's are those of channel o, 0 where there is none.
inline void pack_channels(const Head& x, int16_t* to) {
  for (size_t o = 0; o < x.channels; o += PANEL) {
    const size_t there = std::min(PANEL, x.channels - o);
    for (size_t i = 0; i < x.n; i += 2, to += 2 * PANEL) {
      const int16_t* from = x.data + i * x.step + o;
      if (there < PANEL) std::fill_n(to, 2 * PANEL, int16_t{0});
      const bool is_pair = i + 1 < x.n;
      for (size_t k = 0; k < there; ++k) to[2 * k] = from[k], to[2 * k + 1] = is_pair ? from[x.step + k] : int16_t{0};
    }
  }
}

// Values of 16 bits that `attend` needs for itself.
inline size_t attention_scratch(size_t keys, size_t channels) {
  const size_t t = whole(keys, KEYS), e = whole(channels, PANEL);
  return t * e + e * t + QUERIES * 2 * t + QUERIES * t + QUERIES * e + 2 * (t + 2 * e);
}

// What X26 adds to scores, of each query and key by how far this is from that: tables [2a - 1, 2b - 1] from their
// middle.
struct Bias {
  const int32_t* middle;
  size_t step, columns;  // of the table, 2b - 1; of the window
};

inline void add_bias(const Bias& bias, size_t query, size_t t, size_t padded, int32_t* s) {
  const auto row = static_cast<ptrdiff_t>(query / bias.columns), column = static_cast<ptrdiff_t>(query % bias.columns);
  for (size_t i = 0, j = 0; j < t; ++i, j += bias.columns) {
    const ptrdiff_t down = static_cast<ptrdiff_t>(i) - row;
    const int32_t* from = bias.middle + (down * static_cast<ptrdiff_t>(bias.step) - column);
    for (size_t c = 0; c < bias.columns; ++c) s[j + c] += from[c];
  }
  std::fill(s + t, s + padded, s[0]);
}

// `out` may be q.
inline void attend(const Kernels& kernels, const Head& q, const Head& k, const Head& v, const Bias* bias, int shift,
                   int16_t* scratch, const Head& out) {
  const size_t t = whole(k.n, KEYS), e = whole(q.channels, PANEL);
  const auto take = [&](size_t n) { return std::exchange(scratch, scratch + n); };
  const auto take_sums = [&](size_t n, int32_t value) {
    auto* sums = reinterpret_cast<int32_t*>(take(2 * n));
    std::fill_n(sums, n, value);
    return sums;
  };
  int16_t *const keys = take(t * e), *const channels = take(e * t), *const p = take(QUERIES * t);
  int16_t* const even = take(QUERIES * e);
  auto* const scores = reinterpret_cast<int32_t*>(take(QUERIES * 2 * t));
  const int32_t *zeros = take_sums(t, 0), *half = take_sums(e, VALUE_HALF), *bits = take_sums(e, VALUE_SHIFT);
  pack_places(k, t, keys);
  pack_channels(v, channels);
  const size_t pairs = (q.channels + 1) / 2;
  const bool is_odd = q.channels % 2;
  const Product of_keys{keys, zeros, nullptr, pairs, t, is_odd ? 2 * pairs : q.step, t, NO_SLOPE};
  const Product of_values{channels, half, bits, (v.n + 1) / 2, v.channels, t, out.step, NO_SLOPE};
  for (size_t i = 0; i < q.n; i += QUERIES) {
    const size_t some = std::min(QUERIES, q.n - i);
    const int16_t* from = q.data + i * q.step;
    if (is_odd) from = with_even_channels(from, some, q.channels, q.step, even);
    kernels.scores(of_keys, from, some, scores);
    for (size_t r = 0; r < some; ++r) {
      if (bias) add_bias(*bias, i + r, k.n, t, scores + r * t);
      kernels.softmax(scores + r * t, k.n, t, shift, p + r * t);
    }
    kernels.conv(of_values, p, some, out.data + i * out.step);
  }
}

// What `attend_window` needs for itself; so many places has the largest window.
inline size_t window_scratch(size_t places, size_t channels) {
  return 3 * whole(places * channels, KEYS) + attention_scratch(places, channels);
}

// X26 of a window of a head, which has the channels from `first`, e of them: window `number` of those in q [h, w, C].
inline void attend_window(const Kernels& kernels, const Plane& q, const Plane& k, const Plane& v, const Window& window,
                          const int32_t* bias, size_t number, size_t first, size_t e, int shift, int16_t* scratch,
                          int16_t* out) {
  const size_t bottom = (number / window.columns(q.w) + 1) * window.a,
               right = (number % window.columns(q.w) + 1) * window.b;
  const auto begin = [](size_t end, size_t side, size_t moved) { return std::max(end - side, moved) - moved; };
  const size_t top = begin(bottom, window.a, window.dy), left = begin(right, window.b, window.dx);
  const size_t rows = std::min(bottom - window.dy, q.h) - top, columns = std::min(right - window.dx, q.w) - left;
  const size_t n = rows * columns;
  const auto gather = [&](const Plane& x) {
    int16_t *const places = std::exchange(scratch, scratch + whole(n * e, KEYS)), *to = places;
    for (size_t i = top; i < top + rows; ++i)
      for (size_t j = left; j < left + columns; ++j, to += e) copy(x.at(i, j) + first, e, to);
    return Head{places, n, e, e};
  };
  const Head here = gather(q), keys = gather(k), values = gather(v);
  const size_t step = 2 * window.b - 1;
  const Bias of_window{bias + window.bias + (window.a - 1) * step + window.b - 1, step, columns};
  attend(kernels, here, keys, values, &of_window, shift, scratch, here);
  const int16_t* from = here.data;
  for (size_t i = top; i < top + rows; ++i)
    for (size_t j = left; j < left + columns; ++j, from += e) copy(from, e, out + (i * q.w + j) * q.channels + first);
}

}  // namespace ncodec::exact
