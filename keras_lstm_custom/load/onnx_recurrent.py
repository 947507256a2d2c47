"""The recurrent nodes of ONNX: https://onnx.ai/onnx/operators/ (LSTM, GRU, RNN)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lstm_custom.activations import keras2_hard_sigmoid
from keras_lstm_custom.load.onnx_values import B, D, F, Lengths, Node, T, Tensor, Uniform, Value
from keras_lstm_custom.load.stack import Weights, directions, give

#: The blocks of our kernels by their number in ONNX' packing: i o f c of an LSTM, z r h of a GRU.
BLOCKS = {"LSTM": (0, 2, 3, 1), "GRU": (0, 1, 2), "RNN": (0,)}
COUPLED = (0, 3, 1)  #: f, which is 1 - i, then g and o
KINDS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}
DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
#: Functions without numbers of their own.
PLAIN = {name: name.lower() for name in ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus")}
#: Functions that take an alpha and a beta from the node's lists, and their defaults.
WITH_NUMBERS = {"HardSigmoid": (0.2, 0.5), "Affine": (1.0, 0.0)}
KNOWN = {("HardSigmoid", 0.2, 0.5): keras2_hard_sigmoid, ("Affine", 1.0, 0.0): "linear"}


def recurrent(node: Node) -> list[Value | None]:
    """Return Y, Y_h and Y_c of a recurrent node."""
    x = node.input(0)
    order = (B, T, F) if node.attributes.get("layout", 0) else (T, B, F)
    if not isinstance(x, Tensor) or x.axes != order:
        raise node.refused(f"an input with the axes {getattr(x, 'axes', type(x).__name__)}, expected {order}")
    if node.attributes.get("clip"):
        raise node.refused(f"clip={node.attributes['clip']:g}: a bound of what goes into the gates")
    way = node.attributes.get("direction", "forward")
    weights = [_weights(node, number, (1, 2)[way == "bidirectional"]) for number in range(1 + (way == "bidirectional"))]
    layout = node.attributes.get("layout", 0)
    of_sequence = (B, T, D, F) if layout else (T, D, B, F)
    of_state = (B, D, F) if layout else (D, B, F)
    called = {"initial_state": _initial(node, of_state, weights), "mask": _mask(node, x)}
    outputs = _called(weights, way, x.tensor, (*node.used, False, False)[:3], called)
    axes = (of_sequence, of_state, of_state)
    return [None if y is None else Tensor(y, axis, len(weights)) for y, axis in zip(outputs, axes, strict=True)]


def _initial(node: Node, axes: tuple[str, ...], weights: list[Weights]) -> list[Any] | None:
    """Return the initial states in the order in which the layer takes them, None for zeros."""
    given: list[Any] = []
    for number, name in ((5, "initial_h"), (6, "initial_c"))[: 1 + (node.op == "LSTM")]:
        state = node.input(number)
        is_zero = isinstance(state, Uniform) and state.value == 0
        if state is None or is_zero or (isinstance(state, np.ndarray) and not state.any()):
            given.append(None)
        elif isinstance(state, Tensor) and state.axes == axes and state.directions == len(weights):
            given.append(state.tensor)
        else:
            raise node.refused(f"{name}: an initial state other than zeros that is no input or output of the same axes")
    known = next((state for state in given if state is not None), None)
    if known is None:
        return None
    given = [keras.ops.zeros_like(known) if state is None else state for state in given]
    units = weights[0].units
    return [state[:, start : start + units] for start in range(0, len(weights) * units, units) for state in given]


def _mask(node: Node, x: Tensor) -> Any:
    """Return which steps the sequence lengths of a node let count, None for all."""
    lengths = node.input(4)
    if lengths is None or (isinstance(lengths, Uniform) and lengths.value == x.size(T)):
        return None
    if not isinstance(lengths, Lengths):
        raise node.refused("sequence_lens that are no input of the model: Keras has masks for them")
    number_of_step = keras.ops.cumsum(keras.ops.ones_like(x.tensor[:, :, 0]), axis=1)
    return number_of_step <= keras.ops.cast(lengths.tensor, number_of_step.dtype)[:, None]


def _called(weights: list[Weights], way: str, x: Any, used: tuple[bool, ...], called: dict[str, Any]) -> list[Any]:
    """Return what is used of: outputs of all steps in their order in time, last h, last c."""
    forward, backward = (*weights, None)[:2]
    assert forward is not None
    sequence, h, c = used
    called = {name: value for name, value in called.items() if value is not None}
    states = c or (sequence and h) or "mask" in called
    options = {"return_sequences": sequence, "return_state": states, "zero_output_for_mask": "mask" in called}
    layer = directions(forward, backward, **options, **({"go_backwards": True} if way == "reverse" else {}))
    result = layer(x, **called)
    give(layer, forward, backward)
    y, *found = result if states else [result]
    each = len(found) // len(weights)
    h_and_c = [_joined(found[n::each]) for n in range(each)] if found else []
    if sequence and way == "reverse":
        y = keras.ops.flip(y, axis=1)
    last = h_and_c[0] if h_and_c else y
    return [y if sequence else None, last if h else None, h_and_c[1] if c else None]


def _joined(states: list[Any]) -> Any:
    return states[0] if len(states) == 1 else keras.layers.Concatenate()(states)


def _weights(node: Node, number: int, count: int) -> Weights:
    """Return the weights of one direction."""
    w, r, b = (node.constant(n) for n in (1, 2, 3))
    if w is None or r is None or w.ndim != 3 or r.ndim != 3 or len(w) != count:
        raise node.refused("weights that are left out or of other shapes")
    kernel, recurrent, blocks = w[number], r[number], BLOCKS[node.op]
    units = recurrent.shape[1]
    if kernel.shape[0] != len(blocks) * units or recurrent.shape[0] != kernel.shape[0]:
        raise node.refused(f"W {w.shape} and R {r.shape}, which do not fit one another")
    coupled = node.op == "LSTM" and bool(node.attributes.get("input_forget", 0))
    blocks = COUPLED if coupled else blocks

    def ours(array: np.ndarray) -> np.ndarray:
        parts = np.split(array, len(BLOCKS[node.op]), axis=0)
        # With f = 1 - i and i the sigmoid of z, f is the sigmoid of -z.
        signs = (-1 if coupled and block == 0 else 1 for block in blocks)
        return np.concatenate([sign * parts[block] for sign, block in zip(signs, blocks, strict=True)], axis=0).T

    arrays = {"kernel": ours(kernel), "recurrent_kernel": ours(recurrent)}
    options: dict[str, Any] = {"coupled": True} if coupled else {}
    options |= _functions(node, number)
    if coupled and options["recurrent_activation"] not in ("sigmoid", keras2_hard_sigmoid):
        raise node.refused("input_forget with gates of another function than the sigmoid")
    if b is not None:
        of_x, of_h = (ours(half) for half in np.split(b[number], 2))
        arrays["bias"] = of_x + of_h
    if node.op == "GRU":
        options["reset_after"] = bool(node.attributes.get("linear_before_reset", 0))
        if b is not None and options["reset_after"]:
            arrays["bias"] = np.stack([of_x, of_h])
    peepholes = node.constant(7) if node.op == "LSTM" else None
    if peepholes is not None:
        i, o, f = np.split(peepholes[number], 3)
        options["peepholes"] = True
        arrays |= (
            {"peephole_f": -i, "peephole_o": o} if coupled else {"peephole_i": i, "peephole_f": f, "peephole_o": o}
        )
    return Weights(KINDS[node.op], units, options, arrays)


def _functions(node: Node, number: int) -> dict[str, Any]:
    """Return the activations of one direction."""
    names = [name.decode() if isinstance(name, bytes) else name for name in node.attributes.get("activations", ())]
    names = names or list(DEFAULTS[node.op]) * 2
    numbers = [iter(node.attributes.get(f"activation_{which}", ())) for which in ("alpha", "beta")]
    functions = []
    for name in names:  # the lists have entries for those only that take a number
        defaults = WITH_NUMBERS.get(name, ())
        values = [float(next(given, default)) for given, default in zip(numbers, defaults, strict=False)]
        functions.append(_function(node, name, values))
    each = len(DEFAULTS[node.op])
    mine = functions[number * each : (number + 1) * each]
    if node.op == "LSTM" and mine[1] != mine[2]:
        raise node.refused(f"activations {names}: another one for the candidate than for the output")
    return {"recurrent_activation": mine[0], "activation": mine[1]} if each > 1 else {"activation": mine[0]}


def _function(node: Node, name: str, values: list[float]) -> Any:
    if name in PLAIN:
        return PLAIN[name]
    rounded = (name, *(round(value, 6) for value in values))
    if rounded in KNOWN:
        return KNOWN[rounded]
    if name == "HardSigmoid" and np.allclose(values, (1 / 6, 0.5), atol=1e-4):
        return "hard_sigmoid"
    raise node.refused(f"the activation {name} {values or ''}")
