// What the core is asked, and its interface: one table of cells for each instruction set.
//
// Layouts, row-major: x (batch, steps, features); y (batch, steps, units); states (batch, units);
// kernel (features, gates * units), recurrent (units, gates * units), bias and extra (gates * units).
// What is said of c is null for a cell that has none. The core allocates nothing: the caller gives a workspace of the
// size that the core names. Every size but `units` may be 0; the caller has checked the sizes against each other.
#pragma once
#include <cstdint>

namespace klc {

struct Shape {
  int64_t batch, steps, features, units;
  int64_t keys() const { return features + units; }
};

// Calls task(argument, 0 .. count-1), in parallel where it can, and returns when all are done.
struct Parallel {
  int threads;
  void (*run)(void (*task)(void*, int), void* argument, int count);
};

// Of a cell that has them.
struct Options {
  float cell_clip = 0;                  // bound of |c|; 0: none
  float zoneout = 0, cell_zoneout = 0;  // share of h and of c that keeps its old value
  int zoned() const { return (zoneout > 0) + (cell_zoneout > 0); }
};

struct Request {
  Shape shape;
  const float *x, *h0, *c0, *kernel, *recurrent;
  const float* extra;                // further weights of a cell that has them; or null
  const unsigned char* mask;         // (batch, steps), nonzero = read the step; or null
  const float *x_dropout, *dropout;  // (gates, batch, features) on x and (gates, batch, units) on h; or null
  const float* noise;                // (batch, steps, zoned states * units), 1 = keep the old value, h before c; or null
  bool reverse;                      // read x, mask and noise from their last step to their first
  Options options;
};

struct Forward : Request {
  const float* bias;     // or null
  float* y;              // or null
  float *h, *c;          // final state
  float *gates, *cells;  // kept for the gradient, sizes below; or null
};

struct Backward : Request {
  const float *y, *gates, *cells;  // what the forward run gave
  const float *d_y, *d_h, *d_c;    // incoming gradients; d_y may be null
  float *d_x, *d_h0, *d_c0, *d_kernel, *d_recurrent, *d_bias;
  float* d_extra;  // null where `extra` is
};

// A cell: what it is, and how it is run.
struct CellRow {
  const char* name;
  int64_t gates;                        // blocks of `units` columns that its weights are packed of
  bool memory;                          // it has c
  bool extra, options;                  // it has further weights, and options
  int64_t (*gates_size)(const Shape&);  // floats
  int64_t (*cells_size)(const Shape&);
  int64_t (*forward_workspace)(const Forward&, int threads);
  int64_t (*backward_workspace)(const Backward&, int threads);
  void (*forward)(const Forward&, float* workspace, const Parallel&);
  void (*backward)(const Backward&, float* workspace, const Parallel&);
};

// The cells, compiled for an instruction set: the same ones in the same order in each.
struct Core {
  const char* name;
  const CellRow* cells;
  int count;
};

// The best core for this processor, or the one named; null if there is none of that name here.
const Core* choose_core(const char* name);

}  // namespace klc
