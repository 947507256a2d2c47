// What TensorFlow knows of the shapes of an operation's outputs before it runs, from those of its inputs.
#pragma once
#include <initializer_list>

#include "tensorflow_c_api.h"

namespace klc {

// The inputs that both operations begin with.
enum { X, H0, C0, KERNEL, RECURRENT, EXTRA, MASK, X_DROPOUT, DROPOUT, NOISE, COMMON };

class Shapes {
 public:
  Shapes(TF_ShapeInferenceContext* context, TF_Status* status) : context_(context), status_(status) {}

  // The axes `begin` .. `end` - 1 of an input; or, where that is -1, one of a size that is not known.
  struct Axes {
    int input, begin = 0, end = 0;
  };

  // No output has a shape yet.
  void unknown() { TF_ShapeInferenceContextSetUnknownShape(context_, status_); }
  // The output has the shape of an input.
  void same(int output, int input) {
    const Handle shape;
    TF_ShapeInferenceContextGetInput(context_, input, shape.get, status_);
    set(output, shape);
  }
  // The output has these axes, one after the other.
  void join(int output, std::initializer_list<Axes> parts) {
    const Handle joined(TF_ShapeInferenceContextScalar(context_));
    for (const Axes& axes : parts) {
      const Handle part(axes.input < 0 ? TF_ShapeInferenceContextVectorFromSize(context_, (size_t)-1) : TF_NewShapeHandle());
      if (axes.input >= 0) {
        TF_ShapeInferenceContextGetInput(context_, axes.input, part.get, status_);
        if (!ok() || !TF_ShapeInferenceContextRankKnown(context_, part.get)) return;
        TF_ShapeInferenceContextSubshape(context_, part.get, axes.begin, axes.end, part.get, status_);
      }
      if (ok()) TF_ShapeInferenceContextConcatenateShapes(context_, joined.get, part.get, joined.get, status_);
    }
    set(output, joined);
  }

 private:
  struct Handle {
    TF_ShapeHandle* const get;
    explicit Handle(TF_ShapeHandle* handle = TF_NewShapeHandle()) : get(handle) {}
    ~Handle() { TF_DeleteShapeHandle(get); }
    Handle(const Handle&) = delete;
  };
  bool ok() const { return TF_GetCode(status_) == TF_OK; }
  void set(int output, const Handle& shape) {
    if (ok()) TF_ShapeInferenceContextSetOutput(context_, output, shape.get, status_);
  }

  TF_ShapeInferenceContext* context_;
  TF_Status* status_;
};

}  // namespace klc
