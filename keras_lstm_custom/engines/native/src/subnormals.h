// Numbers below the smallest normal one, 1.2e-38, count as 0 while a core computes, as they do in TensorFlow's own
// kernels: on every thread alike, so that results repeat; and arithmetic with them is slow on some processors.
#pragma once
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace klc {

class FlushSubnormals {
 public:
#if defined(__x86_64__)
  FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }  // of results, and of operands
  ~FlushSubnormals() { _mm_setcsr(before_); }

 private:
  const unsigned before_;
#else
  FlushSubnormals() {}
  ~FlushSubnormals() {}
#endif
};

}  // namespace klc
