// Forward: for each step, panel of units and block of rows, one product with the packed weights, then the gates.
#pragma once
#include "lstm.h"
#include "vector.h"

namespace klc {
namespace {

// (features + units, 4 units) -> (panels, features + units, 4 gates, lanes), some panels of it; a tail is filled with
// zeros. Row by row, as they are read. Weights that are read where they lie are left out.
inline void pack(const Forward& a, Range panels, int64_t unpacked, float* weights, float* bias) {
  const int64_t units = a.shape.units, features = a.shape.features, keys = a.shape.keys();
  auto pack_row = [&](const float* row, Range some, float* to, int64_t stride) {
    for (int64_t p = some.begin; p < some.end; p++)
      for (int g = 0; g < kGates; g++)
        store(to + p * stride + g * kLanes, load_some(row + g * units + p * kLanes, units - p * kLanes));
  };
  const Range packed{most(unpacked, panels.begin), panels.end};
  for (int64_t k = 0; k < keys && packed.count() > 0; k++)
    pack_row(k < features ? a.kernel + k * 4 * units : a.recurrent + (k - features) * 4 * units, packed,
             weights + k * kPanel, keys * kPanel);
  if (a.bias)
    pack_row(a.bias, panels, bias, kPanel);
  else
    clear(bias + panels.begin * kPanel, panels.count() * kPanel);
}

// The weights of a panel of units: packed, which makes the strides constants, or where they lie.
template <bool PACKED>
struct Weights {
  const float *kernel, *recurrent;
  int64_t row, gate;  // how far it is to the next key, and to the next gate
  Weights(const Forward& a, const float* packed, int64_t p)
      : kernel(PACKED ? packed + p * a.shape.keys() * kPanel : a.kernel + p * kLanes),
        recurrent(PACKED ? kernel + a.shape.features * kPanel : a.recurrent + p * kLanes),
        row(PACKED ? kPanel : kGates * a.shape.units),
        gate(PACKED ? kLanes : a.shape.units) {}
};

// The rows of one part of the batch, on their way through time.
template <bool DROPOUT>
struct ForwardRows {
  const Forward& a;
  const Shape& s;
  const Sizes sizes;
  const int64_t unpacked;       // so many panels are read where they lie: all but a tail, or none
  const float *weights, *bias;  // packed
  const Team team;
  const Range range;
  const int64_t rows;
  const bool ahead;        // few rows: project the inputs of many steps first, as rows of one product
  const int64_t window;    // that many steps
  const SeenByGates seen;  // one row of inputs of a step
  float *in[2], *c[2];     // (rows, seen.row) and (panels, rows, lanes), before and after a step
  float* z;                // of the inputs projected ahead: (window, rows, panels, kPanel)

  ForwardRows(const Forward& a, const float* weights, const float* bias, const Team& team, Range range, Workspace& w)
      : a(a), s(a.shape), sizes(a.shape), unpacked(unpacked_of(a.shape)), weights(weights), bias(bias), team(team),
        range(range), rows(range.count()), ahead(rows < kMaxRows && a.shape.steps > 1 && !a.x_dropout), window(least(a.shape.steps, 48)),
        seen(a.shape, a.x_dropout, a.dropout, 0) {
    for (int k = 0; k < 2; k++) in[k] = w.take(rows * seen.row);
    for (int k = 0; k < 2; k++) c[k] = w.take(rows * sizes.padded);
    z = ahead ? w.take(rows * window * sizes.panels * kPanel) : nullptr;
  }

  int64_t time(int64_t t) const { return a.reverse ? s.steps - 1 - t : t; }
  const float* x(int64_t r, int64_t t) const { return a.x + ((range.begin + r) * s.steps + time(t)) * s.features; }

  static int64_t unpacked_of(const Shape& s) { return Sizes(s).brief ? s.units / kLanes : 0; }

  // Calls f with the weights of panel p.
  template <class F>
  KLC_INLINE void with_weights(const ForwardRows& self, int64_t p, F f) {
    if (p < self.unpacked)
      f(Weights<false>(self.a, self.weights, p));
    else
      f(Weights<true>(self.a, self.weights, p));
  }

