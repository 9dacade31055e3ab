// A run of a graph: what is needed, sizes, and stages.
//
//     plane --+-- depthwise -- conv + leaky -- conv -- add --+-- plane        one stage: a residual block
//             +----------------------------------------------+
//
// A stage goes over blocks of pixels of a row, and runs all its operations on one of them before the next, so that
// what is between them stays in a thread's scratch memory, in the cache. Planes, whole tensors, are only those that
// a spatial operation, a later stage or the caller reads; each is freed after its last reader, unless the next stage
// makes one of its size. An operation begins a new stage when its result has another size, or when it is spatial and
// reads what the stage itself makes. Where no operation of a stage knows its place, all pixels are one row. X23, X26
// and X27 are stages of their own, which go over pieces: a head of a row, a head of a window, a block of some channels.

#pragma once

#include <utility>

#include "attention.hpp"
#include "graph.hpp"
#include "kernels.hpp"
#include "modulation.hpp"
#include "rearrange.hpp"
#include "team.hpp"

namespace ncodec::exact {

// An array of int16 that comes with a run.
struct Feed {
  int number;
  Array array;
};

// A tensor that a run has made. It is the caller's.
struct Result {
  Aligned<int16_t> data;
  size_t h, w, channels;
};

class Run {
 public:
  // Throws FeedError, std::bad_alloc.
  Run(const Graph::Operations& operations, const std::vector<Feed>& feeds, const std::vector<int>& wanted)
      : operations_(operations), wanted_(wanted), tensors_(operations.size()) {
    for (const int number : wanted)
      if (number < 0 || static_cast<size_t>(number) >= operations.size() || op(number).kind == Kind::vector)
        throw FeedError("wanted: there is no tensor " + std::to_string(number));
    find_needed();
    for (const Feed& feed : feeds) take(feed);
    for (size_t i = 0; i < tensors_.size(); ++i)
      if (tensors_[i].is_sized) find_size(static_cast<int>(i));
    find_stages();
    find_scratch();
  }

  // Call once.
  std::vector<Result> run(const Kernels& kernels, size_t threads) {
    size_t most_blocks = 1;
    for (const Stage& stage : stages_) most_blocks = std::max(most_blocks, stage.blocks());
    threads = std::min({threads, most_blocks, MAX_THREADS});
    Aligned<int16_t> scratch(threads * scratch_size_);
    Team team(threads);
    for (size_t s = 0; s < stages_.size(); ++s) {
      const Stage& stage = stages_[s];
      for (const Step& step : stage.steps) {
        Tensor& made = tensors_[static_cast<size_t>(step.result)];
        if (!made.is_plane) continue;
        made.own = plane_of(made.h * made.w * made.channels);
        made.data = made.own.get();
      }
      spare_.clear();
      team.each(stage.blocks(), [&](size_t thread, size_t b) noexcept {
        int16_t* own = scratch.get() + thread * scratch_size_;
        if (stage.is_alone) return run_piece(kernels, stage.steps[0], b, own);
        const size_t row = b / stage.row_blocks, column = b % stage.row_blocks * stage.n;
        const Block block{row, column, std::min(stage.n, stage.w - column)};
        for (const Step& step : stage.steps) run_step(kernels, step, block, own);
      });
      for (Tensor& tensor : tensors_)
        if (tensor.last_stage == s && !tensor.is_wanted && tensor.own.get())
          spare_.push_back({tensor.h * tensor.w * tensor.channels, std::move(tensor.own)});
    }
    return results();
  }

 private:
  static constexpr size_t NEVER = SIZE_MAX;
  static constexpr int DONE_WITH_READER = -1;
  static constexpr size_t LINE = 32;                               // values of a cache line
  static constexpr size_t TILE = 12;                               // pixels: what the kernels like
  static constexpr size_t BLOCK_VALUES = 16384, MAX_BLOCK = 1020;  // of a tensor, that the caches hold a few of
  static constexpr size_t MAX_SIDE = 5;                            // of X2
  static constexpr size_t MAX_THREADS = 1024;                      // as each takes memory

