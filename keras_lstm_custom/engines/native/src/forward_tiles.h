// The products of a step with x and h, forward: for each panel of units and tile of rows, one with the packed weights.
#pragma once
#include "cells.h"
#include "core.h"
#include "plan.h"
#include "vector.h"

namespace klc {
namespace {

// The products of one part of the batch, which cells of the same tile share.
template <class Tile, bool DROPOUT>
struct ForwardTiles {
  static constexpr int kColumns = Tile::kColumns, kSums = Tile::kSums, kRow = Tile::kRow, kSumRow = Tile::kSumRow;
  const Forward& a;
  const Shape& s;
  const int64_t gates, units;  // the cell's gates, and the units of a panel
  const int64_t panels;
  const int64_t unpacked;         // so many panels are read where they lie: all but a tail, or none
  const float *weights, *biases;  // packed
  const Range range;
  const int64_t rows;
  const bool ahead;        // few rows: project the inputs of many steps first, as rows of one product
  const int64_t window;    // that many steps
  const SeenByGates seen;  // one row of inputs of a step
  float* in[2];            // (rows, seen.row), before and after a step
  float* z;                // of the inputs projected ahead: (window, rows, panels, kSumRow)

  template <class Cell>
  ForwardTiles(const Forward& a, Cell, int64_t panels, int64_t unpacked, const float* weights, const float* biases, Range range,
               Workspace& w)
      : a(a), s(a.shape), gates(Cell::kGates), units(Cell::kUnits), panels(panels), unpacked(unpacked), weights(weights), biases(biases),
        range(range), rows(range.count()), ahead(!a.x_dropout && s.steps > 1 && rows < kMR), window(least(s.steps, 48)), seen(a, gates, 0) {
    for (float*& rows_in : in) rows_in = w.take(rows * seen.row);
    z = ahead ? w.take(rows * window * panels * kSumRow) : nullptr;
  }
  // The gates and the new states of `count` rows. Not inlined: its constants would take registers from the sums.
  virtual void states(int64_t t, int64_t p, int64_t first, int count, const Vector (*sums)[kSums], const float* c_before,
                      float* c_after) = 0;

  int64_t time(int64_t t) const { return a.reverse ? s.steps - 1 - t : t; }
  const float* x(int64_t r, int64_t t) const { return a.x + ((range.begin + r) * s.steps + time(t)) * s.features; }

  // The weights of a panel of units: packed, which makes the strides constants, or where they lie.
  template <bool PACKED>
  struct Weights {
    const float *kernel, *recurrent;
    int64_t row, column;  // how far it is to the next key, and to the next column of vectors
    Weights(const ForwardTiles& f, int64_t p)
        : kernel(PACKED ? f.weights + p * f.s.keys() * kRow : f.a.kernel + p * f.units),
          recurrent(PACKED ? kernel + f.s.features * kRow : f.a.recurrent + p * f.units), row(PACKED ? kRow : f.gates * f.s.units),
          column(PACKED || f.gates == 1 ? kLanes : f.s.units) {}
  };
  // Calls f with the weights of panel p.
  template <class F>
  KLC_INLINE void with_weights(const ForwardTiles& self, int64_t p, F f) {
    if (p < self.unpacked)
      f(Weights<false>(self, p));
    else
      f(Weights<true>(self, p));
  }

  void project_window(int64_t t, Range some) {
    const Prefetch nothing{weights, false};
    const int64_t count = least(window, s.steps - t), x_row = a.reverse ? -s.features : s.features;
    for (int64_t r = 0; r < rows; r++)
      for (int64_t p = some.begin; p < some.end; p++)
        in_tiles<Tile::kRows>(count, [&](int64_t first, auto m) KLC_HERE {
          constexpr int M = decltype(m)::n;
          Vector sums[M][kSums];
          for (int m = 0; m < M; m++)
            for (int j = 0; j < kSums; j++) sums[m][j] = load(biases + p * kSumRow + j * kLanes);
          with_weights(*this, p, [&](auto w) KLC_HERE {
            multiply<kColumns>(sums, x(r, t + first), x_row, 0, s.features, w.kernel, w.row, w.column, nothing);
          });
          for (int m = 0; m < M; m++)
            for (int j = 0; j < kSums; j++) store(z + (((first + m) * rows + r) * panels + p) * kSumRow + j * kLanes, sums[m][j]);
        });
  }

  // The rows of x, as the weights see them.
  void gather(int64_t t, Range some) {
    for (int64_t r = some.begin; r < some.end; r++) seen.write_x(in[t & 1] + r * seen.row, x(r, t), a.x_dropout, range.begin + r);
  }

  template <int M, bool PACKED>
  KLC_INLINE void tile(ForwardTiles& self, const Weights<PACKED>& w, int64_t t, int64_t p, int64_t first, const float* c_before,
                       float* c_after, Prefetch next) {
    const Forward& a = self.a;
    const Shape& s = self.s;
    const int64_t rows = self.rows, in_row = self.seen.row;
    const float* row = self.in[t & 1] + first * in_row;
    next = next.at(first, 0, s.keys());
    Vector sums[M][kSums];
    for (int m = 0; m < M; m++)
      for (int j = 0; j < kSums; j++) {
        const float* from =
            self.ahead ? self.z + (((t % self.window) * rows + first + m) * self.panels + p) * kSumRow : self.biases + p * kSumRow;
        sums[m][j] = load(from + j * kLanes);
      }
    // With dropout and several gates, each sees x or h through its own mask.
    if (DROPOUT && a.x_dropout && self.gates > 1)
      multiply<kColumns, DROPOUT>(sums, row, in_row, s.features, s.features, w.kernel, w.row, w.column, next);
    else if (!self.ahead)
      multiply<kColumns>(sums, row, in_row, 0, s.features, w.kernel, w.row, w.column, next);
    next = next.at(0, s.features, s.keys());
    row += self.seen.h;
    if (DROPOUT && a.dropout && self.gates > 1)
      multiply<kColumns, DROPOUT, Tile::kApart>(sums, row + s.units, in_row, s.units, s.units, w.recurrent, w.row, w.column, next);
    else
      multiply<kColumns, false, Tile::kApart>(sums, DROPOUT && a.dropout ? row + s.units : row, in_row, 0, s.units, w.recurrent, w.row,
                                              w.column, next);
    Vector done[M][kSums];  // what is handed on by its address does not stay in registers
    for (int m = 0; m < M; m++)
      for (int j = 0; j < kSums; j++) done[m][j] = sums[m][j];
    self.states(t, p, first, M, done, c_before, c_after);
  }

  // One step of a panel.
  void step(int64_t t, int64_t p, const float* c_before, float* c_after, Prefetch next) {
    in_tiles<Tile::kRows>(rows, [&](int64_t first, auto m) KLC_HERE {
      with_weights(*this, p, [&](auto w) KLC_HERE { tile<decltype(m)::n>(*this, w, t, p, first, c_before, c_after, next); });
    });
  }

 protected:
  ~ForwardTiles() = default;
};

}  // namespace
}  // namespace klc
