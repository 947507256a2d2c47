"""Dtype policies: what is computed in which precision, and how near to float64 the numbers are."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.descriptors import BATCH, FEATURES, LAYERS, TIMESTEPS, UNITS, randomise

ROWS = pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)
#: policy -> largest error of an output of size 1: a few units of the last place of the compute dtype
ERRORS = {"float32": 2e-6, "mixed_bfloat16": 5e-2, "mixed_float16": 5e-3, "float64": 1e-12}
if keras.backend.backend() == "torch":
    ERRORS["float64"] = 2e-6  # Keras' own SimpleRNN is off by as much: its torch backend loses digits
POLICIES = [
    policy for policy in ERRORS if not (policy == "float64" and keras.backend.backend() == "jax")
]  # jax: 32 bits


@pytest.mark.parametrize("policy", POLICIES)
@ROWS
def test_outputs_states_and_weights_have_the_dtypes_of_the_policy(row, rng, policy):
    layer = row.build(return_sequences=True, return_state=True, dtype=policy)
    widest = "float64" if policy == "float64" else "float32"
    x = ops.cast(rng.normal(size=(BATCH, TIMESTEPS, FEATURES)), widest)
    layer.build(x.shape)
    randomise(layer, rng)
    states = row.random_states(rng)
    mask = np.array([[1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 1, 1]], bool)
    outputs = layer(x, initial_state=states, mask=ops.convert_to_tensor(mask))
    for output in outputs:
        assert keras.backend.standardize_dtype(output.dtype) == keras.DTypePolicy(policy).compute_dtype
    for weight in layer.weights:
        assert weight.dtype == keras.DTypePolicy(policy).variable_dtype
    truth = row.oracle(ops.convert_to_numpy(x), *layer.get_weights(), *states, mask=mask)
    y = ops.convert_to_numpy(ops.cast(outputs[0], widest))
    np.testing.assert_allclose(y, truth["y"], atol=ERRORS[policy])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@ROWS
def test_a_model_trains_in_mixed_precision(row, rng, policy):
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential(
        [keras.Input((TIMESTEPS, FEATURES)), row.build(dropout=0.2), keras.layers.Dense(1, dtype="float32")]
    )
    model.compile("sgd", "mse", jit_compile=False)
    before = model.get_weights()
    history = model.fit(rng.normal(size=(12, TIMESTEPS, FEATURES)), rng.normal(size=(12, 1)), batch_size=4, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


@ROWS
def test_integer_input_is_cast_as_keras_casts_it(row):
    x = np.arange(BATCH * TIMESTEPS * FEATURES).reshape(BATCH, TIMESTEPS, FEATURES)
    layer = row.build()
    assert keras.backend.standardize_dtype(layer(x).dtype) == "float32"
    assert layer(x).shape == (BATCH, UNITS)
