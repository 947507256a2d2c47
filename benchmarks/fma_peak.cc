// Multiplications with addition that the processor can do at most, all in registers: prints GFLOP/s of N threads.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
typedef float Vector __attribute__((vector_size(4 * kLanes)));
constexpr int kChains = 12;  // independent sums, so that none waits for another
constexpr long kSteps = 4000000;

static float Work() {
  Vector sum[kChains], factor = Vector{} + 0.5f, term = Vector{} + 1.0f;
  for (int k = 0; k < kChains; ++k) sum[k] = Vector{} + static_cast<float>(k);
  for (long step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int k = 0; k < kChains; ++k) sum[k] = sum[k] * factor + term;
    asm volatile("" : "+v"(factor));  // or the compiler would leave the loop out
  }
  float total = 0;
  for (int k = 0; k < kChains; ++k) total += sum[k][0];
  return total;
}

int main(int, char** arguments) {
  const int threads = std::atoi(arguments[1]);
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    std::vector<std::thread> pool;
    std::vector<float> totals(threads);
    const auto start = std::chrono::steady_clock::now();
    for (int n = 0; n < threads; ++n) pool.emplace_back([&totals, n] { totals[n] = Work(); });
    for (auto& thread : pool) thread.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    const double rate = 2.0 * kLanes * kChains * kSteps * threads / seconds.count() / 1e9;
    if (totals[0] > 0 && rate > best) best = rate;
  }
  std::printf("%.1f\n", best);
}
