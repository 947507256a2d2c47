"""The functions of C that packages of integers are made of.

Right shifts of negative numbers are taken to be arithmetic, as in every compiler for microcontrollers (and in C++20).
"""

from __future__ import annotations

import numpy as np

from keras_lstm_custom.export.plain_c.integers.products import PRODUCT

#: σ on [0, 8] in steps of 1/32, 15 binary places; with linear interpolation its error is below 1.3e-5, that of tanh
#: below 2.6e-5 (the second derivative of σ is at most 0.0963, so 0.0963 / 32² / 8, and half a unit of the table).
SIGMOID = np.round(32768 / (1 + np.exp(-np.arange(258) / 32))).clip(max=32767).astype(np.int16)

#: 2^x on [0, 1] in steps of 1/64, 15 binary places; with linear interpolation its relative error is below 3e-5
#: (log² 2 / 64² / 8, and half a unit of the table).
POWERS = np.round(32768 * 2.0 ** (np.arange(65) / 64)).clip(max=65535).astype(np.uint16)

#: What helpers read: type, name and numbers.
TABLES = {"sigmoid": ("int16_t", "k_sigmoids", SIGMOID), "exp": ("uint16_t", "k_powers", POWERS)}

NEEDS = {
    "tanh": ("sigmoid",),
    "product": ("high", "dot", "sat"),
    "move": ("sat",),
    "sum": ("sat64",),
    "dots": ("sat64",),
    "mix": ("sat64",),
    "div": ("sat64",),
    "row": ("sat",),
}

