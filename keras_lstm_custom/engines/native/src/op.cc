// The operations KerasLstmCustom>Forward and >Backward, on TensorFlow's C API; an attribute names the cell.
#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>
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

struct Attributes {
  int cell = 0;  // its number in the core's table
  unsigned char reverse = 0, keep = 0, sequences = 0;
  Options options;
};

// Reads the attributes of an operation under construction; the first error stays.
class Construction {
 public:
  explicit Construction(TF_OpKernelConstruction* construction) : construction_(construction), status_(TF_NewStatus()) {}
  ~Construction() {
    if (!ok()) TF_OpKernelConstruction_Failure(construction_, status_);
    TF_DeleteStatus(status_);
  }
  void get(const char* name, unsigned char* value) {
    if (ok()) TF_OpKernelConstruction_GetAttrBool(construction_, name, value, status_);
  }
  void get(const char* name, float* value) {
    if (ok()) TF_OpKernelConstruction_GetAttrFloat(construction_, name, value, status_);
  }
  // The number of the cell that the attribute names.
  void get_cell(int* cell) {
    int32_t list = 0, size = 0;
    if (ok()) TF_OpKernelConstruction_GetAttrSize(construction_, "cell", &list, &size, status_);
    std::string name(size > 0 ? size : 0, 0);
    if (ok()) TF_OpKernelConstruction_GetAttrString(construction_, "cell", &name[0], name.size(), status_);
    if (!ok()) return;
    const Core& core = *g_core.load();
    for (int i = 0; i < core.count; i++)
      if (name == core.cells[i].name) return (void)(*cell = i);
    TF_SetStatus(status_, TF_INVALID_ARGUMENT, ("keras_lstm_custom: the library has no cell '" + name + "'").c_str());
  }

 private:
  bool ok() const { return TF_GetCode(status_) == TF_OK; }
  TF_OpKernelConstruction* construction_;
  TF_Status* status_;
};

template <bool FORWARD>
void* create(TF_OpKernelConstruction* construction) {
  auto* a = new Attributes;
  Construction c(construction);
  c.get_cell(&a->cell);
  c.get("reverse", &a->reverse);
  c.get("cell_clip", &a->options.cell_clip);
  c.get("zoneout", &a->options.zoneout);
  c.get("cell_zoneout", &a->options.cell_zoneout);
  if (FORWARD) {
    c.get("keep", &a->keep);
    c.get("sequences", &a->sequences);
  }
  return a;
}
void destroy(void* kernel) { delete (Attributes*)kernel; }

// What is common to both ways: the cell, the sizes, and the inputs that both begin with. What a cell has not, or a call,
// is an empty tensor.
struct Common {
  const CellRow& cell;
  Shape shape;
  Dims state, memory, bias;  // dimensions of h, of c, and of a bias

  Common(Call& call, Request& a, const Attributes& attributes) : cell(g_core.load()->cells[attributes.cell]), shape{} {
    Call::Input in[COMMON];
    for (int i = 0; i < COMMON; i++) in[i] = call.input(i);
    call.check_rank("x", in[X], 3);
    call.check_rank("h0", in[H0], 2);
    if (!call.ok()) return;
    const Shape s{in[X].dims[0], in[X].dims[1], in[X].dims[2], in[H0].dims[1]};
    if (s.units == 0) call.fail("keras_lstm_custom: a layer has at least one unit, and `h0` has none");
    if (!cell.options && (attributes.options.cell_clip || attributes.options.zoned()))
      call.fail(std::string("keras_lstm_custom: the cell '") + cell.name + "' has no options");
    shape = s;
    state = {s.batch, s.units};
    memory = cell.memory ? state : Dims{0};
    bias = {cell.gates * s.units};
    call.check("h0", in[H0], state);
    call.check("c0", in[C0], memory);
    call.check("kernel", in[KERNEL], {s.features, bias[0]});
    call.check("recurrent", in[RECURRENT], {s.units, bias[0]});
    call.check("extra", in[EXTRA], cell.extra ? bias : Dims{0}, {0});
    call.check("mask", in[MASK], {s.batch, s.steps}, {0, 0});
    call.check("x_dropout", in[X_DROPOUT], {cell.gates, s.batch, s.features}, {0});
    call.check("dropout", in[DROPOUT], {cell.gates, s.batch, s.units}, {0});
    call.check("noise", in[NOISE], {s.batch, s.steps, attributes.options.zoned() * s.units}, {0});
    a.shape = s;
    a.x = in[X].floats();
    a.h0 = in[H0].floats();
    a.c0 = in[C0].floats();
    a.kernel = in[KERNEL].floats();
    a.recurrent = in[RECURRENT].floats();
    a.extra = in[EXTRA].floats();
    a.mask = in[MASK].bytes();
    a.x_dropout = in[X_DROPOUT].floats();
    a.dropout = in[DROPOUT].floats();
    a.noise = in[NOISE].floats();
    a.reverse = attributes.reverse;
    a.options = attributes.options;
  }
};

