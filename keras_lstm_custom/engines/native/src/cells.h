// The cells: the equations of a step and of its gradient, for as many units as a vector holds. All else they share.
//
// A cell is a struct here and a row in core.cc. `step` turns z, the sums of the products, into what the gradient needs
// of them (the first kKept), c of the step before into c, and returns h. `gradient` turns what was kept into dz.
#pragma once
#include "activations.h"
#include "core.h"
#include "plan.h"
#include "vector.h"

namespace klc {
namespace {

enum class Extra { none, recurrent_bias, peepholes };

// The tile of a cell's products: rows of x or h by a panel of weights of so many columns of vectors. Each column of the
// product of x has a sum; the product of h goes to the same sums, but that of the last APART columns to some of its own.
template <int COLUMNS, int APART>
struct Tile {
  static constexpr int kColumns = COLUMNS, kApart = APART, kSums = COLUMNS + APART;
  static constexpr int kRow = kColumns * kLanes, kSumRow = kSums * kLanes;  // floats in a row of weights, and of sums
  static constexpr int kRows = kMR < kAccumulators / kSums ? kMR : kAccumulators / kSums;
  static_assert(0 <= APART && APART <= COLUMNS, "only a column's own sum can stand apart");
  static_assert(kRows > 0, "more sums than there are registers: a tile must have a row");
};

// How a panel's columns are shared out among the gates. A gate has one, of as many units as a vector has lanes; where
// there is but one gate it has them all.
template <int GATES, int APART = 0>
struct Columns : Tile<GATES == 1 ? kNR : GATES, APART> {
  using Base = Tile<GATES == 1 ? kNR : GATES, APART>;
  static constexpr int kGates = GATES, kZ = GATES + APART;  // blocks of weights, and sums, for a unit
  static constexpr int kVectors = Base::kColumns / kGates;  // of units, in a panel
  static constexpr int kUnits = kVectors * kLanes;
  static_assert(APART == 0 || kVectors == 1, "APART counts gates where the tile needs columns");

  // The first unit of column j of panel p, and where that column begins in a row of weights.
  static int64_t unit(int64_t p, int64_t j) { return p * kUnits + j % kVectors * kLanes; }
  static int64_t column(const Shape& s, int64_t p, int64_t j) { return j / kVectors * s.units + unit(p, j); }
  // How many units there are from there on, for one vector.
  static int64_t count(const Shape& s, int64_t p, int64_t j) { return most(0, s.units - unit(p, j)); }
};

// What a cell may ask for beside z and the state: its options, for a vector of units at a step.
struct At {
  const Request& a;
  int64_t row, time, unit, n;

  bool has_extra() const { return a.extra; }
  Vector extra(int gate) const { return load_some(a.extra + gate * a.shape.units + unit, n); }
  // 1 where a state keeps its value of the step before; in inference the share of it that stays.
  Vector keeps_h() const { return a.noise ? noise(0) : all(a.options.zoneout); }
  Vector keeps_c() const { return a.noise ? noise(a.options.zoneout > 0) : all(a.options.cell_zoneout); }

 private:
  Vector noise(int state) const {
    return load_some(a.noise + ((row * a.shape.steps + time) * a.options.zoned() + state) * a.shape.units + unit, n);
  }
};

// What the gradient of a step starts from, and what it gives beside dz.
struct Back {
  Vector h_before, c_before, h, c;  // c: what is carried on
  Vector dh, dc;                    // dc: in its place the one of the step before
  Vector carry;                     // what dh of the step before gets other than by U, if the cell is one that carries
  Vector* d_extra;                  // added to, by gate
};

// i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of z;  c = f c' + i g;  h = o tanh(c), with c' of the step before.
struct Lstm : Columns<4> {
  static constexpr bool kMemory = true;    // has c
  static constexpr bool kCarries = false;  // h of the step before goes into h other than by U
  static constexpr bool kOptions = false;
  static constexpr Extra kExtra = Extra::none;
  static constexpr int kKept = kGates;

  KLC_INLINE Vector step(Vector (&z)[kZ], Vector, Vector& c, const At&) {
    z[0] = sigmoid(z[0]);
    z[1] = sigmoid(z[1]);
    z[2] = tanh(z[2]);
    z[3] = sigmoid(z[3]);
    c = z[1] * c + z[0] * z[2];
    return z[3] * tanh(c);
  }

  KLC_INLINE void gradient(Vector (&z)[kZ], Back& b, const At&) {
    const Vector i = z[0], f = z[1], g = z[2], o = z[3], tanh_c = tanh(b.c);
    b.dc += b.dh * o * tanh_slope(tanh_c);
    z[0] = b.dc * g * sigmoid_slope(i);
    z[1] = b.dc * b.c_before * sigmoid_slope(f);
    z[2] = b.dc * i * tanh_slope(g);
    z[3] = b.dh * tanh_c * sigmoid_slope(o);
    b.dc = b.dc * f;
  }
};

// The same with the options: i and f see p c', o sees p c; c is clipped; i = 1 - f if coupled, of gates f, g, o; and
// last h and c keep a share of their old values (h is made of the fresh c).
template <bool COUPLED>
struct LstmOptions : Columns<COUPLED ? 3 : 4> {
  using Of = Columns<COUPLED ? 3 : 4>;
  static constexpr bool kMemory = true, kCarries = true, kOptions = true;
  static constexpr Extra kExtra = Extra::peepholes;
  static constexpr int kKept = Of::kGates, kZ = Of::kZ;
  enum { I = 0, F = COUPLED ? 0 : 1, G, O };

