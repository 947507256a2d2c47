"""The LSTM's options, alone and in pairs, against the oracle: outputs, states and gradients; and what is refused."""

from __future__ import annotations

from itertools import combinations

import keras
import numpy as np
import pytest
from keras import ops

import keras_lstm_custom as klc
from keras_lstm_custom.errors import ArgumentError, EngineError, InputError
from tests.descriptors import randomise
from tests.gradients import loss_coefficients, outputs_and_gradients
from tests.oracles.numpy_lstm_options import lstm_with

BATCH, TIMESTEPS, FEATURES, UNITS = 3, 4, 2, 5
MASK = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 1, 1]], bool)
#: Bounds that are met at some steps and not at others.
PARTS = {
    "peepholes": {"peepholes": True},
    "coupled": {"coupled": True},
    "projection": {"projection": 3},
    "projection_clip": {"projection": 3, "projection_clip": 0.3},
    "gate norm": {"layer_normalization": "gate"},
    "addons norm": {"layer_normalization": "addons"},
    "joint norm": {"layer_normalization": "joint"},
    "cell_clip": {"cell_clip": 0.5},
    "zoneout": {"zoneout": 0.3},
    "cell_zoneout": {"cell_zoneout": 0.4},
    "weight dropout": {"recurrent_weight_dropout": 0.3},
    "no bias": {"use_bias": False},
}
AT_RANDOM = ("zoneout", "cell_zoneout", "weight dropout")


def cases():
    for names in [*combinations(PARTS, 1), *combinations(PARTS, 2), tuple(PARTS)]:
        if sum("norm" in name for name in names) < 2 or len(names) > 2:
            yield pytest.param({k: v for name in names for k, v in PARTS[name].items()}, id="+".join(names))


def built(rng, options, **more):
    layer = klc.LSTM(UNITS, **options, return_sequences=True, return_state=True, seed=7, **more)
    layer.build((BATCH, TIMESTEPS, FEATURES))
    randomise(layer, rng)
    width = options.get("projection", UNITS)
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    return layer, x, [rng.normal(size=(BATCH, n)).astype("float32") for n in (width, UNITS)]


