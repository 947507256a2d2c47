"""Masks for libraries that know none: what is not read must not matter, not even to a gradient."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from keras_lstm_custom.engines import compaction
from tests.engines.harness import MASKS, Case, arrays, assert_same, layer_of, request_of, run

if keras.backend.backend() != "torch":
    pytest.skip("the same operations on every backend; torch has an engine for them on a CPU", allow_module_level=True)


def requested(case, data):
    return request_of(case, layer_of(case, data["weights"]), data)


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("mask", [m for m in MASKS if m != "none"])
def test_where_the_steps_go(mask, go_backwards):
    """Against plain loops over rows and steps."""
    case = Case(mask=mask, go_backwards=go_backwards, batch=19)
    data = arrays(case)
    order = compaction.of(requested(case, data))
    x = ops.convert_to_numpy(compaction.inputs(order, ops.convert_to_tensor(data["x"]), tell_idle_steps=False))
    h = np.random.default_rng(1).normal(size=(19, 6, 5))
    initial = np.random.default_rng(2).normal(size=(19, 5))
    arguments = (ops.convert_to_tensor(h), ops.convert_to_tensor(initial))
    outputs = ops.convert_to_numpy(compaction.outputs(order, *arguments, True))
    last = ops.convert_to_numpy(compaction.outputs(order, *arguments, False))
    for row in range(19):
        steps = range(6)[::-1] if go_backwards else range(6)
        read = [data["x"][row, t] for t in steps if data["mask"][row, t]]
        np.testing.assert_array_equal(x[row], np.reshape([*read, *[np.zeros(3)] * (6 - len(read))], (6, 3)))
        held, count, expected = initial[row], 0, []
        for t in steps:
            if data["mask"][row, t]:
                held, count = h[row, count], count + 1
            expected.append(held)
        np.testing.assert_array_equal(outputs[row], expected)
        np.testing.assert_array_equal(last[row], expected[-1:])


def test_no_mask_nothing_to_do():
    assert compaction.of(requested(Case(), arrays(Case()))) is None


@pytest.mark.parametrize("kind", ["lstm", "vanilla_rnn"])
def test_what_is_not_read_may_be_anything(kind):
    """NaN at masked steps reaches no output and no gradient."""
    case = Case(kind, "scattered")
    data = arrays(case)
    clean = run("torch_nn", case, data)
    x = np.where(data["mask"][..., None], data["x"], np.nan)
    assert_same(run("torch_nn", case, data | {"x": x}), clean, 1e-6)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_cell_state_is_kept_exactly(dtype, scale):
    """However large the weights are: idle steps change no bit of c, and pass its gradient on as it is."""
    case = Case(mask="rows without a step", dtype=dtype, return_sequences=False)
    data = arrays(case)
    data["weights"] = [scale * w for w in data["weights"]]
    data["loss"] = [0 * w for w in data["loss"][:-1]] + data["loss"][-1:]
    got, empty = run("torch_nn", case, data), ~data["mask"].any(axis=1)
    assert empty.sum() == 2
    exactly = [
        np.asarray(ops.convert_to_numpy(ops.cast(v, dtype)), "float64") for v in (data["state"][1], data["loss"][-1])
    ]
    np.testing.assert_array_equal(got["final c"][empty], exactly[0][empty])
    np.testing.assert_array_equal(got["dc"][empty], exactly[1][empty])
    np.testing.assert_array_equal(got["dx"][empty], 0)
