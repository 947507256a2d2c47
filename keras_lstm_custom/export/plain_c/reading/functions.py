"""Functions of one number, each with its NumPy and its C; what Keras' activations are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_lstm_custom.export.plain_c.graph.builder import Builder
from keras_lstm_custom.export.plain_c.graph.ir import FUNCTIONS, Value, viewed


class Unary(NamedTuple):
    """A function that C's arithmetic does not have."""

    numpy: Callable[[np.ndarray], np.ndarray]
    c: str  #: what `static float k_NAME(float x)` returns, in float arithmetic, or its body


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[float])(x)


def _log_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


_SELU = (1.0507009873554805, 1.6732632423543772)
#: `k_power` and `k_tanh` take fewer instructions than the C library, and no code of it: `float_helpers.py`.
_SOFTPLUS = "(x > 0.0f ? x : 0.0f) + log1pf(k_power(-fabsf(x), 0.0f))"

UNARY: dict[str, Unary] = {
    "sigmoid": Unary(FUNCTIONS["sigmoid"], "1.0f / (1.0f + k_power(-x, 0.0f))"),
    "tanh": Unary(np.tanh, "const float e = k_power(2.0f * x, 1.0f); return e / (e + 2.0f);"),
    "exp": Unary(np.exp, "x > 88.0f ? HUGE_VALF : k_power(x, 0.0f)"),
    "log": Unary(np.log, "logf(x)"),
    "log1p": Unary(np.log1p, "log1pf(x)"),
    "expm1": Unary(np.expm1, "x > 88.0f ? HUGE_VALF : k_power(x, 1.0f)"),
    "sqrt": Unary(np.sqrt, "sqrtf(x)"),
    "sin": Unary(np.sin, "sinf(x)"),
    "cos": Unary(np.cos, "cosf(x)"),
    "erf": Unary(_erf, "erff(x)"),
    "floor": Unary(np.floor, "floorf(x)"),
    "softplus": Unary(lambda x: np.logaddexp(0, x), _SOFTPLUS),
    "log_sigmoid": Unary(_log_sigmoid, "(x < 0.0f ? x : 0.0f) - log1pf(k_power(-fabsf(x), 0.0f))"),
    "softsign": Unary(lambda x: x / (1 + np.abs(x)), "x / (1.0f + fabsf(x))"),
    "silu": Unary(lambda x: x * FUNCTIONS["sigmoid"](x), "x / (1.0f + k_exp(-x))"),
    "gelu": Unary(lambda x: 0.5 * x * (1 + _erf(x / 2**0.5)), "0.5f * x * (1.0f + erff(x * 0.70710678f))"),
    "gelu_tanh": Unary(
        lambda x: 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
        "0.5f * x * (1.0f + k_tanh(0.79788456f * (x + 0.044715f * x * x * x)))",
    ),
    "mish": Unary(lambda x: x * np.tanh(np.logaddexp(0, x)), f"x * k_tanh({_SOFTPLUS})"),
    "selu": Unary(
        lambda x: _SELU[0] * np.where(x > 0, x, _SELU[1] * np.expm1(np.minimum(x, 0))),
        "1.05070099f * (x > 0.0f ? x : 1.67326324f * k_power(x, 1.0f))",
    ),
    "tanh_shrink": Unary(lambda x: x - np.tanh(x), "x - k_tanh(x)"),
    "squareplus": Unary(lambda x: (x + np.sqrt(x * x + 4)) / 2, "0.5f * (x + sqrtf(x * x + 4.0f))"),
    "sparse_plus": Unary(
        lambda x: np.where(x <= -1, 0, np.where(x < 1, 0.25 * (x + 1) ** 2, x)),
        "x <= -1.0f ? 0.0f : x < 1.0f ? 0.25f * (x + 1.0f) * (x + 1.0f) : x",
    ),
}
FUNCTIONS.update({name: function.numpy for name, function in UNARY.items()})


def clipped(b: Builder, x: Value, low: float | None, high: float | None) -> Value:
    """Return x between two bounds, of which one may be missing."""
    x = x if low is None else b.map("max", x, low)
    return x if high is None else b.map("min", x, high)


