"""SavedModels: loaded in a process that has TensorFlow and not this package."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_lstm_custom import GRU, LSTM, SLSTM, VanillaRNN, export
from keras_lstm_custom.errors import ConversionError, ExportError
from keras_lstm_custom.export.model.stepping import step_model
from tests.export import models

pytestmark = pytest.mark.tensorflow

ALONE = """
import sys, json
import numpy as np, tensorflow as tf
folder, data = sys.argv[1:]
d = np.load(data)
signatures = tf.saved_model.load(folder).signatures
assert "keras_lstm_custom" not in sys.modules
served = signatures["serving_default"](x=d["x"], b=d["b"])
specs = signatures["step"].structured_input_signature[1]
states = {n: np.zeros((len(d["x"]), s.shape[1]), "float32") for n, s in specs.items() if n not in ("x", "b")}
begin, ys = 0, []
for steps in (1, 3, d["x"].shape[1] - 4):
    out = signatures["step"](x=d["x"][:, begin:begin + steps], b=d["b"], **states)
    states = {name: out[name] for name in states}
    ys.append(out["y"]); begin += steps
print(json.dumps({
    "signatures": sorted(signatures),
    "states": sorted(states),
    "served": max(float(np.abs(served[n] - d[n]).max()) for n in "yz"),
    "stepped": max(float(np.abs(np.concatenate(ys, 1) - d["y"]).max()), float(np.abs(out["z"] - d["z"]).max())),
}))
"""


def plain(x):
    h = LSTM(6, return_sequences=True, name="lstm")(x)
    return h, VanillaRNN(4, name="rnn")(keras.layers.LSTM(7, return_sequences=True, name="theirs")(h))


def with_options(x):
    """What Keras has no counterpart of stays, and runs by TensorFlow's own ops."""
    options = {"peepholes": True, "projection": 4, "layer_normalization": "joint", "zoneout": 0.1}
    h = LSTM(6, return_sequences=True, name="options", **options)(x)
    return h, SLSTM(4, heads=2, name="slstm")(GRU(3, return_sequences=True, name="gru")(h))


STATES = {
    plain: ["lstm_c", "lstm_h", "rnn_h", "theirs_c", "theirs_h"],
    with_options: ["gru_h", "options_c", "options_h", "slstm_c", "slstm_h", "slstm_m", "slstm_n"],
}


def model_of(build):
    """Two inputs, one of them no sequence; both kinds of layers; one output with and one without time."""
    x, b = keras.Input((None, 5), name="x"), keras.Input((3,), name="b")
    h, last = build(x)
    y, z = keras.layers.Dense(2, name="y")(h), keras.layers.Concatenate(name="z")([last, b])
    return models.randomised(keras.Model([x, b], [y, z]))


@pytest.fixture(scope="module")
def model():
    return model_of(plain)


@pytest.fixture(scope="module")
def small():
    return keras.Sequential([keras.Input((3, 2)), VanillaRNN(2)])


