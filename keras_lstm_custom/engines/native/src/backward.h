// Backward: windows of steps from the last to the first. In a window the loop computes dz and dh only; the
// gradients of the weights and of x follow as products over the window, while it is still in the cache.
#pragma once
#include "backward_tiles.h"
#include "cells.h"
#include "core.h"
#include "plan.h"
#include "vector.h"

namespace klc {
namespace {

// Packs panel q. Here and below: inlined, it would cost the products registers.
template <class Cell>
__attribute__((noinline)) inline void pack_transposed(const Shape& s, const Factor& factor, int64_t q, float* out) {
  const int64_t panels = Sizes<Cell>(s).panels;
  for (int64_t p = 0; p < panels; p++)
    for (int j = 0; j < Cell::kColumns; j++, out += kLanes * kPanel)
      for (int64_t k = 0; k < kPanel; k += kLanes) {
        Vector block[kLanes];
#pragma GCC unroll 16
        for (int64_t i = 0; i < kLanes; i++) {
          const int64_t row = q * kPanel + k + i;
          const float* from = factor.weights + row * Cell::kGates * s.units + Cell::column(s, p, j);
          block[i] = row < factor.rows ? load_some(from, Cell::count(s, p, j)) : (Vector){};
        }
        transpose(block);
#pragma GCC unroll 16
        for (int lane = 0; lane < kLanes; lane++) store(out + lane * kPanel + k, block[lane]);
      }
}

// The rows of the weights' gradients: of the kernel, the bias, the cell's further weights and the recurrent kernel.
template <class Cell>
struct SumRows {
  int64_t bias, extra, h, count;
  explicit SumRows(const Shape& s) : bias(s.features), extra(bias + 1), h(extra + (Cell::kExtra != Extra::none)), count(h + s.units) {}
};

// Adds the parts' shares of one panel, in their order, and writes the weights' gradients.
template <class Cell>
__attribute__((noinline)) inline void unpack_panel(const Backward& a, const float* sums, int64_t stride, int64_t shares, int64_t p) {
  const Shape& s = a.shape;
  const SumRows<Cell> rows(s);
  for (int64_t k = 0; k < rows.count; k++) {
    float* to = k < rows.bias    ? a.d_kernel + k * Cell::kGates * s.units
                : k == rows.bias ? a.d_bias
                : k < rows.h     ? a.d_extra
                                 : a.d_recurrent + (k - rows.h) * Cell::kGates * s.units;
    for (int j = 0; j < Cell::kColumns && to; j++) {
      const float* from = sums + (p * rows.count + k) * Cell::kRow + j * kLanes;
      Vector total = load(from);
      for (int64_t i = 1; i < shares; i++) total += load(from + i * stride);
      store_some(to + Cell::column(s, p, j), total, Cell::count(s, p, j));
    }
  }
}

template <class Cell, bool DROPOUT>
struct BackwardRows : BackwardTiles<typename Cell::Base, DROPOUT> {
  using Tiles = BackwardTiles<typename Cell::Base, DROPOUT>;
  using Tiles::a, Tiles::s, Tiles::range, Tiles::rows, Tiles::window, Tiles::samples, Tiles::seen, Tiles::in, Tiles::sums, Tiles::dz_of;
  static constexpr int kRow = Cell::kRow;
  const Sizes<Cell> sizes;
  const SumRows<Cell> sum_rows;
  const Factor recurrent, kernel;
  const Team team;
  const bool alone;                    // no other part has a share of the weights' gradients
  const int64_t h_columns, x_columns;  // units and features, padded to panels
  bool fresh = true;                   // nothing has been added to the sums
  float *dh, *dc, *dx;
  float* carry;  // of each row what dh of the step before starts from; null where that is 0
  float* room;   // of each member, for a panel of a factor

  BackwardRows(const Backward& a, const Factor& recurrent, const Factor& kernel, const Team& team, Range range, Workspace& w)
      : Tiles(a, Sizes<Cell>(a.shape), SumRows<Cell>(a.shape).count, range, w), sizes(a.shape), sum_rows(a.shape), recurrent(recurrent),
        kernel(kernel), team(team), alone(rows == s.batch), h_columns(sizes.unit_panels * kPanel),
        x_columns(sizes.feature_panels * kPanel) {
    dh = w.take(rows * h_columns);
    dc = w.take(Cell::kMemory ? sizes.panels * rows * kLanes : 0);
    carry = Cell::kCarries || a.mask ? w.take(rows * h_columns) : nullptr;
    dx = w.take(samples * x_columns);
    room = w.take(sizes.brief ? team.members * recurrent.panel_size : 0);
  }

  int64_t time(int64_t t) const { return a.reverse ? s.steps - 1 - t : t; }
  bool masked(int64_t r, int64_t t) const { return a.mask && !a.mask[(range.begin + r) * s.steps + time(t)]; }
  float* sums_of(int64_t p) const { return sums + p * sum_rows.count * kRow; }
  float* dc_of(int64_t p, int64_t r) const { return dc + (p * rows + r) * kLanes; }

