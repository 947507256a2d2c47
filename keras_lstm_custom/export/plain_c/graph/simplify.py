"""The same graph with fewer values: constants go into the products beside them, and products of one sum become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from keras_lstm_custom.export.plain_c.graph.ir import Value, ordered

#: How far the factors of a product's inputs may differ, so that a row of its kernel still has one scale in int8.
ALIKE = 8.0


def simplify(outputs: Sequence[Value]) -> None:
    """Change the values behind `outputs` in place."""
    _sequences(outputs)
    while True:
        uses = _uses(outputs)
        if not sum(_simplified(value, uses) for value in ordered(outputs)):
            return


def _uses(outputs: Sequence[Value]) -> Counter[int]:
    uses = Counter(value.number for value in outputs)
    for value in ordered(outputs):
        uses.update(v.number for v in value.inputs)
        if value.kind == "state":
            uses[value.next.number] += 1
    return uses


def _sequences(outputs: Sequence[Value]) -> None:
    """Let an input that is read as a sequence only be one."""
    values = ordered(outputs)
    for source in [value for value in values if value.kind == "input" and value.steps is None]:
        readers = [value for value in values if source in value.inputs]
        if readers and all(value.kind == "steps" for value in readers):
            source.steps, source.shape = source.shape[0], source.shape[1:]
            for value in readers:
                value.kind, value.attributes = "slice", {"start": 0}


def _simplified(value: Value, uses: Counter[int]) -> bool:
    """Simplify one value; return whether there was something to do."""
    if value.kind == "map" and value.fn in ("add", "sub", "mul"):
        return _into_product(value, uses) or (value.fn == "mul" and _by_root(value))
    if value.kind == "map" and value.fn == "sqrt":
        return _root_of_squares(value)
    if value.kind == "linear":
        return sum(_from_input(value, number, uses) for number in range(len(value.inputs))) > 0
    if value.kind == "slice" and value.inputs[0].kind == "slice":
        (inner,) = value.inputs
        value.inputs, value.attributes = list(inner.inputs), {"start": value.start + inner.start}
        return True
    return False


def _root_of_squares(value: Value) -> bool:
    """Let √(Σ x² / n + ε) be one value: in between, integers would lose the small ones."""
    total, epsilon = _with_constant(value.inputs[0], "add", 0.0)
    total, share = _with_constant(total, "mul", 1.0)
    if total.kind != "reduce" or total.fn != "add" or total.size != value.size or epsilon < 0 or not 0 < share <= 1:
        return False
    (square,) = total.inputs
    count = round(1 / share)
    if square.kind != "map" or square.fn != "mul" or abs(count * share - 1) > 1e-6:
        return False
    x, again = square.inputs
    if x is not again or x.shape != square.shape:
        return False
    value.kind, value.inputs = "reduce", [x]
    value.attributes = {"fn": "rms", "count": count, "epsilon": epsilon}
    return True


def _by_root(value: Value) -> bool:
    """Let x · (1 / √...) be x / √...: of a root near zero integers cannot hold the inverse."""
    for x, inverse in (value.inputs, value.inputs[::-1]):
        if inverse.kind == "map" and inverse.fn == "div":
            one, root = inverse.inputs
            if one.kind == "const" and (one.array == 1).all() and root.kind == "reduce" and root.fn == "rms":
                value.inputs, value.attributes = [x, root], {**value.attributes, "fn": "div"}
                return True
    return False


def _with_constant(value: Value, fn: str, neutral: float) -> tuple[Value, float]:
    """Return a sum or product with one number as the other operand and that number."""
    if value.kind == "map" and value.fn == fn:
        for one, other in (value.inputs, value.inputs[::-1]):
            if other.kind == "const" and other.size == 1 and one.shape == value.shape:
                return one, float(other.array[0])
    return value, neutral


def _into_product(value: Value, uses: Counter[int]) -> bool:
    """Let a sum or product with a constant, or a sum of two products, be part of the product."""
    left, right = value.inputs
    if left.kind == "const" and value.fn != "sub":
        left, right = right, left
    if left.kind != "linear" or uses[left.number] != 1 or left.shape != value.shape:
        return False
    kernels, bias = left.kernels, left.bias
    hop = {"hop": left.hop} if "hop" in left.attributes else {}
    if right.kind == "linear" and (hop or "hop" in right.attributes):
        return False
    if right.kind == "linear" and value.fn == "add" and uses[right.number] == 1 and right.shape == left.shape:
        inputs = [*left.inputs, *right.inputs]
        kernels, bias = [*kernels, *right.kernels], bias + right.bias
    elif right.kind == "const" and (of_row := _of_last_axis(right, value)) is not None:
        inputs = left.inputs
        if value.fn == "mul":
            kernels, bias = [kernel * of_row for kernel in kernels], bias * of_row
        else:
            bias = bias + (of_row if value.fn == "add" else -of_row)
    else:
        return False
    value.kind, value.inputs = "linear", list(inputs)
    value.attributes = {"kernels": list(kernels), "bias": bias, **hop}
    return True


def _of_last_axis(constant: Value, value: Value) -> np.ndarray | None:
    """Return a constant as one number for each place of the last axis, if it is the same along the others."""
    width = value.shape[-1]
    if constant.size == 1:
        return np.full(width, constant.array[0])
    if constant.size % width:
        return None
    rows = constant.array.reshape(-1, width)
    return rows[0] if (rows == rows[0]).all() else None


def _from_input(value: Value, number: int, uses: Counter[int]) -> bool:
    """Take a constant factor or summand of a product's input into its kernel or bias."""
    source = value.inputs[number]
    if (
        "hop" in value.attributes
        or source.kind != "map"
        or source.fn not in ("add", "sub", "mul")
        or uses[source.number] != 1
        or "exact" in source.attributes  # of numbers far from zero a product would have to find how little they differ
    ):
        return False
    left, right = source.inputs
    if left.kind == "const" and source.fn != "sub":
        left, right = right, left
    if right.kind != "const" or left.shape != source.shape:
        return False
    of_input = _of_last_axis(right, source)
    if of_input is None:
        return False
    kernel = value.kernels[number]
    if source.fn == "mul":
        sizes = np.abs(of_input)
        if not sizes.min() > 0 or sizes.max() > ALIKE * sizes.min():
            return False
        value.kernels[number] = kernel * of_input[:, None]
    else:
        value.attributes["bias"] = value.bias + (of_input if source.fn == "add" else -of_input) @ kernel
    value.inputs[number] = left
    return True
