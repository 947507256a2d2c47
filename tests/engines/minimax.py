"""Finds the coefficients of `src/activations.h`: expm1(r) = r + r² Q(r), Q the polynomial of least relative error.

Remez' exchange in extended precision, on |r| <= ln 2 / 2, where what is left of e^x lies after powers of two are
taken out. `python -m tests.engines.minimax` prints them; `test_native_core.py` compares them with the file.
"""

from __future__ import annotations

import numpy as np

DEGREE = 4  #: of Q: its error is a tenth of half a unit in the last place of float32; with 3 it is four units
BOUND = np.log(np.longdouble(2)) / 2


def expm1_coefficients(degree: int = DEGREE, rounds: int = 20) -> tuple[np.ndarray, float]:
    """Return the coefficients of Q, lowest power first, and the largest relative error of expm1."""
    powers = np.arange(degree + 1)

    def error(r, q):  # relative, but without the change of its sign at 0, where every Q is exact
        return (np.expm1(r) - r - r**2 * (r[..., None] ** powers @ q)) / np.abs(np.expm1(r))

    points = BOUND * np.cos(np.pi * np.arange(degree + 2, dtype=np.longdouble) / (degree + 1))[::-1]
    grid = np.linspace(-BOUND, BOUND, 200_000, dtype=np.longdouble)
    for _ in range(rounds):
        level = np.abs(np.expm1(points)) * (-1.0) ** np.arange(degree + 2)  # the error is ± one level, in turns
        matrix = np.column_stack([points[:, None] ** (powers + 2), level])
        q = _solve(matrix, np.expm1(points) - points)[:-1]
        values = error(grid, q)
        parts = np.split(np.arange(len(grid)), np.flatnonzero(np.diff(np.sign(values))) + 1)
        points = grid[[part[np.argmax(abs(values[part]))] for part in parts]]
        assert len(points) == degree + 2
    return q, float(abs(values).max())


def _solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve in extended precision, which LAPACK has not: refine double precision's answer."""
    inverse = np.linalg.inv(matrix.astype("float64"))
    x = inverse @ right
    for _ in range(5):
        x = x + inverse @ (right - matrix @ x)
    return x


if __name__ == "__main__":
    coefficients, largest = expm1_coefficients()
    print(*(f"{np.float32(value):.9g}f" for value in coefficients), f"relative error {largest:.2g}")
