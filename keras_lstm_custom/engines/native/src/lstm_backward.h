// Backward: windows of steps from the last to the first. In a window the loop computes dz and dh only; the
// gradients of the weights and of x follow as products over the window, while it is still in the cache.
#pragma once
#include "lstm.h"
#include "vector.h"

namespace klc {
namespace {

// (rows, 4 units) -> panels of kPanel rows, transposed: (panels, unit panels x kPanel, kPanel).
inline void pack_transposed(const Shape& s, const Sizes& sizes, const float* m, int64_t rows, int64_t q, float* out) {
  out += q * sizes.panels * kPanel * kPanel;
  for (int64_t p = 0; p < sizes.panels; p++)
    for (int g = 0; g < kGates; g++)
      for (int lane = 0; lane < kLanes; lane++, out += kPanel) {
        const int64_t unit = p * kLanes + lane;
        for (int j = 0; j < kPanel; j++) {
          const int64_t row = q * kPanel + j;
          out[j] = unit < s.units && row < rows ? m[row * 4 * s.units + g * s.units + unit] : 0.f;
        }
      }
}

template <bool DROPOUT>
struct BackwardRows {
  const Backward& a;
  const Shape& s;
  const Sizes sizes;
  const float *recurrent_t, *kernel_t;  // packed
  const Range range;
  const int64_t window, samples;  // steps of a window, and rows of it
  const int64_t in_row;           // one row of what the weights saw: [x, 1, h] or [x, 1, h as each gate sees it]
  const int64_t h_columns;        // units, padded to panels
  float *sums;                    // (panels, features + 1 + units, kPanel): this part's share of the weights' gradients
  float *dz, *in, *dh, *dc, *carry, *dx;

  BackwardRows(const Backward& a, const float* recurrent_t, const float* kernel_t, Range range, Workspace& w)
      : a(a), s(a.shape), sizes(a.shape), recurrent_t(recurrent_t), kernel_t(kernel_t), range(range),
        window(least(a.shape.steps, most(1, 192 / range.rows()))), samples(window * range.rows()),
        in_row(a.shape.features + 1 + (DROPOUT ? kGates : 1) * a.shape.units), h_columns(sizes.unit_panels * kPanel) {
    sums = w.take(sizes.panels * (s.keys() + 1) * kPanel);
    dz = w.take(sizes.panels * samples * kPanel);
    in = w.take(samples * in_row);
    dh = w.take(range.rows() * h_columns);
    dc = w.take(range.rows() * sizes.padded);
    carry = w.take(a.mask ? range.rows() * h_columns : 0);
    dx = w.take(samples * sizes.feature_panels * kPanel);
  }

  int64_t time(int64_t t) const { return a.reverse ? s.steps - 1 - t : t; }
  bool masked(int64_t r, int64_t t) const { return a.mask && !a.mask[(range.begin + r) * s.steps + time(t)]; }

  void start() {
    clear(sums, sizes.panels * (s.keys() + 1) * kPanel);
    clear(dh, range.rows() * h_columns);
    clear(dc, range.rows() * sizes.padded);
    for (int64_t r = 0; r < range.rows(); r++) {
      const int64_t at = (range.begin + r) * s.units;
      copy(dh + r * h_columns, a.d_h + at, s.units);
      copy(dc + r * sizes.padded, a.d_c + at, s.units);
    }
  }

  // What the weights saw at step t: x, 1 for the bias, and h of the step before.
  void gather(int64_t r, int64_t t, float* row) const {
    const int64_t b = range.begin + r;
    copy(row, a.x + (b * s.steps + time(t)) * s.features, s.features);
    row[s.features] = 1.f;
    const float* h = t ? a.y + (b * s.steps + t - 1) * s.units : a.h0 + b * s.units;
    float* to = row + s.features + 1;
    if (!DROPOUT) return copy(to, h, s.units);
    for (int g = 0; g < kGates; g++) {
      const float* mask = a.dropout + (g * s.batch + b) * s.units;
      for (int64_t u = 0; u < s.units; u++) to[g * s.units + u] = h[u] * mask[u];
    }
  }

