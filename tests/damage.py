"""Damaged versions of a file, the same ones at each run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: Numbers that readers of binary files take for sizes and places: none, the largest, negative ones, far away.
EXTREME = [0, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]


def damaged(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield a file cut off, with bytes or words changed, and with parts left out or doubled, in turns."""
    rng = np.random.default_rng(seed)
    size = len(content)
    for k in range(count):
        data = bytearray(content)
        first, last = sorted(rng.integers(0, size, 2))
        match k % 6:
            case 0:
                del data[first:]
            case 1:
                for place in rng.integers(0, size, rng.integers(1, 10)):
                    data[place] = rng.integers(256)
            case 2:
                for place in rng.integers(0, size // 4, rng.integers(1, 4)):
                    data[4 * place : 4 * place + 4] = int(rng.choice(EXTREME)).to_bytes(4, "little")
            case 3:
                del data[first:last]
            case 4:
                data[first:first] = data[first:last]
            case _:  # where the tables of a file often are
                for place in rng.integers(0, min(size, 1200), rng.integers(1, 6)):
                    data[place] ^= 1 << int(rng.integers(8))
        yield bytes(data)
