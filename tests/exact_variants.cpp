// Every variant of the executor against the plain one, for processors that Python is not tested on (NEON under qemu):
// random graphs of all operations, random sizes, threads and wanted tensors. Prints the variants.

#include <cstdio>
#include <random>

#include "../ncodec/exact/executor.hpp"
#include "../ncodec/exact/variants.hpp"

using namespace ncodec::exact;

static std::mt19937 generator(1);

static int between(int low, int high) { return low + static_cast<int>(generator() % (high - low + 1u)); }

template <class T>
static std::vector<T> numbers(size_t n, int low, int high) {
  const bool at_ends = between(0, 3) == 0;
  std::vector<T> values(n);
  for (T& value : values) value = static_cast<T>(at_ends ? (between(0, 1) ? low : high) : between(low, high));
  return values;
}

struct Known {
  int number, h, w;
};

struct RandomGraph {
  Graph graph;
  std::vector<Known> tensors;
  std::vector<std::vector<int16_t>> values;  // of feeds
  std::vector<Feed> feeds;

  const Operation& op(int number) const { return *graph.operations()[static_cast<size_t>(number)]; }

  template <class T>
  static Array array(const std::vector<T>& data, const char* type, std::vector<size_t> shape) {
    return {data.data(), type, std::move(shape), true};
  }

  void feed(const char* kind, int h, int w, int channels, int low, int high) {
    const bool is_input = kind == std::string("input");
    const int number =
        graph.add(kind, "", {}, is_input ? std::vector<int>{channels, high} : std::vector<int>{channels}, {});
    values.push_back(numbers<int16_t>(static_cast<size_t>(h) * w * channels, low, high));
    std::vector<size_t> shape{static_cast<size_t>(channels)};
    if (is_input) shape = {static_cast<size_t>(h), static_cast<size_t>(w), shape[0]};
    feeds.push_back({number, array(values.back(), "int16", shape)});
    if (is_input) tensors.push_back({number, h, w});
  }

  int vector(int channels, int low, int high) {
    feed("vector", 1, 1, channels, low, high);
    return feeds.back().number;
  }

  // Of |b| + B * sum |W| + 2^(s - 1) < 2^31, X3.
  int weighted(const char* kind, int x, int outputs, int side) {
    const int terms = side ? side * side : op(x).channels;
    const int most =
        static_cast<int>(std::min<int64_t>(LARGEST, (int64_t{1} << 30) / std::max(1, op(x).bound) / terms));
    std::vector<size_t> shape{static_cast<size_t>(outputs), static_cast<size_t>(terms)};
    if (side) shape = {shape[0], static_cast<size_t>(side), static_cast<size_t>(side)};
    const auto weight = numbers<int16_t>(static_cast<size_t>(outputs) * terms, -most, most);
    const auto bias = numbers<int32_t>(shape[0], -(1 << 28), 1 << 28);
    const auto shift = numbers<uint8_t>(shape[0], 1, between(0, 3) ? 18 : 29);
    return graph.add(
        kind, "", {x}, side ? std::vector<int>{between(0, 1)} : std::vector<int>{},
        {array(weight, "int16", shape), array(bias, "int32", {shape[0]}), array(shift, "uint8", {shape[0]})});
  }

