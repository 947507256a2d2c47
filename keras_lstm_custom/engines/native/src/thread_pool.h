// A small pool of threads: TensorFlow's C API gives an operation none of TensorFlow's own.
//
// Jobs follow each other within microseconds where threads meet after each step, so who waits looks out for a short
// while (kPatience) before it sleeps: waking a thread up takes longer than such a job.
// The caller works, too, and takes what no worker has begun: so a busy pool slows a call down and never blocks it,
// and a process forked from one with a pool still works, on one thread. Several calls at once share the workers.
// A pool must never be destroyed, since its threads wait on it until the process ends.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace klc {

class ThreadPool {
 public:
  using Task = void (*)(void*, int);

  ~ThreadPool() = delete;
  explicit ThreadPool(int threads) {
    for (int i = 1; i < threads; i++) std::thread([this] { work(); }).detach();
  }

  void run(Task task, void* argument, int count) {
    auto job = std::make_shared<Job>(task, argument, count);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      jobs_.push_back(job);
      posted_++;
    }
    begun_.notify_all();
    job->take_all();
    job->wait();
  }

 private:
  struct Job {
    Job(Task task, void* argument, int count) : task(task), argument(argument), count(count) {}
    const Task task;
    void* const argument;
    const int count;
    std::atomic<int> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable finished;

    void take_all() {
      for (int i; (i = next++) < count;) {
        task(argument, i);
        if (++done == count) {
          std::lock_guard<std::mutex> lock(mutex);
          finished.notify_all();
        }
      }
    }
    void wait() {
      if (look_out([this] { return done == count; })) return;
      std::unique_lock<std::mutex> lock(mutex);
      finished.wait(lock, [this] { return done == count; });
    }
  };

  static constexpr std::chrono::microseconds kPatience{50};

  // Waits for a condition while patience lasts, and returns whether it came true.
  template <class F>
  static bool look_out(F condition) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    do {
      for (int i = 0; i < 16; i++) {
        if (condition()) return true;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      }
    } while (std::chrono::steady_clock::now() < end);
    return false;
  }

  void work() {
    for (;;) {
      const uint64_t seen = posted_;
      if (auto job = unfinished(std::unique_lock<std::mutex>(mutex_)))
        job->take_all();
      else if (!look_out([&] { return posted_ != seen; })) {
        std::unique_lock<std::mutex> lock(mutex_);
        begun_.wait(lock, [&] { return posted_ != seen; });
      }
    }
  }

  // The first job of which not all has been taken, if there is one.
  std::shared_ptr<Job> unfinished(const std::unique_lock<std::mutex>&) {
    while (!jobs_.empty() && jobs_.front()->next >= jobs_.front()->count) jobs_.pop_front();
    return jobs_.empty() ? nullptr : jobs_.front();
  }

  std::atomic<uint64_t> posted_{0};
  std::mutex mutex_;
  std::condition_variable begun_;
  std::deque<std::shared_ptr<Job>> jobs_;
};

}  // namespace klc