  struct Tensor {
    bool is_sized = false;   // its size matters
    bool is_needed = false;  // its values do
    bool is_wanted = false;  // by the caller
    bool is_fed = false;
    bool is_plane = false;
    size_t h = 0, w = 0, channels = 0;
    size_t stage = NEVER;       // that makes it; NEVER: it was fed
    size_t last_stage = NEVER;  // that reads it
    const int16_t* data = nullptr;
    Aligned<int16_t> own;
    size_t offset = 0;  // in scratch memory, if not a plane
  };

  struct Step {
    int operation;
    int result;  // the same, or the X14 that is done with it
    int slope;   // of that, or NO_SLOPE
  };

  struct Stage {
    size_t h, w;
    bool is_alone;                 // in pieces
    size_t n = 0, row_blocks = 0;  // pixels of a block, blocks of a row; or all pieces
    std::vector<Step> steps;
    size_t blocks() const { return h * row_blocks; }
  };

  const Graph::Operations& operations_;
  const std::vector<int>& wanted_;
  std::vector<Tensor> tensors_;
  std::vector<Stage> stages_;
  size_t scratch_size_ = 0;                                 // of a thread, in values
  Aligned<int16_t> zeros_;                                  // what is outside a tensor
  std::vector<std::pair<size_t, Aligned<int16_t>>> spare_;  // planes that the last stage was the last to read, by size

  const Operation& op(int number) const { return *operations_[static_cast<size_t>(number)]; }
  Tensor& tensor(int number) { return tensors_[static_cast<size_t>(number)]; }
  const Tensor& tensor(int number) const { return tensors_[static_cast<size_t>(number)]; }

  // A plane of so many values; a spare one is in the caches already, and the system need not clear it.
  Aligned<int16_t> plane_of(size_t size) {
    for (auto& [n, spare] : spare_)
      if (n == size) {
        n = 0;
        return std::move(spare);
      }
    return Aligned<int16_t>(size);
  }

  void find_needed() {
    for (const int number : wanted_) {
      Tensor& t = tensor(number);
      t.is_wanted = t.is_needed = t.is_sized = t.is_plane = true;
    }
    for (int i = static_cast<int>(tensors_.size()) - 1; i >= 0; --i) {
      if (!tensor(i).is_sized) continue;
      const std::vector<int>& inputs = op(i).inputs;
      for (size_t k = 0; k < inputs.size(); ++k) {
        tensor(inputs[k]).is_sized = true;
        if (tensor(i).is_needed && k < reads(op(i))) tensor(inputs[k]).is_needed = true;
      }
    }
  }

  // Check what comes from the caller, whose it stays.
  void take(const Feed& feed) {
    const bool exists = feed.number >= 0 && static_cast<size_t>(feed.number) < tensors_.size();
    if (!exists || (op(feed.number).kind != Kind::input && op(feed.number).kind != Kind::vector))
      throw FeedError("feeds: there is no input or vector " + std::to_string(feed.number));
    const Operation& operation = op(feed.number);
    Tensor& fed = tensor(feed.number);
    const Array& array = feed.array;
    const bool is_vector = operation.kind == Kind::vector;
    fed.channels = static_cast<size_t>(operation.channels);
    if (array.type != "int16" || !array.is_contiguous || array.shape.size() != (is_vector ? 1 : 3) ||
        array.shape.back() != fed.channels)
      throw FeedError(operation.label() + ": expected int16 [" + (is_vector ? "" : "h, w, ") +
                      std::to_string(fed.channels) + "], found " + array.text());
    fed.h = is_vector ? 1 : array.shape[0];
    fed.w = is_vector ? 1 : array.shape[1];
    check_pixels(operation, fed.h, fed.w);
    const size_t size = fed.h * fed.w * fed.channels;
    const int16_t* data = static_cast<const int16_t*>(array.data);
    int16_t low = 0, high = 0;
    for (size_t i = 0; i < size; ++i) {
      low = std::min(low, data[i]);
      high = std::max(high, data[i]);
    }
    const int largest = std::max(-static_cast<int>(low), static_cast<int>(high));
    if (largest > operation.bound)
      throw FeedError(operation.label() + ": expected values within ±" + std::to_string(operation.bound) +
                      ", found one of magnitude " + std::to_string(largest));
    fed.is_fed = fed.is_plane = true;
    fed.data = data;
  }

