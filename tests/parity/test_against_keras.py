"""Sixty random configurations against Keras' own layers: outputs and all gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.descriptors import BATCH, FEATURES, TIMESTEPS, TWINS, randomise
from tests.gradients import outputs_and_gradients

#: float32 rounds at 6e-8; a handful of steps with some tens of additions each stays below this.
TOLERANCE = 2e-5


def random_case(seed: int) -> tuple[dict, dict]:
    """Return a random choice of layer options, and of what comes with a call."""
    rng = np.random.default_rng(seed)

    def pick(*choices):
        return choices[rng.integers(len(choices))]

    options = {
        "activation": pick("tanh", "tanh", "relu", "softsign", None),
        "use_bias": pick(True, True, False),
        "dropout": pick(0.0, 0.0, 0.4),
        "recurrent_dropout": pick(0.0, 0.0, 0.4),
        "seed": int(rng.integers(1000)),
        "return_sequences": pick(True, False),
        "return_state": pick(True, False),
        "go_backwards": pick(True, False),
        "unroll": pick(True, False),
        "zero_output_for_mask": pick(True, False),
        "stateful": pick(True, False, False),
    }
    gated = {
        "recurrent_activation": pick("sigmoid", "sigmoid", "hard_sigmoid"),
        "unit_forget_bias": pick(True, False),
        "implementation": pick(1, 2),
        "reset_after": pick(True, False),
    }
    call = {
        "mask": pick(None, None, "random", "left padding", "right padding", "one row empty"),
        "states": pick(True, False),
        "training": pick(True, False),
    }
    known = TWINS[seed % len(TWINS)].options
    return options | {name: value for name, value in gated.items() if name in known}, call


def make_mask(kind: str | None, rng: np.random.Generator) -> np.ndarray | None:
    steps = np.arange(TIMESTEPS)
    lengths = rng.integers(1, TIMESTEPS, size=(BATCH, 1))
    return {
        None: None,
        "random": rng.random((BATCH, TIMESTEPS)) < 0.6,
        "left padding": steps >= lengths,
        "right padding": steps < lengths,
        "one row empty": np.arange(BATCH)[:, None] != np.zeros((1, TIMESTEPS)),
    }[kind]


@pytest.mark.parametrize("seed", range(60))
def test_outputs_and_gradients_equal_those_of_keras(seed):
    options, call = random_case(seed)
    row = TWINS[seed % len(TWINS)]
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    mask = make_mask(call["mask"], rng)
    states = row.random_states(rng) if call["states"] else None

    # Where there is a mask, one of Keras' loops is not to be gone by: on JAX the one that is not unrolled
    # (`engines.masking` says why), and anywhere the unrolled one backwards, which loses track of the mask. And no
    # loop of JAX looks at `zero_output_for_mask`.
    twin_unrolled = mask is not None and keras.backend.backend() == "jax"
    if twin_unrolled:
        options |= {"go_backwards": False, "zero_output_for_mask": False}
    mine = row.build(**options)
    theirs = row.keras_twin(**{**options, "unroll": twin_unrolled})
    for layer in (mine, theirs):
        layer.build(x.shape)
    randomise(theirs, rng)
    mine.set_weights(theirs.get_weights())

    for _ in range(2):  # twice: a stateful layer goes on from its state, dropout draws new masks
        results = [
            outputs_and_gradients(layer, x, states, mask=mask, training=call["training"]) for layer in (mine, theirs)
        ]
        for ours, keras_own in zip(*results, strict=True):
            assert len(ours) == len(keras_own) > 0
            for a, b in zip(ours, keras_own, strict=True):
                np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"{options} {call}")


def test_the_cases_cover_every_option():
    cases = [random_case(seed) for seed in range(60)]
    for part in (0, 1):
        for name in {name for case in cases for name in case[part]}:
            assert len({case[part].get(name) for case in cases}) > 1, name