  void grow() {
    const auto last = [&] { return tensors[tensors.size() - 1 - generator() % std::min<size_t>(4, tensors.size())]; };
    const Known from = last(), other = last();
    const int x = from.number, channels = op(x).channels;
    const bool is_like = other.h == from.h && other.w == from.w && op(other.number).channels == channels;
    const int y = is_like ? other.number : x;
    int h = from.h, w = from.w, made = -1;
    const auto kind = static_cast<Kind>(between(static_cast<int>(Kind::conv), static_cast<int>(Kind::modulate)));
    const auto add = [&](std::vector<int> inputs, std::vector<int> with, std::vector<Array> arrays = {}) {
      made = graph.add(SIGNATURES[static_cast<size_t>(kind)].name, "", inputs, with, arrays);
    };
    switch (kind) {
      case Kind::conv: made = weighted("conv", x, between(1, 70), 0); break;
      case Kind::depthwise: made = weighted("depthwise", x, channels, between(0, 1) ? 3 : 5); break;
      case Kind::patches:
        if (channels < 30) add({x}, {});
        break;
      case Kind::shuffle:
        if (const int f = between(2, 4); channels % (f * f) == 0 && h * w < 2000) {
          add({x}, {f});
          h *= f, w *= f;
        }
        break;
      case Kind::unshuffle:
        if (const int f = between(2, 4); h % f == 0 && w % f == 0 && channels < 20) {
          add({x}, {f});
          h /= f, w /= f;
        }
        break;
      case Kind::pad: {
        const int f = between(1, 5);
        add({x}, {f});
        h = (h + f - 1) / f * f, w = (w + f - 1) / f * f;
        break;
      }
      case Kind::crop:
        if (other.h > h || other.w > w) return;
        add({x, other.number}, {});
        h = other.h, w = other.w;
        break;
      case Kind::fold: {
        const int k = between(1, 4), heads = channels % 2 ? 1 : 2;
        if (heads * k * k > 70) return;
        add({x}, {k, heads});
        h = (h + k - 1) / k * ((w + k - 1) / k), w = channels / heads;
        break;
      }
      case Kind::unfold: {  // of what it folds itself
        const int k = between(1, 4), heads = channels % 2 ? 1 : 2;
        add({graph.add("fold", "", {x}, {k, heads}, {}), x}, {k, heads});
        break;
      }
      case Kind::add:
      case Kind::subtract: add({x, y}, {}); break;
      case Kind::offset: add({x, vector(channels, -LARGEST, LARGEST)}, {}); break;
      case Kind::scale: {
        const int m = vector(channels, -LARGEST, LARGEST), t = vector(channels, 0, between(0, 1) ? 15 : 30);
        add({x, m, t}, {});
        break;
      }
      case Kind::shift: add({x}, {between(0, 15)}); break;
      case Kind::leaky: add({x}, {between(0, LARGEST)}); break;
      case Kind::clamp: add({x}, {between(-LARGEST, 0), between(0, LARGEST)}); break;
      case Kind::table: {
        const auto table = numbers<int16_t>(65536, -LARGEST, LARGEST);
        add({x}, {}, {array(table, "int16", {65536})});
        break;
      }
      case Kind::gate: add({x, y}, {between(-99, 99)}); break;
      case Kind::merge: {
        const int steps = 1 << between(0, 2);
        add({x, y}, {between(0, steps - 1), steps});
        break;
      }
      case Kind::join:
        if (other.h != h || op(other.number).channels != channels || w + other.w > 400) return;
        add({x, other.number}, {});
        w += other.w;
        break;
      case Kind::embed: {
        const int rows = between(1, 40), outputs = between(1, 70);
        const auto table = numbers<int16_t>(static_cast<size_t>(rows) * outputs, -LARGEST, LARGEST);
        if (channels == 1)
          add({x}, {}, {array(table, "int16", {static_cast<size_t>(rows), static_cast<size_t>(outputs)})});
        break;
      }
      case Kind::norm:
        if (channels <= MAX_NORMED) add({x}, {between(1, 12)});
        break;
      case Kind::attention: {
        int heads = between(1, channels);
        while (channels % heads) --heads;
        const int most = static_cast<int>(std::sqrt(2147483647.0 * heads / channels));
        const int q = op(x).bound <= most ? x : graph.add("clamp", "", {x}, {-most, most}, {});
        const bool is_pair = other.h == h && op(other.number).channels == channels;
        const int v = is_pair ? other.number : x;
        const int k = op(v).bound <= most ? v : graph.add("clamp", "", {v}, {-most, most}, {});
        add({q, k, v}, {heads, between(0, 24)});
        break;
      }
      case Kind::window_attention: {
        const int heads = channels % 2 ? 1 : 2, side = between(0, 1) ? 5 : MAX_WINDOW;
        std::vector<int32_t> windows;
        size_t n = 0;
        for (int g = 0; g < heads; ++g) {
          const int a = between(1, side), b = between(1, side);
          for (const int number : {a, b, between(0, a - 1), between(0, b - 1)}) windows.push_back(number);
          n += static_cast<size_t>((2 * a - 1) * (2 * b - 1));
        }
        const int most = static_cast<int>(std::sqrt(1073741823.0 * heads / channels));
        const int q = op(x).bound <= most ? x : graph.add("clamp", "", {x}, {-most, most}, {});
        const auto bias = numbers<int32_t>(n, -(1 << 30), 1 << 30);
        const std::vector<size_t> shape{static_cast<size_t>(heads), 4};
        add({q, q, y}, {between(0, 24)}, {array(windows, "int32", shape), array(bias, "int32", {n})});
        break;
      }
      case Kind::modulate: {
        const size_t k = static_cast<size_t>(4 << between(0, 2)), c = static_cast<size_t>(channels);
        const auto weight = numbers<int16_t>(k * k * c, -LARGEST, LARGEST);
        add({x}, {between(0, 15)}, {array(weight, "int16", {k, k, c})});
        break;
      }
      default: return;
    }
    if (made >= 0) tensors.push_back({made, h, w});
  }
};

int main() {
  if (variants().size() == 1) return std::puts("no vector variant"), 77;
  size_t graphs = 0, operations = 0;
  for (; graphs < 200; ++graphs) {
    RandomGraph random;
    const int h = between(1, 8), w = between(1, between(0, 3) ? 30 : 200), channels = between(1, 40);
    random.feed("input", h, w, channels, -LARGEST, LARGEST);
    random.feed("input", h, w, channels, -300, 300);
    for (int i = between(1, 30); i > 0; --i) random.grow();
    operations += random.graph.operations().size();
    std::vector<int> all, some{random.tensors.back().number};
    for (const Known& known : random.tensors) all.push_back(known.number);
    const auto expected = Run(random.graph.operations(), random.feeds, all).run(PLAIN, 1);
    for (const Kernels* kernels : variants())
      for (const std::vector<int>& wanted : {all, some}) {
        const auto found = Run(random.graph.operations(), random.feeds, wanted).run(*kernels, between(1, 3));
        for (size_t i = 0; i < wanted.size(); ++i) {
          const Result& a = expected[all.size() - wanted.size() + i];
          const Result& b = found[i];
          if (a.h != b.h || a.w != b.w || a.channels != b.channels ||
              std::memcmp(a.data.get(), b.data.get(), a.h * a.w * a.channels * sizeof(int16_t)) != 0)
            return std::printf("%s: graph %zu: tensor %d differs\n", kernels->name, graphs, wanted[i]), 1;
        }
      }
  }
  for (const Kernels* kernels : variants()) std::printf("%s ", kernels->name);
  std::printf("agree: %zu graphs, %zu operations\n", graphs, operations);
  return 0;
}
