// Numbers below the smallest normal one, 1.2e-38, count as 0 while a core computes, as they do in TensorFlow's own
// kernels: on every thread alike, so that results repeat; and arithmetic with them is slow on some processors.
#pragma once
#include <cstdint>
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
#elif defined(__aarch64__)
  FlushSubnormals() : before_(control()) { set_control(before_ | 1 << 24); }  // FZ: of results, and of operands
  ~FlushSubnormals() { set_control(before_); }

 private:
  static uint64_t control() {
    uint64_t value;
    __asm__ volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void set_control(uint64_t value) { __asm__ volatile("msr fpcr, %0" : : "r"(value) : "memory"); }
  const uint64_t before_;
#else
  FlushSubnormals() {}
  ~FlushSubnormals() {}
#endif
};

}  // namespace klc
