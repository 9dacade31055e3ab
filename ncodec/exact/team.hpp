// Threads for the time of one run. They sleep while there is nothing to do, and never spin; there is no pool that
// outlives a run, hence nothing that a fork could break.

#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace ncodec::exact {

class Team {
 public:
  // The caller is one of them. Where the system has no more threads to give, those there are do the work.
  explicit Team(size_t threads) {
    try {
      for (size_t t = 1; t < threads; ++t) others_.emplace_back([this, t] { serve(t); });
    } catch (const std::exception&) {}
  }

  ~Team() {
    {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    begin_.notify_all();
    for (std::thread& other : others_) other.join();
  }

  // Call work(thread, 0) … work(thread, n - 1), each once, on any thread. `work` must not throw.
  template <class Work>
  void each(size_t n, const Work& work) {
    next_ = 0;
    if (others_.empty() || n < 2) {
      for (size_t i = 0; i < n; ++i) work(size_t{0}, i);
      return;
    }
    const auto loop = [&](size_t thread) {
      for (size_t i; (i = next_.fetch_add(1)) < n;) work(thread, i);
    };
    {
      const std::lock_guard lock(mutex_);
      context_ = &loop;
      call_ = [](const void* context, size_t thread) { (*static_cast<decltype(&loop)>(context))(thread); };
      ++task_;
    }
    begin_.notify_all();
    loop(0);
    std::unique_lock lock(mutex_);
    call_ = nullptr;  // who has not woken up yet on a busy machine is not waited for
    end_.wait(lock, [&] { return busy_ == 0; });
  }

 private:
  std::vector<std::thread> others_;
  std::mutex mutex_;
  std::condition_variable begin_, end_;
  std::atomic<size_t> next_{0};
  const void* context_ = nullptr;
  void (*call_)(const void*, size_t) = nullptr;
  size_t busy_ = 0, task_ = 0;
  bool is_over_ = false;

  void serve(size_t thread) {
    size_t seen = 0;
    std::unique_lock lock(mutex_);
    while (true) {
      begin_.wait(lock, [&] { return is_over_ || (call_ && task_ != seen); });
      if (is_over_) return;
      seen = task_;
      ++busy_;
      const auto call = call_;
      const void* const context = context_;
      lock.unlock();
      call(context, thread);
      lock.lock();
      if (--busy_ == 0) end_.notify_one();
    }
  }
};

}  // namespace ncodec::exact
