// Forward: for each step, panel of units and block of rows, one product with the packed weights, then the gates.
#pragma once
#include "cells.h"
#include "core.h"
#include "vector.h"

namespace klc {
namespace {

// (features + units, gates * units) -> (panels, features + units, kPanel), some panels of it; a tail is filled with
// zeros. Row by row, as they are read. Weights that are read where they lie are left out.
template <class Cell>
inline void pack(const Forward& a, Range panels, int64_t unpacked, float* weights, float* bias) {
  const Shape& s = a.shape;
  const int64_t row_size = Cell::kGates * s.units, keys = s.keys();
  auto pack_row = [&](const float* row, Range some, float* to, int64_t stride) {
    for (int64_t p = some.begin; p < some.end; p++)
      for (int j = 0; j < kColumns; j++)
        store(to + p * stride + j * kLanes, load_some(row + Cell::column(s, p, j), Cell::count(s, p, j)));
  };
  const Range packed{most(unpacked, panels.begin), panels.end};
  for (int64_t k = 0; k < keys && packed.count() > 0; k++)
    pack_row(k < s.features ? a.kernel + k * row_size : a.recurrent + (k - s.features) * row_size, packed, weights + k * kPanel, keys * kPanel);
  if (a.bias)
    pack_row(a.bias, panels, bias, kPanel);
  else
    clear(bias + panels.begin * kPanel, panels.count() * kPanel);
}

// The weights of a panel of units: packed, which makes the strides constants, or where they lie.
template <class Cell, bool PACKED>
struct Weights {
  const float *kernel, *recurrent;
  int64_t row, column;  // how far it is to the next key, and to the next column of vectors
  Weights(const Forward& a, const float* packed, int64_t p)
      : kernel(PACKED ? packed + p * a.shape.keys() * kPanel : a.kernel + p * Cell::kUnits),
        recurrent(PACKED ? kernel + a.shape.features * kPanel : a.recurrent + p * Cell::kUnits),
        row(PACKED ? kPanel : Cell::kGates * a.shape.units),
        column(PACKED || Cell::kGates == 1 ? kLanes : a.shape.units) {}
};

// The rows of one part of the batch, on their way through time.
template <class Cell, bool DROPOUT>
struct ForwardRows {
  static constexpr bool EACH = DROPOUT && Cell::kGates > 1;  // gates see x or h each through its own dropout mask
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
  float *in[2], *c[2];     // (rows, seen.row) and, if there is a c, (panels, rows, lanes), before and after a step
  float* z;                // of the inputs projected ahead: (window, rows, panels, kPanel)

  ForwardRows(const Forward& a, const float* weights, const float* bias, const Team& team, Range range, Workspace& w)
      : a(a), s(a.shape), sizes(a.shape), unpacked(unpacked_of(a.shape)), weights(weights), bias(bias), team(team),
        range(range), rows(range.count()), ahead(rows < kMaxRows && a.shape.steps > 1 && !a.x_dropout), window(least(a.shape.steps, 48)),
        seen(a.shape, a.x_dropout, a.dropout, 0) {
    for (int k = 0; k < 2; k++) in[k] = w.take(rows * seen.row);
    for (int k = 0; k < 2; k++) c[k] = w.take(Cell::kMemory ? sizes.panels * rows * kLanes : 0);
    z = ahead ? w.take(rows * window * sizes.panels * kPanel) : nullptr;
  }

  int64_t time(int64_t t) const { return a.reverse ? s.steps - 1 - t : t; }
  const float* x(int64_t r, int64_t t) const { return a.x + ((range.begin + r) * s.steps + time(t)) * s.features; }

  static int64_t unpacked_of(const Shape& s) { return Sizes(s).brief ? s.units / Cell::kUnits : 0; }

  // Calls f with the weights of panel p.
  template <class F>
  KLC_INLINE void with_weights(const ForwardRows& self, int64_t p, F f) {
    if (p < self.unpacked)
      f(Weights<Cell, false>(self.a, self.weights, p));
    else
      f(Weights<Cell, true>(self.a, self.weights, p));
  }

  void write_h(float* row, int64_t r, int64_t unit, Vector h, int64_t n) const {
    float* to = row + seen.h + unit;
    store_some(to, h, n);
    if (DROPOUT && a.dropout)
      for (int g = 0; g < Cell::kGates; g++) {
        const float* mask = a.dropout + (g * s.batch + range.begin + r) * s.units + unit;
        store_some(to + (g + 1) * s.units, h * load_some(mask, n), n);
      }
  }

  void start(Range panels) {
    for (int64_t p = panels.begin; p < panels.end; p++)
      for (int64_t r = 0; r < rows; r++) {
        for (int v = 0; v < Cell::kVectors; v++) {
          const int64_t unit = Cell::unit(p, v), n = Cell::count(s, p, v), at = (range.begin + r) * s.units + unit;
          write_h(in[0] + r * seen.row, r, unit, load_some(a.h0 + at, n), n);
          if (Cell::kMemory) store(c[0] + (p * rows + r) * kLanes, load_some(a.c0 + at, n));
        }
      }
  }

