"""`load.keras2` on files written here, as Keras 2.2 wrote them, and on files that are damaged or made to harm.

No tf_keras is needed: the numbers come from the oracle.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from keras_lstm_custom import GRU, LSTM, load
from keras_lstm_custom.errors import LoadError
from tests.damage import damaged
from tests.oracles import numpy_cells
from tests.oracles.numpy_gru import gru

BATCH, STEPS, FEATURES, UNITS = 2, 5, 3, 4
OLD_LSTM = {
    "name": "lstm_1",
    "trainable": True,
    "return_sequences": True,
    "return_state": True,
    "go_backwards": False,
    "stateful": False,
    "unroll": False,
    "units": UNITS,
    "activation": "tanh",
    "recurrent_activation": "hard_sigmoid",
    "use_bias": True,
    "kernel_initializer": {
        "class_name": "VarianceScaling",
        "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "normal", "seed": None},
    },
    "recurrent_initializer": {"class_name": "Orthogonal", "config": {"gain": 1.0, "seed": None}},
    "bias_initializer": {"class_name": "Zeros", "config": {}},
    "unit_forget_bias": True,
    "kernel_regularizer": {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.01}},
    "recurrent_regularizer": None,
    "bias_regularizer": None,
    "activity_regularizer": None,
    "kernel_constraint": None,
    "recurrent_constraint": None,
    "bias_constraint": None,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "implementation": 1,
}
OLD_GRU = {
    **{key: value for key, value in OLD_LSTM.items() if key not in ("unit_forget_bias", "return_state")},
    **{"name": "gru_1", "return_sequences": False},
}


def old_hard_sigmoid(z):
    return np.clip(0.2 * z + 0.5, 0.0, 1.0)


def write(path, config, weights, version="2.2.4", training=None):
    """Write a file in the layout of Keras 2.2; `weights` are arrays by name in dicts by layer."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version.encode()
        file.attrs["backend"] = b"tensorflow"
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
        if training is not None:
            file.attrs["training_config"] = json.dumps(training).encode()
        root = file if config is None else file.create_group("model_weights")
        root.attrs["layer_names"] = [name.encode() for name in weights]
        root.attrs["keras_version"] = version.encode()
        for layer, arrays in weights.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in arrays]
            for name, array in arrays.items():
                group.create_dataset(name, data=array)
    return path


def recurrent(rng, layer, features, units, gates, *, bias=None):
    shapes = {
        "kernel": (features, gates * units),
        "recurrent_kernel": (units, gates * units),
        "bias": bias or (gates * units,),
    }
    return {f"{layer}/{name}:0": rng.normal(scale=0.7, size=shape).astype("float32") for name, shape in shapes.items()}


def sequential(*layers):
    """Return a configuration as Keras 2.2 has it: a bare list, the shape of the input in the first layer."""
    first = {"batch_input_shape": [None, STEPS, FEATURES], "dtype": "float32"}
    entries = [{"class_name": name, "config": dict(config)} for name, config in layers]
    entries[0]["config"] |= first
    return {"class_name": "Sequential", "config": entries}


def test_a_seq2seq_model_of_keras_2_2(tmp_path, rng):
    """The states stand among the inputs of the node, and the old hard_sigmoid is kept exactly."""
    decoder = {**OLD_LSTM, "name": "lstm_2"}

    def entry(name, class_name, config, *nodes):
        return {"name": name, "class_name": class_name, "config": {**config, "name": name}, "inbound_nodes": [*nodes]}

    source = {"batch_input_shape": [None, None, FEATURES], "dtype": "float32", "sparse": False}
    config = {
        "class_name": "Model",
        "keras_version": "2.2.4",
        "config": {
            "name": "model_1",
            "layers": [
                entry("input_1", "InputLayer", source),
                entry("input_2", "InputLayer", source),
                entry("lstm_1", "LSTM", OLD_LSTM, [["input_1", 0, 0, {}]]),
                entry("lstm_2", "LSTM", decoder, [["input_2", 0, 0, {}], ["lstm_1", 0, 1, {}], ["lstm_1", 0, 2, {}]]),
            ],
            "input_layers": [["input_1", 0, 0], ["input_2", 0, 0]],
            "output_layers": [["lstm_2", 0, 0]],
        },
    }
    weights = {name: recurrent(rng, name, FEATURES, UNITS, 4) for name in ("lstm_1", "lstm_2")}
    model = load.keras2(write(tmp_path / "old.h5", config, {"input_1": {}, "input_2": {}, **weights}))
    x, y = rng.normal(scale=2, size=(2, BATCH, STEPS, FEATURES)).astype("float32")
    first = numpy_cells.lstm(x, *weights["lstm_1"].values(), recurrent_activation=old_hard_sigmoid)
    states = first["h"][:, -1], first["c"][:, -1]
    second = numpy_cells.lstm(y, *weights["lstm_2"].values(), *states, recurrent_activation=old_hard_sigmoid)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model([x, y])), second["y"], atol=2e-6)
    with_keras_3 = numpy_cells.lstm(
        x, *weights["lstm_1"].values(), recurrent_activation=lambda z: np.clip(z / 6 + 0.5, 0, 1)
    )
    assert np.abs(with_keras_3["y"] - first["y"]).max() > 0.02  # that it makes a difference


