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

enum { X, H, C, KERNEL, RECURRENT, EXTRA, BIAS, INPUTS };

static double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

// One unit at a step: the products with x and with h of each gate, the further weights and what of the state stays.
struct Unit {
  double x[4], h[4], extra[4], keeps_h, keeps_c, clip;
};
// The equations of each cell, for one unit. They turn h and c of the step before into the new ones.
static void lstm_of(const Unit& u, bool coupled, double& h, double& c) {
  const int I = 0, F = coupled ? 0 : 1, G = F + 1, O = G + 1;
  auto z = [&](int gate, double seen) { return u.x[gate] + u.h[gate] + u.extra[gate] * seen; };
  const double f = sigmoid(z(F, c)), i = coupled ? 1 - f : sigmoid(z(I, c));
  const double fresh = std::fmax(-u.clip, std::fmin(u.clip, f * c + i * std::tanh(z(G, 0))));
  h = u.keeps_h * h + (1 - u.keeps_h) * sigmoid(z(O, fresh)) * std::tanh(fresh);
  c = u.keeps_c * c + (1 - u.keeps_c) * fresh;
}
struct Equations {
  const char* name;
  bool chaotic;  // with larger weights, doubled by dropout: roundings would grow from step to step
  void (*step)(const Unit&, double& h, double& c);
};
static const Equations kEquations[] = {
    {"lstm", false, [](const Unit& u, double& h, double& c) { lstm_of(u, false, h, c); }},
    {"lstm_options", false, [](const Unit& u, double& h, double& c) { lstm_of(u, false, h, c); }},
    {"coupled_lstm", false, [](const Unit& u, double& h, double& c) { lstm_of(u, true, h, c); }},
    {"gru", true,
     [](const Unit& u, double& h, double&) {
       const double z = sigmoid(u.x[0] + u.h[0] + u.extra[0]), r = sigmoid(u.x[1] + u.h[1] + u.extra[1]);
       h = z * h + (1 - z) * std::tanh(u.x[2] + r * (u.h[2] + u.extra[2]));
     }},
    {"vanilla_rnn", true, [](const Unit& u, double& h, double&) { h = std::tanh(u.x[0] + u.h[0]); }},
};

struct Case {
  const CellRow* cell;
  const Equations* equations;
  Shape shape;
  bool mask, dropout, x_dropout, reverse, bias, extra, noise;
  Options options;
  int threads;
};

