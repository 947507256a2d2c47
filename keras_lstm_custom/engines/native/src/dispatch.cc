// Chooses the core for the processor at run time, among those that were built: KLC_CORES names them, each as CORE(name), the
// best first.
#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "core.h"

namespace klc {

#define CORE(name) const Core* name##_core();
KLC_CORES
#undef CORE

namespace {

#if defined(__x86_64__)
// Whether the processor has FMA and these extended features, and the system keeps the registers that they use. Asked of the
// processor itself: `__builtin_cpu_supports` says no to everything where zig links.
bool has(unsigned features, unsigned registers) {
  constexpr unsigned kFma = 1u << 12, kSystemSaves = 1u << 27;
  unsigned a, b, c, d, kept, unused;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & kFma) == 0 || (c & kSystemSaves) == 0) return false;
  __asm__("xgetbv" : "=a"(kept), "=d"(unused) : "c"(0));
  return (kept & registers) == registers && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & features) == features;
}
#endif

// Whether this processor has the instructions of a core.
bool runs(const char* core) {
#if defined(__x86_64__)
  constexpr unsigned kAvx2 = 1u << 5, kAvx512f = 1u << 16, kAvx512vl = 1u << 31, kYmm = 0x6, kZmm = 0xe6;
  if (!std::strcmp(core, "avx512")) return has(kAvx512f | kAvx512vl, kZmm);
  if (!std::strcmp(core, "avx2")) return has(kAvx2, kYmm);
#endif
  (void)core;  // the others are what every processor of their architecture has
  return true;
}

}  // namespace

const Core* choose_core(const char* name) {
#define CORE(built) \
  if (runs(#built) && (!name || !*name || !std::strcmp(#built, name))) return built##_core();
  KLC_CORES
#undef CORE
  return nullptr;
}

}  // namespace klc