  static void check_pixels(const Operation& operation, size_t h, size_t w) {
    if (h < 1 || w < 1 || h > MAX_PIXELS || w > MAX_PIXELS || uint64_t{h} * w > MAX_PIXELS)
      throw FeedError(operation.label() + ": expected 1 to 2^29 pixels, found " + std::to_string(h) + " x " +
                      std::to_string(w));
  }

  void find_size(int number) {
    const Operation& operation = op(number);
    Tensor& result = tensor(number);
    if (operation.kind == Kind::input || operation.kind == Kind::vector) {
      if (!result.is_fed) throw FeedError(operation.label() + ": it is needed, but not among the feeds");
      return;
    }
    const Tensor& x = tensor(operation.inputs[0]);
    const auto size_text = [](const Tensor& t) { return std::to_string(t.h) + " x " + std::to_string(t.w); };
    const auto fail = [&](const std::string& message) { throw FeedError(operation.label() + ": " + message); };
    const size_t factor = operation.numbers.empty() ? 0 : static_cast<size_t>(operation.numbers[0]);
    size_t h = x.h, w = x.w;
    switch (operation.kind) {
      case Kind::shuffle:
        h *= factor;
        w *= factor;
        break;
      case Kind::unshuffle:
        if (h % factor || w % factor)
          fail("expected multiples of " + std::to_string(factor) + " pixels, found " + size_text(x));
        h /= factor;
        w /= factor;
        break;
      case Kind::pad:
        h = (h + factor - 1) / factor * factor;
        w = (w + factor - 1) / factor * factor;
        break;
      case Kind::crop:
        h = tensor(operation.inputs[1]).h;
        w = tensor(operation.inputs[1]).w;
        if (h > x.h || w > x.w)
          fail("expected at most " + size_text(x) + " pixels, found " + size_text(tensor(operation.inputs[1])));
        break;
      case Kind::add:
      case Kind::subtract:
      case Kind::gate:
      case Kind::merge:
        if (const Tensor& y = tensor(operation.inputs[1]); y.h != h || y.w != w)
          fail("expected two tensors of one size, found " + size_text(x) + " and " + size_text(y));
        break;
      case Kind::fold:
        w = x.channels / static_cast<size_t>(operation.numbers[1]);
        h = parts(x.h, factor) * parts(x.w, factor);
        break;
      case Kind::unfold: {
        const Tensor& like = tensor(operation.inputs[1]);
        const size_t e = static_cast<size_t>(operation.channels / operation.numbers[1]);
        h = like.h;
        w = like.w;
        if (const size_t windows = parts(h, factor) * parts(w, factor); x.h != windows || x.w != e)
          fail("expected " + std::to_string(windows) + " x " + std::to_string(e) + " pixels, found " + size_text(x));
        break;
      }
      case Kind::join:
        if (const Tensor& y = tensor(operation.inputs[1]); y.h != h)
          fail("expected two tensors of as many rows, found " + size_text(x) + " and " + size_text(y));
        else w += y.w;
        break;
      case Kind::attention: {
        const Tensor &k = tensor(operation.inputs[1]), &v = tensor(operation.inputs[2]);
        if (k.h != h || v.h != h || k.w != v.w || k.w > MAX_KEYS)
          fail("expected keys and values for " + std::to_string(h) + " rows, at most 32768 each, found " +
               size_text(k) + " and " + size_text(v));
        break;
      }
      case Kind::window_attention:
        for (size_t i = 1; i < 3; ++i)
          if (const Tensor& y = tensor(operation.inputs[i]); y.h != h || y.w != w)
            fail("expected three tensors of one size, found " + size_text(x) + " and " + size_text(y));
        break;
      case Kind::scale:
        for (size_t c = 0; c < static_cast<size_t>(operation.channels); ++c)
          if (const int16_t t = tensor(operation.inputs[2]).data[c]; t < 0 || t > MAX_SHIFT)
            fail("expected shifts of 0 to 30, found " + std::to_string(t));
        break;
      default: break;
    }
    check_pixels(operation, h, w);
    result.h = h;
    result.w = w;
    result.channels = static_cast<size_t>(operation.channels);
  }

