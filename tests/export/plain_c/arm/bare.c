/* One call and nothing else, for the size of a whole program. */
#include "cost.h"

int main(void) {
  CALL;
  return 0;
}