  void step_row(int64_t r, int64_t t, int64_t sample) {
    const int64_t b = range.begin + r, at = t * s.batch + b;
    const bool skip = masked(r, t);
    for (int64_t p = 0; p < sizes.panels; p++) {
      const int64_t n = least(kLanes, s.units - p * kLanes);
      float* to = dz + (p * samples + sample) * kPanel;
      float* dc_row = dc + r * sizes.padded + p * kLanes;
      Vector dh_t = load(dh + r * h_columns + p * kLanes);
      if (a.d_y) dh_t += load_some(a.d_y + (b * s.steps + t) * s.units + p * kLanes, n);
      if (skip) {  // the state was kept: its gradients pass on
        for (int g = 0; g < kGates; g++) store(to + g * kLanes, (Vector){});
        store(carry + r * h_columns + p * kLanes, dh_t);
        continue;
      }
      const float* gates = a.gates + (at * sizes.panels + p) * kPanel;
      const Vector i = load(gates), f = load(gates + kLanes), g = load(gates + 2 * kLanes), o = load(gates + 3 * kLanes);
      const Vector tanh_c = tanh(load(a.cells + at * sizes.padded + p * kLanes));
      const Vector c_before = t ? load(a.cells + (at - s.batch) * sizes.padded + p * kLanes)
                                : load_some(a.c0 + b * s.units + p * kLanes, n);
      const Vector dc_t = load(dc_row) + dh_t * o * (1.f - tanh_c * tanh_c);
      store(to, dc_t * g * i * (1.f - i));
      store(to + kLanes, dc_t * c_before * f * (1.f - f));
      store(to + 2 * kLanes, dc_t * i * (1.f - g * g));
      store(to + 3 * kLanes, dh_t * tanh_c * o * (1.f - o));
      store(dc_row, dc_t * f);
    }
  }

  // out[m] = dz[first + m] W^T for the columns of panel q. With MASKED each gate's share passes its dropout mask.
  template <int M, int COLUMNS, bool MASKED>
  KLC_INLINE void transposed(const BackwardRows& self, const float* packed, int64_t q, int64_t first, float* out,
                             int64_t out_row, int64_t row) {
    const Sizes& sizes = self.sizes;
    const Shape& s = self.s;
    const float* w = packed + q * sizes.panels * kPanel * kPanel;
    Vector sums[M][COLUMNS];
    zero(sums);
    if (!MASKED) {
      for (int64_t p = 0; p < sizes.panels; p++)
        multiply(sums, self.dz + (p * self.samples + first) * kPanel, kPanel, 0, kPanel, w + p * kPanel * kPanel, kPanel,
                 kLanes);
    } else {
      for (int g = 0; g < kGates; g++) {
        Vector share[M][COLUMNS];
        zero(share);
        for (int64_t p = 0; p < sizes.panels; p++)
          multiply(share, self.dz + (p * self.samples + first) * kPanel + g * kLanes, kPanel, 0, kLanes,
                   w + (p * kPanel + g * kLanes) * kPanel, kPanel, kLanes);
        for (int m = 0; m < M; m++)
          for (int j = 0; j < COLUMNS; j++) {
            const int64_t column = q * kPanel + j * kLanes;
            const float* mask = self.a.dropout + (g * s.batch + self.range.begin + row + m) * s.units + column;
            sums[m][j] += share[m][j] * load_some(mask, s.units - column);
          }
      }
    }
    for (int m = 0; m < M; m++)
      for (int j = 0; j < COLUMNS; j++) store(out + m * out_row + j * kLanes, sums[m][j]);
  }

  // The same for all panels of `columns` columns and `count` rows of dz from `first` on.
  template <bool MASKED>
  void transposed_product(const float* packed, int64_t columns, int64_t first, int64_t count, float* out, int64_t out_row) {
    for (int64_t q = 0; q < parts(columns, kPanel); q++) {
      const int64_t vectors = least(kGates, parts(columns - q * kPanel, kLanes));
      in_blocks(count, [&](int64_t r, auto rows) __attribute__((always_inline)) {
        constexpr int M = decltype(rows)::n;
        float* to = out + r * out_row + q * kPanel;
        switch (vectors) {
          case 1: transposed<M, 1, MASKED>(*this, packed, q, first + r, to, out_row, r); break;
          case 2: transposed<M, 2, MASKED>(*this, packed, q, first + r, to, out_row, r); break;
          case 3: transposed<M, 3, MASKED>(*this, packed, q, first + r, to, out_row, r); break;
          default: transposed<M, 4, MASKED>(*this, packed, q, first + r, to, out_row, r);
        }
      });
    }
  }

  // sums += in^T dz over the samples of a window, for `count` columns of `in` from `column` on.
  template <bool EACH>
  void weight_sums(int64_t p, int64_t column, int64_t count, int64_t used) {
    const float* z = dz + p * samples * kPanel;
    float* to = sums + (p * (s.keys() + 1) + column) * kPanel;
    in_blocks(count, [&](int64_t first, auto rows) __attribute__((always_inline)) {
      constexpr int M = decltype(rows)::n;
      Vector total[M][kGates];
      for (int m = 0; m < M; m++)
        for (int g = 0; g < kGates; g++) total[m][g] = load(to + (first + m) * kPanel + g * kLanes);
      // One sample is one row of both.
      multiply<M, kGates, EACH>(total, in + column + first, 1, s.units, used, z, kPanel, kLanes, in_row);
      for (int m = 0; m < M; m++)
        for (int g = 0; g < kGates; g++) store(to + (first + m) * kPanel + g * kLanes, total[m][g]);
    });
  }

