// Vectors of floats as GCC and clang know them, as wide as the instruction set this file is compiled for.
// Everything here has internal linkage: the same names are compiled once for each instruction set.
#pragma once
#include <cstdint>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "core.h"

namespace klc {
namespace {

#define KLC_INLINE static inline __attribute__((always_inline))
#define KLC_HERE __attribute__((always_inline))  // of a lambda: its vectors stay in registers of the function around it

// A product's tile is at most kMR rows of kNR vectors, whose sums stay in registers: with 6 rows of 4 sums, and 4 weights,
// 32 registers are full. The constants here and in plan.h were chosen with a benchmark of the LSTM; `benchmarks/core.py` can try others.
// kFewUses: for how many tiles of rows weights are read where they lie rather than packed. kKeysToLine: see Prefetch.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kMR = 6, kFewUses = 16, kKeysToLine = 2;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kMR = 3, kFewUses = 3, kKeysToLine = 1;
#elif defined(__aarch64__)  // NEON: 32 registers, too, but of 6 rows g++ 12 keeps some sums in memory, of 5 none
constexpr int kVectorBytes = 16, kMR = 5, kFewUses = 3, kKeysToLine = 1;
#else
constexpr int kVectorBytes = 16, kMR = 3, kFewUses = 3, kKeysToLine = 1;
#endif

// Whether a * b + c is rounded once.
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define KLC_FUSED 1
#else
#define KLC_FUSED 0
#endif

constexpr int kLanes = kVectorBytes / 4;
constexpr int kNR = 4;
constexpr int kAccumulators = kMR * kNR;
constexpr int kPanel = kNR * kLanes;
constexpr int kLine = 16;  // floats in a line of the cache, which the widest vector fills
static_assert(kLine % kLanes == 0, "pieces of a workspace begin on vectors");

typedef float Vector __attribute__((vector_size(kVectorBytes)));
typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(4)));

KLC_INLINE Vector load(const float* p) { return *(const Unaligned*)p; }
KLC_INLINE void store(float* p, Vector v) { *(Unaligned*)p = v; }
KLC_INLINE Vector all(float s) { return s - (Vector){}; }  // s + 0 would be computed: it turns -0 into 0

// What the compiler does not find in plain vectors: the first n lanes only (the others are zero, or left alone),
// and the smaller and the larger of a bound and x, where NaN stays NaN.
#if defined(__AVX512F__)
KLC_INLINE Vector load_first(const float* p, int64_t n) { return (Vector)_mm512_maskz_loadu_ps((1 << n) - 1, p); }
KLC_INLINE void store_first(float* p, Vector v, int64_t n) { _mm512_mask_storeu_ps(p, (1 << n) - 1, (__m512)v); }
KLC_INLINE Vector first(Vector v, int64_t n) { return (Vector)_mm512_maskz_mov_ps((1 << n) - 1, (__m512)v); }
KLC_INLINE Vector at_most(Vector bound, Vector x) { return (Vector)_mm512_maskz_min_ps(0xffff, (__m512)bound, (__m512)x); }
KLC_INLINE Vector at_least(Vector bound, Vector x) { return (Vector)_mm512_maskz_max_ps(0xffff, (__m512)bound, (__m512)x); }
#elif defined(__aarch64__)
KLC_INLINE Vector load_first(const float* p, int64_t n) {
  Vector v = {};
  if (n > 0) v[0] = p[0];
  if (n > 1) v[1] = p[1];
  if (n > 2) v[2] = p[2];
  return v;
}
KLC_INLINE void store_first(float* p, Vector v, int64_t n) {
  if (n > 0) p[0] = v[0];
  if (n > 1) p[1] = v[1];
  if (n > 2) p[2] = v[2];
}
KLC_INLINE Vector first(Vector v, int64_t n) {
  const uint32x4_t lanes = {0, 1, 2, 3};
  return (Vector)vandq_u32((uint32x4_t)v, vcltq_u32(lanes, vdupq_n_u32((uint32_t)n)));
}
KLC_INLINE Vector at_most(Vector bound, Vector x) { return (Vector)vminq_f32((float32x4_t)bound, (float32x4_t)x); }
KLC_INLINE Vector at_least(Vector bound, Vector x) { return (Vector)vmaxq_f32((float32x4_t)bound, (float32x4_t)x); }
#else
KLC_INLINE Vector load_first(const float* p, int64_t n) {
  Vector v = {};
  for (int64_t i = 0; i < n; i++) v[i] = p[i];
  return v;
}
KLC_INLINE void store_first(float* p, Vector v, int64_t n) {
  for (int64_t i = 0; i < n; i++) p[i] = v[i];
}
KLC_INLINE Vector first(Vector v, int64_t n) {
  for (int64_t i = n; i < kLanes; i++) v[i] = 0;
  return v;
}
#if defined(__AVX2__)
KLC_INLINE Vector at_most(Vector bound, Vector x) { return (Vector)_mm256_min_ps((__m256)bound, (__m256)x); }
KLC_INLINE Vector at_least(Vector bound, Vector x) { return (Vector)_mm256_max_ps((__m256)bound, (__m256)x); }
#else
KLC_INLINE Vector at_most(Vector bound, Vector x) { return bound < x ? bound : x; }
KLC_INLINE Vector at_least(Vector bound, Vector x) { return x < bound ? bound : x; }
#endif
#endif

KLC_INLINE Vector load_some(const float* p, int64_t n) { return n >= kLanes ? load(p) : load_first(p, n); }
KLC_INLINE void store_some(float* p, Vector v, int64_t n) { n >= kLanes ? store(p, v) : store_first(p, v, n); }
KLC_INLINE Vector some(Vector v, int64_t n) { return n >= kLanes ? v : first(v, n); }

