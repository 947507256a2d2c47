// Backward: windows of steps from the last to the first. In a window the loop computes dz and dh only; the
// gradients of the weights and of x follow as products over the window, while it is still in the cache.
#pragma once
#include "cells.h"
#include "core.h"
#include "vector.h"

namespace klc {
namespace {

// A matrix of weights (rows, gates * units) that dz is multiplied by transposed: (panels of rows, panels of units x kPanel,
// kPanel). Packed in that form all at once; or null, and a panel of rows is packed just before it is used.
struct Factor {
  const float* weights;
  int64_t rows;
  float* packed;
  static int64_t panel_size(const Sizes& sizes) { return sizes.panels * kPanel * kPanel; }
};

// Packs panel q. Here and below: inlined, it would cost the products registers.
template <class Cell>
__attribute__((noinline)) inline void pack_transposed(const Shape& s, const Sizes& sizes, const Factor& factor, int64_t q, float* out) {
  for (int64_t p = 0; p < sizes.panels; p++)
    for (int j = 0; j < kColumns; j++, out += kLanes * kPanel)
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

// Adds the parts' shares of one panel, in their order, and writes the weights' gradients.
template <class Cell>
__attribute__((noinline)) inline void unpack_panel(const Backward& a, const float* sums, int64_t stride, int64_t shares, int64_t p) {
  const Shape& s = a.shape;
  for (int64_t k = 0; k < s.keys() + 1; k++)
    for (int j = 0; j < kColumns; j++) {
      const float* from = sums + (p * (s.keys() + 1) + k) * kPanel + j * kLanes;
      Vector total = load(from);
      for (int64_t i = 1; i < shares; i++) total += load(from + i * stride);
      float* to = k < s.features    ? a.d_kernel + k * Cell::kGates * s.units
                  : k == s.features ? a.d_bias
                                    : a.d_recurrent + (k - s.features - 1) * Cell::kGates * s.units;
      store_some(to + Cell::column(s, p, j), total, Cell::count(s, p, j));
    }
}

template <class Cell, bool DROPOUT>
struct BackwardRows {
  static constexpr bool EACH = DROPOUT && Cell::kGates > 1;  // gates see x or h each through its own dropout mask
  const Backward& a;
  const Shape& s;
  const Sizes sizes;
  const Factor recurrent, kernel;
  const Team team;
  const Range range;
  const int64_t rows;
  const bool alone;               // no other part has a share of the weights' gradients
  const int64_t window, samples;  // steps of a window, and rows of it
  const SeenByGates seen;         // one row of what the weights saw, with a 1 for the bias: a sample
  const int64_t h_columns, x_columns;  // units and features, padded to panels
  float* sums;  // (panels, features + 1 + units, kPanel): this part's share of the weights' gradients
  bool fresh = true;  // nothing has been added to it
  float *dz, *in, *dh, *dc, *carry, *dx;
  float* room;  // of each member, for a panel of a factor

  BackwardRows(const Backward& a, const Factor& recurrent, const Factor& kernel, const Team& team, Range range, Workspace& w)
      : a(a), s(a.shape), sizes(a.shape), recurrent(recurrent), kernel(kernel), team(team), range(range),
        rows(range.count()), alone(rows == s.batch), window(least(a.shape.steps, most(1, 192 / rows))), samples(window * rows),
        seen(a.shape, a.x_dropout, a.dropout, 1), h_columns(sizes.unit_panels * kPanel), x_columns(sizes.feature_panels * kPanel) {
    sums = w.take(sizes.panels * (s.keys() + 1) * kPanel);
    dz = w.take(sizes.panels * samples * kPanel);
    in = w.take(samples * seen.row);
    dh = w.take(rows * h_columns);
    dc = w.take(Cell::kMemory ? sizes.panels * rows * kLanes : 0);
    carry = w.take(a.mask ? rows * h_columns : 0);
    dx = w.take(samples * x_columns);
    room = w.take(sizes.brief ? team.members * Factor::panel_size(sizes) : 0);
  }

  int64_t time(int64_t t) const { return a.reverse ? s.steps - 1 - t : t; }
  bool masked(int64_t r, int64_t t) const { return a.mask && !a.mask[(range.begin + r) * s.steps + time(t)]; }
  float* sums_of(int64_t p) const { return sums + p * (s.keys() + 1) * kPanel; }
  float* dc_of(int64_t p, int64_t r) const { return dc + (p * rows + r) * kLanes; }

  void start() {
    clear(dh, rows * h_columns);
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
      for (int g = 0; g < Cell::kGates; g++)
        multiply_rows(to + (1 + g) * s.units, h, a.dropout + (g * s.batch + b) * s.units, s.units);
  }

  void step(int64_t p, int64_t r, int64_t t, int64_t sample) {
    const int64_t b = range.begin + r;
    for (int v = 0; v < Cell::kVectors; v++) {
      const int64_t unit = Cell::unit(p, v), n = Cell::count(s, p, v), at = (b * s.steps + t) * s.units + unit;
      Vector dh_t = load(dh + r * h_columns + unit), z[Cell::kGates] = {};
      if (a.d_y) dh_t += load_some(a.d_y + at, n);
      if (masked(r, t)) {  // the state was kept: its gradients pass on
        store(carry + r * h_columns + unit, dh_t);
      } else if constexpr (Cell::kMemory) {
        const float* c = a.cells + sizes.at(t, p, b) * kLanes;
        const Vector c_before = t ? load(a.cells + sizes.at(t - 1, p, b) * kLanes) : load_some(a.c0 + b * s.units + unit, n);
        Vector dc_t = load(dc_of(p, r));
        for (int g = 0; g < Cell::kGates; g++) z[g] = load(a.gates + sizes.at(t, p, b) * kPanel + g * kLanes);
        Cell::gradient(z, load(c), c_before, dh_t, dc_t);
        store(dc_of(p, r), dc_t);
      } else {
        Cell::gradient(z, load_some(a.y + at, n), dh_t);
      }
      // Lanes that no unit has hold what came of a weight of 0: NaN, if x is infinite.
      for (int g = 0; g < Cell::kGates; g++)
        store(dz + (p * samples + sample) * kPanel + (g * Cell::kVectors + v) * kLanes, some(z[g], n));
    }
  }

  // out[m] (+)= dz[first + m] W^T for the columns of panel q, with the gates of some panels of units, from the first
  // of which on out is written, not added to. With dropout each gate's share passes its mask.
  template <int M, int COLUMNS>
  KLC_INLINE void transposed(const BackwardRows& self, const float* w, const float* dropout, int64_t columns, int64_t q,
                             Range gates, int64_t first, int64_t row, float* out, int64_t out_row, Coming coming) {
    coming = coming.at(row, 0, gates.count() * kPanel);
    Vector sums[M][COLUMNS];
    for (int m = 0; m < M; m++)
      for (int j = 0; j < COLUMNS; j++) sums[m][j] = gates.begin ? load(out + m * out_row + j * kLanes) : (Vector){};
    if (!DROPOUT || !dropout) {
      for (int64_t p = gates.begin; p < gates.end; p++)
        multiply(sums, self.dz + (p * self.samples + first) * kPanel, kPanel, 0, kPanel, w + p * kPanel * kPanel, kPanel,
                 kLanes, coming.at(0, (p - gates.begin) * kPanel, 0));
    } else {
      for (int g = 0; g < Cell::kGates; g++) {
        Vector shares[M][COLUMNS];
        zero(shares);
        for (int64_t p = gates.begin; p < gates.end; p++)
          multiply(shares, self.dz + (p * self.samples + first) * kPanel + g * Cell::kUnits, kPanel, 0, Cell::kUnits,
                   w + (p * kPanel + g * Cell::kUnits) * kPanel, kPanel, kLanes,
                   coming.at(0, (g * gates.count() + p - gates.begin) * Cell::kUnits, 0));
        for (int m = 0; m < M; m++)
          for (int j = 0; j < COLUMNS; j++) {
            const int64_t b = self.range.begin + (first + m) % self.rows, column = q * kPanel + j * kLanes;
            sums[m][j] += shares[m][j] * load_some(dropout + (g * self.s.batch + b) * columns + column, columns - column);
          }
      }
    }
    for (int m = 0; m < M; m++)
      for (int j = 0; j < COLUMNS; j++) store(out + m * out_row + j * kLanes, sums[m][j]);
  }

  // The same for some panels of columns and `count` rows of dz from `first` on. The gates go a few panels at a time,
  // which stay in the cache for all rows.
  void transposed_product(const Factor& factor, const float* dropout, int64_t member, Range panels, int64_t first, int64_t count,
                          float* out, int64_t out_row) {
    constexpr int64_t kAtATime = 8;
    const int64_t columns = factor.rows, size = Factor::panel_size(sizes);
    float* own = room + member * size;
    for (int64_t q = panels.begin; q < panels.end; q++) {
      if (!factor.packed) pack_transposed<Cell>(s, sizes, factor, q, own);
      const float* w = factor.packed ? factor.packed + q * size : own;
      for (int64_t p = 0; p < sizes.panels; p += kAtATime) {
        const int64_t vectors = least(kColumns, parts(columns - q * kPanel, kLanes));
        const Range gates{p, least(p + kAtATime, sizes.panels)};
        const bool last = q + 1 == panels.end && gates.end == sizes.panels;
        const Coming coming{w + gates.end * kPanel * kPanel - (last ? panels.count() * size : 0), sizes.far};
        in_blocks(count, [&](int64_t r, auto block) __attribute__((always_inline)) {
          constexpr int M = decltype(block)::n;
          float* to = out + r * out_row + q * kPanel;
          switch (vectors) {
            case 1: transposed<M, 1>(*this, w, dropout, columns, q, gates, first + r, r, to, out_row, coming); break;
            case 2: transposed<M, 2>(*this, w, dropout, columns, q, gates, first + r, r, to, out_row, coming); break;
            case 3: transposed<M, 3>(*this, w, dropout, columns, q, gates, first + r, r, to, out_row, coming); break;
            default: transposed<M, 4>(*this, w, dropout, columns, q, gates, first + r, r, to, out_row, coming);
          }
        });
      }
    }
  }

  // sums[key] += in^T dz over the samples of a window, for `count` keys; with OWN a gate has an `in` of its own,
  // `count` columns further on.
  template <bool OWN>
  void weight_sums(int64_t p, int64_t key, int64_t column, int64_t count, int64_t used) {
    float* to = sums_of(p) + key * kPanel;
    in_blocks(count, [&](int64_t first, auto block) __attribute__((always_inline)) {
      constexpr int M = decltype(block)::n;
      Vector total[M][kColumns];
      for (int m = 0; m < M; m++)
        for (int j = 0; j < kColumns; j++) total[m][j] = fresh ? (Vector){} : load(to + (first + m) * kPanel + j * kLanes);
      // One sample is one row of both.
      multiply<M, kColumns, OWN>(total, in + column + first, 1, count, used, dz + p * samples * kPanel, kPanel, kLanes,
                                 {to, false}, seen.row);
      for (int m = 0; m < M; m++)
        for (int j = 0; j < kColumns; j++) store(to + (first + m) * kPanel + j * kLanes, total[m][j]);
    });
  }

  void weight_sums(int64_t p, int64_t used) {
    if (!DROPOUT) return weight_sums<false>(p, 0, 0, s.keys() + 1, used);
    const int64_t h = s.features + 1;
    a.x_dropout ? weight_sums<EACH>(p, 0, 0, s.features, used) : weight_sums<false>(p, 0, 0, s.features, used);
    weight_sums<false>(p, s.features, seen.x, 1, used);
    a.dropout ? weight_sums<EACH>(p, h, seen.h + s.units, s.units, used) : weight_sums<false>(p, h, seen.h, s.units, used);
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
      transposed_product(recurrent, a.dropout, member, panels, first, rows, dh, h_columns);
      const int64_t begin = panels.begin * kPanel, count = panels.count() * kPanel;
      for (int64_t r = 0; r < rows; r++)
        if (masked(r, t)) copy(dh + r * h_columns + begin, carry + r * h_columns + begin, count);
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
      transposed_product(kernel, a.x_dropout, member, {0, sizes.feature_panels}, some.begin, some.count(),
                         dx + some.begin * x_columns, x_columns);
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
  const Sizes sizes(s);
  const Plan plan(s, p.threads);
  const Team team{p, plan.members}, all{p, plan.parts * plan.members};
  Workspace w{memory};
  auto factor = [&](const float* weights, int64_t rows, int64_t panels) {
    return Factor{weights, rows, sizes.brief ? nullptr : w.take(panels * Factor::panel_size(sizes))};
  };
  const Factor recurrent = factor(a.recurrent, s.units, sizes.unit_panels);
  const Factor kernel = factor(a.kernel, s.features, sizes.feature_panels);
  const int64_t room =
      room_of_part(s, plan.parts, [&](Range range, Workspace& own) { Part(a, recurrent, kernel, team, range, own); });
  float* parts_memory = w.take(room * plan.parts);
  if (!memory) return w.used;
  if (!sizes.brief)
    all.each([&](int64_t member) {
      const Range some = all.share(sizes.unit_panels + sizes.feature_panels, member);
      for (int64_t panel = some.begin; panel < some.end; panel++) {
        const bool of_units = panel < sizes.unit_panels;
        const Factor& f = of_units ? recurrent : kernel;
        const int64_t q = of_units ? panel : panel - sizes.unit_panels;
        pack_transposed<Cell>(s, sizes, f, q, f.packed + q * Factor::panel_size(sizes));
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