  // How many of its inputs an operation reads values of: of X8's and X25's second only the size counts.
  static size_t reads(const Operation& operation) {
    return operation.kind == Kind::crop || operation.kind == Kind::unfold ? 1 : operation.inputs.size();
  }

  void find_stages() {
    std::vector<int> readers(tensors_.size());
    for (int i = 0; i < static_cast<int>(tensors_.size()); ++i) {
      Tensor& result = tensor(i);
      if (!result.is_needed || result.is_fed) continue;
      const Operation& operation = op(i);
      const bool is_alone = operation.kind >= Kind::attention;
      bool fits = !stages_.empty() && stages_.back().h == result.h && stages_.back().w == result.w;
      fits = fits && !is_alone && !stages_.back().is_alone;
      for (size_t k = 0; is_spatial(operation.kind) && k < reads(operation); ++k)
        fits = fits && tensor(operation.inputs[k]).stage != stages_.size() - 1;
      if (!fits) stages_.push_back({result.h, result.w, is_alone, 0, 0, {}});
      result.stage = stages_.size() - 1;
      for (size_t k = 0; k < reads(operation); ++k) {
        Tensor& x = tensor(operation.inputs[k]);
        ++readers[static_cast<size_t>(operation.inputs[k])];
        x.last_stage = result.stage;
        if (x.stage != result.stage) x.is_plane = true;
      }
    }
    for (int i = static_cast<int>(tensors_.size()) - 1; i >= 0; --i) {  // backwards: a leaky before its convolution
      const Tensor& result = tensor(i);
      if (!result.is_needed || result.is_fed || readers[static_cast<size_t>(i)] == DONE_WITH_READER) continue;
      Step step{i, i, NO_SLOPE};
      if (op(i).kind == Kind::leaky) {
        const int x = op(i).inputs[0];
        if (op(x).kind == Kind::conv && !tensor(x).is_plane && readers[static_cast<size_t>(x)] == 1) {
          step = {x, i, op(i).numbers[0]};
          readers[static_cast<size_t>(x)] = DONE_WITH_READER;
        }
      }
      stages_[result.stage].steps.push_back(step);
    }
    for (Stage& stage : stages_) std::reverse(stage.steps.begin(), stage.steps.end());
  }