  void start() {
    clear(dh, rows * h_columns);
    if (carry) clear(carry, rows * h_columns);  // of all columns, as of dh
    for (int64_t p = 0; Cell::kExtra == Extra::peepholes && p < sizes.panels; p++) clear(sums_of(p) + sum_rows.extra * kRow, kRow);
    for (int64_t r = 0; r < rows; r++) {
      const int64_t at = (range.begin + r) * s.units;
      copy(dh + r * h_columns, a.d_h + at, s.units);
      for (int64_t p = 0; Cell::kMemory && p < sizes.panels; p++)
        store(dc_of(p, r), load_some(a.d_c + at + p * kLanes, Cell::count(s, p, 0)));
    }
  }

  // What the weights saw at step t: x, 1 for the bias, and h of the step before.
  void gather(int64_t r, int64_t t, float* row) const {
    const int64_t b = range.begin + r;
    seen.write_x(row, a.x + (b * s.steps + time(t)) * s.features, a.x_dropout, b);
    row[seen.x] = 1.f;
    const float* h = t ? a.y + (b * s.steps + t - 1) * s.units : a.h0 + b * s.units;
    float* to = row + seen.h;
    copy(to, h, s.units);
    if (DROPOUT && a.dropout)
      for (int g = 0; g < Cell::kGates; g++) multiply_rows(to + (1 + g) * s.units, h, a.dropout + (g * s.batch + b) * s.units, s.units);
  }

  void step(int64_t p, int64_t r, int64_t t, int64_t sample) {
    const int64_t b = range.begin + r;
    for (int v = 0; v < Cell::kVectors; v++) {
      const int64_t unit = Cell::unit(p, v), n = Cell::count(s, p, v), at = (b * s.steps + t) * s.units + unit;
      Vector z[Cell::kZ] = {};
      Back back{};
      back.dh = load(dh + r * h_columns + unit);
      if (a.d_y) back.dh += load_some(a.d_y + at, n);
      if (masked(r, t)) {  // the state was kept: its gradients pass on
        back.carry = back.dh;
      } else {
        Vector d_extra[Cell::kGates] = {};
        back.d_extra = d_extra;
        back.h = load_some(a.y + at, n);
        if constexpr (Cell::kCarries) back.h_before = load_some(t ? a.y + at - s.units : a.h0 + b * s.units + unit, n);
        if constexpr (Cell::kMemory) {
          back.c = load(a.cells + sizes.cells(t, p, b));
          back.c_before = t ? load(a.cells + sizes.cells(t - 1, p, b)) : load_some(a.c0 + b * s.units + unit, n);
          back.dc = load(dc_of(p, r));
        }
        for (int g = 0; g < Cell::kKept; g++) z[g] = load(a.gates + sizes.gates(t, p, b) + g * kLanes);
        Cell::gradient(z, back, At{a, b, time(t), unit, n});
        if constexpr (Cell::kMemory) store(dc_of(p, r), back.dc);
        if (Cell::kExtra == Extra::peepholes && a.extra)
          for (int g = 0; g < Cell::kGates; g++) {
            float* to = sums_of(p) + sum_rows.extra * kRow + g * kLanes;
            store(to, load(to) + d_extra[g]);
          }
      }
      if (carry) store(carry + r * h_columns + unit, some(back.carry, n));
      // Lanes that no unit has hold what came of a weight of 0: NaN, if x is infinite.
      for (int g = 0; g < Cell::kZ; g++) store(dz_of(p, sample) + (g * Cell::kVectors + v) * kLanes, some(z[g], n));
    }
  }

  // The transposed product for some panels of columns.
  void transposed_product(const Factor& factor, int64_t member, Range panels, int64_t first, int64_t count, float* out, int64_t out_row,
                          const float* start = nullptr) {
    const int64_t size = factor.panel_size;
    float* own = room + member * size;
    for (int64_t q = panels.begin; q < panels.end; q++) {
      if (!factor.packed) pack_transposed<Cell>(s, factor, q, own);
      const float* w = factor.packed ? factor.packed + q * size : own;
      const float* next = factor.packed ? factor.packed + (q + 1 < panels.end ? q + 1 : panels.begin) * size : own;
      Tiles::transposed_product(factor, w, q, next, first, count, out, out_row, start);
    }
  }

  // The gradients of the weights of a panel over a window.
  void weight_sums(int64_t p, int64_t used) {
    auto add = [&](auto each, auto apart, int64_t row, int64_t column, int64_t count) {
      constexpr bool kEach = DROPOUT && decltype(each)::n && Cell::kGates > 1;
      constexpr int kApart = decltype(apart)::n ? Cell::kApart : 0;
      Tiles::template weight_sums<kEach, kApart>(p, sums_of(p) + row * kRow, fresh, column, count, used);
    };
    constexpr Rows<0> no{};
    constexpr Rows<1> yes{};
    if (!DROPOUT && Cell::kExtra == Extra::none) return add(no, no, 0, 0, sum_rows.count);
    if (DROPOUT && a.x_dropout) {
      add(yes, no, 0, 0, s.features);
      add(no, no, sum_rows.bias, seen.x, 1);
    } else {
      add(no, no, 0, 0, s.features + 1);
    }
    // A recurrent bias has the row before h's, and its 1 stands before h.
    constexpr bool kBias = Cell::kExtra == Extra::recurrent_bias;
    if (DROPOUT && a.dropout) {
      if (kBias) add(no, yes, sum_rows.extra, seen.x, 1);
      add(yes, yes, sum_rows.h, seen.h + s.units, s.units);
    } else {
      add(no, yes, sum_rows.h - kBias, seen.h - kBias, s.units + kBias);
    }
  }

