/* Prints what one call costs: ticks, and the bytes of stack below it. */
#include <stdint.h>
#include <stdio.h>

#include "cost.h"

extern uint32_t stack_begin, stack_end;
uint64_t ticks(void);

static uint64_t one_loop(uint32_t count) {
  const uint64_t before = ticks();
  __asm volatile("1: subs %0, %0, #1\n bne 1b" : "+r"(count) : : "cc");
  return ticks() - before;
}

int main(void) {
  uint32_t here, *place;
  /* The difference of two loops of known length says how many instructions a tick is. */
  const uint64_t known = one_loop(1200000u) - one_loop(200000u);
  for (place = &stack_begin; place < &here - 32; ++place) *place = 0xA5A5A5A5u;
  const uint64_t before = ticks();
  CALL;
  const uint64_t took = ticks() - before;
  for (place = &stack_begin; *place == 0xA5A5A5A5u; ++place) {
  }
  printf("@ %lu %lu %lu %lu\n", (unsigned long)took, (unsigned long)known,
         (unsigned long)((char *)&here - (char *)place), (unsigned long)sizeof m);
  return 0;
}