  // Blocks, and places in a thread's scratch memory: first what a step needs for itself, then what is not a plane, each
  // place given to another tensor after it is read last.
  void find_scratch() {
    std::vector<size_t> last(tensors_.size());
    for (Stage& stage : stages_) {
      if (stage.is_alone) {
        find_pieces(stage);
        continue;
      }
      const bool has_places = std::any_of(stage.steps.begin(), stage.steps.end(), [&](const Step& step) {
        return is_spatial(op(step.operation).kind) || op(step.operation).kind == Kind::merge;
      });
      if (!has_places) stage.w *= std::exchange(stage.h, 1);
      size_t most_channels = 1;
      for (size_t s = 0; s < stage.steps.size(); ++s) {
        const Operation& operation = op(stage.steps[s].operation);
        most_channels = std::max<size_t>(
            {most_channels, static_cast<size_t>(operation.channels), static_cast<size_t>(operation.x_channels)});
        for (size_t k = 0; k < reads(operation); ++k) last[static_cast<size_t>(operation.inputs[k])] = s;
        last[static_cast<size_t>(stage.steps[s].result)] = s;
      }
      const size_t most = std::min<size_t>(std::max<size_t>(BLOCK_VALUES / most_channels, TILE), MAX_BLOCK);
      stage.row_blocks = (stage.w + most - 1) / most;
      stage.n = ((stage.w + stage.row_blocks - 1) / stage.row_blocks + TILE - 1) / TILE * TILE;
      stage.row_blocks = (stage.w + stage.n - 1) / stage.n;

      size_t own = MAX_SIDE * (stage.n + MAX_SIDE - 1) * sizeof(const int16_t*) / sizeof(int16_t);  // taps
      for (const Step& step : stage.steps)
        if (op(step.operation).kind == Kind::conv) own = std::max(own, stage.n * 2 * op(step.operation).pairs());
      struct Place {
        size_t begin, end, last;
      };
      std::vector<Place> places{{0, own, NEVER}};  // that are taken, in their order
      for (size_t s = 0; s < stage.steps.size(); ++s) {
        Tensor& made = tensor(stage.steps[s].result);
        if (!made.is_plane) {
          const size_t size = stage.n * made.channels;
          size_t k = 0, begin = 0;
          for (; k < places.size(); begin = places[k++].end) {
            begin = (begin + LINE - 1) / LINE * LINE;
            if (begin + size <= places[k].begin) break;
          }
          begin = (begin + LINE - 1) / LINE * LINE;
          made.offset = begin;
          places.insert(places.begin() + static_cast<ptrdiff_t>(k),
                        {begin, begin + size, last[static_cast<size_t>(stage.steps[s].result)]});
          scratch_size_ = std::max(scratch_size_, begin + size);
        }
        places.erase(std::remove_if(places.begin(), places.end(), [&](const Place& p) { return p.last == s; }),
                     places.end());
      }
      scratch_size_ = std::max(scratch_size_, own);
    }
    scratch_size_ = (scratch_size_ + LINE - 1) / LINE * LINE;
    int most_channels = 1;
    for (const auto& operation : operations_) most_channels = std::max(most_channels, operation->channels);
    zeros_ = Aligned<int16_t>(static_cast<size_t>(most_channels));
    std::fill_n(zeros_.get(), most_channels, int16_t{0});
  }

  // How many pieces a stage has, and what one of them needs.
  void find_pieces(Stage& stage) {
    const Operation& operation = op(stage.steps[0].operation);
    const size_t channels = static_cast<size_t>(operation.channels);
    const size_t h = std::exchange(stage.h, 1), w = stage.w;
    size_t own = 0;
    if (operation.kind == Kind::attention) {
      const size_t heads = static_cast<size_t>(operation.numbers[0]);
      stage.row_blocks = h * heads;
      own = attention_scratch(tensor(operation.inputs[1]).w, channels / heads);
    } else if (operation.kind == Kind::window_attention) {
      for (const Window& window : operation.windows) {
        stage.row_blocks += window.rows(h) * window.columns(w);
        const size_t places = std::min(window.a, h) * std::min(window.b, w);
        own = std::max(own, window_scratch(places, channels / operation.windows.size()));
      }
    } else {
      const size_t k = static_cast<size_t>(operation.side);
      stage.row_blocks = modulated_pieces(h, w, channels, k);
      own = modulation_scratch(k);
    }
    scratch_size_ = std::max(scratch_size_, own);
  }