  // dz of one step, then dh of the step before.
  void step(int64_t t, int64_t first) {
    team.each([&](int64_t member) {
      const Range panels = team.share(sizes.panels, member), some = team.share(rows, member);
      for (int64_t r = some.begin; r < some.end; r++) gather(r, t, in + (first + r) * seen.row);
      for (int64_t p = panels.begin; p < panels.end; p++)
        for (int64_t r = 0; r < rows; r++) step(p, r, t, first + r);
    });
    team.each([&](int64_t member) {
      const Range panels = team.share(sizes.unit_panels, member);
      transposed_product(recurrent, member, panels, first, rows, dh, h_columns, carry);
    });
  }

  // The gradients of the weights and of x over a window. After the last of a part that is alone those of the weights
  // are complete.
  void products(int64_t t, int64_t used, bool complete) {
    team.each([&](int64_t member) {
      const Range panels = team.share(sizes.panels, member);
      for (int64_t p = panels.begin; p < panels.end; p++) {
        weight_sums(p, used);
        if (complete) unpack_panel<Cell>(a, sums, 0, 1, p);
      }
      const Range some = team.share(used, member);
      transposed_product(kernel, member, {0, sizes.feature_panels}, some.begin, some.count(), dx + some.begin * x_columns, x_columns);
      for (int64_t k = some.begin; k < some.end; k++) {
        const int64_t b = range.begin + k % rows;
        copy(a.d_x + (b * s.steps + time(t + k / rows)) * s.features, dx + k * x_columns, s.features);
      }
    });
  }

  void run() {
    start();
    for (int64_t end = s.steps; end > 0;) {
      const int64_t begin = most(0, end - window);
      for (int64_t t = end - 1; t >= begin; t--) step(t, (t - begin) * rows);
      products(begin, (end - begin) * rows, alone && begin == 0);
      fresh = false;
      end = begin;
    }
    for (int64_t r = 0; r < rows; r++) {
      const int64_t at = (range.begin + r) * s.units;
      copy(a.d_h0 + at, dh + r * h_columns, s.units);
      for (int64_t p = 0; Cell::kMemory && p < sizes.panels; p++)
        store_some(a.d_c0 + at + p * kLanes, load(dc_of(p, r)), Cell::count(s, p, 0));
    }
  }
};

template <class Cell, bool DROPOUT>
int64_t backward_with(const Backward& a, float* memory, const Parallel& p) {
  using Part = BackwardRows<Cell, DROPOUT>;
  const Shape& s = a.shape;
  const Sizes<Cell> sizes(s);
  const Plan plan(s, sizes, p.threads);
  const Team team{p, plan.members}, all{p, plan.parts * plan.members};
  Workspace w{memory};
  auto factor = [&](const float* weights, int64_t rows, const float* dropout, bool of_h, int64_t panels) {
    const int64_t size = sizes.panels * Cell::kRow * kPanel;
    return Factor{weights, rows, dropout, of_h, size, sizes.brief ? nullptr : w.take(panels * size)};
  };
  const Factor recurrent = factor(a.recurrent, s.units, a.dropout, true, sizes.unit_panels);
  const Factor kernel = factor(a.kernel, s.features, a.x_dropout, false, sizes.feature_panels);
  const int64_t room = room_of_part(s, plan.parts, [&](Range range, Workspace& own) { Part(a, recurrent, kernel, team, range, own); });
  float* parts_memory = w.take(room * plan.parts);
  if (!memory) return w.used;
  if (!sizes.brief)
    all.each([&](int64_t member) {
      const Range some = all.share(sizes.unit_panels + sizes.feature_panels, member);
      for (int64_t panel = some.begin; panel < some.end; panel++) {
        const bool of_units = panel < sizes.unit_panels;
        const Factor& f = of_units ? recurrent : kernel;
        const int64_t q = of_units ? panel : panel - sizes.unit_panels;
        pack_transposed<Cell>(s, f, q, f.packed + q * f.panel_size);
      }
    });
  parallel(p, plan.parts, [&](int i) {
    Workspace own{parts_memory + room * i};
    Part(a, recurrent, kernel, team, share(s.batch, plan.parts, i), own).run();
  });
  if (plan.parts > 1)
    all.each([&](int64_t member) {  // a part's sums are the first thing in its room
      const Range some = all.share(sizes.panels, member);
      for (int64_t panel = some.begin; panel < some.end; panel++) unpack_panel<Cell>(a, parts_memory, room, plan.parts, panel);
    });
  return w.used;
}

}  // namespace
}  // namespace klc
