"""The fused LSTM op in integers: every tensor of it from the float weights, with ranges of its own.

Types and scales are those that LiteRT's `operator_property.cc` asks for: weights in int8, peepholes and the weights of
the layer normalisation in int16, biases with the scale of what they are added to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_lstm_custom.export.file import fused_lstm
from keras_lstm_custom.export.quantization.schemes import HEADROOM, INT32_ROOM, Params, weights
from keras_lstm_custom.export.quantization.writer import Writer

#: The integer kernels hold what a layer normalisation gives in steps of 2^-10, before its weights.
NORMALISED = 2.0**-10


def write_lstm(w: Writer, operator: Any, inputs: list[int], outputs: list[int]) -> None:
    """Write one operator by the writer of its file; `inputs` and `outputs` are tensors of the float file."""
    output = outputs[0]
    x, c, y = inputs[fused_lstm.X], inputs[fused_lstm.C], w.params[output]
    how = w.own(x, w.scheme)
    reads = [-1] * fused_lstm.INPUT_COUNT
    reads[fused_lstm.X] = w.read(x, how)
    for state in (fused_lstm.H, fused_lstm.C):
        reads[state] = w.declared(inputs[state], w.params[inputs[state]])
    gammas = range(fused_lstm.INPUT_COUNT)[fused_lstm.GAMMAS]
    for (kernel, recurrent, bias), gamma in zip(fused_lstm.gate_places(), gammas, strict=True):
        if inputs[kernel] < 0:
            continue
        real = {place: w.source.array(inputs[place]) for place in (kernel, recurrent, bias)}
        normalised = inputs[gamma] >= 0
        room = 0.0 if normalised else np.abs(real[bias]).max() / (how.scale * INT32_ROOM)
        shift = np.zeros(1)
        for place, mean, smallest in (
            (kernel, w.ranges.mean[x], room),
            (recurrent, w.ranges.mean[output], 0.0),
        ):
            stored, scale = weights(real[place], None, smallest)
            reads[place] = w.weights(inputs[place], stored, scale)
            shift = shift + (stored * scale - real[place]) @ mean
            if place == kernel:
                product = how.scale * scale
        if normalised:  # the bias comes after it, where no rounding of the weights is left on average
            least = np.abs(real[bias]).max() / (NORMALISED * INT32_ROOM)
            reads[gamma], of_gamma = _int16(w, inputs[gamma], least)
            product, shift = np.asarray(of_gamma * NORMALISED), np.zeros(1)
        reads[bias] = w.bias(w.source.name(inputs[bias]), real[bias] - shift, product, w.scheme)
    for place in range(fused_lstm.INPUT_COUNT)[fused_lstm.PEEPHOLES]:
        if inputs[place] >= 0:
            reads[place], _ = _int16(w, inputs[place])
    hidden = y
    if inputs[fused_lstm.PROJECTION] >= 0:
        hidden = w.scheme.params(*w.ranges.inside[c].hidden)
        stored, scale = weights(w.source.array(inputs[fused_lstm.PROJECTION]))
        reads[fused_lstm.PROJECTION] = w.weights(inputs[fused_lstm.PROJECTION], stored, scale)
    made = w.emit(operator, reads, [w.declared(output, y)])
    made.builtinOptions.projClip = 0.0  # see `scales`
    gates = w.ranges.inside[c].gates if any(inputs[gamma] >= 0 for gamma in gammas) else None
    made.intermediates = _intermediates(w, w.source.name(output), gates, hidden)


def _int16(w: Writer, source: int, least: float = 0.0) -> tuple[int, float]:
    """Return a vector of weights in int16, and its scale."""
    real = w.source.array(source)
    how = Params(np.int16, max(float(np.abs(real).max()) / 32767, least, 1e-12))
    return w.graph.constant(w.source.name(source), how.stored(real), how.record), how.scale


def _intermediates(w: Writer, name: str, gates: Mapping[str, float] | None, hidden: Params) -> np.ndarray:
    """Return the tensors that the kernels read scales from: those of the gates are unused without layer norm.

    With it LiteRT reads that of the input gate even where there is none.
    """
    made = []
    for gate in "ifgo":
        how = None if gates is None else Params(np.int16, max(HEADROOM * gates.get(gate, 1.0), 1e-9) / 32767)
        dtype, record = (np.float32, None) if how is None else (how.dtype, how.record)
        made.append(w.graph.tensor(f"{name}/gate_{gate}", (0,), dtype, record))
    return np.asarray([*made, w.graph.tensor(f"{name}/hidden", (0,), hidden.dtype, hidden.record)], np.int32)
