// The core for one instruction set: compiled once for each, with -DKLC_SET=<name> and the set's flags.
#include "backward.h"
#include "cells.h"
#include "forward.h"

#define KLC_TEXT_(name) #name
#define KLC_TEXT(name) KLC_TEXT_(name)
#define KLC_CORE_(name) name##_core
#define KLC_CORE(name) KLC_CORE_(name)

namespace klc {
namespace {

// What the gradient of the LSTM needs: the gates and c of each step. That of the vanilla RNN needs nothing.
int64_t kept(const Shape& s, int64_t vectors) {
  return s.kind == Kind::lstm ? s.steps * s.batch * Sizes(s).panels * vectors * kLanes : 0;
}
int64_t gates_size(const Shape& s) { return kept(s, Lstm::kGates); }
int64_t cells_size(const Shape& s) { return kept(s, 1); }

template <class Cell>
int64_t forward_of(const Forward& a, float* memory, const Parallel& p) {
  return a.x_dropout || a.dropout ? forward_with<Cell, true>(a, memory, p) : forward_with<Cell, false>(a, memory, p);
}
template <class Cell>
int64_t backward_of(const Backward& a, float* memory, const Parallel& p) {
  return a.x_dropout || a.dropout ? backward_with<Cell, true>(a, memory, p) : backward_with<Cell, false>(a, memory, p);
}
int64_t forward_any(const Forward& a, float* memory, const Parallel& p) {
  return a.shape.kind == Kind::lstm ? forward_of<Lstm>(a, memory, p) : forward_of<VanillaRnn>(a, memory, p);
}
int64_t backward_any(const Backward& a, float* memory, const Parallel& p) {
  return a.shape.kind == Kind::lstm ? backward_of<Lstm>(a, memory, p) : backward_of<VanillaRnn>(a, memory, p);
}


// Without rows or steps there is nothing to run: the state stays as it is, and so do its gradients on their way back.
bool nothing(const Shape& s) { return s.batch == 0 || s.steps == 0; }

int64_t forward_workspace(const Forward& a, int threads) { return nothing(a.shape) ? 0 : forward_any(a, nullptr, {threads, nullptr}); }
int64_t backward_workspace(const Backward& a, int threads) { return nothing(a.shape) ? 0 : backward_any(a, nullptr, {threads, nullptr}); }

void forward(const Forward& a, float* memory, const Parallel& p) {
  const Shape& s = a.shape;
  if (!nothing(s)) return (void)forward_any(a, memory, p);
  copy(a.h, a.h0, s.batch * s.units);
  copy(a.c, a.c0, s.cells());
}

void backward(const Backward& a, float* memory, const Parallel& p) {
  const Shape& s = a.shape;
  if (!nothing(s)) return (void)backward_any(a, memory, p);
  const int64_t columns = s.gates() * s.units;
  copy(a.d_h0, a.d_h, s.batch * s.units);
  copy(a.d_c0, a.d_c, s.cells());
  clear(a.d_kernel, s.features * columns);
  clear(a.d_recurrent, s.units * columns);
  clear(a.d_bias, columns);
}

const Core kCore{KLC_TEXT(KLC_SET), gates_size, cells_size, forward_workspace, backward_workspace, forward, backward};

}  // namespace

const Core* KLC_CORE(KLC_SET)() { return &kCore; }

}  // namespace klc