  void project_window(int64_t t, Range panels) {
    const Coming nothing{weights, false};
    const int64_t count = least(window, s.steps - t), x_row = a.reverse ? -s.features : s.features;
    for (int64_t r = 0; r < rows; r++)
      for (int64_t p = panels.begin; p < panels.end; p++)
        in_blocks(count, [&](int64_t first, auto block) __attribute__((always_inline)) {
          constexpr int M = decltype(block)::n;
          Vector sums[M][kColumns];
          for (int m = 0; m < M; m++)
            for (int j = 0; j < kColumns; j++) sums[m][j] = load(bias + p * kPanel + j * kLanes);
          with_weights(*this, p, [&](auto w) __attribute__((always_inline)) {
            multiply(sums, x(r, t + first), x_row, 0, s.features, w.kernel, w.row, w.column, nothing);
          });
          for (int m = 0; m < M; m++)
            for (int j = 0; j < kColumns; j++)
              store(z + (((first + m) * rows + r) * sizes.panels + p) * kPanel + j * kLanes, sums[m][j]);
        });
  }

  // The rows of x, as the weights see them.
  void gather(int64_t t, Range some) {
    for (int64_t r = some.begin; r < some.end; r++) seen.write_x(in[t & 1] + r * seen.row, x(r, t), a.x_dropout, range.begin + r);
  }

  template <int M, bool PACKED>
  KLC_INLINE void block(ForwardRows& self, const Weights<Cell, PACKED>& w, int64_t t, int64_t p, int64_t first,
                        const float* c_before, float* c_after, Coming coming) {
    const Forward& a = self.a;
    const Shape& s = self.s;
    const int64_t rows = self.rows, in_row = self.seen.row;
    const float* row = self.in[t & 1] + first * in_row;
    coming = coming.at(first, 0, s.keys());
    Vector sums[M][kColumns];
    for (int m = 0; m < M; m++)
      for (int j = 0; j < kColumns; j++) {
        const float* from = self.ahead ? self.z + (((t % self.window) * rows + first + m) * self.sizes.panels + p) * kPanel
                                       : self.bias + p * kPanel;
        sums[m][j] = load(from + j * kLanes);
      }
    if (DROPOUT && a.x_dropout)
      multiply<M, kColumns, EACH>(sums, row, in_row, s.features, s.features, w.kernel, w.row, w.column, coming);
    else if (!self.ahead)
      multiply(sums, row, in_row, 0, s.features, w.kernel, w.row, w.column, coming);
    coming = coming.at(0, s.features, s.keys());
    if (DROPOUT && a.dropout)
      multiply<M, kColumns, EACH>(sums, row + self.seen.h + s.units, in_row, s.units, s.units, w.recurrent, w.row, w.column,
                                  coming);
    else
      multiply(sums, row + self.seen.h, in_row, 0, s.units, w.recurrent, w.row, w.column, coming);
    Vector done[M][kColumns];  // what is handed on by its address does not stay in registers
    for (int m = 0; m < M; m++)
      for (int j = 0; j < kColumns; j++) done[m][j] = sums[m][j];
    self.states(t, p, first, M, done, c_before, c_after);
  }

  // The gates and the new states of `count` rows. Not inlined: its constants would take registers from the sums.
  __attribute__((noinline)) void states(int64_t t, int64_t p, int64_t first, int count, const Vector (*sums)[kColumns],
                                        const float* c_before, float* c_after) {
    for (int m = 0; m < count; m++) {
      const int64_t r = first + m, b = range.begin + r;
      const bool masked = a.mask && !a.mask[b * s.steps + time(t)];
      for (int v = 0; v < Cell::kVectors; v++) {
        const int64_t unit = Cell::unit(p, v), n = Cell::count(s, p, v);
        Vector gates[Cell::kGates];
        for (int g = 0; g < Cell::kGates; g++) gates[g] = sums[m][g * Cell::kVectors + v];
        const Vector before = Cell::kMemory ? load(c_before + r * kLanes) : (Vector){};
        Vector c = before;
        Vector h = Cell::step(gates, c);
        if (masked) {
          c = before;
          h = load_some(in[t & 1] + r * seen.row + seen.h + unit, n);
        }
        if (Cell::kMemory) store(c_after + r * kLanes, c);
        write_h(in[(t + 1) & 1] + r * seen.row, r, unit, h, n);
        if (a.y) store_some(a.y + (b * s.steps + t) * s.units + unit, h, n);
        if (Cell::kMemory && a.gates)
          for (int g = 0; g < Cell::kGates; g++) store(a.gates + sizes.at(t, p, b) * kPanel + g * kLanes, gates[g]);
      }
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
      for (int64_t p = 0; Cell::kMemory && p < sizes.panels; p++)
        store_some(a.c + b * s.units + p * kLanes, load(c_after(s.steps - 1, p) + r * kLanes), Cell::count(s, p, 0));
    }
  }
};

template <class Cell, bool DROPOUT>
int64_t forward_with(const Forward& a, float* memory, const Parallel& p) {
  using Part = ForwardRows<Cell, DROPOUT>;
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
    pack<Cell>(a, all.share(sizes.panels, member), Part::unpacked_of(s), weights, bias);
  });
  parallel(p, plan.parts, [&](int i) {
    Workspace own{parts_memory + room * i};
    Part(a, weights, bias, team, share(s.batch, plan.parts, i), own).run();
  });
  return w.used;
}

}  // namespace
}  // namespace klc
