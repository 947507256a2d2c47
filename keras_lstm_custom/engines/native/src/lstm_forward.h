// Forward: for each step, block of rows and panel of units, one product with the packed weights, then the gates.
#pragma once
#include "lstm.h"
#include "vector.h"

namespace klc {
namespace {

// (features + units, 4 units) -> (panels, features + units, 4 gates, lanes); a tail is filled with zeros.
inline void pack_panel(const Forward& a, int64_t p, float* weights, float* bias) {
  const int64_t units = a.shape.units, n = least(kLanes, units - p * kLanes);
  float* out = weights + p * a.shape.keys() * kPanel;
  for (int64_t k = 0; k < a.shape.keys(); k++) {
    const float* row = k < a.shape.features ? a.kernel + k * 4 * units : a.recurrent + (k - a.shape.features) * 4 * units;
    for (int g = 0; g < kGates; g++, out += kLanes) store(out, load_some(row + g * units + p * kLanes, n));
  }
  for (int g = 0; g < kGates; g++)
    store(bias + p * kPanel + g * kLanes, a.bias ? load_some(a.bias + g * units + p * kLanes, n) : (Vector){});
}

// The rows of one part of the batch, on their way through time.
template <bool DROPOUT>
struct ForwardRows {
  const Forward& a;
  const Shape& s;
  const Sizes sizes;
  const float *weights, *bias;
  const Range range;
  const bool ahead;       // few rows: project the inputs of many steps first, as rows of one product
  const int64_t window;   // that many steps
  const int64_t in_row;   // one row of inputs of a step: [x, h] or [x, h, h as each gate sees it]
  float *in[2], *c[2], *z;

  ForwardRows(const Forward& a, const float* weights, const float* bias, Range range, Workspace& w)
      : a(a), s(a.shape), sizes(a.shape), weights(weights), bias(bias), range(range),
        ahead(range.rows() < kMaxRows && a.shape.steps > 1), window(least(a.shape.steps, 48)),
        in_row(a.shape.keys() + (DROPOUT ? kGates * a.shape.units : 0)) {
    for (int k = 0; k < 2; k++) in[k] = w.take(range.rows() * in_row);
    for (int k = 0; k < 2; k++) c[k] = w.take(range.rows() * sizes.padded);
    z = ahead ? w.take(range.rows() * window * sizes.panels * kPanel) : nullptr;
  }

  int64_t time(int64_t t) const { return a.reverse ? s.steps - 1 - t : t; }
  const float* x(int64_t r, int64_t t) const { return a.x + ((range.begin + r) * s.steps + time(t)) * s.features; }

  void write_h(float* row, int64_t r, int64_t p, Vector h, int64_t n) const {
    float* to = row + s.features + p * kLanes;
    store_some(to, h, n);
    if (DROPOUT)
      for (int g = 0; g < kGates; g++) {
        const float* mask = a.dropout + (g * s.batch + range.begin + r) * s.units + p * kLanes;
        store_some(to + (g + 1) * s.units, h * load_some(mask, n), n);
      }
  }

  void start() {
    for (int64_t r = 0; r < range.rows(); r++)
      for (int64_t p = 0; p < sizes.panels; p++) {
        const int64_t n = least(kLanes, s.units - p * kLanes), at = (range.begin + r) * s.units + p * kLanes;
        write_h(in[0] + r * in_row, r, p, load_some(a.h0 + at, n), n);
        store(c[0] + r * sizes.padded + p * kLanes, load_some(a.c0 + at, n));
      }
  }

  void project_window(int64_t t) {
    const int64_t count = least(window, s.steps - t), x_row = a.reverse ? -s.features : s.features;
    for (int64_t r = 0; r < range.rows(); r++)
      for (int64_t p = 0; p < sizes.panels; p++)
        in_blocks(count, [&](int64_t first, auto rows) __attribute__((always_inline)) {
          constexpr int M = decltype(rows)::n;
          Vector sums[M][kGates];
          for (int m = 0; m < M; m++)
            for (int g = 0; g < kGates; g++) sums[m][g] = load(bias + p * kPanel + g * kLanes);
          multiply(sums, x(r, t + first), x_row, 0, s.features, weights + p * s.keys() * kPanel, kPanel, kLanes);
          for (int m = 0; m < M; m++)
            for (int g = 0; g < kGates; g++)
              store(z + (((first + m) * range.rows() + r) * sizes.panels + p) * kPanel + g * kLanes, sums[m][g]);
        });
  }

