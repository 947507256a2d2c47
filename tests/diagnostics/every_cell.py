"""Layers of every cell, and what their traces must hold: the equations of one step in NumPy, float64.

`CASES` is the table that the tests of the diagnostics walk; a new cell has a row here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_lstm_custom import GRU, LSTM, SLSTM, Recurrent, RecurrentCell, VanillaRNN
from keras_lstm_custom.equations import project

UNITS = 4


class MGUStep(NamedTuple):
    h: Any
    f: Any
    n: Any


class MinimalGatedUnitCell(RecurrentCell):
    """A user's own cell, which says nothing but what it must."""

    gates = ("f", "n")
    step_type = MGUStep

    def step(self, z_x, state, recurrent_dropout=None):
        x_f, x_n = ops.split(z_x, 2, axis=-1)
        u_f, u_n = ops.split(project(state.h, self.tensor("recurrent_kernel"), mask=recurrent_dropout), 2, axis=-1)
        f = ops.sigmoid(x_f + u_f)
        n = ops.tanh(x_n + f * u_n)
        return MGUStep((1 - f) * state.h + f * n, f, n)


class MinimalGatedUnit(Recurrent):
    cell_class = MinimalGatedUnitCell


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def _split(w, gates):
    return np.split(w, gates, axis=-1)


def gru(x, before, w):
    kernel, recurrent, bias = w
    (x_z, x_r, x_n), (u_z, u_r, u_n) = _split(x @ kernel + bias[0], 3), _split(before["h"] @ recurrent + bias[1], 3)
    z, r = sigmoid(x_z + u_z), sigmoid(x_r + u_r)
    n = np.tanh(x_n + r * u_n)
    return {"z": z, "r": r, "n": n, "h": z * before["h"] + (1 - z) * n}


def gru_before(x, before, w):
    kernel, recurrent, bias = w
    x_z, x_r, x_n = _split(x @ kernel + bias, 3)
    to_z, to_r, to_n = _split(recurrent, 3)
    z, r = sigmoid(x_z + before["h"] @ to_z), sigmoid(x_r + before["h"] @ to_r)
    n = np.tanh(x_n + (r * before["h"]) @ to_n)
    return {"z": z, "r": r, "n": n, "h": z * before["h"] + (1 - z) * n}


def lstm(x, before, w):
    kernel, recurrent, bias = w
    z_i, z_f, z_g, z_o = _split(x @ kernel + before["h"] @ recurrent + bias, 4)
    i, f, g, o = sigmoid(z_i), sigmoid(z_f), np.tanh(z_g), sigmoid(z_o)
    c = f * before["c"] + i * g
    return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": o * np.tanh(c)}


def coupled_projected(x, before, w):
    kernel, recurrent, bias, p_f, p_o, projection = w
    z_f, z_g, z_o = _split(x @ kernel + before["h"] @ recurrent + bias, 3)
    f, g = sigmoid(z_f + p_f * before["c"]), np.tanh(z_g)
    c = f * before["c"] + (1 - f) * g
    o = sigmoid(z_o + p_o * c)
    return {"i": 1 - f, "f": f, "g": g, "o": o, "c": c, "h": (o * np.tanh(c)) @ projection}


def joint(x, before, w):
    kernel, recurrent, bias, gamma_x, beta_x, gamma_h, beta_h, gamma_c, beta_c = w

    def normal(z, gamma, beta):
        z = z - z.mean(-1, keepdims=True)
        return z / np.sqrt((z**2).mean(-1, keepdims=True) + 1e-3) * gamma + beta

    z = normal(x @ kernel, gamma_x, beta_x) + normal(before["h"] @ recurrent, gamma_h, beta_h) + bias
    z_i, z_f, z_g, z_o = _split(z, 4)
    i, f, g, o = sigmoid(z_i), sigmoid(z_f), np.tanh(z_g), sigmoid(z_o)
    c = f * before["c"] + i * g
    return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": o * np.tanh(normal(c, gamma_c, beta_c))}


def addons(x, before, w):
    """As joint, but the c that is carried on is the normalised one."""
    steps = joint(x, before, w)
    c = np.arctanh(steps["h"] / steps["o"])
    return {**steps, "c": c}


def slstm(x, before, w):
    kernel, recurrent, bias = w
    width = recurrent.shape[1]
    of_heads = [before["h"][..., k * width : (k + 1) * width] @ u for k, u in enumerate(recurrent)]
    u = np.concatenate([part for gate in zip(*(_split(h, 4) for h in of_heads), strict=True) for part in gate], -1)
    z_i, z_f, z_g, z_o = _split(x @ kernel + bias + u, 4)
    m = np.maximum(z_i, np.log(sigmoid(z_f)) + before["m"])
    i, f = np.exp(z_i - m), np.exp(np.log(sigmoid(z_f)) + before["m"] - m)
    g, o = np.tanh(z_g), sigmoid(z_o)
    c, n = f * before["c"] + i * g, f * before["n"] + i
    return {"i": i, "f": f, "g": g, "o": o, "m": m, "n": n, "c": c, "h": o * c / n}


def vanilla_rnn(x, before, w):
    z = x @ w[0] + before["h"] @ w[1] + w[2]
    return {"z": z, "h": np.tanh(z)}


def minimal_gated_unit(x, before, w):
    (x_f, x_n), (u_f, u_n) = _split(x @ w[0] + w[2], 2), _split(before["h"] @ w[1], 2)
    f = sigmoid(x_f + u_f)
    n = np.tanh(x_n + f * u_n)
    return {"f": f, "n": n, "h": (1 - f) * before["h"] + f * n}


class Case(NamedTuple):
    """A cell: how its layer is built, and one step of it."""

    build: Callable[..., Any]
    step: Callable[..., dict]
    keeper: str | None  #: the gate that says what stays
    memory: str
    through: bool = False  #: whether the gradient of c goes on into h of the same step


CASES = {
    "gru": Case(lambda **o: GRU(UNITS, **o), gru, "z", "h"),
    "keras_gru": Case(lambda **o: keras.layers.GRU(UNITS, **o), gru, "z", "h"),
    "gru_reset_before": Case(lambda **o: GRU(UNITS, reset_after=False, **o), gru_before, "z", "h"),
    "lstm": Case(lambda **o: LSTM(UNITS, **o), lstm, "f", "c", True),
    "projected": Case(
        lambda **o: LSTM(UNITS, projection=3, coupled=True, peepholes=True, **o), coupled_projected, "f", "c", True
    ),
    "normalised": Case(lambda **o: LSTM(UNITS, layer_normalization="joint", **o), joint, "f", "c", True),
    "normalised_carried": Case(lambda **o: LSTM(UNITS, layer_normalization="addons", **o), addons, "f", "c", True),
    "slstm": Case(lambda **o: SLSTM(UNITS, heads=2, **o), slstm, "f", "c"),
    "vanilla_rnn": Case(lambda **o: VanillaRNN(UNITS, **o), vanilla_rnn, None, "h"),
    "own": Case(lambda **o: MinimalGatedUnit(UNITS, **o), minimal_gated_unit, None, "h"),
}
