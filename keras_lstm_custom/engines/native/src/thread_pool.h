// A small pool of threads: TensorFlow's C API gives an operation none of TensorFlow's own.
//
// Where threads meet after each step, jobs follow each other within microseconds: nothing is allocated on the way,
// no lock is taken, and who waits looks out for a while before it sleeps, since to be woken up takes longer than such
// a job. The caller works, too, and takes what no worker has begun: so a busy pool slows a call down and never blocks
// it, and a process forked from one with a pool still works, on one thread. Several calls at once share the workers.
// A pool must never be destroyed, since its threads wait on it until the process ends.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>

#include "subnormals.h"

namespace klc {

// What threads wait at for a condition to come true.
class Bell {
 public:
  // Whoever may have made the condition true rings.
  void ring() {
    if (!sleepers_) return;
    { std::lock_guard<std::mutex> lock(mutex_); }  // a sleeper that has not gone to sleep yet holds it
    woken_.notify_all();
  }

  template <class Condition>
  void wait(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    do {
      for (int i = 0; i < 16; i++) {
        if (condition()) return;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
      }
    } while (std::chrono::steady_clock::now() < end);
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_++;
    woken_.wait(lock, condition);
    sleepers_--;
  }

 private:
  static constexpr std::chrono::microseconds kPatience{50};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable woken_;
};

class ThreadPool {
 public:
  using Task = void (*)(void*, int);

  ~ThreadPool() = delete;
  explicit ThreadPool(int threads) {
    try {
      for (; threads_ < threads; threads_++) std::thread([this] { work(); }).detach();
    } catch (const std::system_error&) {  // the system has no more: so many it is
    }
  }

  // How many work on a call, the caller among them.
  int threads() const { return threads_; }

  // Calls task(argument, 0 .. count-1), and returns when all are done.
  void run(Task task, void* argument, int count) {
    Job* job = free_job();
    if (!job) {  // as many calls at once as there are jobs
      for (int i = 0; i < count; i++) task(argument, i);
      return;
    }
    job->task = task;
    job->argument = argument;
    job->done = 0;
    job->offer = Offer{job->offer}.next(count);
    posted_++;
    posted_bell_.ring();
    work_on(*job);
    done_bell_.wait([&] { return job->done == count; });
    job->taken = false;
  }

 private:
  // How many tasks a job has, and which is the first that nobody has claimed, in one number: who replaces it has
  // claimed that task, and until it is done the job stays what it is. Each job has another `turn`.
  struct Offer {
    uint64_t bits;
    int unclaimed() const { return bits & 0xffff; }
    int count() const { return bits >> 16 & 0xffff; }
    uint64_t turn() const { return bits >> 32; }
    uint64_t next(int count) const { return (turn() + 1) << 32 | (uint64_t)count << 16; }
  };
  struct alignas(64) Job {
    std::atomic<bool> taken{false};
    std::atomic<uint64_t> offer{0};
    std::atomic<int> done{0};
    Task task;
    void* argument;
  };

  Job* free_job() {
    for (Job& job : jobs_)
      if (!job.taken.exchange(true)) return &job;
    return nullptr;
  }

  void work_on(Job& job) {
    Offer offer{job.offer};
    while (offer.unclaimed() < offer.count()) {
      if (!job.offer.compare_exchange_weak(offer.bits, offer.bits + 1)) continue;
      job.task(job.argument, offer.unclaimed());
      if (++job.done == offer.count()) done_bell_.ring();
      offer.bits = job.offer;
    }
  }

  void work() {
    const FlushSubnormals flush;
    for (;;) {
      const uint64_t seen = posted_;
      for (Job& job : jobs_) work_on(job);
      posted_bell_.wait([&] { return posted_ != seen; });
    }
  }

  int threads_ = 1;
  Job jobs_[16];
  std::atomic<uint64_t> posted_{0};
  Bell posted_bell_, done_bell_;
};

}  // namespace klc
