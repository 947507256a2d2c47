// How far tanh and sigmoid and their derivatives are off, over every n-th float32 and every m-th with 2^-13 <= |x| < 128,
// where something happens (1: all of them), in units in the last place, against the functions in double precision;
// compiled once for each instruction set. Prints a line for each
// function; exits with 1 where they do not saturate, or are further off than docs/engines.md says, and with 77 where this
// processor does not have the instructions. Built and run by tests/engines/test_native_core.py.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "activations.h"
#include "subnormals.h"

using namespace klc;

namespace {

bool supported() {
#if defined(__AVX512F__)  // aarch64 always has NEON
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
#elif defined(__AVX2__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return true;
#endif
}

enum { TANH, SIGMOID, TANH_SLOPE, SIGMOID_SLOPE, FUNCTIONS };
const char* const kNames[] = {"tanh", "sigmoid", "1 - t^2", "s (1 - s)"};
// What docs/engines.md says.
const double kBounds[] = {2.7, 2.5, 1.8, 3.5};

struct Worst {
  double error[FUNCTIONS] = {};
  float at[FUNCTIONS] = {};
  bool wrong = false;
};

double unit(double value) {  // in the last place of a float32 of this size
  int exponent;
  std::frexp(value, &exponent);
  return std::ldexp(1, (value == 0 || exponent < -125 ? -125 : exponent) - 24);
}

void fail(Worst& worst, const char* what, float x, float got) {
  if (!worst.wrong) std::printf("WRONG %s at %.9g: %.9g\n", what, x, got);
  worst.wrong = true;
}

void check(Worst& worst, float x, float t, float s, float t_slope, float s_slope) {
  if (std::isnan(x)) {
    if (!std::isnan(t) || !std::isnan(s)) fail(worst, "NaN is lost", x, t);
    return;
  }
  const double e = std::exp(-std::fabs((double)x));
  const double tanh = std::tanh((double)x), sigmoid = x < 0 ? e / (1 + e) : 1 / (1 + e);
  const double exact[] = {tanh, sigmoid, 4 * e * e / ((1 + e * e) * (1 + e * e)), e / ((1 + e) * (1 + e))};
  const float got[] = {t, s, t_slope, s_slope};
  // Where t or s is near 1, so many digits of 1 - t and 1 - s are lost in float32: what is asked of a derivative is what its
  // formula gives for the exact t or s, to units of the last place of that.
  const double units[] = {unit(tanh), unit(sigmoid), unit(1), x < 0 ? unit(exact[SIGMOID_SLOPE]) : unit(.5)};
  for (int f = 0; f < FUNCTIONS; f++) {
    // Below the smallest normal number is 0.
    const double error = std::fabs(exact[f]) < 1.1755e-38 && got[f] == 0 ? 0 : std::fabs(got[f] - exact[f]) / units[f];
    if (error > worst.error[f]) worst.error[f] = error, worst.at[f] = x;
  }
  const float size = std::fabs(x);
  if (size >= 9.02f && (size != INFINITY ? t != std::copysign(1.f, x) : std::fabs(t) != 1)) fail(worst, "tanh does not saturate", x, t);
  if (size >= 9.02f && t_slope != 0) fail(worst, "1 - t^2 is not 0", x, t_slope);
  if (x >= 17.4f && (s != 1 || s_slope != 0)) fail(worst, "sigmoid does not reach 1", x, s);
  if (x <= -88 && (s != 0 || s_slope != 0)) fail(worst, "sigmoid does not reach 0", x, s);
  if (std::signbit(t) != std::signbit(x) || std::fabs(t) > 1 || s < 0 || s > 1) fail(worst, "out of range", x, t);
}

// Every `stride`-th number among those of some bits.
Worst run(uint64_t begin, uint64_t end, uint64_t stride) {
  const FlushSubnormals flush;
  Worst worst;
  for (uint64_t first = begin; first < end; first += stride * kLanes) {
    Vector x;
    for (int lane = 0; lane < kLanes; lane++) {
      const uint32_t bits = (uint32_t)(first + lane * stride);
      float number;
      std::memcpy(&number, &bits, 4);
      x[lane] = number;
    }
    const Vector t = tanh(x), s = sigmoid(x), t_slope = tanh_slope(t), s_slope = sigmoid_slope(s);
    for (int lane = 0; lane < kLanes; lane++)
      if (first + lane * stride < end && !(std::fabs(x[lane]) < 1.1755e-38f))
        check(worst, x[lane], t[lane], s[lane], t_slope[lane], s_slope[lane]);
  }
  return worst;
}

}  // namespace

int main(int count, char** arguments) {
  if (!supported()) return 77;
  const uint64_t stride = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 1;
  const uint64_t inside = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : stride;
  const uint64_t ends[] = {0, 0x39000000, 0x43000000, 1ull << 31};  // the bits of 0, 2^-13, 128, and of the sign
  std::vector<Worst> parts(6);
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; i++)
    threads.emplace_back([&, i] {
      const uint64_t sign = (uint64_t)(i / 3) << 31;
      parts[i] = run(sign + ends[i % 3], sign + ends[i % 3 + 1], i % 3 == 1 ? inside : stride);
    });
  for (std::thread& thread : threads) thread.join();
  bool good = true;
  for (int f = 0; f < FUNCTIONS; f++) {
    const Worst* worst = &parts[0];
    for (const Worst& part : parts)
      if (part.error[f] > worst->error[f]) worst = &part;
    std::printf("%s: %.3f units at %.9g\n", kNames[f], worst->error[f], worst->at[f]);
    good = good && worst->error[f] <= kBounds[f];
  }
  for (const Worst& part : parts) good = good && !part.wrong;
  return good ? 0 : 1;
}