KLC_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
KLC_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
KLC_INLINE int64_t parts(int64_t n, int64_t size) { return (n + size - 1) / size; }

// 0 1 2 3 and 4 5 6 7 to 0 4 1 5, or to 2 6 3 7.
KLC_INLINE Vector interleave(Vector a, Vector b, bool high) {
#if defined(__clang__)
  Vector v;
  for (int i = 0; i < kLanes; i++) v[i] = (i % 2 ? b : a)[(high ? kLanes / 2 : 0) + i / 2];
  return v;
#else
  typedef int32_t Lanes __attribute__((vector_size(kVectorBytes)));
  Lanes lanes;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i++) lanes[i] = (i % 2 ? kLanes : 0) + (high ? kLanes / 2 : 0) + i / 2;
  return __builtin_shuffle(a, b, lanes);
#endif
}

// As many rows as a vector has lanes, transposed: each round interleaves the first half of them with the second.
KLC_INLINE void transpose(Vector (&v)[kLanes]) {
#pragma GCC unroll 4
  for (int round = 1; round < kLanes; round *= 2) {
    Vector next[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) next[i] = interleave(v[i / 2], v[i / 2 + kLanes / 2], i % 2);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) v[i] = next[i];
  }
}

KLC_INLINE void copy(float* to, const float* from, int64_t n) {  // rows are short: a call of memcpy costs more
  for (int64_t i = 0; i < n; i += kLanes) store_some(to + i, load_some(from + i, n - i), n - i);
}
KLC_INLINE void multiply_rows(float* to, const float* a, const float* b, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) store_some(to + i, load_some(a + i, n - i) * load_some(b + i, n - i), n - i);
}
KLC_INLINE void clear(float* p, int64_t n) {
  if (n) __builtin_memset(p, 0, n * sizeof(float));
}

// Weights that a product will need next, brought into the second-level cache while it computes: a line for every
// kKeysToLine keys. Where there are several megabytes of weights, each panel would else be waited for; where there are
// fewer, it costs time, and the line stays the same.
struct Prefetch {
  const float* line;
  int64_t step;
  Prefetch(const float* line, bool far) : line(line), step(far ? kLine : 0) {}
  // Where to go on at some row and key of a product over `keys` keys.
  Prefetch at(int64_t row, int64_t key, int64_t keys) const {
    Prefetch there = *this;
    there.line += (row * keys / kMR + key) / kKeysToLine * step;
    return there;
  }
};

// The number of a column among others, where the last APART of them stand as many places further on.
template <int COLUMNS, int APART>
constexpr int apart(int j) {
  return j < COLUMNS - APART ? j : j + APART;
}

// sums[row][column] += a[row][k] * w[k][column] over k, columns in vectors. With EACH every column has an `a` of
// its own, `a_column` further on: a gate that sees h through its own dropout mask. The last columns may stand apart
// among the sums or in a row of w.
template <int COLUMNS, bool EACH = false, int SUMS_APART = 0, int W_APART = 0, int ROWS, int SUMS>
KLC_INLINE void multiply(Vector (&sums)[ROWS][SUMS], const float* a, int64_t a_row, int64_t a_column, int64_t count, const float* w,
                         int64_t w_row, int64_t w_column, Prefetch next, int64_t a_key = 1) {
  static_assert(COLUMNS + SUMS_APART <= SUMS, "a column without a sum");
#if defined(__AVX512F__)  // elsewhere there are too few registers
#pragma GCC unroll 2
#endif
  for (int64_t k = 0; k < count; k++, w += w_row, a += a_key) {
    if (ROWS > kMR / 2 && k % kKeysToLine == 0) {
      __builtin_prefetch(next.line, 0, 2);
      next.line += next.step;
    }
    Vector weights[COLUMNS];
#pragma GCC unroll 8
    for (int j = 0; j < COLUMNS; j++) weights[j] = load(w + apart<COLUMNS, W_APART>(j) * w_column);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
      Vector shared = all(a[r * a_row]);
#pragma GCC unroll 8
      for (int j = 0; j < COLUMNS; j++) {
        if (EACH) shared = all(a[r * a_row + j * a_column]);
        sums[r][apart<COLUMNS, SUMS_APART>(j)] += weights[j] * shared;
      }
    }
  }
}

template <int ROWS, int COLUMNS>
KLC_INLINE void zero(Vector (&sums)[ROWS][COLUMNS]) {
  for (int r = 0; r < ROWS; r++)
    for (int j = 0; j < COLUMNS; j++) sums[r][j] = (Vector){};
}

// Calls f(first, Rows<n>) for tiles of n <= MOST <= kMR rows that cover 0 .. count-1 as evenly as can be.
template <int N>
struct Rows {
  static constexpr int n = N;
};
template <int MOST, int N = MOST, class F>
KLC_INLINE void tile_of(int64_t rows, int64_t first, F f) {
  if constexpr (N > 0) {
    if (rows == N) return f(first, Rows<N>{});
    tile_of<MOST, N - 1>(rows, first, f);
  }
}
template <int MOST, class F>
KLC_INLINE void in_tiles(int64_t count, F f) {
  int64_t tiles = parts(count, MOST), first = 0;
  for (int64_t i = 0; i < tiles; i++) {
    const int64_t rows = (count - first + tiles - i - 1) / (tiles - i);
    tile_of<MOST>(rows, first, f);
    first += rows;
  }
}

}  // namespace
}  // namespace klc