def relu(b: Builder, x: Value, slope: float = 0.0, highest: float | None = None, threshold: float = 0.0) -> Value:
    """Return Keras' ReLU with its options."""
    if not threshold and not slope:
        return clipped(b, x, 0.0, highest)
    above = clipped(b, x, None, highest)
    below = b.map("mul", b.map("sub", x, threshold), slope) if slope else 0.0
    return b.map("where", b.map("ge", x, threshold), above, below)


def hard_sigmoid(b: Builder, x: Value) -> Value:
    """Return relu6(x + 3) / 6."""
    return clipped(b, b.map("add", b.map("mul", x, 1 / 6), 0.5), 0.0, 1.0)


def elu(b: Builder, x: Value, alpha: float = 1.0) -> Value:
    """Return x above zero, and below it α (exp(x) - 1)."""
    below = b.map("mul", b.map("expm1", b.map("min", x, 0.0)), alpha)
    return b.map("where", b.map("gt", x, 0.0), x, below)


def celu(b: Builder, x: Value, alpha: float = 1.0) -> Value:
    """Return max(x, 0) + α (exp(min(x, 0) / α) - 1)."""
    below = b.map("mul", b.map("expm1", b.map("mul", b.map("min", x, 0.0), 1 / alpha)), alpha)
    return b.map("add", b.map("max", x, 0.0), below)


def hard_shrink(b: Builder, x: Value, threshold: float = 0.5) -> Value:
    """Return x where |x| is above the threshold, else 0."""
    return b.map("where", b.map("gt", b.map("abs", x), threshold), x, 0.0)


def soft_shrink(b: Builder, x: Value, threshold: float = 0.5) -> Value:
    """Return what of x is beyond ± the threshold."""
    return b.map("sub", x, clipped(b, x, -threshold, threshold))


def squareplus(b: Builder, x: Value, curve: float = 4.0) -> Value:
    """Return (x + √(x² + b)) / 2."""
    if curve == 4.0:
        return b.map("squareplus", x)
    return b.map("mul", b.map("add", x, b.map("sqrt", b.map("add", b.map("mul", x, x), float(curve)))), 0.5)


def cast(b: Builder, x: Value, dtype: str) -> Value:
    """Return x as another type: whole numbers as Python's `int` makes them, truth as 0 or 1; else x as it is.

    Inputs that are cast to whole numbers are taken for such already: tokens, in float.
    """
    if dtype == "bool":
        return truth(b, x)
    if "int" not in dtype or _whole(x):
        return x
    towards_zero = b.map("sub", 0.0, b.map("floor", b.map("sub", 0.0, x)))
    return b.map("where", b.map("ge", x, 0.0), b.map("floor", x), towards_zero)


def truth(b: Builder, x: Any) -> Value:
    """Return 1 for what is not 0, and 0 for 0."""
    return x if isinstance(x, Value) and _is_truth(x) else b.map("ne", x, 0.0)


def _is_truth(x: Value) -> bool:
    x = viewed(x)
    between = x.kind == "map" and x.fn in ("min", "max") and all(map(_is_truth, x.inputs))
    return between or (x.kind == "map" and x.fn in ("eq", "ne", "gt", "ge"))


def _whole(x: Value) -> bool:
    x = viewed(x)
    return x.kind == "input" or (x.kind == "map" and x.fn == "floor") or _is_truth(x)


def softmax(b: Builder, x: Value, logarithm: bool = False) -> Value:
    """Return the softmax over the last axis."""
    shifted = b.map("sub", x, b.reduce("max", x))
    exponential = b.map("exp", shifted)
    total = b.reduce("add", exponential)
    return b.map("sub", shifted, b.map("log", total)) if logarithm else b.map("div", exponential, total)


def softmax_over_time(b: Builder, x: Value) -> Value:
    """Return the softmax over the steps."""
    exponential = b.map("exp", b.map("sub", x, b.over_time("max", x)))
    return b.map("div", exponential, b.over_time("add", exponential))


