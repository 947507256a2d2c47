// What the core is asked, and its interface: one table of functions for each instruction set.
//
// Layouts, row-major: x (batch, steps, features); y (batch, steps, units); states (batch, units);
// kernel (features, gates * units), recurrent (units, gates * units), bias (gates * units).
// A vanilla RNN counts as a cell of one gate, and has no c: what is said of c is null for it.
// The core allocates nothing: the caller gives a workspace of the size that the core names. Every size but `units` may
// be 0; the caller has checked the sizes against each other.
#pragma once
#include <cstdint>

namespace klc {

enum class Kind { lstm, vanilla_rnn };

struct Shape {
  int64_t batch, steps, features, units;
  Kind kind = Kind::lstm;
  int64_t gates() const { return kind == Kind::lstm ? 4 : 1; }  // of the LSTM in the order i, f, g, o
  int64_t keys() const { return features + units; }
  int64_t cells() const { return kind == Kind::lstm ? batch * units : 0; }  // numbers that c has
};

// Calls task(argument, 0 .. count-1), in parallel where it can, and returns when all are done.
struct Parallel {
  int threads;
  void (*run)(void (*task)(void*, int), void* argument, int count);
};

struct Forward {
  Shape shape;
  const float *x, *h0, *c0, *kernel, *recurrent;
  const float* bias;          // or null
  const unsigned char* mask;  // (batch, steps), nonzero = read the step; or null
  const float* x_dropout;     // (gates, batch, features), masks on x for each gate; or null
  const float* dropout;       // (gates, batch, units), masks on h for each gate; or null
  bool reverse;               // read x and mask from their last step to their first
  float* y;                   // or null
  float *h, *c;               // final state
  float *gates, *cells;       // kept for the gradient, sizes below; or null
};

struct Backward {
  Shape shape;
  const float *x, *h0, *c0, *kernel, *recurrent;
  const unsigned char* mask;
  const float *x_dropout, *dropout;
  bool reverse;
  const float *y, *gates, *cells;  // what the forward run gave
  const float *d_y, *d_h, *d_c;    // incoming gradients
  float *d_x, *d_h0, *d_c0, *d_kernel, *d_recurrent, *d_bias;
};

struct Core {
  const char* name;
  int64_t (*gates_size)(const Shape&);  // floats
  int64_t (*cells_size)(const Shape&);
  int64_t (*forward_workspace)(const Forward&, int threads);
  int64_t (*backward_workspace)(const Backward&, int threads);
  void (*forward)(const Forward&, float* workspace, const Parallel&);
  void (*backward)(const Backward&, float* workspace, const Parallel&);
};

// The best core for this processor, or the one named; null if there is none of that name here.
const Core* choose_core(const char* name);

}  // namespace klc
