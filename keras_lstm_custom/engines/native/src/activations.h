// tanh and sigmoid by e^x, so that they saturate as exactly as float32 can: tanh is ±1 where it rounds to that, and
// sigmoid goes down to the smallest normal number, 1.2e-38; below -87.7 it is 0. NaN stays NaN, and tanh is odd.
//
// e^y = 2^n e^r with n = round(y / ln 2), and expm1(r) = r + r^2 Q(r) on |r| <= ln 2 / 2. Q is the polynomial of least
// relative error there, 1.3e-8: tests/engines/minimax.py finds it, and a test compares it with what stands here. Then
//
//   sigmoid(x) = e^x / (1 + e^x)      tanh(x) = m / (m + 1) with m = expm1(2x) / 2, for |x|, and with the sign of x.
//
// How far they are off over all of float32, in units of the last place: docs/engines.md, found by test_activations.cc.
#pragma once
#include "vector.h"

namespace klc {
namespace {

typedef int32_t Bits __attribute__((vector_size(kVectorBytes)));

constexpr float kQ[] = {0.49999997f, 0.166665435f, 0.0416672006f, 0.008366514f, 0.00138825225f};
constexpr float kPerLog2 = 1.44269504f;                                // 1 / ln 2
constexpr float kLog2High = 0.693359375f, kLog2Low = -2.12194440e-4f;  // ln 2: n times the first, of 9 bits, is exact
constexpr float kToWhole = 0x1.8p23f + 127;  // added to y / ln 2, rounds it to a whole number: n + 127, the exponent of 2^n
constexpr float kBound = 88;                 // 2^n is finite up to it, and 0 at -kBound

// 2^n, which the whole number that kToWhole was added to stands for.
KLC_INLINE Vector power(Vector whole) { return (Vector)((Bits)whole << 23); }

// expm1(HALVES r) / HALVES. Powers of two change no digit of the coefficients.
template <int HALVES>
KLC_INLINE Vector expm1_near_0(Vector r) {
  constexpr float k = HALVES;
  const Vector rr = r * r, low = r * (kQ[1] * k * k) + kQ[0] * k;  // not Horner's scheme: in two chains, that is sooner done
  const Vector high = rr * (kQ[4] * k * k * k * k * k) + (r * (kQ[3] * k * k * k * k) + kQ[2] * k * k * k);
  return rr * (rr * high + low) + r;
}

KLC_INLINE Vector sigmoid(Vector x) {
  x = at_least(all(-kBound), at_most(all(kBound), x));
  const Vector whole = x * kPerLog2 + kToWhole, n = whole - kToWhole, scale = power(whole);
  const Vector rest = expm1_near_0<1>((x - n * kLog2High) - n * kLog2Low);
#if KLC_FUSED
  const Vector exp = scale * rest + scale;
#else  // there the product may be subnormal, which counts as 0, where the sum is not
  const Vector exp = scale * (rest + 1.f);
#endif
  return exp / (exp + 1.f);
}

KLC_INLINE Vector tanh(Vector x) {
  const Vector size = at_most(all(kBound / 2), (Vector)((Bits)x & INT32_MAX));
  const Vector whole = size * (2 * kPerLog2) + kToWhole, n = whole - kToWhole, scale = power(whole);
  // Here the low bits of ln 2 do not count: n is small where tanh is not 1.
  const Vector m = scale * expm1_near_0<2>(size - n * ((kLog2High + kLog2Low) / 2)) + (scale * .5f - .5f);
  return (Vector)((Bits)(m / (m + 1.f)) | ((Bits)x & INT32_MIN));
}

// Their derivatives s (1 - s) and 1 - t^2. With FMA the products are not rounded.
KLC_INLINE Vector sigmoid_slope(Vector s) {
#if KLC_FUSED
  return s - s * s;
#else
  return s * (1.f - s);
#endif
}
KLC_INLINE Vector tanh_slope(Vector t) { return 1.f - t * t; }

}  // namespace
}  // namespace klc
