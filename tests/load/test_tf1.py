"""`load.tf1` against TensorFlow 1's equations in NumPy, on checkpoints with its names."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom import load
from keras_lstm_custom.errors import LoadError

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow
BATCH, STEPS, FEATURES, UNITS = 2, 5, 3, 4


def checkpoint(path, variables):
    names = list(variables)
    tf.raw_ops.SaveV2(
        prefix=str(path), tensor_names=names, shape_and_slices=[""] * len(names), tensors=list(variables.values())
    )
    return path


def random(rng, *shape):
    return rng.normal(scale=0.6, size=shape).astype("float32")


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def lstm(x, v, forget_bias=1.0, clip=None):
    """TensorFlow's LSTMCell: one kernel on [x, h], the gates i, j, f, o, the state (c, h)."""
    units = v["kernel"].shape[1] // 4
    projection = v.get("projection/kernel")
    c = np.zeros((len(x), units))
    m = np.zeros((len(x), units if projection is None else projection.shape[1]))
    p_i, p_f, p_o = (v.get(f"w_{gate}_diag", 0.0) for gate in "ifo")
    outputs = []
    for t in range(x.shape[1]):
        i, j, f, o = np.split(np.concatenate([x[:, t], m], axis=1) @ v["kernel"] + v["bias"], 4, axis=1)
        c = sigmoid(f + forget_bias + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(j)
        c = c if clip is None else np.clip(c, -clip, clip)
        m = sigmoid(o + p_o * c) * np.tanh(c)
        m = m if projection is None else m @ projection
        outputs.append(m)
    return np.stack(outputs, axis=1)


def gru(x, v):
    h, outputs = np.zeros((len(x), v["gates/kernel"].shape[1] // 2)), []
    for t in range(x.shape[1]):
        r, u = np.split(sigmoid(np.concatenate([x[:, t], h], axis=1) @ v["gates/kernel"] + v["gates/bias"]), 2, axis=1)
        if "candidate/kernel" in v:
            n = np.concatenate([x[:, t], r * h], axis=1) @ v["candidate/kernel"] + v["candidate/bias"]
        else:
            of_x, of_h = (
                {n: v[f"candidate/{p}_projection/{n}"] for n in ("kernel", "bias")} for p in ("input", "hidden")
            )
            n = x[:, t] @ of_x["kernel"] + of_x["bias"] + r * (h @ of_h["kernel"] + of_h["bias"])
        h = u * h + (1 - u) * np.tanh(n)
        outputs.append(h)
    return np.stack(outputs, axis=1)


def lstm_variables(rng, features=FEATURES, projection=None, peepholes=False):
    width = projection or UNITS
    v = {"kernel": random(rng, features + width, 4 * UNITS), "bias": random(rng, 4 * UNITS)}
    v |= {f"w_{gate}_diag": random(rng, UNITS) for gate in "ifo" if peepholes}
    return v | ({"projection/kernel": random(rng, UNITS, projection)} if projection else {})


def under(scope, variables):
    return {f"{scope}/{name}": array for name, array in variables.items()}


def numbers(model, x):
    return keras.ops.convert_to_numpy(model(x))


def test_a_stack_with_peepholes_projection_and_clip(tmp_path, rng):
    first, second = lstm_variables(rng, projection=2, peepholes=True), lstm_variables(rng, features=2)
    scope = "model/rnn/multi_rnn_cell/cell_{}/{}"
    variables = under(scope.format(0, "lstm_cell"), first) | under(scope.format(1, "basic_lstm_cell"), second)
    slots = {f"{name}/Adam": array for name, array in variables.items()} | {"global_step": np.int64(3)}
    path = checkpoint(tmp_path / "model.ckpt-3", variables | slots)
    x = random(rng, BATCH, STEPS, FEATURES)
    model = load.tf1(path, forget_bias=0.5, cell_clip=0.4)
    expected = lstm(lstm(x, first, 0.5, clip=0.4), second, 0.5, clip=0.4)
    np.testing.assert_allclose(numbers(model, x), expected, atol=2e-6)
    assert isinstance(load.tf1(f"{path}.index", return_sequences=False).layers[-1], klc.LSTM)


def test_the_forget_bias_of_1_is_added(tmp_path, rng):
    plain, cudnn = lstm_variables(rng), lstm_variables(rng)
    variables = under("a/rnn/basic_lstm_cell", plain) | under("b/cudnn_compatible_lstm_cell", cudnn)
    path = checkpoint(tmp_path / "m", variables)
    x = random(rng, BATCH, STEPS, FEATURES)
    np.testing.assert_allclose(numbers(load.tf1(path, "a/"), x), lstm(x, plain), atol=2e-6)
    np.testing.assert_allclose(numbers(load.tf1(path, prefix="b"), x), lstm(x, cudnn, 0.0), atol=2e-6)
    with pytest.raises(LoadError, match=r"(?s)several stacks: .*prefix="):
        load.tf1(path)


def test_both_directions(tmp_path, rng):
    forward, backward = lstm_variables(rng), lstm_variables(rng)
    variables = under("bidirectional_rnn/fw/lstm_cell", forward) | under("bidirectional_rnn/bw/lstm_cell", backward)
    x = random(rng, BATCH, STEPS, FEATURES)
    expected = np.concatenate([lstm(x, forward), lstm(x[:, ::-1], backward)[:, ::-1]], axis=-1)
    np.testing.assert_allclose(numbers(load.tf1(checkpoint(tmp_path / "m", variables)), x), expected, atol=2e-6)


@pytest.mark.parametrize("cudnn", [False, True])
def test_a_gru(tmp_path, rng, cudnn):
    v = {"gates/kernel": random(rng, FEATURES + UNITS, 2 * UNITS), "gates/bias": random(rng, 2 * UNITS)}
    if cudnn:
        for part, rows in (("input", FEATURES), ("hidden", UNITS)):
            v |= {f"candidate/{part}_projection/kernel": random(rng, rows, UNITS)}
            v |= {f"candidate/{part}_projection/bias": random(rng, UNITS)}
    else:
        v |= {"candidate/kernel": random(rng, FEATURES + UNITS, UNITS), "candidate/bias": random(rng, UNITS)}
    scope = "rnn/cudnn_compatible_gru_cell" if cudnn else "rnn/gru_cell"
    x = random(rng, BATCH, STEPS, FEATURES)
    path = checkpoint(tmp_path / "m", under(scope, v) | {"dense/kernel": random(rng, UNITS, 1)})
    with pytest.warns(UserWarning, match="not dense/kernel"):
        model = load.tf1(path)
    np.testing.assert_allclose(numbers(model, x), gru(x, v), atol=2e-6)


def test_a_vanilla_rnn_with_the_oldest_names(tmp_path, rng):
    v = {"weights": random(rng, FEATURES + UNITS, UNITS), "biases": random(rng, UNITS)}
    x, h = random(rng, BATCH, STEPS, FEATURES), np.zeros((BATCH, UNITS))
    for t in range(STEPS):
        h = np.tanh(np.concatenate([x[:, t], h], axis=1) @ v["weights"] + v["biases"])
    model = load.tf1(checkpoint(tmp_path / "m", under("rnn/basic_rnn_cell", v)), return_sequences=False)
    np.testing.assert_allclose(numbers(model, x), h, atol=2e-6)


def test_what_is_refused(tmp_path, rng):
    bad = {"rnn/lstm_cell/kernel": random(rng, 3, 4 * UNITS)}
    other = {"layer_norm_basic_lstm_cell/kernel": random(rng, 7, 16)}
    in_two_stacks = {
        f"bidirectional_rnn/{way}/multi_rnn_cell/cell_{n}/lstm_cell/{name}": array
        for way in ("fw", "bw")
        for n in (0, 1)
        for name, array in lstm_variables(rng, FEATURES if n == 0 else UNITS).items()
    }
    for number, (variables, expected) in enumerate(
        [
            (bad, r"kernel \(3, 16\)"),
            (other, r"layer_norm_basic_lstm_cell/kernel \(7, 16\)"),
            (in_two_stacks, "which are no stack"),
            ({"_CHECKPOINTABLE_OBJECT_GRAPH": b"x", **bad}, r"(?s)objects.*load\.keras2"),
            ({"cudnn_lstm/opaque_kernel": random(rng, 9)}, "opaque_kernel"),
        ]
    ):
        with pytest.raises(LoadError, match=expected):
            load.tf1(checkpoint(tmp_path / str(number), variables))
    with pytest.raises(LoadError, match="cannot be read as a checkpoint"):
        load.tf1(tmp_path / "none")
    (tmp_path / "bad.index").write_bytes(b"nothing")
    with pytest.raises(LoadError, match=r"bad\.index"):
        load.tf1(tmp_path / "bad.index")
