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

// How many rows a product takes at a time: with 6 rows of 4 sums, and 4 weights, 32 registers are full. And for how many
// such blocks of rows weights are read where they lie rather than packed.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kMaxRows = 6, kFewUses = 16, kKeysToLine = 2;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kMaxRows = 3, kFewUses = 3, kKeysToLine = 1;
#elif defined(__aarch64__)  // NEON: 32 registers, too, but of 6 rows g++ 12 keeps some sums in memory, of 5 none
constexpr int kVectorBytes = 16, kMaxRows = 5, kFewUses = 3, kKeysToLine = 1;
#else
constexpr int kVectorBytes = 16, kMaxRows = 3, kFewUses = 3, kKeysToLine = 1;
#endif

// Whether a * b + c is rounded once.
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define KLC_FUSED 1
#else
#define KLC_FUSED 0
#endif

constexpr int kLanes = kVectorBytes / 4;
constexpr int kLine = 16;    // floats of a cache line, which the widest vector fills
static_assert(kLine % kLanes == 0, "pieces of a workspace begin on vectors");
constexpr int kColumns = 4;  // of vectors, that a product computes at a time
constexpr int kPanel = kColumns * kLanes;

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
struct Coming {
  const float* line;
  int64_t step;
  Coming(const float* line, bool far) : line(line), step(far ? kLine : 0) {}
  // Where to go on at some row and key of a product over `keys` keys.
  Coming at(int64_t row, int64_t key, int64_t keys) const {
    Coming there = *this;
    there.line += (row * keys / kMaxRows + key) / kKeysToLine * step;
    return there;
  }
};

// sums[row][column] += a[row][k] * w[k][column] over k, columns in vectors. With EACH every column has an `a` of
// its own, `a_column` further on: a gate that sees h through its own dropout mask.
template <int ROWS, int COLUMNS, bool EACH = false>
KLC_INLINE void multiply(Vector (&sums)[ROWS][COLUMNS], const float* a, int64_t a_row, int64_t a_column, int64_t count,
                         const float* w, int64_t w_row, int64_t w_column, Coming coming, int64_t a_key = 1) {
#if defined(__AVX512F__)  // elsewhere there are too few registers
#pragma GCC unroll 2
#endif
  for (int64_t k = 0; k < count; k++, w += w_row, a += a_key) {
    if (ROWS > kMaxRows / 2 && k % kKeysToLine == 0) {
      __builtin_prefetch(coming.line, 0, 2);
      coming.line += coming.step;
    }
    Vector weights[COLUMNS];
#pragma GCC unroll 4
    for (int j = 0; j < COLUMNS; j++) weights[j] = load(w + j * w_column);
#pragma GCC unroll 6
    for (int r = 0; r < ROWS; r++) {
      Vector shared = all(a[r * a_row]);
#pragma GCC unroll 4
      for (int j = 0; j < COLUMNS; j++) {
        if (EACH) shared = all(a[r * a_row + j * a_column]);
        sums[r][j] += weights[j] * shared;
      }
    }
  }
}

template <int ROWS, int COLUMNS>
KLC_INLINE void zero(Vector (&sums)[ROWS][COLUMNS]) {
  for (int r = 0; r < ROWS; r++)
    for (int j = 0; j < COLUMNS; j++) sums[r][j] = (Vector){};
}

// Calls f(first, Rows<n>) for blocks of n <= kMaxRows rows that cover 0 .. count-1 as evenly as can be.
template <int N>
struct Rows {
  static constexpr int n = N;
};
template <class F>
KLC_INLINE void in_blocks(int64_t count, F f) {
  int64_t blocks = parts(count, kMaxRows), first = 0;
  for (int64_t b = 0; b < blocks; b++) {
    int64_t rows = (count - first + blocks - b - 1) / (blocks - b);
    switch (rows) {
      case 1: f(first, Rows<1>{}); break;
      case 2: f(first, Rows<2>{}); break;
      case 3: f(first, Rows<3>{}); break;
#if defined(__AVX512F__) || defined(__aarch64__)
      case 4: f(first, Rows<4>{}); break;
      case 5: f(first, Rows<5>{}); break;
#endif
#if defined(__AVX512F__)
      case 6: f(first, Rows<6>{}); break;
#endif
    }
    first += rows;
  }
}

