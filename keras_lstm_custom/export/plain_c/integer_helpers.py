"""The functions of C that packages of integers are made of. With and without `__ARM_FEATURE_DSP` (SXTB16, SMLAD, SMMUL)
and `__ARM_FEATURE_MVE` (Helium) they give the same bits.

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
#if defined(__ARM_FEATURE_SAT)
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
/* 12 binary places to 15 */
static inline int32_t k_sigmoid(int32_t v) {
  const int32_t n = v < 0 ? -v : v, i = n >> 7;
  int32_t r = 32767;
  if (i < 256) r = k_sigmoids[i] + (((k_sigmoids[i + 1] - k_sigmoids[i]) * (n & 127) + 64) >> 7);
  return v < 0 ? 32768 - r : r;
}
""",
    "tanh": """\
static inline int32_t k_tanh(int32_t v) {
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
static inline int32_t k_high(int32_t a, int32_t b) {
#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__)
  int32_t high;
  __asm__("smmul %0, %1, %2" : "=r"(high) : "r"(a), "r"(b));
  return high;
#else
  return (int32_t)(((int64_t)a * b) >> 32);
#endif
}
""",
    "dot": """\
#if defined(__ARM_FEATURE_DSP)
/* weights 1 and 3 of a word */
static inline int32_t k_odd(uint32_t word) {
#if defined(__GNUC__)
  int32_t pair;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
  return pair;
#else
  return __sxtb16((int8x4_t)((word >> 8) | (word << 24)));
#endif
}

/* Keeps the compiler from loading the weights of all rows first, for which there are no registers (10 % on an M4). */
#if defined(__GNUC__)
#define K_THEN __asm__ volatile("" ::: "memory")
#else
#define K_THEN (void)0
#endif

#define K_ROW(word, sum) \\
  sum = __smlad(k_odd(word), (int16x2_t)odd, __smlad(__sxtb16((int8x4_t)(word)), (int16x2_t)even, sum))
#define K_FOUR(x, a, b, c, d) \\
  do { \\
    uint32_t low, high, even, odd; \\
    memcpy(&low, x, 4); \\
    memcpy(&high, (x) + 2, 4); \\
    even = (low & 0xFFFFu) | (high << 16); \\
    odd = (low >> 16) | (high & 0xFFFF0000u); \\
    K_ROW(a, s0); \\
    K_THEN; \\
    K_ROW(b, s1); \\
    K_THEN; \\
    K_ROW(c, s2); \\
    K_THEN; \\
    K_ROW(d, s3); \\
    K_THEN; \\
  } while (0)
#else
#define K_BYTE(word, place) (int8_t)(((word) >> (place)) & 255u)
#define K_ROW(word, x) \\
  (K_BYTE(word, 0) * (x)[0] + K_BYTE(word, 8) * (x)[1] + K_BYTE(word, 16) * (x)[2] + K_BYTE(word, 24) * (x)[3])
#define K_FOUR(x, a, b, c, d) \\
  do { \\
    s0 += K_ROW(a, x); \\
    s1 += K_ROW(b, x); \\
    s2 += K_ROW(c, x); \\
    s3 += K_ROW(d, x); \\
  } while (0)
#endif

/* Four rows times x: two words of four weights of each row, the next two of each, ...; at the end one, if odd. */
static inline const uint32_t *k_dot(const uint32_t *w, const int16_t *x, int words, int32_t sums[4]) {
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  for (; words > 1; words -= 2, x += 8, w += 8) {
#if defined(__ARM_FEATURE_MVE)
    const int16x8_t v = vldrhq_s16(x);
    s0 = vmladavaq_s16(s0, vldrbq_s16((const int8_t *)w), v);
    s1 = vmladavaq_s16(s1, vldrbq_s16((const int8_t *)(w + 2)), v);
    s2 = vmladavaq_s16(s2, vldrbq_s16((const int8_t *)(w + 4)), v);
    s3 = vmladavaq_s16(s3, vldrbq_s16((const int8_t *)(w + 6)), v);
#else
    K_FOUR(x, w[0], w[2], w[4], w[6]);
    K_FOUR(x + 4, w[1], w[3], w[5], w[7]);
#endif
  }
  if (words > 0) {
    K_FOUR(x, w[0], w[1], w[2], w[3]);
    w += 4;
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
  const uint32_t *w;
  const int32_t *scale;  /* of each row */
  const int16_t *x;
  int words;  /* of a row of weights */
};

/* y = bias + the products of all parts, shifted to the right; bias and scales have a multiple of four numbers */
static void k_product(struct k_part *part, int parts, const int32_t *bias, int rows, int shift, int16_t *y) {
  for (; rows > 0; rows -= 4, bias += 4, y += 4) {
    int32_t y0 = bias[0], y1 = bias[1], y2 = bias[2], y3 = bias[3], sums[4];
    for (int p = 0; p < parts; ++p) {
      const int32_t *const scale = part[p].scale;
      part[p].w = k_dot(part[p].w, part[p].x, part[p].words, sums);
      y0 += k_high(sums[0], scale[0]);
      y1 += k_high(sums[1], scale[1]);
      y2 += k_high(sums[2], scale[2]);
      y3 += k_high(sums[3], scale[3]);
      part[p].scale = scale + 4;
    }
    y[0] = k_sat(y0 >> shift);
    if (rows > 1) y[1] = k_sat(y1 >> shift);
    if (rows > 2) y[2] = k_sat(y2 >> shift);
    if (rows > 3) y[3] = k_sat(y3 >> shift);
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
