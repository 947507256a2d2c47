"""Functions of C of our own: how far they are off, and products of any size."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from keras_lstm_custom.export.plain_c.floats.helpers import HELPERS, Q
from tests.engines.minimax import expm1_coefficients

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

FUNCTIONS = {
    "exp": np.exp,
    "expm1": np.expm1,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The helpers as a library; each function of one number over an array, too."""
    place = tmp_path_factory.mktemp("helpers")
    arrays = [
        f"void all_{name}(const float *x, int n, float *y) {{ for (int k = 0; k < n; ++k) y[k] = k_{name}(x[k]); }}\n"
        for name in FUNCTIONS
    ]
    helpers = [HELPERS[name].replace("static ", "") for name in ("power", *FUNCTIONS, "linear", "linear8")]
    head = "#include <math.h>\n#include <stdint.h>\n#include <string.h>\n"
    (place / "helpers.c").write_text("".join([head, *helpers, *arrays]))
    call = ["gcc", "-std=c99", "-O1", "-shared", "-fPIC", "helpers.c", "-lm", "-o", "helpers.so"]
    subprocess.run(call, cwd=place, check=True)
    return ctypes.CDLL(str(place / "helpers.so"))


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def of(library, name: str, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    library[f"all_{name}"](pointer(x), len(x), pointer(y))
    return y


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_error_is_below_what_is_said(name, library):
    """2e-7 of the exact value, where that is a normal number; near 0, too, where most of tanh and expm1 cancels."""
    near = np.geomspace(1e-30, 1, 20_001)
    x = np.concatenate([np.linspace(-87, 87.9, 200_001), near, -near]).astype(np.float32)
    exact = FUNCTIONS[name](x.astype(np.float64))
    assert (np.abs(of(library, name, x) - exact) < 2e-7 * np.abs(exact)).all()


def test_beyond_all_bounds(library):
    x = np.array([np.nan, np.inf, 3e38, -np.inf, -3e38], np.float32)
    limits = {"exp": (np.inf, 0), "expm1": (np.inf, -1), "tanh": (1, -1), "sigmoid": (1, 0)}
    for name, (high, low) in limits.items():
        expected = np.array([np.nan, high, high, low, low])
        np.testing.assert_allclose(of(library, name, x), expected, rtol=0, atol=1e-38, err_msg=name)


def test_the_coefficients_are_those_of_least_error():
    np.testing.assert_array_equal(np.array(Q, "float32"), expm1_coefficients()[0].astype("float32"))


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("columns", [1, 2, 7])
def test_products_of_any_size(rows, columns, library):
    rng = np.random.default_rng(0)
    numbers = rng.integers(-127, 128, (rows, columns)).astype(np.int8)
    scales, x, before = (rng.standard_normal(size).astype(np.float32) for size in (rows, columns, rows + 1))
    weights = numbers * scales[:, None]
    expected = before + np.append(weights @ x, 0)  # nothing is written behind the last row
    y, y8 = before.copy(), before.copy()
    library.k_linear(pointer(weights), pointer(x), rows, columns, pointer(y))
    library.k_linear8(pointer(numbers), pointer(scales), pointer(x), rows, columns, pointer(y8))
    np.testing.assert_allclose(y, expected, atol=1e-4)
    np.testing.assert_allclose(y8, expected, atol=1e-4)
