"""The product of int8 weights with int16 numbers in C, and the weights in the order in which it reads them.

With and without `__ARM_FEATURE_DSP` (SXTB16, SMLAD, SMMUL) and `__ARM_FEATURE_MVE` (Helium) it gives the same bits.
"""

from __future__ import annotations

import numpy as np


def by_four(numbers: np.ndarray) -> np.ndarray:
    """Return numbers of rows with zeros up to a multiple of four."""
    return np.concatenate([numbers, np.zeros(-len(numbers) % 4)]).astype(np.int64)


def packed_rows(numbers: np.ndarray) -> np.ndarray:
    """Return int8 rows as words of four weights, the first in the lowest byte: of four rows two words at a time."""
    rows, columns = numbers.shape
    whole = np.zeros((-(-rows // 4) * 4, -(-columns // 4) * 4), np.uint8)
    whole[:rows, :columns] = np.ascontiguousarray(numbers).view(np.uint8)
    words = whole.reshape(-1, 4, whole.shape[1] // 4, 4) @ np.array([1, 1 << 8, 1 << 16, 1 << 24], np.uint64)
    pairs = words.shape[2] // 2 * 2
    parts = []
    for block in words:
        parts += [block[:, :pairs].reshape(4, -1, 2).transpose(1, 0, 2).reshape(-1), block[:, pairs:].reshape(-1)]
    return np.concatenate(parts).astype(np.uint32)


PRODUCT = {
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
}