  void run() {
    const int64_t rows = range.rows();
    start();
    for (int64_t end = s.steps; end > 0;) {
      const int64_t begin = most(0, end - window), used = (end - begin) * rows;
      for (int64_t t = end - 1; t >= begin; t--) {
        const int64_t first = (t - begin) * rows;
        for (int64_t r = 0; r < rows; r++) {
          gather(r, t, in + (first + r) * in_row);
          step_row(r, t, first + r);
        }
        transposed_product<DROPOUT>(recurrent_t, s.units, first, rows, dh, h_columns);
        for (int64_t r = 0; r < rows; r++)
          if (masked(r, t)) copy(dh + r * h_columns, carry + r * h_columns, s.units);
      }
      for (int64_t p = 0; p < sizes.panels; p++) {
        weight_sums<false>(p, 0, s.features + 1, used);
        weight_sums<DROPOUT>(p, s.features + 1, s.units, used);
      }
      const int64_t dx_row = sizes.feature_panels * kPanel;
      transposed_product<false>(kernel_t, s.features, 0, used, dx, dx_row);
      for (int64_t k = 0; k < used; k++) {
        const int64_t b = range.begin + k % rows, t = time(begin + k / rows);
        copy(a.d_x + (b * s.steps + t) * s.features, dx + k * dx_row, s.features);
      }
      end = begin;
    }
    for (int64_t r = 0; r < rows; r++) {
      copy(a.d_h0 + (range.begin + r) * s.units, dh + r * h_columns, s.units);
      copy(a.d_c0 + (range.begin + r) * s.units, dc + r * sizes.padded, s.units);
    }
  }
};

// Adds the parts' shares of one panel, in their order, and writes the weights' gradients.
inline void unpack_panel(const Backward& a, const float* sums, int64_t stride, int64_t splits, int64_t p) {
  const Shape& s = a.shape;
  const int64_t n = least(kLanes, s.units - p * kLanes);
  for (int64_t k = 0; k < s.keys() + 1; k++)
    for (int g = 0; g < kGates; g++) {
      const float* from = sums + (p * (s.keys() + 1) + k) * kPanel + g * kLanes;
      Vector total = load(from);
      for (int64_t i = 1; i < splits; i++) total += load(from + i * stride);
      float* to = k < s.features    ? a.d_kernel + k * 4 * s.units
                  : k == s.features ? a.d_bias
                                    : a.d_recurrent + (k - s.features - 1) * 4 * s.units;
      store_some(to + g * s.units + p * kLanes, total, n);
    }
}

template <bool DROPOUT>
int64_t backward_with(const Backward& a, float* memory, const Parallel& p) {
  using Part = BackwardRows<DROPOUT>;
  const Shape& s = a.shape;
  const Sizes sizes(s);
  const int64_t splits = splits_of(s, p.threads);
  Workspace w{memory};
  float* recurrent_t = w.take(sizes.unit_panels * sizes.panels * kPanel * kPanel);
  float* kernel_t = w.take(sizes.feature_panels * sizes.panels * kPanel * kPanel);
  const int64_t room =
      room_of_part(s, splits, [&](Range range, Workspace& own) { Part(a, recurrent_t, kernel_t, range, own); });
  float* parts_memory = w.take(room * splits);
  if (!memory) return w.used;
  const int64_t packed = sizes.unit_panels + sizes.feature_panels, packers = splits == 1 ? 1 : least(p.threads, packed);
  parallel(p, packers, [&](int i) {
    for (int64_t q = i; q < packed; q += packers)
      if (q < sizes.unit_panels)
        pack_transposed(s, sizes, a.recurrent, s.units, q, recurrent_t);
      else
        pack_transposed(s, sizes, a.kernel, s.features, q - sizes.unit_panels, kernel_t);
  });
  parallel(p, splits, [&](int i) {
    Workspace own{parts_memory + room * i};
    Part(a, recurrent_t, kernel_t, split(s.batch, splits, i), own).run();
  });
  const int64_t unpackers = splits == 1 ? 1 : least(p.threads, sizes.panels);
  parallel(p, unpackers, [&](int i) {  // a part's sums are the first thing in its room
    for (int64_t panel = i; panel < sizes.panels; panel += unpackers)
      unpack_panel(a, parts_memory, room, splits, panel);
  });
  return w.used;
}

}  // namespace
}  // namespace klc
