// Graphs of specs/exact.md: operations with their parameters, checked when they are added, and packed as the
// kernels read them. What cannot be known before an image is, sizes and values, is checked in executor.hpp.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace ncodec::exact {

struct WeightsError : std::runtime_error {  // the graph
  using std::runtime_error::runtime_error;
};
struct FeedError : std::runtime_error {  // what comes with a run
  using std::runtime_error::runtime_error;
};

constexpr int LARGEST = 32767;  // of a value, and of a weight
constexpr int MAX_CHANNELS = 65536, MAX_OPERATIONS = 4096, MAX_SHIFT = 30;
constexpr size_t MAX_PIXELS = size_t{1} << 29;      // of a tensor: more than any file may have
constexpr size_t PANEL = 16;                        // outputs of a convolution that kernels compute together
constexpr int MAX_ROWS = 32768, MAX_NORMED = 1024;  // of X20's table; channels of X22
constexpr size_t MAX_KEYS = 32768;                  // of X23
constexpr int MAX_FOLDED = 16, MAX_WINDOW = 32;     // sides of X24's windows, of X26's
constexpr size_t GROUP = 32;                        // channels that X27 transforms together

// An array that begins at a cache line; its values are not initialised.
template <class T>
class Aligned {
 public:
  Aligned() = default;
  explicit Aligned(size_t n) : data_(static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64}))) {}
  T* get() const { return data_.get(); }
  T* release() { return data_.release(); }
  T& operator[](size_t i) const { return data_.get()[i]; }
  static void free(void* data) noexcept { ::operator delete(data, std::align_val_t{64}); }

 private:
  struct Free {
    void operator()(T* data) const noexcept { free(data); }
  };
  std::unique_ptr<T, Free> data_;
};

// The largest integer whose square is at most a, below 2^62.
inline uint64_t square_root(uint64_t a) {
  auto root = static_cast<uint64_t>(std::sqrt(static_cast<double>(a)));
  while (root * root > a) --root;
  while ((root + 1) * (root + 1) <= a) ++root;
  return root;
}

enum class Kind {
  input,
  vector,
  conv,
  depthwise,
  patches,
  shuffle,
  unshuffle,
  pad,
  crop,
  fold,
  unfold,
  join,
  add,
  subtract,
  offset,
  scale,
  shift,
  leaky,
  clamp,
  table,
  gate,
  merge,
  embed,
  norm,
  attention,
  window_attention,
  modulate
};
constexpr size_t KINDS = 27;

struct Signature {
  const char* name;
  size_t tensors, vectors, numbers, arrays;  // what it takes; vectors come after tensors
};
constexpr Signature SIGNATURES[KINDS] = {
    {"input", 0, 0, 2, 0},     {"vector", 0, 0, 1, 0},
    {"conv", 1, 0, 0, 3},      {"depthwise", 1, 0, 1, 3},
    {"patches", 1, 0, 0, 0},   {"shuffle", 1, 0, 1, 0},
    {"unshuffle", 1, 0, 1, 0}, {"pad", 1, 0, 1, 0},
    {"crop", 2, 0, 0, 0},      {"fold", 1, 0, 2, 0},
    {"unfold", 2, 0, 2, 0},    {"join", 2, 0, 0, 0},
    {"add", 2, 0, 0, 0},       {"subtract", 2, 0, 0, 0},
    {"offset", 1, 1, 0, 0},    {"scale", 1, 2, 0, 0},
    {"shift", 1, 0, 1, 0},     {"leaky", 1, 0, 1, 0},
    {"clamp", 1, 0, 2, 0},     {"table", 1, 0, 0, 1},
    {"gate", 2, 0, 1, 0},      {"merge", 2, 0, 2, 0},
    {"embed", 1, 0, 0, 1},     {"norm", 1, 0, 1, 0},
    {"attention", 3, 0, 2, 0}, {"window_attention", 3, 0, 1, 2},
    {"modulate", 1, 0, 1, 1},
};

// Does a value come from other places than its own? Then the whole inputs have to be there.
inline bool is_spatial(Kind kind) { return (kind >= Kind::depthwise && kind <= Kind::join) || kind >= Kind::attention; }

inline size_t parts(size_t n, size_t some) { return (n + some - 1) / some; }
inline size_t whole(size_t n, size_t some) { return parts(n, some) * some; }

// The windows of a head in X26: a x b places, moved by (dy, dx).
struct Window {
  size_t a, b, dy, dx;
  size_t bias;  // where its table begins
  size_t rows(size_t h) const { return parts(h + dy, a); }
  size_t columns(size_t w) const { return parts(w + dx, b); }
};