  void write_h(float* row, int64_t r, int64_t p, Vector h, int64_t n) const {
    float* to = row + seen.h + p * kLanes;
    store_some(to, h, n);
    if (DROPOUT && a.dropout)
      for (int g = 0; g < kGates; g++) {
        const float* mask = a.dropout + (g * s.batch + range.begin + r) * s.units + p * kLanes;
        store_some(to + (g + 1) * s.units, h * load_some(mask, n), n);
      }
  }

  void start(Range panels) {
    for (int64_t p = panels.begin; p < panels.end; p++)
      for (int64_t r = 0; r < rows; r++) {
        const int64_t n = least(kLanes, s.units - p * kLanes), at = (range.begin + r) * s.units + p * kLanes;
        write_h(in[0] + r * seen.row, r, p, load_some(a.h0 + at, n), n);
        store(c[0] + (p * rows + r) * kLanes, load_some(a.c0 + at, n));
      }
  }

  void project_window(int64_t t, Range panels) {
    const Coming nothing{weights, false};
    const int64_t count = least(window, s.steps - t), x_row = a.reverse ? -s.features : s.features;
    for (int64_t r = 0; r < rows; r++)
      for (int64_t p = panels.begin; p < panels.end; p++)
        in_blocks(count, [&](int64_t first, auto block) __attribute__((always_inline)) {
          constexpr int M = decltype(block)::n;
          Vector sums[M][kGates];
          for (int m = 0; m < M; m++)
            for (int g = 0; g < kGates; g++) sums[m][g] = load(bias + p * kPanel + g * kLanes);
          with_weights(*this, p, [&](auto w) __attribute__((always_inline)) {
            multiply(sums, x(r, t + first), x_row, 0, s.features, w.kernel, w.row, w.gate, nothing);
          });
          for (int m = 0; m < M; m++)
            for (int g = 0; g < kGates; g++)
              store(z + (((first + m) * rows + r) * sizes.panels + p) * kPanel + g * kLanes, sums[m][g]);
        });
  }

  // The rows of x, as the weights see them.
  void gather(int64_t t, Range some) {
    for (int64_t r = some.begin; r < some.end; r++) seen.write_x(in[t & 1] + r * seen.row, x(r, t), a.x_dropout, range.begin + r);
  }

  template <int M, bool PACKED>
  KLC_INLINE void block(ForwardRows& self, const Weights<PACKED>& w, int64_t t, int64_t p, int64_t first,
                        const float* c_before, float* c_after, Coming coming) {
    const Forward& a = self.a;
    const Shape& s = self.s;
    const int64_t rows = self.rows, in_row = self.seen.row;
    const float* row = self.in[t & 1] + first * in_row;
    coming = coming.at(first, 0, s.keys());
    Vector sums[M][kGates];
    for (int m = 0; m < M; m++)
      for (int g = 0; g < kGates; g++) {
        const float* from = self.ahead ? self.z + (((t % self.window) * rows + first + m) * self.sizes.panels + p) * kPanel
                                       : self.bias + p * kPanel;
        sums[m][g] = load(from + g * kLanes);
      }
    if (DROPOUT && a.x_dropout)
      multiply<M, kGates, DROPOUT>(sums, row, in_row, s.features, s.features, w.kernel, w.row, w.gate, coming);
    else if (!self.ahead)
      multiply(sums, row, in_row, 0, s.features, w.kernel, w.row, w.gate, coming);
    coming = coming.at(0, s.features, s.keys());
    if (DROPOUT && a.dropout)
      multiply<M, kGates, DROPOUT>(sums, row + self.seen.h + s.units, in_row, s.units, s.units, w.recurrent, w.row, w.gate,
                                   coming);
    else
      multiply(sums, row + self.seen.h, in_row, 0, s.units, w.recurrent, w.row, w.gate, coming);
    Vector done[M][kGates];  // what is handed on by its address does not stay in registers
    for (int m = 0; m < M; m++)
      for (int g = 0; g < kGates; g++) done[m][g] = sums[m][g];
    self.gates(t, p, first, M, done, c_before, c_after);
  }