def test_a_gru_that_does_not_say_reset_after(tmp_path, rng):
    weights = {"gru_1": recurrent(rng, "gru_1", FEATURES, UNITS, 3)}
    model = load.keras2(write(tmp_path / "old.h5", sequential(("GRU", OLD_GRU)), weights, "2.1.6"))
    x = rng.normal(size=(BATCH, STEPS, FEATURES)).astype("float32")
    expected = gru(x, *weights["gru_1"].values(), recurrent_activation=old_hard_sigmoid, reset_after=False)["y"][:, -1]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), expected, atol=2e-6)


def to_cudnn(weights, gates):
    """Turn arrays of Keras' layout into cuDNN's, as Keras 2 stores them."""
    kernel, recurrent_kernel, bias = weights
    kernel = np.hstack([part.reshape(-1, order="F").reshape(part.shape) for part in np.split(kernel, gates, axis=1)])
    recurrent_kernel = np.hstack([part.T for part in np.split(recurrent_kernel, gates, axis=1)])
    return kernel, recurrent_kernel, bias


def test_weights_of_cudnn_layers(tmp_path, rng):
    """Weights alone, in the order of the layers, whose names are others; two biases that are added, or kept apart."""
    lstm_weights = list(recurrent(rng, "", FEATURES, UNITS, 4, bias=(8 * UNITS,)).values())
    gru_weights = list(recurrent(rng, "", UNITS, UNITS, 3, bias=(6 * UNITS,)).values())
    names = ("kernel:0", "recurrent_kernel:0", "bias:0")
    saved = {
        "cu_dnnlstm_1": dict(zip(names, to_cudnn(lstm_weights, 4), strict=True)),
        "cu_dnngru_1": dict(zip(names, to_cudnn(gru_weights, 3), strict=True)),
    }
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), LSTM(UNITS, return_sequences=True), GRU(UNITS)])
    assert load.keras2(write(tmp_path / "w.h5", None, saved), model) is model
    x = rng.normal(size=(BATCH, STEPS, FEATURES)).astype("float32")
    between = numpy_cells.lstm(x, *lstm_weights[:2], lstm_weights[2].reshape(2, -1).sum(0))["y"]
    expected = gru(between, *gru_weights[:2], gru_weights[2].reshape(2, -1))["y"][:, -1]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), expected, atol=3e-6)


@pytest.fixture
def good(tmp_path, rng):
    config = sequential(("LSTM", {**OLD_LSTM, "return_state": False}))
    return write(tmp_path / "good.h5", config, {"lstm_1": recurrent(rng, "lstm_1", FEATURES, UNITS, 4)})


def changed(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replace_kernel(make):
    def change(file):
        group = file["model_weights/lstm_1/lstm_1"]
        del group["kernel:0"]
        make(group)

    return change


def external_data(group):
    group.create_dataset(
        "kernel:0", (FEATURES, 4 * UNITS), "f4", external=[("/etc/passwd", 0, 4 * FEATURES * 4 * UNITS)]
    )


def virtual(group):
    layout = h5py.VirtualLayout((FEATURES, 4 * UNITS), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (FEATURES, 4 * UNITS))
    group.create_virtual_dataset("kernel:0", layout)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda g: g.__setitem__("kernel:0", h5py.ExternalLink("/other.h5", "/x")),
            r"an external link to '/other\.h5'",
        ),
        (lambda g: g.__setitem__("kernel:0", h5py.SoftLink("/model_weights")), "a soft link"),
        (external_data, "whose numbers are in another file"),
        (virtual, "whose numbers are in another file"),
        (lambda g: g.create_dataset("kernel:0", (1 << 20, 1 << 20), "f4", chunks=(64, 64)), "of which 0 are there"),
        (lambda g: g.create_dataset("kernel:0", data=np.array([b"x"], "S1")), "Weights are numbers"),
        (lambda g: g.create_group("kernel:0"), "a group under"),
        (lambda g: None, "nothing under"),
        (lambda g: g.create_dataset("kernel:0", data=np.zeros((FEATURES, 3), "f4")), r"kernel:0 \(3, 3\)"),
    ],
)
def test_weights_made_to_harm(good, make, expected):
    with pytest.raises(LoadError, match=expected):
        load.keras2(changed(good, replace_kernel(make)))


