// Forward: for each step, panel of units and block of rows, one product with the packed weights, then the gates.
#pragma once
#include "cells.h"
#include "core.h"
#include "forward_tiles.h"
#include "plan.h"
#include "vector.h"

namespace klc {
namespace {

// (features + units, gates * units) -> (panels, features + units, Cell::kRow), some panels of it; a tail is filled with
// zeros. Row by row, as they are read. Weights that are read where they lie are left out.
template <class Cell>
inline void pack(const Forward& a, Range panels, int64_t unpacked, float* weights) {
  const Shape& s = a.shape;
  const int64_t row_size = Cell::kGates * s.units, keys = s.keys();
  const Range packed{most(unpacked, panels.begin), panels.end};
  for (int64_t k = 0; k < keys && packed.count() > 0; k++) {
    const float* row = k < s.features ? a.kernel + k * row_size : a.recurrent + (k - s.features) * row_size;
    for (int64_t p = packed.begin; p < packed.end; p++)
      for (int j = 0; j < Cell::kColumns; j++)
        store(weights + (p * keys + k) * Cell::kRow + j * kLanes, load_some(row + Cell::column(s, p, j), Cell::count(s, p, j)));
  }
}

// What the sums of some panels start from: (panels, Cell::kSumRow).
template <class Cell>
inline void pack_biases(const Forward& a, Range panels, float* biases) {
  const Shape& s = a.shape;
  clear(biases + panels.begin * Cell::kSumRow, panels.count() * Cell::kSumRow);
  for (int64_t p = panels.begin; p < panels.end; p++)
    for (int j = 0; j < Cell::kColumns; j++) {
      float* to = biases + p * Cell::kSumRow;
      auto add = [&](const float* bias, int sum) {
        store(to + sum * kLanes, load(to + sum * kLanes) + load_some(bias + Cell::column(s, p, j), Cell::count(s, p, j)));
      };
      if (a.bias) add(a.bias, j);
      if (Cell::kExtra == Extra::recurrent_bias && a.extra) add(a.extra, apart<Cell::kColumns, Cell::kApart>(j));
    }
}

// The rows of one part of the batch, on their way through time.
template <class Cell, bool DROPOUT>
struct ForwardRows final : ForwardTiles<typename Cell::Base, DROPOUT> {
  using Tiles = ForwardTiles<typename Cell::Base, DROPOUT>;
  using Tiles::a, Tiles::s, Tiles::range, Tiles::rows, Tiles::seen, Tiles::in, Tiles::time;
  const Sizes<Cell> sizes;
  const Team team;
  float* c[2];  // if there is a c, (panels, rows, lanes), before and after a step

  ForwardRows(const Forward& a, const float* weights, const float* biases, const Team& team, Range range, Workspace& w)
      : Tiles(a, Cell{}, Sizes<Cell>(a.shape).panels, unpacked_of(a.shape), weights, biases, range, w), sizes(a.shape), team(team) {
    for (float*& c_of : c) c_of = w.take(Cell::kMemory ? sizes.panels * rows * kLanes : 0);
  }

  static int64_t unpacked_of(const Shape& s) { return Sizes<Cell>(s).brief ? s.units / Cell::kUnits : 0; }

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

  void states(int64_t t, int64_t p, int64_t first, int count, const Vector (*sums)[Cell::kSums], const float* c_before,
              float* c_after) override {
    for (int m = 0; m < count; m++) {
      const int64_t r = first + m, b = range.begin + r;
      const bool masked = a.mask && !a.mask[b * s.steps + time(t)];
      for (int v = 0; v < Cell::kVectors; v++) {
        const int64_t unit = Cell::unit(p, v), n = Cell::count(s, p, v);
        Vector gates[Cell::kZ];
        for (int g = 0; g < Cell::kZ; g++) gates[g] = sums[m][g * Cell::kVectors + v];
        const float* h_row = in[t & 1] + r * seen.row + seen.h + unit;
        const Vector before = Cell::kMemory ? load(c_before + r * kLanes) : (Vector){};
        Vector c = before;
        Vector h = Cell::step(gates, Cell::kCarries ? load_some(h_row, n) : (Vector){}, c, At{a, b, time(t), unit, n});
        if (masked) {
          c = before;
          h = load_some(h_row, n);
        }
        if (Cell::kMemory) store(c_after + r * kLanes, c);
        write_h(in[(t + 1) & 1] + r * seen.row, r, unit, h, n);
        if (a.y) store_some(a.y + (b * s.steps + t) * s.units + unit, h, n);
        if (Cell::kKept && a.gates)
          for (int g = 0; g < Cell::kKept; g++) store(a.gates + sizes.gates(t, p, b) + g * kLanes, gates[g]);
      }
    }
  }

  // Where c of a panel is after step t: kept for the gradient, or in turns.
  float* c_after(int64_t t, int64_t p) const {
    return a.cells && t >= 0 ? a.cells + sizes.cells(t, p, range.begin) : c[(t + 1) & 1] + p * rows * kLanes;
  }

  void run() {
    team.each([&](int64_t member) {
      start(team.share(sizes.panels, member));
      if (!this->ahead) this->gather(0, team.share(rows, member));
    });
    for (int64_t t = 0; t < s.steps; t++)
      team.each([&](int64_t member) {
        const Range panels = team.share(sizes.panels, member);
        if (this->ahead && t % this->window == 0) this->project_window(t, panels);
        for (int64_t p = panels.begin; p < panels.end; p++) {
          const float* weights = this->weights + (p + 1 < panels.end ? p + 1 : panels.begin) * s.keys() * Cell::kRow;
          this->step(t, p, c_after(t - 1, p), c_after(t, p), {weights, sizes.far});
        }
        if (!this->ahead && t + 1 < s.steps) this->gather(t + 1, team.share(rows, member));
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
  const Sizes<Cell> sizes(s);
  const Plan plan(s, sizes, p.threads);
  const Team team{p, plan.members};
  Workspace w{memory};
  float* weights = w.take(sizes.panels * s.keys() * Cell::kRow);
  float* biases = w.take(sizes.panels * Cell::kSumRow);
  const int64_t room = room_of_part(s, plan.parts, [&](Range range, Workspace& own) { Part(a, weights, biases, team, range, own); });
  float* parts_memory = w.take(room * plan.parts);
  if (!memory) return w.used;
  const Team all{p, plan.parts * plan.members};
  all.each([&](int64_t member) {
    pack<Cell>(a, all.share(sizes.panels, member), Part::unpacked_of(s), weights);
    pack_biases<Cell>(a, all.share(sizes.panels, member), biases);
  });
  parallel(p, plan.parts, [&](int i) {
    Workspace own{parts_memory + room * i};
    Part(a, weights, biases, team, share(s.batch, plan.parts, i), own).run();
  });
  return w.used;
}

}  // namespace
}  // namespace klc