// Cuts a workspace into pieces that begin on cache lines. Without memory it only adds up.
struct Workspace {
  float* base;
  int64_t used = 0;
  float* take(int64_t n) {
    float* p = base ? base + used : nullptr;
    used += parts(n, kLine) * kLine;
    return p;
  }
};

// Runs f(0 .. count-1) in parallel.
template <class F>
inline void parallel(const Parallel& p, int64_t count, F f) {
  if (count == 1 || p.threads == 1) {
    for (int64_t i = 0; i < count; i++) f((int)i);
    return;
  }
  p.run([](void* argument, int i) { (*(F*)argument)(i); }, &f, (int)count);
}

struct Range {
  int64_t begin, end;
  int64_t count() const { return end - begin; }
};
KLC_INLINE Range share(int64_t count, int64_t shares, int64_t i) { return {count * i / shares, count * (i + 1) / shares}; }

// The threads that work on one part of the batch.
struct Team {
  const Parallel& threads;
  int64_t members;

  // Calls f(0 .. members-1) at the same time, and returns when all are done.
  template <class F>
  void each(F f) const {
    parallel(threads, members, f);
  }
  Range share(int64_t count, int64_t member) const { return klc::share(count, members, member); }
};

// How many units the sizes of a shape come to, in vectors and panels.
struct Sizes {
  int64_t panels;                       // of all gates of some units
  int64_t unit_panels, feature_panels;  // of kPanel columns, for the transposed weights
  double weights;                       // floats
  bool far;                             // more than the cache of a core holds
  bool brief;                           // each is used so few times that to pack them all first would take longer
  explicit Sizes(const Shape& s)
      : panels(parts(s.units, kPanel / s.gates())),
        unit_panels(parts(s.units, kPanel)),
        feature_panels(parts(s.features, kPanel)),
        weights((double)s.keys() * s.units * s.gates()),
        far(weights > 4e5),
        brief(!far && s.steps < 4 && s.steps * parts(s.batch, kMaxRows) <= kFewUses),
        batch(s.batch) {}
  // Where the kept values of a step, panel and row begin, in vectors (cells) or panels (gates).
  int64_t at(int64_t t, int64_t p, int64_t b) const { return (t * panels + p) * batch + b; }

 private:
  int64_t batch;
};

// How the work is shared out; it depends on the shape and the threads alone, so results repeat.
//
// Either each thread takes some rows of the batch through all steps: nobody waits, but everybody reads all weights at
// every step. Or all threads take all rows, each thread some of the units, and meet after each step: where the weights
// are more than the cache of a core holds and the rows too few to make up for that; and where a step is long beside the
// microsecond that meeting takes, and there are few steps, or fewer rows than threads.
struct Plan {
  int64_t parts = 1;    // of the batch, at the same time
  int64_t members = 1;  // threads that work on a part
  Plan(const Shape& s, int threads) {
    const Sizes sizes(s);
    if (sizes.weights * s.batch * s.steps < 4e5) return;  // too little to share
    const bool long_step = sizes.weights > 1.3e5;
    if (sizes.far ? s.batch < 32 * threads : long_step && (sizes.brief || s.batch < threads))
      members = threads;
    else
      parts = most(1, least(threads, s.batch));
  }
};

// One row of what the weights see at a step: [x, h]; or where a gate sees one of them through its own dropout mask,
// that one for each gate: [x_i, x_f, x_g, x_o, h, h_i, h_f, h_g, h_o]. The gradient has a 1 for the bias between them.
struct SeenByGates {
  int64_t gates, features, batch, x, h, row;
  SeenByGates(const Shape& s, bool x_dropout, bool dropout, int64_t between)
      : gates(s.gates()), features(s.features), batch(s.batch), x((x_dropout ? gates : 1) * s.features), h(x + between),
        row(h + (dropout ? 1 + gates : 1) * s.units) {}

  void write_x(float* to, const float* x, const float* dropout, int64_t b) const {
    if (!dropout) return copy(to, x, features);
    for (int64_t g = 0; g < gates; g++)
      multiply_rows(to + g * features, x, dropout + (g * batch + b) * features, features);
  }
};

// The room that the largest part takes; every part gets as much.
template <class Take>
inline int64_t room_of_part(const Shape& s, int64_t parts, Take take) {
  int64_t room = 0;
  for (int64_t i = 0; i < parts; i++) {
    Workspace own{nullptr};
    take(share(s.batch, parts, i), own);
    room = most(room, own.used);
  }
  return room;
}

}  // namespace
}  // namespace klc
