// Chooses the core for the processor at run time, among those that were built: KLC_CORES names them, each as CORE(name), the
// best first.
#include <cstring>

#include "core.h"

namespace klc {

#define CORE(name) const Core* name##_core();
KLC_CORES
#undef CORE

namespace {

// Whether this processor has the instructions of a core.
bool runs(const char* core) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!std::strcmp(core, "avx512")) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
  if (!std::strcmp(core, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
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
