// The operations of each cell, as KerasLstmCustom>LstmForward and >LstmBackward, on TensorFlow's C API.
#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <initializer_list>
#include <thread>

#include "call.h"
#include "core.h"
#include "shapes.h"
#include "subnormals.h"
#include "thread_pool.h"

namespace klc {
namespace {

std::atomic<int> g_threads{0};
std::atomic<const Core*> g_core{nullptr};

int processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (!sched_getaffinity(0, sizeof set, &set)) return CPU_COUNT(&set);
#endif
  const int n = (int)std::thread::hardware_concurrency();
  return n ? n : 1;
}

Parallel workers() {
  // Never destroyed: its threads outlive static objects.
  static ThreadPool* pool = new ThreadPool(g_threads > 0 ? g_threads.load() : processors());
  return {pool->threads(), [](void (*task)(void*, int), void* argument, int count) { pool->run(task, argument, count); }};
}

// The dimensions of c.
Dims cell_state(const Shape& s) { return s.kind == Kind::lstm ? Dims{s.batch, s.units} : Dims{0}; }

struct Attributes {
  unsigned char reverse = 0, keep = 0, sequences = 0;
};

template <bool FORWARD>
void* create(TF_OpKernelConstruction* construction) {
  auto* attributes = new Attributes;
  TF_Status* status = TF_NewStatus();
  auto get = [&](const char* name, unsigned char* value) {
    if (TF_GetCode(status) == TF_OK) TF_OpKernelConstruction_GetAttrBool(construction, name, value, status);
  };
  get("reverse", &attributes->reverse);
  if (FORWARD) {
    get("keep", &attributes->keep);
    get("sequences", &attributes->sequences);
  }
  if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
  return attributes;
}
void destroy(void* kernel) { delete (Attributes*)kernel; }

// The inputs that both operations begin with: x, h0, c0, kernel, recurrent, mask, x_dropout, dropout. A cell without
// c has an empty tensor in its place, here and below.
template <Kind KIND, class Request>
Shape read_common(Call& call, Request& a, const Attributes& attributes) {
  const auto x = call.input(0), h0 = call.input(1), c0 = call.input(2), kernel = call.input(3), recurrent = call.input(4);
  const auto mask = call.input(5), x_dropout = call.input(6), dropout = call.input(7);
  call.check_rank("x", x, 3);
  call.check_rank("h0", h0, 2);
  if (!call.ok()) return {};
  const Shape s{x.dims[0], x.dims[1], x.dims[2], h0.dims[1], KIND};
  if (s.units == 0) call.fail("keras_lstm_custom: a layer has at least one unit, and `h0` has none");
  const int64_t gates = s.gates();
  call.check("h0", h0, {s.batch, s.units});
  call.check("c0", c0, cell_state(s));
  call.check("kernel", kernel, {s.features, gates * s.units});
  call.check("recurrent", recurrent, {s.units, gates * s.units});
  call.check("mask", mask, {s.batch, s.steps}, {0, 0});
  call.check("x_dropout", x_dropout, {gates, s.batch, s.features}, {0});
  call.check("dropout", dropout, {gates, s.batch, s.units}, {0});
  a.shape = s;
  a.x = x.floats();
  a.h0 = h0.floats();
  a.c0 = c0.floats();
  a.kernel = kernel.floats();
  a.recurrent = recurrent.floats();
  a.mask = mask.bytes();
  a.x_dropout = x_dropout.floats();
  a.dropout = dropout.floats();
  a.reverse = attributes.reverse;
  return s;
}

template <Kind KIND>
void compute_forward(void* kernel, TF_OpKernelContext* context) {
  const auto& attributes = *(const Attributes*)kernel;
  Call call(context);
  Forward a{};
  const Shape s = read_common<KIND>(call, a, attributes);
  const auto bias = call.input(8);
  call.check("bias", bias, {s.gates() * s.units}, {0});
  if (!call.ok()) return;
  a.bias = bias.floats();
  const Core& core = *g_core.load();
  const bool all = attributes.keep || attributes.sequences;
  float* y = call.output(0, {s.batch, all ? s.steps : 0, s.units});
  a.h = call.output(1, {s.batch, s.units});
  a.c = call.output(2, cell_state(s));
  a.gates = call.output(3, {attributes.keep ? core.gates_size(s) : 0});
  a.cells = call.output(4, {attributes.keep ? core.cells_size(s) : 0});
  if (!call.ok()) return;
  a.y = all ? y : nullptr;
  if (!attributes.keep) a.gates = a.cells = nullptr;
  const FlushSubnormals flush;
  const Parallel p = workers();
  float* memory = call.temporary(core.forward_workspace(a, p.threads));
  if (call.ok()) core.forward(a, memory, p);
}

template <Kind KIND>
void compute_backward(void* kernel, TF_OpKernelContext* context) {
  Call call(context);
  Backward a{};
  const Shape s = read_common<KIND>(call, a, *(const Attributes*)kernel);
  const Core& core = *g_core.load();
  const auto y = call.input(8), gates = call.input(9), cells = call.input(10);
  const auto d_y = call.input(11), d_h = call.input(12), d_c = call.input(13);
  call.check("y", y, {s.batch, s.steps, s.units});
  call.check("gates", gates, {core.gates_size(s)});
  call.check("cells", cells, {core.cells_size(s)});
  call.check("d_y", d_y, {s.batch, s.steps, s.units}, {0});
  call.check("d_h", d_h, {s.batch, s.units});
  call.check("d_c", d_c, cell_state(s));
  if (!call.ok()) return;
  a.y = y.floats();
  a.gates = gates.floats();
  a.cells = cells.floats();
  a.d_y = d_y.floats();
  a.d_h = d_h.floats();
  a.d_c = d_c.floats();
  a.d_x = call.output(0, {s.batch, s.steps, s.features});
  a.d_h0 = call.output(1, {s.batch, s.units});
  a.d_c0 = call.output(2, cell_state(s));
  const int64_t columns = s.gates() * s.units;
  a.d_kernel = call.output(3, {s.features, columns});
  a.d_recurrent = call.output(4, {s.units, columns});
  a.d_bias = call.output(5, {columns});
  if (!call.ok()) return;
  const FlushSubnormals flush;
  const Parallel p = workers();
  float* memory = call.temporary(core.backward_workspace(a, p.threads));
  if (call.ok()) core.backward(a, memory, p);
}

TF_OpDefinitionBuilder* define(const char* name, std::initializer_list<const char*> inputs,
                               std::initializer_list<const char*> outputs, std::initializer_list<const char*> attributes) {
  TF_OpDefinitionBuilder* builder = TF_NewOpDefinitionBuilder(name);
  for (const char* i : {"x: float", "h0: float", "c0: float", "kernel: float", "recurrent: float", "mask: bool", "x_dropout: float",
                        "dropout: float"})
    TF_OpDefinitionBuilderAddInput(builder, i);
  for (const char* i : inputs) TF_OpDefinitionBuilderAddInput(builder, i);
  for (const char* o : outputs) TF_OpDefinitionBuilderAddOutput(builder, o);
  TF_OpDefinitionBuilderAddAttr(builder, "reverse: bool");
  for (const char* a : attributes) TF_OpDefinitionBuilderAddAttr(builder, a);
  return builder;
}

template <Kind KIND>
void register_cell(const char* forward_name, const char* backward_name) {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* forward =
      define(forward_name, {"bias: float"}, {"y: float", "h: float", "c: float", "gates: float", "cells: float"},
             {"keep: bool", "sequences: bool"});
  TF_OpDefinitionBuilderSetShapeInferenceFunction(forward, [](TF_ShapeInferenceContext* context, TF_Status* status) {
    Shapes shapes(context, status);
    shapes.unknown();
    // How many steps y has depends on the attributes, which cannot be read here: Python adds it.
    shapes.join(0, {{X, 0, 1}, {-1}, {H0, 1, 2}});
    shapes.same(1, H0);
    shapes.same(2, C0);
  });
  TF_RegisterOpDefinition(forward, status);
  TF_OpDefinitionBuilder* backward = define(
      backward_name, {"y: float", "gates: float", "cells: float", "d_y: float", "d_h: float", "d_c: float"},
      {"d_x: float", "d_h0: float", "d_c0: float", "d_kernel: float", "d_recurrent: float", "d_bias: float"}, {});
  TF_OpDefinitionBuilderSetShapeInferenceFunction(backward, [](TF_ShapeInferenceContext* context, TF_Status* status) {
    Shapes shapes(context, status);
    for (int input : {X, H0, C0, KERNEL, RECURRENT}) shapes.same(input, input);
    shapes.join(5, {{KERNEL, 1, 2}});
  });
  TF_RegisterOpDefinition(backward, status);
  auto kernel = [&](const char* name, auto create, auto compute) {
    TF_RegisterKernelBuilder(name, TF_NewKernelBuilder(name, "CPU", create, compute, destroy), status);
  };
  kernel(forward_name, create<true>, compute_forward<KIND>);
  kernel(backward_name, create<false>, compute_backward<KIND>);
  TF_DeleteStatus(status);
}

}  // namespace
}  // namespace klc

extern "C" {
// Chooses the threads (0: one for each processor) and the instruction set (empty: the best), before the first run.
// Returns the name of the set, or null if there is none of that name here.
__attribute__((visibility("default"))) const char* klc_configure(int threads, const char* core) {
  const klc::Core* chosen = klc::choose_core(core);
  if (!chosen) return nullptr;
  klc::g_threads = threads;
  klc::g_core = chosen;
  return chosen->name;
}
}

static const bool registered = [] {
  klc_configure(0, "");
  klc::register_cell<klc::Kind::lstm>("KerasLstmCustom>LstmForward", "KerasLstmCustom>LstmBackward");
  klc::register_cell<klc::Kind::vanilla_rnn>("KerasLstmCustom>VanillaRnnForward", "KerasLstmCustom>VanillaRnnBackward");
  return true;
}();
