/* Start-up code for the emulated boards: memory, the unit for floats and vectors, and a clock of instructions. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern uint32_t data_in_rom, data_begin, data_end, bss_begin, bss_end, stack_end;
extern int main(void);
extern void initialise_monitor_handles(void);

#define SYST_CSR (*(volatile uint32_t *)0xE000E010)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018)
#define CPACR (*(volatile uint32_t *)0xE000ED88)
#define HIGHEST 0xFFFFFFu

static volatile uint32_t wraps;

static void on_tick(void) { ++wraps; }

/* Ticks of SysTick so far. With -icount shift=0 an instruction takes a nanosecond, so a tick is a fixed number of them. */
uint64_t ticks(void) {
  uint32_t before, now, after;
  do {
    before = wraps;
    now = SYST_CVR;
    after = wraps;
  } while (before != after);
  return (uint64_t)before * (HIGHEST + 1u) + (HIGHEST - now);
}

static void fault(void) { exit(99); }

void begin(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  CPACR |= 0xFu << 20;
  __asm volatile("dsb\n isb");
#endif
  memcpy(&data_begin, &data_in_rom, (size_t)((char *)&data_end - (char *)&data_begin));
  memset(&bss_begin, 0, (size_t)((char *)&bss_end - (char *)&bss_begin));
  initialise_monitor_handles();
  SYST_RVR = HIGHEST;
  SYST_CVR = 0;
  SYST_CSR = 7;
  while (SYST_CVR == 0) {
  }
  exit(main());
}

void _init(void) {}
void _fini(void) {}

__attribute__((section(".vectors"), used)) void *const vectors[16] = {
    &stack_end, begin, fault, fault, fault, fault, fault, fault, 0, 0, 0, fault, fault, 0, fault, on_tick};