def nested(depth):
    layer = '{"class_name": "TimeDistributed", "config": {"layer": '
    return layer * depth + '{"class_name": "Dense", "config": {}}' + "}}" * depth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "no JSON"),
        ("[1, 2]", "no model's"),
        ('{"class_name": "Sequential", "config": 3}', "no model's"),
        ('{"class_name": "Dense", "config": {"units": 2}}', "does not say the shape"),
        (nested(300), "no model's|cannot be made"),
        (nested(50_000), "no JSON"),
        (json.dumps(sequential(("LSTM", {**OLD_LSTM, "units": "x"}))), "units"),
        (json.dumps(sequential(("LSTM", {**OLD_LSTM, "surprise": 3}))), "surprise=3"),
        (json.dumps(sequential(("StringLookup", {"vocabulary": "/etc/passwd"}))), "reads a file of its own"),
        (json.dumps(sequential(("TFSMLayer", {"filepath": "served"}))), "holds code"),
        (json.dumps(sequential(("os.system", {"name": "x"}))), r"'os\.system'"),
        (json.dumps(sequential(("deserialize", {"name": "x"}))), "custom layer"),
    ],
)
def test_configurations_that_are_none(good, text, expected):
    def change(file):
        file.attrs["model_config"] = text

    with pytest.raises(LoadError, match=expected):
        load.keras2(changed(good, change))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda file: file.attrs.__delitem__("model_config"), r"(?s)no model_config.*load\.keras2\(path, model\)"),
        (
            lambda file: file.attrs.__setitem__("keras_version", "3.4.0"),
            r"(?s)Keras 3\.4\.0.*keras\.saving\.load_model",
        ),
        (lambda file: file.attrs.__setitem__("keras_version", "1.2.2"), r"(?s)Keras 1\.2\.2.*Keras 2\.2"),
        (lambda file: file.__delitem__("model_weights"), "without weights of Keras"),
    ],
)
def test_other_kinds_of_hdf5(good, change, expected):
    with pytest.raises(LoadError, match=expected):
        load.keras2(changed(good, change))


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.h5").write_text("x,y\n1,2\n")
    (tmp_path / "empty.h5").write_bytes(b"")
    for name in ("text.h5", "empty.h5", "missing.h5", "."):
        with pytest.raises(LoadError, match="Check the path"):
            load.keras2(tmp_path / name)
    (tmp_path / "saved").mkdir()
    for name, told in {"new.keras": r"keras\.saving\.load_model", "saved/saved_model.pb": "It is a SavedModel"}.items():
        (tmp_path / name).write_bytes(b"PK\x03\x04")
        with pytest.raises(LoadError, match=told):
            load.keras2((tmp_path / name) if name == "new.keras" else tmp_path / "saved")
    (tmp_path / "pointer.h5").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(LoadError, match="git lfs pull"):
        load.keras2(tmp_path / "pointer.h5")
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]).save_weights(tmp_path / "new.weights.h5")
    with pytest.raises(LoadError, match=r"(?s)as Keras 3 writes them.*load_weights"):
        load.keras2(tmp_path / "new.weights.h5")


def test_a_file_that_is_cut_off_or_damaged(good):
    """It is refused, or loaded where the damage hit nothing that is read."""
    content = good.read_bytes()
    good.write_bytes(content[: len(content) // 2])
    with pytest.raises(LoadError, match="cut off or damaged"):
        load.keras2(good)
    refused = 0
    for data in damaged(content, 60):
        good.write_bytes(data)
        try:
            load.keras2(good)
        except LoadError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "data").glob("*.h5")), ids=lambda path: path.stem)
def test_files_that_tf_keras_wrote(path):
    """Made by `tests/load/data/make.py`."""
    model = load.keras2(path)
    arrays = np.load(path.with_suffix(".npz"))
    x = [arrays[name] for name in sorted(arrays) if name.startswith("x")]
    y = keras.tree.flatten(model(x if len(x) > 1 else x[0]))
    for number, got in enumerate(y):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(got), arrays[f"y{number}"], atol=2e-6)
