// The native core alone, without TensorFlow: milliseconds of each cell over the five shapes, on one thread. Built and run
// by core.py. A figure is the least of many runs: other work on the machine only ever adds to it.
#include "core.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

using namespace klc;

static const Shape kShapes[] = {{1, 100, 32, 128}, {32, 100, 32, 128}, {64, 100, 64, 256}, {128, 50, 128, 512}, {32, 500, 16, 64}};

static void measure(const CellRow& cell, const Shape& s, double seconds) {
  std::mt19937 random(0);
  std::normal_distribution<float> normal;
  auto drawn = [&](int64_t n, float scale) {
    std::vector<float> v(n);
    for (float& e : v) e = normal(random) * scale;
    return v;
  };
  const int64_t columns = cell.gates * s.units, states = s.batch * s.units;
  const auto x = drawn(s.batch * s.steps * s.features, 1), h0 = drawn(states, 0), kernel = drawn(s.features * columns, .1f);
  const auto recurrent = drawn(s.units * columns, 1 / std::sqrt(s.units)), bias = drawn(columns, .1f);
  std::vector<float> y(states * s.steps), h(states), c(states), gates(cell.gates_size(s)), cells(cell.cells_size(s));
  std::vector<float> d_x(x.size()), d_h0(states), d_c0(states), d_kernel(kernel.size()), d_recurrent(recurrent.size());
  std::vector<float> d_bias(columns), d_extra(columns);
  Request asked{};
  asked.shape = s;
  asked.x = x.data();
  asked.h0 = asked.c0 = h0.data();
  asked.kernel = kernel.data();
  asked.recurrent = recurrent.data();
  asked.extra = cell.extra ? bias.data() : nullptr;
  const Forward training{asked, bias.data(), y.data(), h.data(), c.data(), gates.data(), cells.data()};
  Forward inference = training;
  inference.gates = inference.cells = nullptr;
  const Backward back{asked,      y.data(),    gates.data(), cells.data(),    y.data(),           h0.data(),     h0.data(),
                      d_x.data(), d_h0.data(), d_c0.data(),  d_kernel.data(), d_recurrent.data(), d_bias.data(), d_extra.data()};
  const Parallel alone{1, nullptr};
  std::vector<float> room(16 + std::max(cell.forward_workspace(training, 1), cell.backward_workspace(back, 1)));
  float* memory = (float*)(((uintptr_t)room.data() + 63) / 64 * 64);
  double least[3] = {1e9, 1e9, 1e9};
  auto now = [] { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); };
  auto timed = [&](double& best, auto run) {
    const double start = now();
    run();
    best = std::min(best, 1e3 * (now() - start));
  };
  for (const double end = now() + seconds; now() < end;) {
    timed(least[0], [&] { cell.forward(inference, memory, alone); });
    timed(least[1], [&] { cell.forward(training, memory, alone); });
    timed(least[2], [&] { cell.backward(back, memory, alone); });
  }
  std::printf("%-14s %4d, %4d, %4d, %4d  inference %8.3f  forward %8.3f  backward %8.3f  training %8.3f\n", cell.name, (int)s.batch,
              (int)s.steps, (int)s.features, (int)s.units, least[0], least[1], least[2], least[1] + least[2]);
  std::fflush(stdout);
}

int main(int count, char** arguments) {
  const double seconds = count > 1 ? std::atof(arguments[1]) : 1;
  const Core& core = *choose_core("");
  for (int i = 0; i < core.count; i++)
    if (count < 3 || !std::strcmp(core.cells[i].name, arguments[2]))
      for (const Shape& shape : kShapes) measure(core.cells[i], shape, seconds);
}