struct Operation {
  Kind kind;
  std::string name;
  std::vector<int> inputs, numbers;
  int channels = 0, bound = 0;  // of its result
  int x_channels = 0;           // of its first input
  int side = 1;                 // of a depthwise kernel
  size_t rows = 0;              // of a table of X20
  // conv: [O/16, C/2, 16, 2], outputs and channels that there are not being 0; depthwise: [k * k + 1, C], the
  // last of them 0; table, embed: T; merge: 0, or -1 for channels that are y's, [C + 3] from place p of a cell;
  // modulate: [C/32, k, k, 32].
  Aligned<int16_t> weights;
  Aligned<int32_t> start, shift;  // b + 2^(s - 1), and s; of conv [O], padded to whole panels; X26: bias
  std::vector<Window> windows;    // of each head

  size_t pairs() const { return (static_cast<size_t>(x_channels) + 1) / 2; }

  std::string label() const {
    const std::string kind_name = SIGNATURES[static_cast<size_t>(kind)].name;
    return name.empty() ? kind_name : kind_name + " " + name;
  }
};

// An array of the caller's.
struct Array {
  const void* data;
  std::string type;  // "int16", …
  std::vector<size_t> shape;
  bool is_contiguous;

  std::string text() const {
    std::string list;
    for (const size_t side : shape) list += (list.empty() ? "" : ", ") + std::to_string(side);
    return (is_contiguous ? "" : "not contiguous ") + type + " [" + list + "]";
  }
};

class Graph {
 public:
  // Shared with runs, so that a graph may grow meanwhile.
  using Operations = std::vector<std::shared_ptr<const Operation>>;
  const Operations& operations() const { return operations_; }

  int add(const std::string& kind, const std::string& name, const std::vector<int>& inputs,
          const std::vector<int>& numbers, const std::vector<Array>& arrays) {
    size_t k = 0;
    while (k < KINDS && kind != SIGNATURES[k].name) ++k;
    if (k == KINDS) throw WeightsError("expected an operation of specs/exact.md, found '" + kind + "'");
    if (operations_.size() == MAX_OPERATIONS) throw WeightsError("expected at most 4096 operations");
    const Signature& takes = SIGNATURES[k];
    count("inputs", takes.tensors + takes.vectors, inputs.size());
    count("numbers", takes.numbers, numbers.size());
    count("arrays", takes.arrays, arrays.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const bool is_vector = i >= takes.tensors;
      const std::string place = "input " + std::to_string(i) + ": ";
      if (inputs[i] < 0 || static_cast<size_t>(inputs[i]) >= operations_.size())
        throw WeightsError(place + "there is no operation " + std::to_string(inputs[i]));
      if ((at(inputs[i]).kind == Kind::vector) != is_vector)
        throw WeightsError(place + "expected a " + (is_vector ? "vector" : "tensor") + ", found " +
                           at(inputs[i]).label());
    }
    auto operation = std::make_shared<Operation>();
    operation->kind = static_cast<Kind>(k);
    operation->name = name;
    operation->inputs = inputs;
    operation->numbers = numbers;
    define(*operation, arrays);
    operations_.push_back(std::move(operation));
    return static_cast<int>(operations_.size()) - 1;
  }

 private:
  Operations operations_;

  const Operation& at(int number) const { return *operations_[static_cast<size_t>(number)]; }

  static void count(const char* what, size_t expected, size_t found) {
    if (expected != found)
      throw WeightsError(std::string(what) + ": expected " + std::to_string(expected) + ", found " +
                         std::to_string(found));
  }

