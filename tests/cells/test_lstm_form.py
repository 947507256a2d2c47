"""A cell's form as an LSTM: the oracle run with its weights gives the numbers of the layer."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

import keras_lstm_custom as klc
from keras_lstm_custom.export.model.as_lstm import FLOAT_GAIN, is_fusible
from tests.descriptors import randomise
from tests.oracles.numpy_lstm_options import lstm_with

BATCH, TIMESTEPS, FEATURES, UNITS = 3, 4, 2, 5
FORMS = {
    "plain": (klc.LSTM, {}),
    "coupled": (klc.LSTM, {"coupled": True, "use_bias": False}),
    "peepholes": (klc.LSTM, {"peepholes": True, "cell_clip": 0.5}),
    "coupled, peepholes and a norm": (
        klc.LSTM,
        {"coupled": True, "peepholes": True, "layer_normalization": "gate"},
    ),
    "projection": (klc.LSTM, {"projection": 3, "projection_clip": 0.3, "recurrent_weight_dropout": 0.2}),
    "vanilla RNN": (klc.VanillaRNN, {}),
    "vanilla RNN without a bias": (klc.VanillaRNN, {"use_bias": False}),
}


@pytest.mark.parametrize("with_input_gate", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_it_computes_the_same(rng, name, with_input_gate):
    layer_class, options = FORMS[name]
    layer = layer_class(UNITS, return_sequences=True, **options)
    layer.build((BATCH, TIMESTEPS, FEATURES))
    randomise(layer, rng)
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    state = [rng.normal(size=(BATCH, n)).astype("float32") for n in layer.state_size]
    form = layer.cell.lstm_form(ops.convert_to_numpy, FLOAT_GAIN)
    assert (form.units, form.width) == (UNITS, layer.state_size[0])
    form = form.with_input_gate() if with_input_gate else form
    gates = "ifgo" if "i" in form.biases else "fgo"
    packed = {"kernel": form.kernels, "recurrent_kernel": form.recurrent_kernels, "bias": form.biases}
    packed |= {"gate_gamma": form.gammas} if form.gammas else {}
    weights = {name: np.concatenate([parts[gate] for gate in gates], axis=-1) for name, parts in packed.items()}
    weights |= {f"peephole_{gate}": values for gate, values in form.peepholes.items()}
    h, *c = form.encode(state)
    steps = lstm_with(
        x,
        weights | {"projection_kernel": form.projection},
        h,
        c[0] if c else np.zeros((BATCH, UNITS)),
        peepholes=bool(form.peepholes),
        coupled=gates == "fgo",
        projection=None if form.projection is None else form.width,
        projection_clip=form.projection_clip,
        layer_normalization="gate" if form.gammas else None,
        cell_clip=form.cell_clip,
    )
    outputs = ops.convert_to_numpy(layer(x, initial_state=state))
    np.testing.assert_allclose(form.decode(steps["y"]), outputs, atol=1e-5)


class Doubled(klc.LSTMCell):
    """Its own step, and so no LSTM."""

    def step(self, *args, **kwargs):
        step = super().step(*args, **kwargs)
        return step._replace(h=2 * step.h)


class Same(klc.LSTMCell):
    """Nothing but another name."""


@pytest.mark.parametrize(
    ("cell", "fused"),
    [
        (keras.layers.LSTMCell(3), True),
        (keras.layers.SimpleRNNCell(3), True),
        (Same(3), True),
        (Doubled(3), False),
        (klc.LSTMCell(3, recurrent_activation="hard_sigmoid"), False),
        (keras.layers.SimpleRNNCell(3, activation="relu"), False),
        (klc.LSTMCell(3, zoneout=0.1), False),
        (klc.LSTMCell(3, cell_zoneout=0.1), False),
        (klc.LSTMCell(3, layer_normalization="joint"), False),
        (klc.GRUCell(3), False),
        (klc.SLSTMCell(3), False),
    ],
    ids=lambda value: str(value) if isinstance(value, bool) else type(value).__name__,
)
def test_which_cells_have_one(cell, fused):
    cell.build((None, FEATURES))
    assert is_fusible(cell) is fused
