// The cells: the equations of a step and of its gradient, for as many units as a vector holds. All else they share.
#pragma once
#include "activations.h"
#include "core.h"
#include "vector.h"

namespace klc {
namespace {

// How a panel's columns of vectors are shared out among the gates: column j belongs to gate j / kVectors.
template <int GATES>
struct Columns {
  static constexpr int kGates = GATES;
  static constexpr int kVectors = kColumns / kGates;  // of units, in a panel
  static constexpr int kUnits = kVectors * kLanes;

  // The first unit of column j of panel p, and where that column begins in a row of weights.
  static int64_t unit(int64_t p, int64_t j) { return p * kUnits + j % kVectors * kLanes; }
  static int64_t column(const Shape& s, int64_t p, int64_t j) { return j / kVectors * s.units + unit(p, j); }
  // How many units there are from there on, for one vector.
  static int64_t count(const Shape& s, int64_t p, int64_t j) { return most(0, s.units - unit(p, j)); }
};

// i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of z;  c = f c' + i g;  h = o tanh(c), with c' of the step before.
struct Lstm : Columns<4> {
  static constexpr bool kMemory = true;  // has c; the gradient needs it, and the gates

  // Turns z into the gates and c' into c, and returns h.
  KLC_INLINE Vector step(Vector (&z)[kGates], Vector& c) {
    z[0] = sigmoid(z[0]);
    z[1] = sigmoid(z[1]);
    z[2] = tanh(z[2]);
    z[3] = sigmoid(z[3]);
    c = z[1] * c + z[0] * z[2];
    return z[3] * tanh(c);
  }

  // Turns the gates into dz and dc into dc'.
  KLC_INLINE void gradient(Vector (&z)[kGates], Vector c, Vector c_before, Vector dh, Vector& dc) {
    const Vector i = z[0], f = z[1], g = z[2], o = z[3], tanh_c = tanh(c);
    dc += dh * o * tanh_slope(tanh_c);
    z[0] = dc * g * sigmoid_slope(i);
    z[1] = dc * c_before * sigmoid_slope(f);
    z[2] = dc * i * tanh_slope(g);
    z[3] = dh * tanh_c * sigmoid_slope(o);
    dc = dc * f;
  }
};

// h = tanh(z).
struct VanillaRnn : Columns<1> {
  static constexpr bool kMemory = false;  // h, which is there as y, is all that the gradient needs

  KLC_INLINE Vector step(Vector (&z)[kGates], Vector&) { return tanh(z[0]); }

  // Gives dz.
  KLC_INLINE void gradient(Vector (&z)[kGates], Vector h, Vector dh) { z[0] = dh * tanh_slope(h); }
};

}  // namespace
}  // namespace klc
