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

// Without rows or steps there is nothing to run: the state stays as it is, and so do its gradients on their way back.
bool nothing(const Shape& s) { return s.batch == 0 || s.steps == 0; }

// What the table says of a cell; the equations are E.
template <class E>
struct Runs {
  static int64_t gates_size(const Shape& s) { return Sizes<E>(s).all_gates(); }
  static int64_t cells_size(const Shape& s) { return Sizes<E>(s).all_cells(); }

  static int64_t run(const Forward& a, float* memory, const Parallel& p) {
    return a.x_dropout || a.dropout ? forward_with<E, true>(a, memory, p) : forward_with<E, false>(a, memory, p);
  }
  static int64_t run(const Backward& a, float* memory, const Parallel& p) {
    return a.x_dropout || a.dropout ? backward_with<E, true>(a, memory, p) : backward_with<E, false>(a, memory, p);
  }
  template <class Asked>
  static int64_t workspace(const Asked& a, int threads) {
    return nothing(a.shape) ? 0 : run(a, nullptr, {threads, nullptr});
  }

  static void forward(const Forward& a, float* memory, const Parallel& p) {
    const Shape& s = a.shape;
    if (!nothing(s)) return (void)run(a, memory, p);
    copy(a.h, a.h0, s.batch * s.units);
    if (E::kMemory) copy(a.c, a.c0, s.batch * s.units);
  }
  static void backward(const Backward& a, float* memory, const Parallel& p) {
    const Shape& s = a.shape;
    if (!nothing(s)) return (void)run(a, memory, p);
    const int64_t columns = E::kGates * s.units;
    copy(a.d_h0, a.d_h, s.batch * s.units);
    if (E::kMemory) copy(a.d_c0, a.d_c, s.batch * s.units);
    clear(a.d_kernel, s.features * columns);
    clear(a.d_recurrent, s.units * columns);
    clear(a.d_bias, columns);
    if (a.d_extra) clear(a.d_extra, columns);
  }

  static constexpr CellRow row(const char* name) {
    return {name,       E::kGates,  E::kMemory,         E::kExtra != Extra::none, E::kOptions,
            gates_size, cells_size, workspace<Forward>, workspace<Backward>,      forward,
            backward};
  }
};

// clang-format off
constexpr CellRow kCells[] = {
    Runs<Lstm>::row("lstm"),
    Runs<LstmOptions<false>>::row("lstm_options"),
    Runs<LstmOptions<true>>::row("coupled_lstm"),
    Runs<Gru>::row("gru"),
    Runs<VanillaRnn>::row("vanilla_rnn"),
};
// clang-format on

constexpr Core kCore{KLC_TEXT(KLC_SET), kCells, sizeof kCells / sizeof *kCells};

}  // namespace

const Core* KLC_CORE(KLC_SET)() { return &kCore; }

}  // namespace klc