struct Problem {
  Case c;
  Floats inputs[INPUTS], dropout, x_dropout, noise, d_y, d_h, d_c;
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
    const int64_t gates = c.cell->gates, cells = c.cell->memory ? s.batch * s.units : 0, columns = gates * s.units;
    fill(inputs[C], cells, 1);
    fill(inputs[KERNEL], s.features * columns, 1 / std::sqrt(s.features));
    fill(inputs[RECURRENT], s.units * columns, (c.equations->chaotic ? .5 : 1) / std::sqrt(s.units));
    fill(inputs[BIAS], columns, c.bias ? 1 : 0);
    fill(inputs[EXTRA], c.extra ? columns : 0, .5);
    if (c.extra && c.cell->options)  // no peephole of g
      for (int64_t u = 0; u < s.units; u++) inputs[EXTRA][(gates - 2) * s.units + u] = 0;
    fill(d_y, s.batch * s.steps * s.units, 1);
    fill(d_h, s.batch * s.units, 1);
    fill(d_c, cells, 1);
    if (c.mask)
      for (int64_t k = 0; k < s.batch * s.steps; k++) mask.push_back(random() % 3 != 0);
    if (c.dropout)
      for (int64_t k = 0; k < gates * s.batch * s.units; k++) dropout.push_back(random() % 2 * 2.f);
    if (c.x_dropout)
      for (int64_t k = 0; k < gates * s.batch * s.features; k++) x_dropout.push_back(random() % 3 * .75f);
    if (c.noise)
      for (int64_t k = 0; k < s.batch * s.steps * c.options.zoned() * s.units; k++) noise.push_back(random() % 2);
  }

  // The equations. Returns y, h, c one after another.
  Doubles oracle(const Doubles* in) const {
    const Shape& s = c.shape;
    const int64_t gates = c.cell->gates, columns = gates * s.units;
    Doubles h(in[H]), cell(in[C]), y;
    y.resize(s.batch * s.steps * s.units);
    const Options& o = c.options;
    for (int64_t b = 0; b < s.batch; b++)
      for (int64_t t = 0; t < s.steps; t++) {
        const int64_t at = c.reverse ? s.steps - 1 - t : t;
        if (!c.mask || mask[b * s.steps + at]) {
          Doubles z_x(columns), z_h(columns);
          for (int64_t j = 0; j < columns; j++) {
            z_x[j] = in[BIAS][j];
            for (int64_t k = 0; k < s.features; k++) {
              const double seen = c.x_dropout ? x_dropout[((j / s.units) * s.batch + b) * s.features + k] : 1.;
              z_x[j] += in[X][(b * s.steps + at) * s.features + k] * seen * in[KERNEL][k * columns + j];
            }
            for (int64_t k = 0; k < s.units; k++) {
              const double seen = c.dropout ? dropout[((j / s.units) * s.batch + b) * s.units + k] : 1.;
              z_h[j] += h[b * s.units + k] * seen * in[RECURRENT][k * columns + j];
            }
          }
          for (int64_t u = 0; u < s.units; u++) {
            Unit unit{};
            for (int64_t g = 0; g < gates; g++) {
              unit.x[g] = z_x[g * s.units + u];
              unit.h[g] = z_h[g * s.units + u];
              if (c.extra) unit.extra[g] = in[EXTRA][g * s.units + u];
            }
            const float* kept = c.noise ? &noise[((b * s.steps + at) * o.zoned()) * s.units + u] : nullptr;
            unit.keeps_h = o.zoneout > 0 && kept ? kept[0] : o.zoneout;
            unit.keeps_c = o.cell_zoneout > 0 && kept ? kept[o.zoneout > 0 ? s.units : 0] : o.cell_zoneout;
            unit.clip = o.cell_clip > 0 ? o.cell_clip : INFINITY;
            double none = 0;
            c.equations->step(unit, h[b * s.units + u], c.cell->memory ? cell[b * s.units + u] : none);
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
static double run(const Problem& p, unsigned seed, int places) {
  const CellRow& cell = *p.c.cell;
  const Shape& s = p.c.shape;
  const Parallel parallel{p.c.threads, [](void (*task)(void*, int), void* a, int n) { pool.run(task, a, n); }};
  Floats y(p.d_y.size()), h(p.d_h.size()), c(p.d_c.size()), gates(cell.gates_size(s)), cells(cell.cells_size(s));
  const Floats* in = p.inputs;
  auto given = [](bool is, const auto& values) { return is ? values.data() : nullptr; };
  Request asked{};
  asked.shape = s;
  asked.x = in[X].data();
  asked.h0 = in[H].data();
  asked.c0 = in[C].data();
  asked.kernel = in[KERNEL].data();
  asked.recurrent = in[RECURRENT].data();
  asked.extra = given(p.c.extra, in[EXTRA]);
  asked.mask = given(p.c.mask, p.mask);
  asked.x_dropout = given(p.c.x_dropout, p.x_dropout);
  asked.dropout = given(p.c.dropout, p.dropout);
  asked.noise = given(p.c.noise, p.noise);
  asked.reverse = p.c.reverse;
  asked.options = p.c.options;
  Forward f{asked, given(p.c.bias, in[BIAS]), y.data(), h.data(), c.data(), gates.data(), cells.data()};
  Floats memory(cell.forward_workspace(f, p.c.threads));
  cell.forward(f, memory.data(), parallel);
  Floats d[INPUTS];
  for (int k = 0; k < INPUTS; k++) d[k].assign(in[k].size(), NAN);
  Backward b{
      asked,       y.data(),    gates.data(), cells.data(),     p.d_y.data(),        p.d_h.data(),   p.d_c.data(),
      d[X].data(), d[H].data(), d[C].data(),  d[KERNEL].data(), d[RECURRENT].data(), d[BIAS].data(), p.c.extra ? d[EXTRA].data() : nullptr};
  memory.assign(cell.backward_workspace(b, p.c.threads), NAN);
  cell.backward(b, memory.data(), parallel);

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
  memory.assign(cell.forward_workspace(f, p.c.threads), NAN);
  cell.forward(f, memory.data(), parallel);
  if (h != h_kept || c != c_kept) return NAN;

  std::mt19937 random(seed);
  for (int tensor = 0; tensor < INPUTS; tensor++)
    for (int n = 0; n < places && !at[tensor].empty(); n++) {
      double& value = at[tensor][random() % at[tensor].size()];
      const size_t place = &value - at[tensor].data();
      // Where c meets its bound there is no slope: a smaller step meets it less often.
      const double kept = value, step = p.c.options.cell_clip > 0 ? 1e-7 : 1e-5;
      value = kept + step;
      const double above = p.loss(at);
      value = kept - step;
      const double below = p.loss(at);
      value = kept;
      const double slope = (above - below) / (2 * step);
      compare(d[tensor][place], slope);
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
  const double tolerance = 2e-5;                               // float32 sums of a few thousand terms; a wrong term is of order 1
  const Shape shapes[] = {{1, 1, 1, 1},
                          {1, 100, 3, 16},
                          {2, 7, 5, 3},
                          {5, 50, 2, 17},
                          {7, 9, 70, 20},
                          {13, 30, 8, 33},
                          {200, 3, 4, 5},
                          {2, 3, 5, 81},
                          {4, 1, 70, 256},  // of few steps: weights that are not packed
                                            // before, but the last units'
                          {3, 2, 20, 650},  // more weights than a cache holds
                          {0, 3, 2, 5},
                          {2, 0, 3, 5},
                          {2, 3, 0, 5},
                          {2, 0, 0, 17},
                          {0, 0, 0, 5}};  // nothing to run, or to read
  bool good = calls_at_once();
  int cores = 0;
  for (const char* name : {"baseline", "avx2", "avx512", "neon"}) {
    const Core* core = choose_core(name);
    if (!core || std::strcmp(core->name, name)) continue;
    double worst = 0;
    unsigned seed = 0;
    if (core->count != sizeof kEquations / sizeof *kEquations) std::printf("WRONG %s: %d cells\n", name, core->count), good = false;
    for (const Equations& equations : kEquations) {
      const CellRow* cell = core->cells;
      while (std::strcmp(cell->name, equations.name)) cell++;
      for (Shape shape : shapes)
        // Of 16 or, of a cell with options, 128 combinations: those of a shape begin elsewhere each time.
        for (int k = 0; k < (shape.units > 100 ? 2 : cell->options ? 8 : 5); k += every) {
          const unsigned bits = seed * 37 % 128;
          auto bit = [&](int n) { return (bits >> n & 1) != 0; };
          Options o;
          if (cell->options) o = {bit(4) ? .4f : 0.f, bit(5) ? .3f : 0.f, bit(6) ? .6f : 0.f};
          const Case c{cell,
                       &equations,
                       shape,
                       bit(0),
                       bit(1),
                       bit(3),
                       bit(2),
                       seed % 3 != 0,
                       cell->extra && seed % 5 != 0,
                       o.zoned() && seed % 2,
                       o,
                       1 + (int)(seed % 3)};
          const double error = run(Problem(c, seed), seed + 1, places);
          if (!(error <= tolerance)) {
            std::printf(
                "WRONG %s: %s batch %d steps %d features %d units %d mask %d dropout %d x_dropout %d reverse %d bias %d extra %d "
                "noise %d clip %g zoneout %g %g threads %d: error %g\n",
                name, cell->name, (int)shape.batch, (int)shape.steps, (int)shape.features, (int)shape.units, c.mask, c.dropout, c.x_dropout,
                c.reverse, c.bias, c.extra, c.noise, o.cell_clip, o.zoneout, o.cell_zoneout, c.threads, error);
            good = false;
          }
          worst = std::fmax(worst, error);
          seed++;
        }
    }
    std::printf("%s: worst relative error %.2g\n", name, worst);
    cores++;
  }
  return good && cores ? 0 : 1;
}
