"""The integer functions of C at the ends of what they are given: the exact result, and no overflow on the way."""

from __future__ import annotations

import subprocess

import numpy as np

from keras_lstm_custom.export.plain_c.integers.helpers import HELPERS
from tests.export.plain_c.building import MARKS, SANITIZED, WARNINGS

pytestmark = MARKS

#: So many that a sum of the largest leaves int32.
WIDTH = 70_000
ENDS = (-32768, -1, 0, 1, 32767)

PROGRAM = f"""
#include <stdint.h>
#include <stdio.h>
{"".join(HELPERS[name] for name in ("sat", "sat64", "move", "sum", "dots", "mix", "div"))}
static int16_t x[{WIDTH}], y[8];
static const int16_t ends[5] = {{{", ".join(map(str, ENDS))}}};
static void show(int count) {{
  for (int i = 0; i < count; ++i) printf("%d ", y[i]);
  printf("\\n");
}}
int main(void) {{
  for (int shift = -16; shift <= 16; shift += 4) {{
    k_move(y, ends, 5, shift);
    show(5);
  }}
  for (int n = 0; n < 5; ++n) {{
    for (int i = 0; i < {WIDTH}; ++i) x[i] = ends[n];
    for (int shift = -16; shift <= 36; shift += 4) {{
      k_sum(x, 1, {WIDTH}, shift, y);
      k_dots(x, x, 1, {WIDTH}, shift, y + 1);
      k_mix(x, x, {WIDTH}, 1, shift, y + 2);
      show(3);
    }}
  }}
  for (int shift = -62; shift <= 30; ++shift) {{
    y[0] = (int16_t)k_div(2147483647, -2147483647, shift);
    y[1] = (int16_t)k_div(-2147483647, 3, shift);
    y[2] = (int16_t)k_div(1, -2147483647 - 1, shift);
    show(3);
  }}
  return 0;
}}
"""


def cut(value: int) -> int:
    return max(-32768, min(value, 32767))


def moved(value: int, by: int) -> int:
    """Return a number shifted to the right, to the nearest, within int16."""
    return cut((value + 2 ** (by - 1)) >> by if by > 0 else value << -by)


def divided(a: int, b: int, places: int) -> int:
    """Return 2^places a / b, to the nearest, half away from zero."""
    wide = a << places if places >= 0 else a >> -places
    found = (abs(wide) + abs(b) // 2) // abs(b)
    return cut(found if (wide < 0) == (b < 0) else -found)


def test_functions_of_integers_at_the_ends(tmp_path):
    (tmp_path / "ends.c").write_text(PROGRAM)
    call = ["gcc", "-std=c99", "-O1", *WARNINGS, *SANITIZED, "ends.c", "-o", "ends"]
    subprocess.run(call, cwd=tmp_path, check=True)
    ran = subprocess.run([tmp_path / "ends"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[:2000]
    expected = [[moved(v, shift) for v in ENDS] for shift in range(-16, 17, 4)]
    expected += [
        [moved(WIDTH * v, shift), *[moved(WIDTH * v * v, shift)] * 2] for v in ENDS for shift in range(-16, 37, 4)
    ]
    most = 2**31 - 1
    expected += [
        [divided(most, -most, shift), divided(-most, 3, shift), divided(1, -most - 1, shift)]
        for shift in range(-62, 31)
    ]
    found = [[int(number) for number in line.split()] for line in ran.stdout.splitlines()]
    np.testing.assert_equal(found, expected)