  void run_step(const Kernels& kernels, const Step& step, const Block& block, int16_t* scratch) const {
    const Operation& operation = op(step.operation);
    const auto at = [&](int number) -> int16_t* {
      const Tensor& t = tensor(number);
      if (!t.is_plane) return scratch + t.offset;
      return const_cast<int16_t*>(t.data) + (block.row * t.w + block.column) * t.channels;
    };
    int16_t* const out = at(step.result);
    const Tensor& x = tensor(operation.inputs[0]);
    const Plane plane{x.data, x.h, x.w, x.channels};
    const int16_t** const taps = reinterpret_cast<const int16_t**>(scratch);
    const size_t factor = operation.numbers.empty() ? 0 : static_cast<size_t>(operation.numbers[0]);
    switch (operation.kind) {
      case Kind::conv: {
        const int16_t* from = at(operation.inputs[0]);
        if (x.channels % 2) from = with_even_channels(from, block.n, x.channels, x.channels, scratch);
        return kernels.conv(product_of(operation, step.slope), from, block.n, out);
      }
      case Kind::depthwise:
        find_taps(plane, block, static_cast<size_t>(operation.side), factor ? nullptr : zeros_.get(), taps);
        return kernels.depthwise(operation, taps, block.n, out);
      case Kind::patches:
        find_taps(plane, block, 3, zeros_.get(), taps);
        return patches(taps, block.n, x.channels, out);
      case Kind::shuffle: return shuffle(plane, block, factor, out);
      case Kind::unshuffle: return unshuffle(plane, block, factor, out);
      case Kind::pad:
      case Kind::crop: return pad_or_crop(plane, block, out);
      case Kind::fold: return fold(plane, block, factor, static_cast<size_t>(operation.numbers[1]), out);
      case Kind::unfold: {
        const size_t width = tensor(step.result).w;
        return unfold(plane, block, factor, static_cast<size_t>(operation.numbers[1]), width, out);
      }
      case Kind::join: {
        const Tensor& y = tensor(operation.inputs[1]);
        return join(plane, {y.data, y.h, y.w, y.channels}, block, out);
      }
      default: {
        const int16_t* in[3] = {};
        for (size_t k = 0; k < operation.inputs.size(); ++k) {
          const int number = operation.inputs[k];
          in[k] = op(number).kind == Kind::vector ? tensor(number).data : at(number);
        }
        kernels.values(operation, in, block.row, block.column, block.n, out);
      }
    }
  }

  void run_piece(const Kernels& kernels, const Step& step, size_t piece, int16_t* scratch) const {
    const Operation& operation = op(step.operation);
    if (operation.kind == Kind::attention) return run_attention(kernels, step, piece, scratch);
    const auto plane = [&](size_t input) {
      const Tensor& t = tensor(operation.inputs[input]);
      return Plane{t.data, t.h, t.w, t.channels};
    };
    const Plane x = plane(0);
    int16_t* const out = tensor(step.result).own.get();
    if (operation.kind == Kind::modulate) return modulate(kernels, operation, x, piece, scratch, out);
    const size_t e = x.channels / operation.windows.size();
    size_t head = 0;
    const auto windows = [&] { return operation.windows[head].rows(x.h) * operation.windows[head].columns(x.w); };
    for (; piece >= windows(); ++head) piece -= windows();
    attend_window(kernels, x, plane(1), plane(2), operation.windows[head], operation.start.get(), piece, head * e, e,
                  operation.numbers[0], scratch, out);
  }

  void run_attention(const Kernels& kernels, const Step& step, size_t piece, int16_t* scratch) const {
    const Operation& operation = op(step.operation);
    const size_t channels = static_cast<size_t>(operation.channels), heads = static_cast<size_t>(operation.numbers[0]);
    const size_t row = piece / heads, head = piece % heads, each = channels / heads;
    const auto at = [&](int number) {
      const Tensor& t = tensor(number);
      return Head{const_cast<int16_t*>(t.data) + row * t.w * channels + head * each, t.w, each, channels};
    };
    const std::vector<int>& inputs = operation.inputs;
    attend(kernels, at(inputs[0]), at(inputs[1]), at(inputs[2]), nullptr, operation.numbers[1], scratch,
           at(step.result));
  }

  std::vector<Result> results() {
    std::vector<Result> made;
    for (const int number : wanted_) {
      Tensor& t = tensor(number);
      const size_t size = t.h * t.w * t.channels;
      const bool again =
          t.is_fed || std::count(wanted_.begin(), wanted_.begin() + static_cast<ptrdiff_t>(made.size()), number);
      Aligned<int16_t> data = again ? Aligned<int16_t>(size) : std::move(t.own);
      if (again) std::copy_n(t.data, size, data.get());
      made.push_back({std::move(data), t.h, t.w, t.channels});
    }
    return made;
  }
};

}  // namespace ncodec::exact
