// One run of an operation as TensorFlow's C API has it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tensorflow_c_api.h"

namespace klc {

using Dims = std::vector<int64_t>;

// Its inputs, its outputs and the first error.
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}
  ~Call() {
    if (TF_GetCode(status_) != TF_OK) TF_OpKernelContext_Failure(context_, status_);
    for (TF_Tensor* t : tensors_) TF_DeleteTensor(t);
    TF_DeleteStatus(status_);
  }
  bool ok() const { return TF_GetCode(status_) == TF_OK; }

  struct Input {
    Dims dims;
    void* data;
    int64_t count;
    const float* floats() const { return count ? (const float*)data : nullptr; }
    const unsigned char* bytes() const { return count ? (const unsigned char*)data : nullptr; }
  };
  Input input(int index) {
    TF_Tensor* t = nullptr;
    Input in{{}, nullptr, 0};
    if (!ok()) return in;  // TensorFlow's functions overwrite the status: the first error must stay
    TF_GetInput(context_, index, &t, status_);
    if (!ok()) return in;
    tensors_.push_back(t);
    in.count = 1;
    for (int i = 0; i < TF_NumDims(t); i++) {
      in.dims.push_back(TF_Dim(t, i));
      in.count *= in.dims.back();
    }
    in.data = TF_TensorData(t);
    return in;
  }
  float* output(int index, const Dims& dims) {
    if (!ok()) return nullptr;
    int64_t count = 4;
    for (int64_t d : dims)
      if (__builtin_mul_overflow(count, d, &count)) return fail("keras_lstm_custom: an output is too large: " + text(dims)), nullptr;
    TF_Tensor* t = TF_AllocateOutput(context_, index, TF_FLOAT, dims.data(), (int)dims.size(), count, status_);
    return data(t);
  }
  float* temporary(int64_t count) {
    if (!ok()) return nullptr;
    TF_AllocatorAttributes attributes{sizeof(TF_AllocatorAttributes), 1};
    return data(TF_AllocateTemp(context_, TF_FLOAT, &count, 1, &attributes, status_));
  }
  // An input that may be left out is `absent` then: all its dimensions are 0.
  void check(const char* name, const Input& in, const Dims& dims, const Dims& absent = {}) {
    if (!ok() || in.dims == dims || (!absent.empty() && in.dims == absent)) return;
    fail(std::string("keras_lstm_custom: `") + name + "` does not fit. Expected: " + text(dims) + ". Received: " + text(in.dims));
  }
  void check_rank(const char* name, const Input& in, size_t rank) {
    if (ok() && in.dims.size() != rank)
      fail(std::string("keras_lstm_custom: `") + name + "` must have " + std::to_string(rank) + " axes. Received: " + text(in.dims));
  }
  void fail(const std::string& message) { TF_SetStatus(status_, TF_INVALID_ARGUMENT, message.c_str()); }

 private:
  float* data(TF_Tensor* t) {
    if (!t) return nullptr;
    tensors_.push_back(t);
    return ok() ? (float*)TF_TensorData(t) : nullptr;
  }
  static std::string text(const Dims& dims) {
    std::string s = "(";
    for (size_t i = 0; i < dims.size(); i++) s += (i ? ", " : "") + std::to_string(dims[i]);
    return s + ")";
  }

  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> tensors_;
};

}  // namespace klc