void compute_forward(void* kernel, TF_OpKernelContext* context) {
  const auto& attributes = *(const Attributes*)kernel;
  Call call(context);
  Forward a{};
  const Common common(call, a, attributes);
  const Shape& s = common.shape;
  const CellRow& cell = common.cell;
  const auto bias = call.input(COMMON);
  call.check("bias", bias, common.bias, {0});
  if (!call.ok()) return;
  a.bias = bias.floats();
  const bool all = attributes.keep || attributes.sequences;
  float* y = call.output(0, {s.batch, all ? s.steps : 0, s.units});
  a.h = call.output(1, common.state);
  a.c = call.output(2, common.memory);
  a.gates = call.output(3, {attributes.keep ? cell.gates_size(s) : 0});
  a.cells = call.output(4, {attributes.keep ? cell.cells_size(s) : 0});
  if (!call.ok()) return;
  a.y = all ? y : nullptr;
  if (!attributes.keep) a.gates = a.cells = nullptr;
  const FlushSubnormals flush;
  const Parallel p = workers();
  float* memory = call.temporary(cell.forward_workspace(a, p.threads));
  if (call.ok()) cell.forward(a, memory, p);
}

void compute_backward(void* kernel, TF_OpKernelContext* context) {
  Call call(context);
  Backward a{};
  const Common common(call, a, *(const Attributes*)kernel);
  const Shape& s = common.shape;
  const CellRow& cell = common.cell;
  const Dims sequences{s.batch, s.steps, s.units};
  enum { Y = COMMON, GATES, CELLS, D_Y, D_H, D_C };
  const auto y = call.input(Y), gates = call.input(GATES), cells = call.input(CELLS);
  const auto d_y = call.input(D_Y), d_h = call.input(D_H), d_c = call.input(D_C);
  call.check("y", y, sequences);
  if (call.ok()) call.check("gates", gates, {cell.gates_size(s)});
  if (call.ok()) call.check("cells", cells, {cell.cells_size(s)});
  call.check("d_y", d_y, sequences, {0});
  call.check("d_h", d_h, common.state);
  call.check("d_c", d_c, common.memory);
  if (!call.ok()) return;
  a.y = y.floats();
  a.gates = gates.floats();
  a.cells = cells.floats();
  a.d_y = d_y.floats();
  a.d_h = d_h.floats();
  a.d_c = d_c.floats();
  a.d_x = call.output(X, {s.batch, s.steps, s.features});
  a.d_h0 = call.output(H0, common.state);
  a.d_c0 = call.output(C0, common.memory);
  a.d_kernel = call.output(KERNEL, {s.features, common.bias[0]});
  a.d_recurrent = call.output(RECURRENT, {s.units, common.bias[0]});
  a.d_extra = call.output(EXTRA, a.extra ? common.bias : Dims{0});
  a.d_bias = call.output(EXTRA + 1, common.bias);
  if (!call.ok()) return;
  if (!a.extra) a.d_extra = nullptr;
  const FlushSubnormals flush;
  const Parallel p = workers();
  float* memory = call.temporary(cell.backward_workspace(a, p.threads));
  if (call.ok()) cell.backward(a, memory, p);
}

TF_OpDefinitionBuilder* define(const char* name, std::initializer_list<const char*> inputs, std::initializer_list<const char*> outputs,
                               std::initializer_list<const char*> attributes) {
  TF_OpDefinitionBuilder* builder = TF_NewOpDefinitionBuilder(name);
  for (const char* i : {"x: float", "h0: float", "c0: float", "kernel: float", "recurrent: float", "extra: float", "mask: bool",
                        "x_dropout: float", "dropout: float", "noise: float"})
    TF_OpDefinitionBuilderAddInput(builder, i);
  for (const char* i : inputs) TF_OpDefinitionBuilderAddInput(builder, i);
  for (const char* o : outputs) TF_OpDefinitionBuilderAddOutput(builder, o);
  for (const char* a : {"cell: string", "reverse: bool", "cell_clip: float = 0", "zoneout: float = 0", "cell_zoneout: float = 0"})
    TF_OpDefinitionBuilderAddAttr(builder, a);
  for (const char* a : attributes) TF_OpDefinitionBuilderAddAttr(builder, a);
  return builder;
}

void register_operations(const char* forward_name, const char* backward_name) {
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
  TF_OpDefinitionBuilder* backward =
      define(backward_name, {"y: float", "gates: float", "cells: float", "d_y: float", "d_h: float", "d_c: float"},
             {"d_x: float", "d_h0: float", "d_c0: float", "d_kernel: float", "d_recurrent: float", "d_extra: float", "d_bias: float"}, {});
  TF_OpDefinitionBuilderSetShapeInferenceFunction(backward, [](TF_ShapeInferenceContext* context, TF_Status* status) {
    Shapes shapes(context, status);
    for (int input : {X, H0, C0, KERNEL, RECURRENT, EXTRA}) shapes.same(input, input);
    shapes.join(EXTRA + 1, {{KERNEL, 1, 2}});
  });
  TF_RegisterOpDefinition(backward, status);
  auto kernel = [&](const char* name, auto create, auto compute) {
    TF_RegisterKernelBuilder(name, TF_NewKernelBuilder(name, "CPU", create, compute, destroy), status);
  };
  kernel(forward_name, create<true>, compute_forward);
  kernel(backward_name, create<false>, compute_backward);
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
  klc::register_operations("KerasLstmCustom>Forward", "KerasLstmCustom>Backward");
  return true;
}();
