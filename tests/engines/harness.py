"""Runs one request on an engine and differentiates it: what the engine tests and the parity matrix share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES, registry
from keras_lstm_custom.keras_hooks import DropoutMasks
from tests.gradients import DIFFERENTIATE

#: The fast engines of each backend that a machine without a GPU can run.
FAST = {"tensorflow": ["native", "portable"], "jax": ["jax_scan"], "torch": ["torch_nn", "torch_loop"]}[
    keras.backend.backend()
] + ["derived"]
BATCH, TIMESTEPS, FEATURES, UNITS = 4, 6, 3, 5  # all different, so that no axis can stand in for another
#: The cells that every fast engine knows, and their gates.
LAYERS = {"lstm": (klc.LSTM, 4), "vanilla_rnn": (klc.VanillaRNN, 1)}
#: Cells and options that the derived engine runs fast on every backend.
DERIVED: dict[str, tuple[type, dict]] = {
    "gru": (klc.GRU, {}),
    "gru before": (klc.GRU, {"reset_after": False}),
    "peepholes": (klc.LSTM, {"peepholes": True, "cell_clip": 0.5}),
    "coupled": (klc.LSTM, {"coupled": True, "peepholes": True}),
    "projection": (klc.LSTM, {"projection": 4, "projection_clip": 0.4}),
    "gate norm": (klc.LSTM, {"layer_normalization": "gate", "peepholes": True}),
    "joint norm": (klc.LSTM, {"layer_normalization": "joint", "projection": 2}),
    "zoneout": (klc.LSTM, {"zoneout": 0.3, "cell_zoneout": 0.2}),
    "slstm": (klc.SLSTM, {"heads": 5}),
}
#: Those that native knows beside `LAYERS`.
NATIVE = {kind: DERIVED[kind] for kind in ("gru", "peepholes", "coupled", "zoneout")} | {
    "cell clip": (klc.LSTM, {"cell_clip": 0.5, "recurrent_weight_dropout": 0.2}),
    "plain coupled": (klc.LSTM, {"coupled": True}),
    "all options": (
        klc.LSTM,
        {"peepholes": True, "coupled": True, "cell_clip": 0.4, "zoneout": 0.3, "cell_zoneout": 0.2},
    ),
}
KINDS: dict[str, tuple[type, dict]] = {kind: (layer, {}) for kind, (layer, _) in LAYERS.items()} | DERIVED | NATIVE

#: Every shape of mask: 1 = read the step.
MASKS = {
    "none": None,
    "right padded": [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]],
    "left padded": [[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1], [0, 1, 1, 1, 1, 1]],
    "scattered": [[1, 0, 1, 1, 0, 1], [0, 1, 0, 0, 1, 0], [1, 1, 0, 1, 1, 1], [0, 0, 1, 0, 1, 1]],
    "rows without a step": [[0] * 6, [1] * 6, [0] * 6, [0, 1, 0, 0, 0, 0]],
}
#: For JAX, which takes a second to compile a case.
MASKS["all of these"] = [row for rows in MASKS.values() for row in rows or ()]

#: A float64 sum in another order; in half precision some tens of roundings of 2^-8 or 2^-11 each.
TOLERANCE = {
    "float64": 1e-11,
    "float32": 1e-5,
    "mixed_bfloat16": 0.15,
    "mixed_float16": 0.02,
}


def exact_tanh(x):
    """tanh: that of Keras computes float64 in float32 on JAX, and rounds the gradients that go through it to that."""
    return 2 * ops.sigmoid(2 * x) - 1


@dataclass(frozen=True)
class Case:
    """One call. `inputs_dropout` and `recurrent_dropout` are the number of masks: 0, 1, or one for each gate."""

    kind: str = "lstm"
    mask: str = "none"
    go_backwards: bool = False
    return_sequences: bool = True
    zero_output_for_mask: bool = False
    use_bias: bool = True
    inputs_dropout: int = 0
    recurrent_dropout: int = 0
    training: bool = True
    zero_state: bool = False
    checkpoint_every: int | None = None
    dtype: str = "float32"
    activation: Any = "tanh"
    batch: int = BATCH
    units: int = UNITS
    features: int = FEATURES
    timesteps: int = TIMESTEPS

    def __str__(self):
        changed = {n: v for n, v in vars(self).items() if v != getattr(Case(), n)}
        # A callable by its name: its address in memory is another in each of pytest-xdist's processes.
        return ",".join(f"{n}={getattr(v, '__name__', v)}" for n, v in changed.items()) or "default"


def arrays(case: Case, seed: int = 0) -> dict[str, np.ndarray | list | None]:
    """Random weights, inputs, non-zero states, dropout masks and weights of the loss for a case."""
    rng = np.random.default_rng(seed)
    b, f = case.batch, case.features
    layer = layer_of(case)
    widths = layer.state_size
    mask = MASKS[case.mask]
    timesteps, width = case.timesteps, max(case.timesteps, TIMESTEPS)

    def dropout(count, width):
        masks = [rng.integers(0, 2, (b, width)) * 2.0 for _ in range(count)]
        return masks[0] if count == 1 else masks or None

    names = layer.cell.state_type._fields
    x = rng.normal(size=(b, timesteps, f))
    state = [rng.normal(size=(b, width)) * (not case.zero_state) for width in widths]
    if "n" in names:  # a normaliser, which is a sum of positive shares
        state[names.index("n")] = 0.5 + np.abs(state[names.index("n")])
    return {
        "x": x,
        "state": state,
        "weights": [rng.normal(size=w.shape) / np.sqrt(1 if "bias" in w.name else w.shape[0]) for w in layer.weights],
        "mask": None if mask is None else np.resize(np.array(mask, bool), (b, width))[:, :timesteps],
        "inputs_dropout": dropout(case.inputs_dropout, f),
        "recurrent_dropout": dropout(case.recurrent_dropout, widths[0]),
        "loss": [
            rng.normal(size=(b, timesteps, widths[0])),
            *(rng.normal(size=(b, w)) for w in (widths[0], *widths)),
        ],
    }


def layer_of(case: Case, weights=None):
    layer_class, options = KINDS[case.kind]
    layer = layer_class(
        case.units,
        **options,
        return_sequences=case.return_sequences,
        go_backwards=case.go_backwards,
        zero_output_for_mask=case.zero_output_for_mask,
        use_bias=case.use_bias,
        activation=case.activation,
        checkpoint_every=case.checkpoint_every,
        recurrent_initializer="zeros",  # the weights are set below; the default needs a QR that bfloat16 has not
        dtype=case.dtype,
    )
    layer.build((None, None, case.features))
    if weights is not None:
        layer.set_weights(weights)
    return layer


def request_of(case: Case, layer, data, x=None, state=None, mask=None):
    """The request of a case; shapes of tensors given count, else those of `data`."""
    dtype = layer.compute_dtype

    def cast(value):
        return [cast(v) for v in value] if isinstance(value, list) else None if value is None else value.astype(dtype)

    dropout = DropoutMasks(*(_tensors(cast(data[name])) for name in ("inputs_dropout", "recurrent_dropout")))
    return layer.request(
        keras.ops.convert_to_tensor(data["x"], dtype) if x is None else x,
        [keras.ops.convert_to_tensor(s, dtype) for s in data["state"]] if state is None else state,
        (None if data["mask"] is None else keras.ops.convert_to_tensor(data["mask"])) if mask is None else mask,
        case.training,
        dropout,
    )


def _tensors(value):
    if isinstance(value, list):
        return [keras.ops.convert_to_tensor(v) for v in value]
    return None if value is None else keras.ops.convert_to_tensor(value)


def run(engine: str, case: Case, data=None, *, wrap=lambda function: function) -> dict[str, np.ndarray]:
    """Return all outputs and all gradients of a random linear loss over all outputs, by name.

    `wrap` may compile what is run: it takes x, the states and the mask.
    """
    data = data or arrays(case)
    layer = layer_of(case, data["weights"])
    request = request_of(case, layer, data)
    assert ENGINES[engine].supports(request).ok, ENGINES[engine].supports(request).reason
    loss = [keras.ops.convert_to_tensor(w, layer.compute_dtype) for w in data["loss"]]

    def outputs_and_gradients(x, state, mask):
        def loss_and_outputs(x, *state):
            result = registry.run(engine, request_of(case, layer, data, x, list(state), mask))
            outputs = [result.outputs if case.return_sequences else result.outputs[:, -1:]]
            outputs += [result.last_output, *result.state]
            return sum(keras.ops.sum(o * w[:, : o.shape[1]]) for o, w in zip(outputs, loss, strict=True)), outputs

        return DIFFERENTIATE[keras.backend.backend()](loss_and_outputs, [x, *state], layer.weights)

    outputs, gradients = wrap(outputs_and_gradients)(request.sequences, request.initial_state, request.mask)
    states = layer.cell.state_type._fields
    names = ["outputs", "last_output", *(f"final {s}" for s in states), "dx", *(f"d{s}" for s in states)]
    names += [f"d{w.name}" for w in layer.weights]
    values = (keras.ops.convert_to_numpy(v).astype("float64") for v in (*outputs, *gradients))
    return dict(zip(names, values, strict=True))


def assert_same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    """Each tensor may differ by `tolerance` times its own largest value (and 1 at least: sums of small numbers)."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].shape == value.shape, name
        bound = tolerance * max(1.0, np.abs(value).max(initial=0))
        np.testing.assert_allclose(got[name], value, rtol=0, atol=bound, err_msg=name)
