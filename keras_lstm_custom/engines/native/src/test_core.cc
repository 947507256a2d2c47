// Tests every core of this processor against the equations in double precision, written out with plain loops, and
// its gradients against central differences of that. Built and run by tests/engines/test_native_core.py, also with
// the address, undefined-behaviour and thread sanitizers. Prints each core's name and worst error; exits with 1 on a wrong one.
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "core.h"
#include "thread_pool.h"

using namespace klc;
using Floats = std::vector<float>;
using Doubles = std::vector<double>;

struct Case {
  Shape shape;
  bool mask, dropout, x_dropout, reverse, bias;
  int threads;
};

enum { X, H, C, KERNEL, RECURRENT, BIAS, INPUTS };

struct Problem {
  Case c;
  Floats inputs[INPUTS], dropout, x_dropout, d_y, d_h, d_c;
  std::vector<unsigned char> mask;

  Problem(const Case& c, unsigned seed) : c(c) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const Shape& s = c.shape;
    auto fill = [&](Floats& v, int64_t n, double scale) {
      v.resize(n);
      for (float& e : v) e = normal(random) * scale;
    };
    fill(inputs[X], s.batch * s.steps * s.features, 1);
    fill(inputs[H], s.batch * s.units, 1);
    const int64_t cells = s.kind == Kind::lstm ? s.batch * s.units : 0, columns = s.gates() * s.units;
    fill(inputs[C], cells, 1);
    fill(inputs[KERNEL], s.features * columns, 1 / std::sqrt(s.features));
    // A vanilla RNN with larger weights, doubled by dropout, is chaotic: roundings would grow from step to step.
    fill(inputs[RECURRENT], s.units * columns, (s.kind == Kind::lstm ? 1 : .5) / std::sqrt(s.units));
    fill(inputs[BIAS], columns, c.bias ? 1 : 0);
    fill(d_y, s.batch * s.steps * s.units, 1);
    fill(d_h, s.batch * s.units, 1);
    fill(d_c, cells, 1);
    if (c.mask)
      for (int64_t k = 0; k < s.batch * s.steps; k++) mask.push_back(random() % 3 != 0);
    if (c.dropout)
      for (int64_t k = 0; k < s.gates() * s.batch * s.units; k++) dropout.push_back(random() % 2 * 2.f);
    if (c.x_dropout)
      for (int64_t k = 0; k < s.gates() * s.batch * s.features; k++) x_dropout.push_back(random() % 3 * .75f);
  }

  // The equations. Returns y, h, c one after another.
  Doubles oracle(const Doubles* in) const {
    const Shape& s = c.shape;
    const int64_t columns = s.gates() * s.units;
    Doubles h(in[H]), cell(in[C]), y;
    y.resize(s.batch * s.steps * s.units);
    auto sigmoid = [](double z) { return 1 / (1 + std::exp(-z)); };
    for (int64_t b = 0; b < s.batch; b++)
      for (int64_t t = 0; t < s.steps; t++) {
        const int64_t at = c.reverse ? s.steps - 1 - t : t;
        if (!c.mask || mask[b * s.steps + at]) {
          Doubles z(columns);
          for (int64_t j = 0; j < columns; j++) {
            z[j] = in[BIAS][j];
            for (int64_t k = 0; k < s.features; k++) {
              const double seen = c.x_dropout ? x_dropout[((j / s.units) * s.batch + b) * s.features + k] : 1.;
              z[j] += in[X][(b * s.steps + at) * s.features + k] * seen * in[KERNEL][k * columns + j];
            }
            for (int64_t k = 0; k < s.units; k++) {
              const double seen = c.dropout ? dropout[((j / s.units) * s.batch + b) * s.units + k] : 1.;
              z[j] += h[b * s.units + k] * seen * in[RECURRENT][k * columns + j];
            }
          }
          for (int64_t u = 0; u < s.units; u++) {
            if (s.kind == Kind::vanilla_rnn) {
              h[b * s.units + u] = std::tanh(z[u]);
              continue;
            }
            double& cu = cell[b * s.units + u];
            cu = sigmoid(z[s.units + u]) * cu + sigmoid(z[u]) * std::tanh(z[2 * s.units + u]);
            h[b * s.units + u] = sigmoid(z[3 * s.units + u]) * std::tanh(cu);
          }
        }
        for (int64_t u = 0; u < s.units; u++) y[(b * s.steps + t) * s.units + u] = h[b * s.units + u];
      }
    y.insert(y.end(), h.begin(), h.end());
    y.insert(y.end(), cell.begin(), cell.end());
    return y;
  }

  double loss(const Doubles* in) const {
    const Doubles out = oracle(in);
    double total = 0;
    size_t k = 0;
    for (const Floats* d : {&d_y, &d_h, &d_c})
      for (float w : *d) total += w * out[k++];
    return total;
  }
};

static ThreadPool& pool = *new ThreadPool(3);  // never destroyed: its threads wait on it