  template <int M>
  KLC_INLINE void block(ForwardRows& self, int64_t t, int64_t p, int64_t first, const float* c_before, float* c_after) {
    const Forward& a = self.a;
    const Shape& s = self.s;
    const int64_t n = least(kLanes, s.units - p * kLanes), padded = self.sizes.padded;
    const float* w = self.weights + p * s.keys() * kPanel;
    float* row = self.in[t & 1] + first * self.in_row;
    Vector sums[M][kGates];
    for (int m = 0; m < M; m++)
      for (int g = 0; g < kGates; g++) {
        const float* from = self.ahead ? self.z + (((t % self.window) * self.range.rows() + first + m) * self.sizes.panels + p) * kPanel
                                       : self.bias + p * kPanel;
        sums[m][g] = load(from + g * kLanes);
      }
    if (!self.ahead) multiply(sums, row, self.in_row, 0, s.features, w, kPanel, kLanes);
    multiply<M, kGates, DROPOUT>(sums, row + s.features + (DROPOUT ? s.units : 0), self.in_row, s.units, s.units,
                                 w + s.features * kPanel, kPanel, kLanes);
    for (int m = 0; m < M; m++) {
      const int64_t r = first + m, b = self.range.begin + r;
      const Vector i = sigmoid(sums[m][0]), f = sigmoid(sums[m][1]), g = tanh(sums[m][2]), o = sigmoid(sums[m][3]);
      const Vector before = load(c_before + r * padded + p * kLanes);
      Vector c = f * before + i * g;
      Vector h = o * tanh(c);
      if (a.mask && !a.mask[b * s.steps + self.time(t)]) {
        c = before;
        h = load_some(self.in[t & 1] + r * self.in_row + s.features + p * kLanes, n);
      }
      store(c_after + r * padded + p * kLanes, c);
      self.write_h(self.in[(t + 1) & 1] + r * self.in_row, r, p, h, n);
      if (a.y) store_some(a.y + (b * s.steps + t) * s.units + p * kLanes, h, n);
      if (a.gates) {
        float* kept = a.gates + ((t * s.batch + b) * self.sizes.panels + p) * kPanel;
        store(kept, i);
        store(kept + kLanes, f);
        store(kept + 2 * kLanes, g);
        store(kept + 3 * kLanes, o);
      }
    }
  }

  void run() {
    const int64_t rows = range.rows(), padded = sizes.padded;
    start();
    const float* c_before = c[0];
    for (int64_t t = 0; t < s.steps; t++) {
      if (ahead && t % window == 0) project_window(t);
      if (!ahead)
        for (int64_t r = 0; r < rows; r++) copy(in[t & 1] + r * in_row, x(r, t), s.features);
      float* c_after = a.cells ? a.cells + (t * s.batch + range.begin) * padded : c[(t + 1) & 1];
      for (int64_t p = 0; p < sizes.panels; p++)
        in_blocks(rows, [&](int64_t first, auto m) __attribute__((always_inline)) {
          block<decltype(m)::n>(*this, t, p, first, c_before, c_after);
        });
      c_before = c_after;
    }
    for (int64_t r = 0; r < rows; r++) {
      copy(a.h + (range.begin + r) * s.units, in[s.steps & 1] + r * in_row + s.features, s.units);
      copy(a.c + (range.begin + r) * s.units, c_before + r * padded, s.units);
    }
  }
};

template <bool DROPOUT>
int64_t forward_with(const Forward& a, float* memory, const Parallel& p) {
  using Part = ForwardRows<DROPOUT>;
  const Shape& s = a.shape;
  const Sizes sizes(s);
  const int64_t splits = splits_of(s, p.threads);
  Workspace w{memory};
  float* weights = w.take(sizes.panels * s.keys() * kPanel);
  float* bias = w.take(sizes.panels * kPanel);
  const int64_t room = room_of_part(s, splits, [&](Range range, Workspace& own) { Part(a, weights, bias, range, own); });
  float* parts_memory = w.take(room * splits);
  if (!memory) return w.used;
  const int64_t packers = splits == 1 ? 1 : least(p.threads, sizes.panels);
  parallel(p, packers, [&](int i) {
    for (int64_t panel = i; panel < sizes.panels; panel += packers) pack_panel(a, panel, weights, bias);
  });
  parallel(p, splits, [&](int i) {
    Workspace own{parts_memory + room * i};
    Part(a, weights, bias, split(s.batch, splits, i), own).run();
  });
  return w.used;
}

}  // namespace
}  // namespace klc
