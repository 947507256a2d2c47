// The products with dz: by the transposed weights, for dx and dh, and with what the weights saw, for the weights' gradients.
#pragma once
#include "cells.h"
#include "core.h"
#include "plan.h"
#include "vector.h"

namespace klc {
namespace {

// A matrix of weights (rows, gates * units) that dz is multiplied by transposed: (panels of rows, panels of units x
// Tile::kRow, kPanel). Packed in that form all at once; or null, and a panel of rows is packed just before it is used.
struct Factor {
  const float* weights;
  int64_t rows;
  const float* dropout;  // on the product, for each gate; or null
  bool of_h;             // the sums of the last columns may stand apart
  int64_t panel_size;
  float* packed;
};

// The products with dz of one part of the batch, which cells of the same tile share.
template <class Tile, bool DROPOUT>
struct BackwardTiles {
  static constexpr int kColumns = Tile::kColumns, kApart = Tile::kApart, kRow = Tile::kRow, kSumRow = Tile::kSumRow;
  const Backward& a;
  const Shape& s;
  const int64_t gates, units;  // the cell's gates, and the units of a panel
  const int64_t panels;
  const bool far;
  const Range range;
  const int64_t rows;
  const int64_t window, samples;  // steps of a window, and rows of it
  const SeenByGates seen;         // one row of what the weights saw, with a 1 for the bias: a sample
  float* sums;                    // (panels, rows of sums, kRow): this part's share of the weights' gradients
  float *dz, *in;                 // (panels, samples, kSumRow) and (samples, seen.row)

  template <class Cell>
  BackwardTiles(const Backward& a, const Sizes<Cell>& sizes, int64_t sum_rows, Range range, Workspace& w)
      : a(a), s(a.shape), gates(Cell::kGates), units(Cell::kUnits), panels(sizes.panels), far(sizes.far), range(range), rows(range.count()),
        window(least(s.steps, most(1, 192 / rows))), samples(window * rows), seen(a, gates, 1) {
    sums = w.take(panels * sum_rows * kRow);  // the first thing in a part's room
    dz = w.take(panels * samples * kSumRow);
    in = w.take(samples * seen.row);
  }

  float* dz_of(int64_t p, int64_t sample) const { return dz + (p * samples + sample) * kSumRow; }

  // out[m] (+)= dz[first + m] W^T for the columns of panel q, with the gates of some panels of units, from the first
  // of which on out is written, not added to: to what lies at `start`, if there is anything.
  // With dropout each gate's share passes its mask.
  template <int M, int COLUMNS>
  KLC_INLINE void transposed(const BackwardTiles& self, const Factor& factor, const float* w, int64_t q, Range some, int64_t first,
                             int64_t row, float* out, int64_t out_row, const float* start, Prefetch next) {
    // The columns whose sums do not stand apart, or all.
    const int64_t together = kApart && factor.of_h ? kRow - kApart * kLanes : kRow;
    next = next.at(row, 0, some.count() * kRow);
    Vector sums[M][COLUMNS];
    for (int m = 0; m < M; m++)
      for (int j = 0; j < COLUMNS; j++) {
        const float* from = some.begin ? out : start;
        sums[m][j] = from ? load(from + m * out_row + j * kLanes) : (Vector){};
      }
    if (!DROPOUT || !factor.dropout) {
      for (int64_t p = some.begin; p < some.end; p++) {
        const float *dz = self.dz_of(p, first), *w_of = w + p * kRow * kPanel;
        multiply<COLUMNS>(sums, dz, kSumRow, 0, kApart ? together : kRow, w_of, kPanel, kLanes, next.at(0, (p - some.begin) * kRow, 0));
        if (kApart && together < kRow)
          multiply<COLUMNS>(sums, dz + kRow, kSumRow, 0, kRow - together, w_of + together * kPanel, kPanel, kLanes,
                            next.at(0, (p - some.begin) * kRow + together, 0));
      }
    } else {
      for (int64_t g = 0; g < self.gates; g++) {
        Vector shares[M][COLUMNS];
        zero(shares);
        const int64_t units = self.units, sum = kApart && factor.of_h ? apart<kColumns, kApart>(g) : g;
        for (int64_t p = some.begin; p < some.end; p++)
          multiply<COLUMNS>(shares, self.dz_of(p, first) + sum * units, kSumRow, 0, units, w + (p * kRow + g * units) * kPanel, kPanel,
                            kLanes, next.at(0, (g * some.count() + p - some.begin) * units, 0));
        for (int m = 0; m < M; m++)
          for (int j = 0; j < COLUMNS; j++) {
            const int64_t b = self.range.begin + (first + m) % self.rows, column = q * kPanel + j * kLanes;
            sums[m][j] += shares[m][j] * load_some(factor.dropout + (g * self.s.batch + b) * factor.rows + column, factor.rows - column);
          }
      }
    }
    for (int m = 0; m < M; m++)
      for (int j = 0; j < COLUMNS; j++) store(out + m * out_row + j * kLanes, sums[m][j]);
  }

  // The same for panel q of columns, whose transposed weights are w, and `count` rows of dz from `first` on. The gates go
  // kKC panels at a time, which stay in the cache for all rows.
  void transposed_product(const Factor& factor, const float* w, int64_t q, const float* next_w, int64_t first, int64_t count, float* out,
                          int64_t out_row, const float* start) {
    constexpr int64_t kKC = 8;
    const int64_t vectors = least(kNR, parts(factor.rows - q * kPanel, kLanes));
    for (int64_t p = 0; p < panels; p += kKC) {
      const Range some{p, least(p + kKC, panels)};
      const Prefetch next{some.end == panels ? next_w : w + some.end * kRow * kPanel, far};
      in_tiles<kMR>(count, [&](int64_t r, auto m) KLC_HERE {
        constexpr int M = decltype(m)::n;
        const int64_t at = r * out_row + q * kPanel;
        const float* from = start ? start + at : nullptr;
        switch (vectors) {
          case 1: transposed<M, 1>(*this, factor, w, q, some, first + r, r, out + at, out_row, from, next); break;
          case 2: transposed<M, 2>(*this, factor, w, q, some, first + r, r, out + at, out_row, from, next); break;
          case 3: transposed<M, 3>(*this, factor, w, q, some, first + r, r, out + at, out_row, from, next); break;
          default: transposed<M, 4>(*this, factor, w, q, some, first + r, r, out + at, out_row, from, next);
        }
      });
    }
  }

  // sums[row] (+)= in^T dz over the samples of a window, for `count` rows; with EACH a gate has an `in` of its own,
  // `count` columns further on. What stands apart in dz is read there, if W_APART.
  template <bool EACH, int W_APART>
  __attribute__((noinline)) void weight_sums(int64_t p, float* sums, bool fresh, int64_t column, int64_t count, int64_t used) {
    in_tiles<Tile::kRows>(count, [&](int64_t first, auto m) KLC_HERE {
      constexpr int M = decltype(m)::n;
      Vector total[M][kColumns];
      for (int m = 0; m < M; m++)
        for (int j = 0; j < kColumns; j++) total[m][j] = fresh ? (Vector){} : load(sums + (first + m) * kRow + j * kLanes);
      // One sample is one row of both.
      multiply<kColumns, EACH, 0, W_APART>(total, in + column + first, 1, count, used, dz_of(p, 0), kSumRow, kLanes, {sums, false},
                                           seen.row);
      for (int m = 0; m < M; m++)
        for (int j = 0; j < kColumns; j++) store(sums + (first + m) * kRow + j * kLanes, total[m][j]);
    });
  }
};

}  // namespace
}  // namespace klc
