// A small pool of threads: TensorFlow's C API gives an operation none of TensorFlow's own.
//
// The caller works, too, and takes what no worker has begun: so a busy pool slows a call down and never blocks it,
// and a process forked from one with a pool still works, on one thread. Several calls at once share the workers.
// A pool must never be destroyed, since its threads wait on it until the process ends.
#pragma once
#include <atomic>
#include <condition_variable>
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
      std::unique_lock<std::mutex> lock(mutex);
      finished.wait(lock, [this] { return done == count; });
    }
  };

  void work() {
    for (;;) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        begun_.wait(lock, [this] {
          while (!jobs_.empty() && jobs_.front()->next >= jobs_.front()->count) jobs_.pop_front();
          return !jobs_.empty();
        });
        job = jobs_.front();
      }
      job->take_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable begun_;
  std::deque<std::shared_ptr<Job>> jobs_;
};

}  // namespace klc