// Returns the worst error, each relative to the larger of 1 and the value.
static double run(const Core& core, const Problem& p, unsigned seed, int places) {
  const Shape& s = p.c.shape;
  const Parallel parallel{p.c.threads, [](void (*task)(void*, int), void* a, int n) { pool.run(task, a, n); }};
  Floats y(p.d_y.size()), h(p.d_h.size()), c(p.d_c.size()), gates(core.gates_size(s)), cells(core.cells_size(s));
  const Floats* in = p.inputs;
  const unsigned char* mask = p.c.mask ? p.mask.data() : nullptr;
  const float* dropout = p.c.dropout ? p.dropout.data() : nullptr;
  const float* x_dropout = p.c.x_dropout ? p.x_dropout.data() : nullptr;
  Forward f{s, in[X].data(), in[H].data(), in[C].data(), in[KERNEL].data(), in[RECURRENT].data(),
            p.c.bias ? in[BIAS].data() : nullptr, mask, x_dropout, dropout, p.c.reverse, y.data(), h.data(), c.data(), gates.data(), cells.data()};
  Floats memory(core.forward_workspace(f, p.c.threads));
  core.forward(f, memory.data(), parallel);
  Floats d[INPUTS];
  for (int k = 0; k < INPUTS; k++) d[k].assign(in[k].size(), NAN);
  Backward b{s, in[X].data(), in[H].data(), in[C].data(), in[KERNEL].data(), in[RECURRENT].data(), mask, x_dropout, dropout, p.c.reverse,
             y.data(), gates.data(), cells.data(), p.d_y.data(), p.d_h.data(), p.d_c.data(),
             d[X].data(), d[H].data(), d[C].data(), d[KERNEL].data(), d[RECURRENT].data(), d[BIAS].data()};
  memory.assign(core.backward_workspace(b, p.c.threads), NAN);
  core.backward(b, memory.data(), parallel);

  double worst = 0;
  auto compare = [&](double got, double expected) {
    const double error = std::fabs(got - expected) / std::fmax(1, std::fabs(expected));
    if (!(error <= worst)) worst = error;  // a NaN stays
  };
  Doubles at[INPUTS];
  for (int k = 0; k < INPUTS; k++) at[k].assign(in[k].begin(), in[k].end());
  const Doubles out = p.oracle(at);
  size_t k = 0;
  for (const Floats* v : {&y, &h, &c})
    for (float value : *v) compare(value, out[k++]);

  // Inference keeps nothing and must give the same.
  f.y = f.gates = f.cells = nullptr;
  const Floats h_kept = h, c_kept = c;
  memory.assign(core.forward_workspace(f, p.c.threads), NAN);
  core.forward(f, memory.data(), parallel);
  if (h != h_kept || c != c_kept) return NAN;

  std::mt19937 random(seed);
  for (int tensor = 0; tensor < INPUTS; tensor++)
    for (int n = 0; n < places && !at[tensor].empty(); n++) {
      double& value = at[tensor][random() % at[tensor].size()];
      const size_t place = &value - at[tensor].data();
      const double kept = value, step = 1e-5;
      value = kept + step;
      const double above = p.loss(at);
      value = kept - step;
      const double below = p.loss(at);
      value = kept;
      compare(d[tensor][place], (above - below) / (2 * step));
    }
  return worst;
}

// Several calls at once, more than the pool has jobs: each task of each call is done once, before the call returns.
static bool calls_at_once() {
  std::atomic<bool> good{true};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 20; caller++)
    callers.emplace_back([&good, caller] {
      for (int call = 0; call < 200; call++) {
        const int count = 1 + (caller + call) % 7;
        std::vector<int> done(count);
        pool.run([](void* tasks, int i) { (*(std::vector<int>*)tasks)[i]++; }, &done, count);
        if (done != std::vector<int>(count, 1)) good = false;
      }
    });
  for (std::thread& caller : callers) caller.join();
  if (!good) std::printf("WRONG pool: a task was left out or done twice\n");
  return good;
}

int main(int count, char** arguments) {
  const int places = count > 1 ? std::atoi(arguments[1]) : 8;  // of each gradient that are compared
  const int every = count > 2 ? std::atoi(arguments[2]) : 1;   // combination of options is tried, one of so many
  const double tolerance = 2e-5;  // float32 sums of a few thousand terms; a wrong term is of order 1
  const Shape shapes[] = {{1, 1, 1, 1}, {1, 100, 3, 16}, {2, 7, 5, 3}, {5, 50, 2, 17}, {7, 9, 70, 20}, {13, 30, 8, 33}, {200, 3, 4, 5},
                          {2, 3, 5, 81}, {4, 1, 70, 256},  // of few steps: weights that are not packed before, but the last units'
                          {3, 2, 20, 650},  // more weights than a cache holds
                          {0, 3, 2, 5}, {2, 0, 3, 5}, {2, 3, 0, 5}, {2, 0, 0, 17}, {0, 0, 0, 5}};  // nothing to run, or to read
  bool good = calls_at_once();
  int cores = 0;
  for (const char* name : {"baseline", "avx2", "avx512", "neon"}) {
    const Core* core = choose_core(name);
    if (!core || std::strcmp(core->name, name)) continue;
    double worst = 0;
    unsigned seed = 0;
    for (Shape shape : shapes)
      for (int options = 0; options < 32; options += shape.units > 100 ? 5 : every) {
        shape.kind = options & 16 ? Kind::vanilla_rnn : Kind::lstm;
        const Case c{shape, (options & 1) != 0, (options & 2) != 0, (options & 8) != 0, (options & 4) != 0, seed % 3 != 0, 1 + (int)(seed % 3)};
        const double error = run(*core, Problem(c, seed), seed + 1, places);
        if (!(error <= tolerance)) {
          std::printf("WRONG %s: %s batch %d steps %d features %d units %d mask %d dropout %d x_dropout %d reverse %d threads %d: error %g\n", name,
                      shape.kind == Kind::lstm ? "lstm" : "vanilla rnn", (int)shape.batch, (int)shape.steps, (int)shape.features, (int)shape.units, c.mask, c.dropout, c.x_dropout, c.reverse, c.threads, error);
          good = false;
        }
        worst = std::fmax(worst, error);
        seed++;
      }
    std::printf("%s: worst relative error %.2g\n", name, worst);
    cores++;
  }
  return good && cores ? 0 : 1;
}