  // The gates and the new state of `count` rows. Not inlined: its constants would take registers from the sums.
  __attribute__((noinline)) void gates(int64_t t, int64_t p, int64_t first, int count, const Vector (*sums)[kGates],
                                       const float* c_before, float* c_after) {
    const int64_t n = least(kLanes, s.units - p * kLanes);
    for (int m = 0; m < count; m++) {
      const int64_t r = first + m, b = range.begin + r;
      const Vector i = sigmoid(sums[m][0]), f = sigmoid(sums[m][1]), g = tanh(sums[m][2]), o = sigmoid(sums[m][3]);
      const Vector before = load(c_before + r * kLanes);
      Vector c = f * before + i * g;
      Vector h = o * tanh(c);
      if (a.mask && !a.mask[b * s.steps + time(t)]) {
        c = before;
        h = load_some(in[t & 1] + r * seen.row + seen.h + p * kLanes, n);
      }
      store(c_after + r * kLanes, c);
      write_h(in[(t + 1) & 1] + r * seen.row, r, p, h, n);
      if (a.y) store_some(a.y + (b * s.steps + t) * s.units + p * kLanes, h, n);
      if (!a.gates) continue;
      float* kept = a.gates + sizes.at(t, p, b) * kPanel;
      store(kept, i);
      store(kept + kLanes, f);
      store(kept + 2 * kLanes, g);
      store(kept + 3 * kLanes, o);
    }
  }

  // Where c of a panel is after step t: kept for the gradient, or in turns.
  float* c_after(int64_t t, int64_t p) const {
    return a.cells && t >= 0 ? a.cells + sizes.at(t, p, range.begin) * kLanes : c[(t + 1) & 1] + p * rows * kLanes;
  }

  void run() {
    team.each([&](int64_t member) {
      start(team.share(sizes.panels, member));
      if (!ahead) gather(0, team.share(rows, member));
    });
    for (int64_t t = 0; t < s.steps; t++)
      team.each([&](int64_t member) {
        const Range panels = team.share(sizes.panels, member);
        if (ahead && t % window == 0) project_window(t, panels);
        for (int64_t p = panels.begin; p < panels.end; p++) {
          const Coming coming{weights + (p + 1 < panels.end ? p + 1 : panels.begin) * s.keys() * kPanel, sizes.far};
          in_blocks(rows, [&](int64_t first, auto m) __attribute__((always_inline)) {
            with_weights(*this, p, [&](auto w) __attribute__((always_inline)) {
              block<decltype(m)::n>(*this, w, t, p, first, c_after(t - 1, p), c_after(t, p), coming);
            });
          });
        }
        if (!ahead && t + 1 < s.steps) gather(t + 1, team.share(rows, member));
      });
    for (int64_t r = 0; r < rows; r++) {
      const int64_t b = range.begin + r;
      copy(a.h + b * s.units, in[s.steps & 1] + r * seen.row + seen.h, s.units);
      for (int64_t p = 0; p < sizes.panels; p++)
        store_some(a.c + b * s.units + p * kLanes, load(c_after(s.steps - 1, p) + r * kLanes), s.units - p * kLanes);
    }
  }
};

template <bool DROPOUT>
int64_t forward_with(const Forward& a, float* memory, const Parallel& p) {
  using Part = ForwardRows<DROPOUT>;
  const Shape& s = a.shape;
  const Sizes sizes(s);
  const Plan plan(s, p.threads);
  const Team team{p, plan.members};
  Workspace w{memory};
  float* weights = w.take(sizes.panels * s.keys() * kPanel);
  float* bias = w.take(sizes.panels * kPanel);
  const int64_t room =
      room_of_part(s, plan.parts, [&](Range range, Workspace& own) { Part(a, weights, bias, team, range, own); });
  float* parts_memory = w.take(room * plan.parts);
  if (!memory) return w.used;
  const Team all{p, plan.parts * plan.members};
  all.each([&](int64_t member) {
    pack(a, all.share(sizes.panels, member), Part::unpacked_of(s), weights, bias);
  });
  parallel(p, plan.parts, [&](int i) {
    Workspace own{parts_memory + room * i};
    Part(a, weights, bias, team, share(s.batch, plan.parts, i), own).run();
  });
  return w.used;
}

}  // namespace
}  // namespace klc
