// Chooses the core for the processor at run time.
#include <cstring>

#include "core.h"

namespace klc {

const Core* choose_core(const char* name) {
#if defined(__x86_64__) && !defined(KLC_BASELINE_ONLY)
  __builtin_cpu_init();
#endif
  const Core* cores[] = {
#if defined(__x86_64__) && !defined(KLC_BASELINE_ONLY)
    __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") ? avx512_core() : nullptr,
    __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? avx2_core() : nullptr,
#endif
    baseline_core(),
  };
  for (const Core* core : cores)
    if (core && (!name || !*name || !strcmp(core->name, name))) return core;
  return nullptr;
}

}  // namespace klc
