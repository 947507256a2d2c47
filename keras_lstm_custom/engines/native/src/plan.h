// How the work of a run is laid out and shared out, from its sizes.
#pragma once
#include "core.h"
#include "vector.h"

namespace klc {
namespace {

// Cuts a workspace into pieces that begin on cache lines. Without memory it only adds up.
struct Workspace {
  float* base;
  int64_t used = 0;
  float* take(int64_t n) {
    float* p = base ? base + used : nullptr;
    used += (n + kLine - 1) / kLine * kLine;
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

// How many panels the sizes of a shape come to, and where what is kept of them lies.
template <class Cell>
struct Sizes {
  int64_t panels;                       // of the gates of some units
  int64_t unit_panels, feature_panels;  // of kPanel columns, for the transposed weights
  double weights;                       // floats
  bool far;                             // more than the cache of a core holds
  bool brief;                           // each is used so few times that to pack them all first would take longer
  explicit Sizes(const Shape& s)
      : panels(parts(s.units, Cell::kUnits)), unit_panels(parts(s.units, kPanel)), feature_panels(parts(s.features, kPanel)),
        weights((double)s.keys() * s.units * Cell::kGates), far(weights > 4e5),
        brief(!far && s.steps < 4 && s.steps * parts(s.batch, kMR) <= kFewUses), steps(s.steps), batch(s.batch) {}

  int64_t at(int64_t t, int64_t p, int64_t b) const { return (t * panels + p) * batch + b; }
  // Where the kept gates and c of a step, panel and row begin.
  int64_t gates(int64_t t, int64_t p, int64_t b) const { return at(t, p, b) * Cell::kKept * kLanes; }
  int64_t cells(int64_t t, int64_t p, int64_t b) const { return at(t, p, b) * kLanes; }
  int64_t all_gates() const { return gates(steps, 0, 0); }
  int64_t all_cells() const { return Cell::kMemory ? cells(steps, 0, 0) : 0; }

 private:
  static_assert(Cell::kKept == 0 || Cell::kVectors == 1, "a panel keeps one vector of units");
  static_assert(!Cell::kMemory || Cell::kVectors == 1, "a panel has one vector of c");
  int64_t steps, batch;
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
  template <class Sizes>
  Plan(const Shape& s, const Sizes& sizes, int threads) {
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
  SeenByGates(const Request& a, int64_t gates, int64_t between)
      : gates(gates), features(a.shape.features), batch(a.shape.batch), x((a.x_dropout ? gates : 1) * features), h(x + between),
        row(h + (a.dropout ? 1 + gates : 1) * a.shape.units) {}

  void write_x(float* to, const float* x, const float* dropout, int64_t b) const {
    if (!dropout) return copy(to, x, features);
    for (int64_t g = 0; g < gates; g++) multiply_rows(to + g * features, x, dropout + (g * batch + b) * features, features);
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