def sparsemax(b: Builder, x: Value) -> Value:
    """Return max(x - τ, 0) with Keras' τ over the last axis, which differs from that of Martins & Astudillo 2016."""
    return b.map("max", b.map("sub", x, b.reduce("sparsemax", x)), 0.0)


def normalised(b: Builder, x: Value, epsilon: float, centre: bool = True) -> Value:
    """Return x over the last axis with mean 0 (if it is centred) and mean square 1."""
    share = 1 / x.shape[-1]
    if centre:
        x = b.map("sub", x, b.map("mul", b.reduce("add", x), share))
    square = b.map("add", b.map("mul", b.reduce("add", b.map("mul", x, x)), share), epsilon)
    return b.map("div", x, b.map("sqrt", square))


def _unary(fn: str) -> Callable[[Builder, Value, Any], Value]:
    return lambda b, x, op: b.map(fn, x)


#: What an activation of Keras is, by the class of its operation: of a builder, the input, and the operation's options.
ACTIVATIONS: dict[str, Callable[[Builder, Value, Any], Value]] = {
    **{
        name: _unary(fn)
        for name, fn in {
            **{"Sigmoid": "sigmoid", "Tanh": "tanh", "Exp": "exp", "Softplus": "softplus", "Softsign": "softsign"},
            **{"Silu": "silu", "LogSigmoid": "log_sigmoid", "Selu": "selu", "TanhShrink": "tanh_shrink"},
            **{"Mish": "mish"},
            **{"SparsePlus": "sparse_plus", "Log": "log"},
            **{"Log1p": "log1p", "Expm1": "expm1", "Sqrt": "sqrt", "Erf": "erf", "Sin": "sin", "Cos": "cos"},
            **{"Floor": "floor", "Absolute": "abs", "Abs": "abs"},
        }.items()
    },
    "Relu": lambda b, x, op: relu(b, x),
    "ReLU": lambda b, x, op: relu(b, x, op.negative_slope, op.max_value, op.threshold),
    "Relu6": lambda b, x, op: clipped(b, x, 0.0, 6.0),
    "LeakyRelu": lambda b, x, op: relu(b, x, op.negative_slope),
    "HardSigmoid": lambda b, x, op: hard_sigmoid(b, x),
    "HardSilu": lambda b, x, op: b.map("mul", x, hard_sigmoid(b, x)),
    "Squareplus": lambda b, x, op: squareplus(b, x, op.b),
    "HardTanh": lambda b, x, op: clipped(b, x, -1.0, 1.0),
    "SparseSigmoid": lambda b, x, op: clipped(b, b.map("add", b.map("mul", x, 0.5), 0.5), 0.0, 1.0),
    "Elu": lambda b, x, op: elu(b, x, op.alpha),
    "Celu": lambda b, x, op: celu(b, x, op.alpha),
    "Gelu": lambda b, x, op: b.map("gelu_tanh" if op.approximate else "gelu", x),
    "HardShrink": lambda b, x, op: hard_shrink(b, x, op.threshold),
    "SoftShrink": lambda b, x, op: soft_shrink(b, x, op.threshold),
    "Threshold": lambda b, x, op: b.map("where", b.map("gt", x, op.threshold), x, op.default_value),
    "Negative": lambda b, x, op: b.map("sub", 0.0, x),
    "Square": lambda b, x, op: b.map("mul", x, x),
    "Rsqrt": lambda b, x, op: b.map("div", 1.0, b.map("sqrt", x)),
    "Reciprocal": lambda b, x, op: b.map("div", 1.0, x),
    "LogicalNot": lambda b, x, op: b.map("eq", x, 0.0),
    "Clip": lambda b, x, op: clipped(b, x, float(op.x_min), float(op.x_max)),
    **dict.fromkeys(("Cast", "ConvertToTensor"), lambda b, x, op: cast(b, x, str(op.dtype))),
    **dict.fromkeys(("Copy", "StopGradient", "Identity"), lambda b, x, op: x),
}
