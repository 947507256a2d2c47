"""The functions of C that packages of integers are made of. With and without `__ARM_FEATURE_DSP` they give the same bits.

Right shifts of negative numbers are taken to be arithmetic, as in every compiler for microcontrollers (and in C++20).
"""

from __future__ import annotations

import numpy as np

#: σ on [0, 8] in steps of 1/32, 15 binary places; with linear interpolation its error is below 1.3e-5, that of tanh
#: below 2.6e-5 (the second derivative of σ is at most 0.0963, so 0.0963 / 32² / 8, and half a unit of the table).
SIGMOID = np.round(32768 / (1 + np.exp(-np.arange(258) / 32))).clip(max=32767).astype(np.int16)

NEEDS = {
    "tanh": ("sigmoid",),
    "product": ("high", "dot", "sat"),
    "move": ("sat",),
    "sum": ("sat",),
    "dots": ("sat64",),
    "mix": ("sat64",),
    "div": ("sat64",),
    "row": ("sat",),
}

HELPERS = {
    "sat": """\
static int16_t k_sat(int32_t v) { return (int16_t)(v > 32767 ? 32767 : v < -32768 ? -32768 : v); }
""",
    "sat64": """\
static int16_t k_sat64(int64_t v) { return (int16_t)(v > 32767 ? 32767 : v < -32768 ? -32768 : v); }
""",
    "clip": """\
static int32_t k_clip(int32_t v, int32_t low, int32_t high) { return v < low ? low : v > high ? high : v; }
""",
    "sigmoid": """\
/* 12 binary places to 15 */
static int32_t k_sigmoid(int32_t v) {
  const int32_t n = v < 0 ? -v : v, i = n >> 7;
  int32_t r = 32767;
  if (i < 256) r = k_sigmoids[i] + (((k_sigmoids[i + 1] - k_sigmoids[i]) * (n & 127) + 64) >> 7);
  return v < 0 ? 32768 - r : r;
}
""",
    "tanh": """\
static int32_t k_tanh(int32_t v) {
  const int32_t r = 2 * k_sigmoid(2 * v) - 32768;
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
/* a 2^places / b */
static int32_t k_div(int32_t a, int32_t b, int places) {
  int64_t wide = a;
  if (b == 0) return a < 0 ? -32768 : 32767;
  if (places >= 0) wide *= (int64_t)1 << places;
  else wide >>= -places;
  return k_sat64(wide / b);
}
""",
    "high": """\
/* the upper half of a product */
#if defined(__ARM_FEATURE_DSP)
#include <arm_acle.h>
#endif
static int32_t k_high(int32_t a, int32_t b) { return (int32_t)(((int64_t)a * b) >> 32); }
""",
    "dot": """\
/* Four rows times x; the weights of four columns of a row are the bytes 0, 2, 1 and 3 of a word. */
static const uint32_t *k_dot(const uint32_t *w, const int16_t *x, int quads, int32_t sums[4]) {
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  for (; quads > 0; --quads, x += 4, w += 4) {
#if defined(__ARM_FEATURE_DSP)
    uint32_t low, high;
    memcpy(&low, x, 4);
    memcpy(&high, x + 2, 4);
#define K_ROW(word, sum) \\
  sum = __smlad(__sxtb16((int8x4_t)(word)), (int16x2_t)low, sum); \\
  sum = __smlad(__sxtb16((int8x4_t)(((word) >> 8) | ((word) << 24))), (int16x2_t)high, sum)
#else
#define K_ROW(word, sum) \\
  sum += (int8_t)((word) & 255u) * x[0] + (int8_t)(((word) >> 16) & 255u) * x[1]; \\
  sum += (int8_t)(((word) >> 8) & 255u) * x[2] + (int8_t)((word) >> 24) * x[3]
#endif
    K_ROW(w[0], s0);
    K_ROW(w[1], s1);
    K_ROW(w[2], s2);
    K_ROW(w[3], s3);
#undef K_ROW
  }
  sums[0] = s0;
  sums[1] = s1;
  sums[2] = s2;
  sums[3] = s3;
  return w;
}
""",
    "product": """\
struct k_part {
  const uint32_t *w;  /* weights, four rows by four columns at a time */
  const int32_t *scale;  /* of each row */
  const int16_t *x;
  int quads;
};

/* y = bias + the products of all parts, shifted to the right */
static void k_product(struct k_part *part, int parts, const int32_t *bias, int rows, int shift, int16_t *y) {
  for (int r = 0; r < rows; r += 4) {
    const int count = rows - r < 4 ? rows - r : 4;
    int32_t total[4] = {0, 0, 0, 0}, sums[4];
    for (int i = 0; i < count; ++i) total[i] = bias[r + i];
    for (int p = 0; p < parts; ++p) {
      part[p].w = k_dot(part[p].w, part[p].x, part[p].quads, sums);
      for (int i = 0; i < count; ++i) total[i] += k_high(sums[i], part[p].scale[r + i]);
    }
    for (int i = 0; i < count; ++i) y[r + i] = k_sat(total[i] >> shift);
  }
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
    int32_t sum = 0;
    for (int i = 0; i < width; ++i) sum += *x++;
    y[n] = shift > 0 ? k_sat((sum + (1 << (shift - 1))) >> shift) : k_sat(sum * (1 << -shift));
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
    int64_t sum = 0;
    for (int i = 0; i < width; ++i) sum += (int32_t)*rows++ * x[i];
    y[n] = shift >= 0 ? k_sat64(sum >> shift) : k_sat64(sum * ((int64_t)1 << -shift));
  }
}
""",
    "mix": """\
static void k_mix(const int16_t *rows, const int16_t *weights, int count, int width, int shift, int16_t *y) {
  for (int i = 0; i < width; ++i) {
    int64_t sum = 0;
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
    "io": """\
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
