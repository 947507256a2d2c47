// The core for one instruction set: compiled once for each, with -DKLC_SET=<name> and the set's flags.
#include "lstm_backward.h"
#include "lstm_forward.h"

#define KLC_TEXT_(name) #name
#define KLC_TEXT(name) KLC_TEXT_(name)
#define KLC_CORE_(name) name##_core
#define KLC_CORE(name) KLC_CORE_(name)

namespace klc {
namespace {

int64_t gates_size(const Shape& s) { return s.steps * s.batch * Sizes(s).panels * kPanel; }
int64_t cells_size(const Shape& s) { return s.steps * s.batch * Sizes(s).padded; }

int64_t forward_any(const Forward& a, float* memory, const Parallel& p) {
  return a.x_dropout || a.dropout ? forward_with<true>(a, memory, p) : forward_with<false>(a, memory, p);
}
int64_t backward_any(const Backward& a, float* memory, const Parallel& p) {
  return a.x_dropout || a.dropout ? backward_with<true>(a, memory, p) : backward_with<false>(a, memory, p);
}

int64_t forward_workspace(const Forward& a, int threads) { return forward_any(a, nullptr, {threads, nullptr}); }
int64_t backward_workspace(const Backward& a, int threads) { return backward_any(a, nullptr, {threads, nullptr}); }
void forward(const Forward& a, float* memory, const Parallel& p) { forward_any(a, memory, p); }
void backward(const Backward& a, float* memory, const Parallel& p) { backward_any(a, memory, p); }

const Core kCore{KLC_TEXT(KLC_SET), gates_size, cells_size, forward_workspace, backward_workspace, forward, backward};

}  // namespace

const Core* KLC_CORE(KLC_SET)() { return &kCore; }

}  // namespace klc