def assert_is_the_oracle(layer, x, states, options, mask=None, drawn=(), **call):
    """Compare outputs, states, and the slope of a loss in a random direction of each thing that it depends on."""
    rng = np.random.default_rng(2)
    outputs, gradients = outputs_and_gradients(layer, x, states, mask=mask, **call)
    options = {name: value for name, value in options.items() if name != "use_bias"}
    names = ["x", "h", "c", *(weight.name for weight in layer.trainable_variables)]
    values = dict(zip(names, [x, *states, *layer.get_weights()], strict=True))
    in_order = slice(None, None, -1 if layer.go_backwards else 1)
    read = None if mask is None else mask[:, in_order]
    # Drawn with the input, so that they run with it.
    drawn = {name: keep if name == "kept_weights" else keep[:, in_order] for name, keep in dict(drawn).items()}

    def truth(values):
        weights = {name: value for name, value in values.items() if name not in ("x", "h", "c")}
        x = values["x"][:, in_order]
        steps = lstm_with(x, weights, values["h"], values["c"], mask=read, **drawn, **options)
        return [steps["y"], steps["h"][:, -1], steps["c"][:, -1]]

    for got, expected in zip(outputs, truth(values), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    for name, gradient in zip(names, gradients, strict=True):
        direction = rng.normal(size=gradient.shape)

        def along(step, name=name, direction=direction):
            moved = values | {name: values[name].astype("float64") + step * direction}
            return sum((y * loss_coefficients(y.shape)).sum() for y in truth(moved))

        slope = (along(1e-6) - along(-1e-6)) / 2e-6
        scale = max(1.0, np.abs(gradient * direction).sum())
        np.testing.assert_allclose((gradient * direction).sum(), slope, atol=3e-5 * scale, err_msg=name)


@pytest.mark.parametrize("options", cases())
def test_in_inference(rng, options):
    """Every other case with a mask, every third backwards; zoneout is its expectation, exactly."""
    number = [case.values[0] for case in cases()].index(options)
    layer, x, states = built(rng, options, go_backwards=number % 3 == 1)
    assert_is_the_oracle(layer, x, states, options, mask=MASK if number % 2 else None, training=False)


@pytest.mark.parametrize("others", [[], *([name] for name in PARTS if name not in AT_RANDOM)], ids=str)
@pytest.mark.parametrize("at_random", [(name,) for name in AT_RANDOM] + [AT_RANDOM], ids="+".join)
def test_in_training_with_the_masks_that_are_drawn(rng, at_random, others):
    """With a mask and backwards where something comes with it."""
    mask = MASK if others else None
    options = {k: v for name in (*at_random, *others) for k, v in PARTS[name].items()}
    layer, x, states = built(rng, options, go_backwards=mask is not None)
    again = klc.LSTM(UNITS, **options, seed=7)  # draws the same
    again.build(x.shape)
    drawn, widths = {}, {}
    if again.cell.noise_widths:
        noise = ops.convert_to_numpy(again.cell.noise(BATCH, TIMESTEPS))
        for state, (_, width) in again.cell.noise_widths.items():
            start = sum(widths.values())
            drawn[f"keep_{state}"], widths[state] = noise[..., start : start + width], width
        assert set(np.unique(noise)) == {0, 1}
    if "weight dropout" in at_random:
        ones = ops.ones(layer.cell.recurrent_kernel.shape)
        kept = keras.random.dropout(ones, options["recurrent_weight_dropout"], seed=again.cell.seed_generator)
        drawn["kept_weights"] = ops.convert_to_numpy(kept) != 0
    assert_is_the_oracle(layer, x, states, options, mask=mask, drawn=drawn, training=True)


def test_noise_keeps_the_share_that_is_asked_for():
    cell = klc.LSTMCell(50, zoneout=0.3, cell_zoneout=0.1, projection=20)
    noise = ops.convert_to_numpy(cell.noise(40, 25))
    assert noise.shape == (40, 25, 70)
    for part, rate in ((noise[..., :20], 0.3), (noise[..., 20:], 0.1)):
        np.testing.assert_allclose(part.mean(), rate, atol=4 * np.sqrt(rate * (1 - rate) / part.size))
        assert len(np.unique(part.reshape(-1, part.shape[-1]), axis=0)) > 900, "each step and row has its own"


def test_coupled_gates_are_a_plain_lstm_with_the_forget_gate_turned_round(rng):
    coupled, x, states = built(rng, {"coupled": True})
    plain = built(rng, {})[0]
    kernel, recurrent, bias = coupled.get_weights()
    plain.set_weights([np.concatenate([-w[..., :UNITS], w], axis=-1) for w in (kernel, recurrent, bias)])
    for got, expected in zip(coupled(x, initial_state=states), plain(x, initial_state=states), strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(got), ops.convert_to_numpy(expected), atol=2e-6)


def test_a_cell_called_step_by_step_is_the_layer(rng):
    """With every option, in inference."""
    options = {k: v for part in PARTS.values() for k, v in part.items()}
    layer, x, states = built(rng, options)
    outputs, *final = layer(x, initial_state=states)
    for t in range(TIMESTEPS):
        h, states = layer.cell(ops.convert_to_tensor(x[:, t]), states)
        np.testing.assert_allclose(ops.convert_to_numpy(h), ops.convert_to_numpy(outputs[:, t]), atol=2e-6)
    for got, expected in zip(states, final, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(got), ops.convert_to_numpy(expected), atol=2e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"projection": 6}, "integer from 1 to units = 5.*Received: 6"),
        ({"projection": 0}, "integer from 1 to units"),
        ({"projection": 2.0}, "Received: 2.0"),
        ({"projection_clip": 0.5}, "a projection to clip"),
        ({"projection": 2, "projection_clip": 0}, "projection_clip.*positive"),
        ({"cell_clip": -1.0}, "cell_clip.*positive"),
        ({"cell_clip": True}, "cell_clip.*positive"),
        ({"cell_clip": float("inf")}, "cell_clip.*finite.*Received: inf"),
        ({"layer_normalization": np.ones(2)}, "'gate', 'joint', 'addons'"),
        ({"layer_normalization": True}, "'gate', 'joint', 'addons'"),
        ({"peepholes": 1}, "True or False"),
        ({"coupled": "yes"}, "True or False"),
        ({"zoneout": 1.0}, "zoneout"),
        ({"cell_zoneout": -0.1}, "cell_zoneout"),
        ({"recurrent_weight_dropout": 1}, "recurrent_weight_dropout"),
    ],
    ids=str,
)
@pytest.mark.parametrize("public_class", [klc.LSTM, klc.LSTMCell])
def test_options_that_mean_nothing_are_refused(public_class, options, says):
    with pytest.raises(ArgumentError, match=f"(?s){says}"):
        public_class(5, **options)


def test_states_of_the_wrong_width_are_refused(rng):
    layer, x, (h, c) = built(rng, {"projection": 3})
    for state in ([c, c], [h, h], [h], [c, h]):
        with pytest.raises(InputError, match=r"(?s)h of shape \(3, 3\), c of shape \(3, 5\)"):
            layer(x, initial_state=state)
        with pytest.raises(InputError, match=r"(?s)inputs \(None, \d+\), h \(None, 3\), c \(None, 5\)"):
            layer.cell(x[:, 0], state)
    with pytest.raises(InputError, match=r"(?s)h of shape \(3, 3\).*Received: .*\(\), \(3, 5\)"):
        layer(x, initial_state=[None, c])


@pytest.mark.parametrize("options", [p for name, p in PARTS.items() if name not in ("weight dropout", "no bias")])
def test_a_forced_engine_that_lacks_the_option_says_so(options):
    other = {"tensorflow": "portable", "jax": "jax_scan", "torch": "torch_loop"}[keras.backend.backend()]
    with pytest.raises(EngineError, match=f"(?s)without .*{next(iter(options))}"):
        klc.LSTM(UNITS, engine=other, **options)(np.zeros((BATCH, TIMESTEPS, FEATURES), "float32"))
    explanation = klc.LSTM(UNITS, **options).explain_engine((BATCH, TIMESTEPS, FEATURES), training=True)
    assert explanation.chosen == ("native" if explanation.answers["native"].ok else "derived")


@pytest.mark.parametrize("options", [{}, *PARTS.values()], ids=str)
def test_to_keras_takes_only_what_keras_has(options):
    model = keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), klc.LSTM(UNITS, **options)])
    if set(options) <= {"use_bias"}:
        assert type(klc.to_keras(model).layers[0]) is keras.layers.LSTM
    else:
        with pytest.raises(klc.errors.ConversionError, match=next(iter(options))):
            klc.to_keras(model)
