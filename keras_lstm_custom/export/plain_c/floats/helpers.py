"""The functions of C that packages of float arithmetic are made of."""

from __future__ import annotations

import re
from functools import reduce
from string import Template

from keras_lstm_custom.export.plain_c.reading.functions import UNARY
from keras_lstm_custom.export.plain_c.writing.text import real

#: expm1(r) = r + r² Q(r) on |r| <= ln 2 / 2: the Q of least relative error there, 1.3e-8 (`tests/engines/minimax.py`).
Q = (0.49999997, 0.166665435, 0.0416672006, 0.008366514, 0.00138825225)

#: Four rows at a time, so that an x is loaded once for all: on Cortex-M4F 11 instructions for four products, where
#: row after row takes 20. Unrolled over columns, too, it takes more: the compiler no longer lets the loads count up.
#: The fourth sum goes the way of a single one's, lest GCC gather four for a vector of Helium's, through memory.
_LINEAR = Template("""\
/* y += $about */
static void k_$name($weights, const float *x, int rows, int columns, float *y) {
  const float *end = x + columns;
  while (rows > 0) {
    const float *v = x;
    float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
    if (rows >= 4) {
      const $kind *w1 = w + columns, *w2 = w1 + columns, *w3 = w2 + columns;
      do {
        s0 += $cast*w++ * *v;
        s1 += $cast*w1++ * *v;
        s2 += $cast*w2++ * *v;
        s3 += $cast*w3++ * *v++;
      } while (v < end);
      *y++ += ${scale}s0;
      *y++ += ${scale}s1;
      *y++ += ${scale}s2;
      s0 = s3;
      w = w3;
      rows -= 3;
    } else {
      do s0 += $cast*w++ * *v++;
      while (v < end);
    }
    *y++ += ${scale}s0;
    --rows;
  }
}
""")

_HORNER = reduce(lambda inner, c: f"({inner}) * r + {real(c)}", Q[-2::-1], real(Q[-1]))

#: e^x with a relative error below 2e-7, and as exact near 0 if 1 is taken off.
_POWER = f"""\
/* e^x - less, of which `less` is 0 or 1; 1.7e38 is the largest, and below 1e-38 all is 0 */
static float k_power(float x, float less) {{
  if (!(fabsf(x) < 88.0f)) return x > 0.0f ? 1.7e38f : x < 0.0f ? 0.0f - less : x;
  const int n = (int)(x * 1.44269504f + 127.5f); /* the exponent of 2^(n - 127) = e^x / e^r */
  const float whole = (float)n - 127.0f, r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  const float q = {_HORNER};
  const uint32_t bits = (uint32_t)n << 23;
  float scale;
  memcpy(&scale, &bits, sizeof scale);
  return scale * (q * r * r + r) + (scale - less);
}}
"""


def _body(text: str) -> str:
    return text if "return" in text else f"return {text};"


HELPERS = {
    "linear": _LINEAR.substitute(
        name="linear", about="W x, for rows of W", weights="const float *w", kind="float", cast="", scale=""
    ),
    "linear8": _LINEAR.substitute(
        name="linear8",
        about="s W x, with a scale for each row of W",
        weights="const int8_t *w, const float *s",
        kind="int8_t",
        cast="(float)",
        scale="*s++ * ",
    ),
    "power": _POWER,
    "add": """\
static void k_add(const float *x, int count, int width, float *y) {
  for (int n = 0; n < count; ++n) {
    float sum = 0.0f;
    for (int i = 0; i < width; ++i) sum += *x++;
    y[n] = sum;
  }
}
""",
    "max": """\
static void k_max(const float *x, int count, int width, float *y) {
  for (int n = 0; n < count; ++n, x += width) {
    y[n] = x[0];
    for (int i = 1; i < width; ++i) y[n] = x[i] > y[n] ? x[i] : y[n];
  }
}
""",
    "rms": """\
/* the root of: the sum of squares / divisor + more */
static void k_rms(const float *x, int count, int width, float divisor, float more, float *y) {
  for (int n = 0; n < count; ++n) {
    float sum = 0.0f;
    for (int i = 0; i < width; ++i, ++x) sum += *x * *x;
    y[n] = sqrtf(sum / divisor + more);
  }
}
""",
    "sparsemax": """\
/* As Keras has it: it adds up the sums of all numbers that are left, where Martins & Astudillo take the last one. */
static void k_sparsemax(const float *x, int count, int width, float *y) {
  for (int n = 0; n < count; ++n, x += width) {
    float total = -1.0f, left = 0.0f;
    for (int i = 0; i < width; ++i) {
      float sum = 0.0f, rank = 0.0f;
      for (int j = 0; j < width; ++j) {
        if (x[j] > x[i] || (x[j] == x[i] && j <= i)) {
          sum += x[j];
          rank += 1.0f;
        }
      }
      if (x[i] - (sum - 1.0f) / rank > 0.0f) {
        total += sum;
        left += 1.0f;
      }
    }
    y[n] = total / left;
  }
}
""",
    "mix": """\
/* y = the sum of rows, each times its weight */
static void k_mix(const float *rows, const float *weights, int count, int width, float *y) {
  for (int i = 0; i < width; ++i) y[i] = 0.0f;
  for (int n = 0; n < count; ++n) {
    for (int i = 0; i < width; ++i) y[i] += weights[n] * *rows++;
  }
}
""",
    "row": """\
/* the row of a token; of one that is not in the table, the first or the last */
static int k_row(float token, int rows) {
  return !(token > 0.0f) ? 0 : token >= (float)rows ? rows - 1 : (int)token;
}
""",
    **{name: f"static float k_{name}(float x) {{ {_body(function.c)} }}\n" for name, function in UNARY.items()},
}

#: What helpers call, by name.
NEEDS = {name: [other for other in re.findall(r"\bk_(\w+)\(", text) if other != name] for name, text in HELPERS.items()}