@pytest.mark.parametrize("build", STATES)
def test_runs_without_this_package(build, tmp_path, rng):
    model = model_of(build)
    report = export.saved_model(model, tmp_path / "saved", stateful=True)
    assert report.ok
    x, b = rng.standard_normal((4, 9, 5)).astype("float32"), rng.standard_normal((4, 3)).astype("float32")
    y, z = (np.asarray(output) for output in model([x, b]))
    np.savez(tmp_path / "data.npz", x=x, b=b, y=y, z=z)
    command = [sys.executable, "-P", "-c", ALONE, str(tmp_path / "saved"), str(tmp_path / "data.npz")]
    environment = {"PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["signatures"] == ["serving_default", "step"]
    assert found["states"] == STATES[build]
    assert found["served"] < 2e-6  # float32
    assert found["stepped"] < 2e-6


@pytest.mark.parametrize("kind", ["saved_model", "tflite", "streaming"])
def test_training_goes_on_from_the_keras_file_as_if_nothing_was_exported(kind, tmp_path, rng):
    """Export, save, load in a new model, train: the same weights as from training the first one on."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6, 3)), LSTM(5), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    x, y = rng.standard_normal((16, 6, 3)).astype("float32"), rng.standard_normal((16, 2)).astype("float32")
    model.fit(x, y, epochs=2, verbose=0)  # so that the optimizer has moments to carry over
    before = [np.array(weight) for weight in model.get_weights()]
    assert getattr(export, kind)(model, tmp_path / "out").ok
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    losses = [each.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"] for each in (model, loaded)]
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)
        assert not any(np.array_equal(one, then) for then in before if then.shape == one.shape)


def test_a_forced_engine_and_a_fixed_batch_do_not_reach_the_file(tmp_path):
    model = keras.Sequential([keras.Input(batch_shape=(2, 4, 3)), LSTM(5, engine="reference", stateful=True)])
    report = export.saved_model(model, tmp_path / "saved")
    assert report.ok
    import tensorflow as tf

    serve = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    first, again = (next(iter(serve(**{name: tf.ones((7, 4, 3))}).values())) for _ in range(2))
    assert first.shape == (7, 5)
    np.testing.assert_array_equal(first, again)


def test_overwrites_its_own_and_nothing_else(small, tmp_path):
    export.saved_model(small, tmp_path / "saved")
    export.saved_model(small, tmp_path / "saved")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    (tmp_path / "file").write_text("keep me")
    for path in (tmp_path / "mine", tmp_path / "file"):
        with pytest.raises(ExportError, match="was not written by this package"):
            export.saved_model(small, path)
    assert (tmp_path / "mine" / "notes.txt").read_text() == (tmp_path / "file").read_text() == "keep me"


def test_a_wrong_file_is_not_kept(small, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["keras_lstm_custom.export.saved_model"], "BOUND", -1.0)
    with pytest.raises(ExportError, match="was not kept"):
        export.saved_model(small, tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written(small, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExportError, match="cannot be written"):
        export.saved_model(small, tmp_path / "file" / "saved")


def test_a_subclassed_or_unbuilt_model(tmp_path):
    class Mine(keras.Model):
        def call(self, x):
            return x

    for model, match in ((Mine(), "graph of layers"), (keras.Sequential([keras.layers.LSTM(3)]), "no weights yet")):
        with pytest.raises(ConversionError, match=match):
            export.saved_model(model, tmp_path / "saved")


REFUSED = {
    "in both directions": [keras.layers.Bidirectional(keras.layers.LSTM(4))],
    "backwards": [keras.layers.LSTM(4, go_backwards=True)],
    "has no recurrent layer": [keras.layers.Dense(2)],
    r"conv1d\w*' \(Conv1D\)": [keras.layers.Conv1D(4, 3, padding="same"), keras.layers.LSTM(4)],
    r"\(GlobalAveragePooling1D\)": [keras.layers.LSTM(4, return_sequences=True), keras.layers.GlobalAveragePooling1D()],
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_run_step_by_step(reason):
    configurations = [(type(layer), layer.get_config()) for layer in REFUSED[reason]]
    layers = [kind.from_config(config) for kind, config in configurations]
    with pytest.raises(ExportError, match=reason):
        step_model(keras.Sequential([keras.Input((None, 3)), *layers]))


def test_a_state_that_the_model_computes_cannot_be_stepped():
    x = keras.Input((None, 3))
    _, h, c = keras.layers.LSTM(4, return_state=True)(x)
    with pytest.raises(ExportError, match="state that the model computes"):
        step_model(keras.Model(x, keras.layers.LSTM(4)(x, initial_state=[h, c])))


def test_a_layer_called_again_has_states_of_its_own(rng):
    x = keras.Input((None, 4))
    shared = keras.layers.LSTM(4, return_sequences=True, name="shared")
    model = models.randomised(keras.Model(x, keras.layers.Add()([shared(x), shared(shared(x))])))
    stepped = step_model(model, 2)
    names = [state.name for state in stepped.states]
    assert names == ["shared_h", "shared_c", "shared_1_h", "shared_1_c", "shared_2_h", "shared_2_c"]
    data = rng.standard_normal((3, 6, 4)).astype("float32")
    outputs, _ = stepped.run([data], 2)
    np.testing.assert_allclose(outputs[0], model(data), atol=2e-6)