  static int within(const std::string& what, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high)
      throw WeightsError(what + ": expected " + std::to_string(low) + " to " + std::to_string(high) + ", found " +
                         std::to_string(value));
    return static_cast<int>(value);
  }

  // A side of 0 may be any.
  static void expect(const char* what, const Array& array, const char* type, const std::vector<size_t>& shape) {
    bool fits = array.is_contiguous && array.type == type && array.shape.size() == shape.size();
    std::string list;
    for (size_t i = 0; i < shape.size(); ++i) {
      fits = fits && (shape[i] == 0 || shape[i] == array.shape[i]);
      list += (i ? ", " : "") + (shape[i] ? std::to_string(shape[i]) : std::string("any"));
    }
    if (!fits) throw WeightsError(std::string(what) + ": expected " + type + " [" + list + "], found " + array.text());
  }

  // Channels, bound and parameters: X1 … X27.
  void define(Operation& op, const std::vector<Array>& arrays) const {
    const Operation* x = op.inputs.empty() ? nullptr : &at(op.inputs[0]);
    const Operation* y = op.inputs.size() < 2 ? nullptr : &at(op.inputs[1]);
    const std::vector<int>& numbers = op.numbers;
    int64_t channels = x ? x->channels : 0, bound = x ? x->bound : 0;
    op.x_channels = static_cast<int>(channels);
    switch (op.kind) {
      case Kind::input:
        channels = numbers[0];
        bound = within("bound", numbers[1], 0, LARGEST);
        break;
      case Kind::vector:
        channels = numbers[0];
        bound = LARGEST;
        break;
      case Kind::conv:
        expect("weight", arrays[0], "int16", {0, static_cast<size_t>(channels)});
        channels = within("channels", static_cast<int64_t>(arrays[0].shape[0]), 1, MAX_CHANNELS);
        bound = define_conv(op, x->channels, static_cast<size_t>(channels), x->bound, arrays);
        break;
      case Kind::depthwise:
        within("replicate", numbers[0], 0, 1);
        bound = define_depthwise(op, static_cast<size_t>(channels), x->bound, arrays);
        break;
      case Kind::patches: channels *= 9; break;
      case Kind::shuffle: {
        const int area = within("factor", numbers[0], 2, 16) * numbers[0];
        if (channels % area)
          throw WeightsError("channels: expected a multiple of " + std::to_string(area) + ", found " +
                             std::to_string(channels));
        channels /= area;
        break;
      }
      case Kind::unshuffle: channels *= within("factor", numbers[0], 2, 16) * numbers[0]; break;
      case Kind::pad: within("multiple", numbers[0], 1, 65536); break;
      case Kind::crop: break;
      case Kind::fold: {
        const int area = within("side", numbers[0], 1, MAX_FOLDED) * numbers[0];
        share_of(channels, numbers[1]);
        channels = static_cast<int64_t>(numbers[1]) * area;
        break;
      }
      case Kind::unfold: {
        const int area = within("side", numbers[0], 1, MAX_FOLDED) * numbers[0];
        share_of(y->channels, numbers[1]);
        if (channels != static_cast<int64_t>(numbers[1]) * area)
          throw WeightsError("channels: expected " + std::to_string(static_cast<int64_t>(numbers[1]) * area) +
                             ", found " + std::to_string(channels));
        channels = y->channels;
        break;
      }
      case Kind::add:
      case Kind::subtract: bound = std::min<int64_t>(LARGEST, bound + y->bound); break;
      case Kind::offset:
      case Kind::scale: bound = LARGEST; break;
      case Kind::shift: bound = (bound + ((1 << within("bits", numbers[0], 0, 15)) >> 1)) >> numbers[0]; break;
      case Kind::leaky: within("slope", numbers[0], 0, LARGEST); break;
      case Kind::clamp:
        within("low", numbers[0], -LARGEST, LARGEST);
        within("high", numbers[1], numbers[0], LARGEST);
        bound = std::max(std::abs(numbers[0]), std::abs(numbers[1]));
        break;
      case Kind::table:
        expect("table", arrays[0], "int16", {65536});
        bound = define_table(op, arrays[0]);
        break;
      case Kind::gate: within("least", numbers[0], -LARGEST, LARGEST); break;
      case Kind::merge:
        if (numbers[1] != 1 && numbers[1] != 2 && numbers[1] != 4)
          throw WeightsError("steps: expected 1, 2 or 4, found " + std::to_string(numbers[1]));
        within("step", numbers[0], 0, numbers[1] - 1);
        bound = std::max(x->bound, y->bound);
        op.weights = Aligned<int16_t>(static_cast<size_t>(channels) + 3);
        for (int c = 0; c < channels + 3; ++c)
          op.weights[static_cast<size_t>(c)] = -(c % 4 * numbers[1] / 4 == numbers[0]);
        break;
      case Kind::join: bound = std::max(x->bound, y->bound); break;
      case Kind::embed:
        within("channels of places", channels, 1, 1);
        expect("table", arrays[0], "int16", {0, 0});
        within("rows", static_cast<int64_t>(arrays[0].shape[0]), 1, MAX_ROWS);
        channels = within("channels", static_cast<int64_t>(arrays[0].shape[1]), 1, MAX_CHANNELS);
        op.rows = arrays[0].shape[0];
        bound = define_table(op, arrays[0]);
        break;
      case Kind::norm:
        within("bits", numbers[0], 1, 12);
        bound = define_norm(within("channels", channels, 1, MAX_NORMED), numbers[0]);
        break;
      case Kind::attention:
        check_scores(share_of(channels, numbers[0]), *x, *y, 0);
        within("shift", numbers[1], 0, 24);
        bound = at(op.inputs[2]).bound;
        break;
      case Kind::window_attention: {
        expect("windows", arrays[0], "int32", {0, 4});
        const int64_t terms = share_of(channels, static_cast<int64_t>(arrays[0].shape[0]));
        check_scores(terms, *x, *y, define_windows(op, arrays));
        within("shift", numbers[0], 0, 24);
        bound = at(op.inputs[2]).bound;
        break;
      }
      case Kind::modulate:
        within("bits", numbers[0], 0, 15);
        define_modulation(op, static_cast<size_t>(channels), arrays[0]);
        bound = LARGEST;
        break;
    }
    op.channels = within("channels", channels, 1, MAX_CHANNELS);
    op.bound = static_cast<int>(bound);
    const bool takes_values = op.kind >= Kind::join;
    for (size_t i = 1; takes_values && i < op.inputs.size(); ++i)
      if (at(op.inputs[i]).channels != op.channels)
        throw WeightsError("input " + std::to_string(i) + ": expected " + std::to_string(op.channels) +
                           " channels, found " + std::to_string(at(op.inputs[i]).channels));
  }

  // The channels of a head.
  static int64_t share_of(int64_t channels, int64_t heads) {
    if (channels % within("heads", heads, 1, channels))
      throw WeightsError("heads: expected a divisor of " + std::to_string(channels) + ", found " +
                         std::to_string(heads));
    return channels / heads;
  }

  // X3 of scores, of so many products.
  static void check_scores(int64_t terms, const Operation& q, const Operation& k, int64_t bias) {
    const int64_t largest = terms * q.bound * k.bound + bias;
    if (largest >= int64_t{1} << 31)
      throw WeightsError("bounds: expected sums below 2^31, found up to " + std::to_string(largest));
  }

  // Return max |bias|.
  static int64_t define_windows(Operation& op, const std::vector<Array>& arrays) {
    const int32_t* from = static_cast<const int32_t*>(arrays[0].data);
    size_t n = 0;
    for (size_t g = 0; g < arrays[0].shape[0]; ++g, from += 4) {
      const std::string place = " of head " + std::to_string(g);
      const int a = within("height" + place, from[0], 1, MAX_WINDOW),
                b = within("width" + place, from[1], 1, MAX_WINDOW);
      const int dy = within("dy" + place, from[2], 0, a - 1), dx = within("dx" + place, from[3], 0, b - 1);
      op.windows.push_back(
          {static_cast<size_t>(a), static_cast<size_t>(b), static_cast<size_t>(dy), static_cast<size_t>(dx), n});
      n += static_cast<size_t>((2 * a - 1) * (2 * b - 1));
    }
    expect("bias", arrays[1], "int32", {n});
    op.start = Aligned<int32_t>(n);
    std::copy_n(static_cast<const int32_t*>(arrays[1].data), n, op.start.get());
    int64_t most = 0;
    for (size_t i = 0; i < n; ++i) most = std::max(most, std::abs(int64_t{op.start[i]}));
    return most;
  }

  static void define_modulation(Operation& op, size_t channels, const Array& weight) {
    const size_t k = weight.shape.empty() ? 0 : weight.shape[0];
    expect("weight", weight, "int16", {k == 4 || k == 8 ? k : 16, k == 4 || k == 8 ? k : 16, channels});
    op.side = static_cast<int>(k);
    const size_t area = k * k, size = whole(channels, GROUP) * area;
    op.weights = Aligned<int16_t>(size);
    std::fill_n(op.weights.get(), size, int16_t{0});
    for (size_t i = 0; i < area; ++i)
      for (size_t c = 0; c < channels; ++c) {
        const int16_t value = static_cast<const int16_t*>(weight.data)[i * channels + c];
        magnitude(value, c);
        op.weights[(c / GROUP * area + i) * GROUP + c % GROUP] = value;
      }
  }

  // Check bias, shift and X3 of one output; return its bound.
  static int64_t define_output(Operation& op, size_t o, int64_t x_bound, int64_t sum, const Array& bias,
                               const Array& shift) {
    const std::string place = " of output " + std::to_string(o);
    const int64_t b = within("bias" + place, static_cast<const int32_t*>(bias.data)[o], -(1 << 30), 1 << 30);
    const int s = within("shift" + place, static_cast<const uint8_t*>(shift.data)[o], 1, MAX_SHIFT);
    const int64_t half = int64_t{1} << (s - 1), largest = std::abs(b) + x_bound * sum + half;
    if (largest >= int64_t{1} << 31)
      throw WeightsError("weight" + place + ": expected sums below 2^31, found up to " + std::to_string(largest));
    op.start[o] = static_cast<int32_t>(b + half);
    op.shift[o] = s;
    return std::min<int64_t>(LARGEST, largest >> s);
  }

  static int64_t magnitude(int16_t weight, size_t o) {
    if (weight < -LARGEST) throw WeightsError("weight of output " + std::to_string(o) + ": found -32768");
    return std::abs(weight);
  }

  static int64_t define_conv(Operation& op, size_t inputs, size_t outputs, int x_bound,
                             const std::vector<Array>& arrays) {
    expect("bias", arrays[1], "int32", {outputs});
    expect("shift", arrays[2], "uint8", {outputs});
    const size_t pairs = op.pairs(), padded = (outputs + PANEL - 1) / PANEL * PANEL;
    op.weights = Aligned<int16_t>(padded * pairs * 2);
    op.start = Aligned<int32_t>(padded);
    op.shift = Aligned<int32_t>(padded);
    std::fill_n(op.weights.get(), padded * pairs * 2, int16_t{0});
    std::fill_n(op.start.get(), padded, 0);
    std::fill_n(op.shift.get(), padded, 1);
    int64_t bound = 0;
    for (size_t o = 0; o < outputs; ++o) {
      const int16_t* row = static_cast<const int16_t*>(arrays[0].data) + o * inputs;
      int16_t* packed = op.weights.get() + (o / PANEL * pairs * PANEL + o % PANEL) * 2;
      int64_t sum = 0;
      for (size_t c = 0; c < inputs; ++c) {
        sum += magnitude(row[c], o);
        packed[c / 2 * PANEL * 2 + c % 2] = row[c];
      }
      bound = std::max(bound, define_output(op, o, x_bound, sum, arrays[1], arrays[2]));
    }
    return bound;
  }

  static int64_t define_depthwise(Operation& op, size_t channels, int x_bound, const std::vector<Array>& arrays) {
    const size_t side = arrays[0].shape.size() == 3 && arrays[0].shape[1] == 5 ? 5 : 3, area = side * side;
    expect("weight", arrays[0], "int16", {channels, side, side});
    expect("bias", arrays[1], "int32", {channels});
    expect("shift", arrays[2], "uint8", {channels});
    op.side = static_cast<int>(side);
    op.weights = Aligned<int16_t>((area + 1) * channels);
    op.start = Aligned<int32_t>(channels);
    op.shift = Aligned<int32_t>(channels);
    std::fill_n(op.weights.get(), (area + 1) * channels, int16_t{0});
    int64_t bound = 0;
    for (size_t c = 0; c < channels; ++c) {
      int64_t sum = 0;
      for (size_t t = 0; t < area; ++t) {
        const int16_t weight = static_cast<const int16_t*>(arrays[0].data)[c * area + t];
        sum += magnitude(weight, c);
        op.weights[t * channels + c] = weight;
      }
      bound = std::max(bound, define_output(op, c, x_bound, sum, arrays[1], arrays[2]));
    }
    return bound;
  }

  static int64_t define_table(Operation& op, const Array& table) {
    size_t size = 1;
    for (const size_t side : table.shape) size *= side;
    op.weights = Aligned<int16_t>(size);
    std::memcpy(op.weights.get(), table.data, size * sizeof(int16_t));
    int bound = 0;
    for (size_t i = 0; i < size; ++i) bound = std::max(bound, std::abs(static_cast<int>(op.weights[i])));
    return within("table", bound, 0, LARGEST);
  }

  // X22: floor(sqrt(C) * 2^bits * (m + 1) / m) + 1, where m is the smallest of an x that is not 0.
  static int64_t define_norm(int channels, int bits) {
    const uint64_t m = square_root(65536u / static_cast<unsigned>(channels));
    const uint64_t square = (static_cast<uint64_t>(channels) << (2 * bits)) * (m + 1) * (m + 1);
    return static_cast<int64_t>(std::min<uint64_t>(LARGEST, square_root(square / (m * m)) + 1));
  }
};

}  // namespace ncodec::exact