HELPERS = {
    **PRODUCT,
    "sat": """\
#if defined(__ARM_FEATURE_SAT) && defined(__GNUC__)
/* GCC's own __ssat warns under -Wconversion */
static inline int16_t k_sat(int32_t v) {
  __asm__("ssat %0, #16, %0" : "+r"(v));
  return (int16_t)v;
}
#elif defined(__ARM_FEATURE_SAT)
static inline int16_t k_sat(int32_t v) { return (int16_t)__ssat(v, 16); }
#else
static inline int16_t k_sat(int32_t v) { return (int16_t)(v > 32767 ? 32767 : v < -32768 ? -32768 : v); }
#endif
""",
    "sat64": """\
static int16_t k_sat64(int64_t v) { return (int16_t)(v > 32767 ? 32767 : v < -32768 ? -32768 : v); }
""",
    "clip": """\
static inline int32_t k_clip(int32_t v, int32_t low, int32_t high) { return v < low ? low : v > high ? high : v; }
""",
    "sigmoid": """\
/* these places, 6 to 20, to 15 */
static inline int32_t k_sigmoid(int32_t v, int places) {
  const int32_t n = v < 0 ? -v : v, i = n >> (places - 5), part = n & ((1 << (places - 5)) - 1);
  int32_t r = 32767;
  if (i < 256) r = k_sigmoids[i] + (((k_sigmoids[i + 1] - k_sigmoids[i]) * part + (1 << (places - 6))) >> (places - 5));
  return v < 0 ? 32768 - r : r;
}
""",
    "tanh": """\
static inline int32_t k_tanh(int32_t v, int places) {
  const int32_t r = 2 * k_sigmoid(2 * v, places) - 32768;
  return r > 32767 ? 32767 : r;
}
""",
    "table": """\
/* a function by its values, one for each 128 of v from low on */
static int32_t k_table(const int16_t *values, int32_t low, int32_t v) {
  const int32_t n = v - low, i = n >> 7;
  return values[i] + (((values[i + 1] - values[i]) * (n & 127) + 64) >> 7);
}
""",
    "exp": """\
/* 2^places to the exponential's 2^to, by 2^(v log2 e) */
static int32_t k_exp(int32_t v, int places, int to) {
  const int64_t t = ((int64_t)v * 94548) >> places, shift = 15 - to - (t >> 16);
  const int32_t i = (int32_t)(t >> 10) & 63, between = k_powers[i + 1] - k_powers[i];
  const int32_t power = k_powers[i] + ((between * ((int32_t)t & 1023) + 512) >> 10);
  if (shift <= 0) return 32767;
  return shift > 17 ? 0 : (power + (1 << (shift - 1))) >> shift;
}
""",
    "sqrt": """\
static int32_t k_sqrt(int32_t v) {
  uint32_t left = v < 0 ? 0u : (uint32_t)v, root = 0u, bit = 1u << 30;
  for (; bit != 0u; bit >>= 2) {
    if (left >= root + bit) {
      left -= root + bit;
      root = (root >> 1) + bit;
    } else {
      root >>= 1;
    }
  }
  return (int32_t)root;
}
""",
    "div": """\
/* a 2^places / b; 0 / 0 is 0 */
static int32_t k_div(int32_t a, int32_t b, int places) {
  int64_t wide = a;
  const int64_t half = (b < 0 ? -(int64_t)b : b) / 2;
  if (b == 0) return a < 0 ? -32768 : a > 0 ? 32767 : 0;
  if (places >= 0) wide *= (int64_t)1 << places;
  else wide >>= -places;
  return k_sat64((wide < 0 ? wide - half : wide + half) / b);
}
""",
    "move": """\
/* y = x with other binary places */
static void k_move(int16_t *y, const int16_t *x, int count, int shift) {
  for (int i = 0; i < count; ++i) {
    const int32_t v = x[i];
    y[i] = k_sat(shift > 0 ? (v + (1 << (shift - 1))) >> shift : v * (1 << -shift));
  }
}
""",
    "sum": """\
static void k_sum(const int16_t *x, int count, int width, int shift, int16_t *y) {
  for (int n = 0; n < count; ++n) {
    int64_t sum = shift > 0 ? (int64_t)1 << (shift - 1) : 0;
    for (int i = 0; i < width; ++i) sum += *x++;
    y[n] = k_sat64(shift >= 0 ? sum >> shift : sum * ((int64_t)1 << -shift));
  }
}
""",
    "rms": """\
/* the root of: the sum of squares 2^up / divisor + more, 2^down times smaller */
static void k_rms(const int16_t *x, int count, int width, int divisor, int up, uint64_t more, int down, int16_t *y) {
  for (int n = 0; n < count; ++n) {
    uint64_t left = 0, root = 0, bit = (uint64_t)1 << 62;
    for (int i = 0; i < width; ++i, ++x) left += (uint64_t)((int32_t)*x * *x);
    for (left = (left << up) / (uint64_t)divisor + more; bit != 0; bit >>= 2) {
      if (left >= root + bit) {
        left -= root + bit;
        root = (root >> 1) + bit;
      } else {
        root >>= 1;
      }
    }
    root = down > 0 ? (root + ((uint64_t)1 << (down - 1))) >> down : root;
    y[n] = (int16_t)(root > 32767 ? 32767 : root);
  }
}
""",
    "max": """\
static void k_max(const int16_t *x, int count, int width, int16_t *y) {
  for (int n = 0; n < count; ++n, x += width) {
    y[n] = x[0];
    for (int i = 1; i < width; ++i) y[n] = x[i] > y[n] ? x[i] : y[n];
  }
}
""",
    "dots": """\
static void k_dots(const int16_t *rows, const int16_t *x, int count, int width, int shift, int16_t *y) {
  for (int n = 0; n < count; ++n) {
    int64_t sum = shift > 0 ? (int64_t)1 << (shift - 1) : 0;
    for (int i = 0; i < width; ++i) sum += (int32_t)*rows++ * x[i];
    y[n] = shift >= 0 ? k_sat64(sum >> shift) : k_sat64(sum * ((int64_t)1 << -shift));
  }
}
""",
    "mix": """\
static void k_mix(const int16_t *rows, const int16_t *weights, int count, int width, int shift, int16_t *y) {
  for (int i = 0; i < width; ++i) {
    int64_t sum = shift > 0 ? (int64_t)1 << (shift - 1) : 0;
    for (int n = 0; n < count; ++n) sum += (int32_t)rows[n * width + i] * weights[n];
    y[i] = shift >= 0 ? k_sat64(sum >> shift) : k_sat64(sum * ((int64_t)1 << -shift));
  }
}
""",
    "row": """\
/* the row of a token; of one that is not in the table, the first or the last */
static void k_row(const int8_t *table, const int32_t *scale, int token, int rows, int width, int16_t *y) {
  const int row = token < 0 ? 0 : token >= rows ? rows - 1 : token;
  for (int i = 0; i < width; ++i) y[i] = k_sat((table[row * width + i] * scale[row] + 16384) >> 15);
}
""",
    "standardise": """\
/* floats less a mean, times a scale, of their own each; the package's own numbers are so already */
static void k_standardise(
    const struct k_io *io, const void *from, int start, int count, const float *mean, const float *scale, int16_t *to
) {
  if (io->load == k_load_q) {
    k_load_q(from, start, count, 1.0f, to);
    return;
  }
  for (int i = 0; i < count; ++i) {
    const float away = ((const float *)from)[start + i] - mean[i];
    k_load_f(&away, 0, 1, scale[i], to + i);
  }
}
""",
    "io": """\
#if defined(__ARM_FEATURE_DSP) || defined(__ARM_FEATURE_SAT)
#include <arm_acle.h>
#endif
#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#endif

/* Where numbers come from and go to: floats, or the package's own. */
struct k_io {{
  const void *x[{inputs}];
  void *y[{outputs}];
  void (*load)(const void *from, int start, int count, float scale, int16_t *to);
  void (*store)(void *to, int start, int count, float scale, const int16_t *from);
}};

static void k_load_q(const void *from, int start, int count, float scale, int16_t *to) {{
  (void)scale;
  memcpy(to, (const int16_t *)from + start, (size_t)count * sizeof *to);
}}

static void k_store_q(void *to, int start, int count, float scale, const int16_t *from) {{
  (void)scale;
  memcpy((int16_t *)to + start, from, (size_t)count * sizeof *from);
}}

static void k_load_f(const void *from, int start, int count, float scale, int16_t *to) {{
  const float *values = (const float *)from + start;
  for (int i = 0; i < count; ++i) {{
    const float v = values[i] * scale;
    to[i] = (int16_t)(v >= 32767.0f ? 32767.0f : v > -32768.0f ? v < 0.0f ? v - 0.5f : v + 0.5f : -32768.0f);
  }}
}}

static void k_store_f(void *to, int start, int count, float scale, const int16_t *from) {{
  float *values = (float *)to + start;
  for (int i = 0; i < count; ++i) values[i] = (float)from[i] / scale;
}}
""",
}