  KLC_INLINE Vector mixed(Vector keeps, Vector before, Vector fresh) { return keeps * before + (1.f - keeps) * fresh; }
  KLC_INLINE Vector clipped(Vector c, const At& at) {
    const float bound = at.a.options.cell_clip;
    return bound > 0 ? at_least(all(-bound), at_most(all(bound), c)) : c;
  }

  KLC_INLINE Vector step(Vector (&z)[kZ], Vector h_before, Vector& c, const At& at) {
    const Vector c_before = c;
    if (at.has_extra()) {
      z[F] += at.extra(F) * c;
      if (!COUPLED) z[I] += at.extra(I) * c;
    }
    z[F] = sigmoid(z[F]);
    const Vector i = COUPLED ? 1.f - z[F] : sigmoid(z[I]);
    if (!COUPLED) z[I] = i;
    z[G] = tanh(z[G]);
    c = clipped(z[F] * c + i * z[G], at);
    if (at.has_extra()) z[O] += at.extra(O) * c;
    z[O] = sigmoid(z[O]);
    Vector h = z[O] * tanh(c);
    if (at.a.options.zoneout > 0) h = mixed(at.keeps_h(), h_before, h);
    if (at.a.options.cell_zoneout > 0) c = mixed(at.keeps_c(), c_before, c);
    return h;
  }

  // d where |x| <= bound, and 0 elsewhere.
  KLC_INLINE Vector within(float bound, Vector x, Vector d) { return (Vector)((Bits)d & ~((x > bound) | (x < -bound))); }

  KLC_INLINE void gradient(Vector (&z)[kZ], Back& b, const At& at) {
    const Vector f = z[F], i = COUPLED ? 1.f - f : z[I], g = z[G], o = z[O];
    const Vector raw = f * b.c_before + i * g, c = clipped(raw, at), tanh_c = tanh(c);
    Vector dh = b.dh, dc = b.dc, dc_kept = {};
    if (at.a.options.zoneout > 0) {
      b.carry = dh * at.keeps_h();
      dh -= b.carry;
    }
    if (at.a.options.cell_zoneout > 0) {
      dc_kept = dc * at.keeps_c();
      dc -= dc_kept;
    }
    z[O] = dh * tanh_c * sigmoid_slope(o);
    dc += dh * o * tanh_slope(tanh_c);
    if (at.has_extra()) {
      dc += z[O] * at.extra(O);
      b.d_extra[O] += z[O] * c;
    }
    if (at.a.options.cell_clip > 0) dc = within(at.a.options.cell_clip, raw, dc);
    z[F] = dc * (COUPLED ? b.c_before - g : b.c_before) * sigmoid_slope(f);
    if (!COUPLED) z[I] = dc * g * sigmoid_slope(i);
    z[G] = dc * i * tanh_slope(g);
    b.dc = dc * f + dc_kept;
    if (!at.has_extra()) return;
    b.dc += z[F] * at.extra(F);
    b.d_extra[F] += z[F] * b.c_before;
    if (COUPLED) return;
    b.dc += z[I] * at.extra(I);
    b.d_extra[I] += z[I] * b.c_before;
  }
};

// z, r = sigmoid of z;  n = tanh(x's sum + r (h's sum));  h = z h' + (1 - z) n, with h' of the step before.
struct Gru : Columns<3, 1> {
  static constexpr bool kMemory = false, kCarries = true, kOptions = false;
  static constexpr Extra kExtra = Extra::recurrent_bias;
  static constexpr int kKept = kZ;
  enum { Z, R, N, N_OF_H };

  KLC_INLINE Vector step(Vector (&z)[kZ], Vector h_before, Vector&, const At&) {
    z[Z] = sigmoid(z[Z]);
    z[R] = sigmoid(z[R]);
    z[N] = tanh(z[N] + z[R] * z[N_OF_H]);
    return z[Z] * h_before + (1.f - z[Z]) * z[N];
  }

  KLC_INLINE void gradient(Vector (&z)[kZ], Back& b, const At&) {
    const Vector u = z[Z], r = z[R], n = z[N];
    b.carry = b.dh * u;
    z[N] = b.dh * (1.f - u) * tanh_slope(n);
    z[R] = z[N] * z[N_OF_H] * sigmoid_slope(r);
    z[Z] = b.dh * (b.h_before - n) * sigmoid_slope(u);
    z[N_OF_H] = z[N] * r;
  }
};

// h = tanh(z).
struct VanillaRnn : Columns<1> {
  static constexpr bool kMemory = false, kCarries = false, kOptions = false;
  static constexpr Extra kExtra = Extra::none;
  static constexpr int kKept = 0;  // h, which is there as y, is all that the gradient needs

  KLC_INLINE Vector step(Vector (&z)[kZ], Vector, Vector&, const At&) { return tanh(z[0]); }
  KLC_INLINE void gradient(Vector (&z)[kZ], Back& b, const At&) { z[0] = b.dh * tanh_slope(b.h); }
};

}  // namespace
}  // namespace klc
