"""What users save knowing nothing of engines loads in a process without this package, with the same numbers."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, VanillaRNN
from keras_lstm_custom.engines.native import library
from tests.engines.harness import FAST

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow
NATIVE = pytest.mark.skipif(library.load().operations is None, reason="the native library is not built")
RNG = np.random.default_rng(5)
BATCH, TIMESTEPS, FEATURES = 4, 6, 3
X = RNG.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
X[1, 4:] = X[2, :3] = 0  # what Masking leaves out
Y = RNG.normal(size=(BATCH, 2)).astype("float32")
BIDIRECTIONAL = keras.layers.Bidirectional

MODELS = {
    "lstm": ((TIMESTEPS, FEATURES), lambda: [LSTM(4)]),
    "open length": ((None, FEATURES), lambda: [LSTM(4, return_sequences=True), VanillaRNN(5)]),
    "mask": ((None, FEATURES), lambda: [keras.layers.Masking(), LSTM(4, return_sequences=True), VanillaRNN(5)]),
    "both ways": (
        (TIMESTEPS, FEATURES),
        lambda: [BIDIRECTIONAL(LSTM(4, return_sequences=True)), BIDIRECTIONAL(LSTM(3))],
    ),
    "stateful": (None, lambda: [LSTM(4, stateful=True)]),
}
if keras.__version__.startswith("3.13."):  # which cannot export a stateful `keras.layers.LSTM`, either
    del MODELS["stateful"]


def trained(name):
    """Return a model that `fit` and `predict` have run, with the engines that "auto" takes there."""
    shape, layers = MODELS[name]
    given = {"batch_shape": X.shape} if shape is None else {"shape": shape}
    model = keras.Sequential([keras.Input(**given), *layers(), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.fit(X, Y, batch_size=BATCH, verbose=0)
    model.predict(X, batch_size=BATCH, verbose=0)
    start_again(model)
    return model


def start_again(model):
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_state()


class Module(tf.Module):
    """A user's own server: its functions were called before it is saved."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        shape = model.inputs[0].shape

        @tf.function(input_signature=[tf.TensorSpec(shape)])
        def serve(x):
            return self.model(x)

        @tf.function(input_signature=[tf.TensorSpec(shape)])
        def attention(x):
            """Gradients in inference: which inputs count."""
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = tf.reduce_sum(self.model(x, training=False) ** 2)
            return tape.gradient(y, x)

        self.serve, self.attention = serve, attention


def write_module(model, path):
    module = Module(model)
    for function in (module.serve, module.attention):
        function(X)
    start_again(model)
    tf.saved_model.save(module, path)


def write_archive(model, path):
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [tf.TensorSpec(model.inputs[0].shape)]
    archive.add_endpoint("serve", lambda x: model(x, training=False), signature)
    archive.add_endpoint("call_training", lambda x: model(x, training=True), signature)
    archive.write_out(path, verbose=False)


WRITERS = {
    "model.export": (lambda model, path: model.export(path, verbose=False), "serve"),
    "tf.saved_model.save": (tf.saved_model.save, "serving_default"),
    "a module": (write_module, "serve"),
    "ExportArchive": (write_archive, "serve"),
}

ELSEWHERE = """
import json, sys, numpy as np, tensorflow as tf
x, result = tf.constant(np.load("x.npy")), {}
for path, endpoint in json.load(open("paths.json")):
    try:
        loaded = tf.saved_model.load(path)
        serve = getattr(loaded, endpoint, None) or loaded.signatures[endpoint]
        y = serve(x)
        result[path] = np.asarray(next(iter(y.values())) if isinstance(y, dict) else y).tolist()
    except Exception as error:
        result[path] = str(error)
assert "keras_lstm_custom" not in sys.modules
json.dump(result, open("result.json", "w"))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Every model written in every way, and what a process that has only TensorFlow makes of the files."""
    folder = tmp_path_factory.mktemp("served")
    expected, paths = {}, []
    for name in MODELS:
        model = trained(name)
        for writer, (write, endpoint) in WRITERS.items():
            path = f"{name}, {writer}"
            write(model, str(folder / path))
            expected[path] = np.asarray(model(X))
            start_again(model)
            paths.append((path, endpoint))
    np.save(folder / "x.npy", X)
    (folder / "paths.json").write_text(json.dumps(paths))
    subprocess.run([sys.executable, "-c", ELSEWHERE], cwd=folder, check=True, capture_output=True, timeout=300)
    return expected, json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", MODELS)
def test_a_file_loads_without_this_package(served, name, writer):
    expected, got = served
    path = f"{name}, {writer}"
    assert not isinstance(got[path], str), got[path]
    np.testing.assert_allclose(got[path], expected[path], atol=2e-6)


def tflite_outputs(content, x):
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize("name", ["mask", "both ways"])
def test_the_tflite_converter_takes_what_it_takes_of_keras(name):
    """Keras' own recurrent layers convert with a fixed batch, and not from what `export` wrote, ours neither."""
    model = trained(name)
    fixed = keras.Sequential([keras.Input(batch_shape=X.shape), *model.layers])
    fixed.predict(X, batch_size=BATCH, verbose=0)
    content = tf.lite.TFLiteConverter.from_keras_model(fixed).convert()
    np.testing.assert_allclose(tflite_outputs(content, X), np.asarray(model(X)), atol=2e-5)


def engine_in(function):
    """The engine that "auto" takes where `function` calls the layer it is given."""
    layer = LSTM(4)
    layer.build(X.shape)
    function(layer)
    return layer.last_engine


def in_a_loop(layer, training=True):
    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=training))
        return tape.gradient(loss, [w.value for w in layer.weights])

    step(X)
    return step


def test_auto_is_fast_where_no_file_is_made():
    assert engine_in(lambda layer: layer(X)) == FAST[0]
    assert engine_in(in_a_loop) == FAST[0]
    assert engine_in(lambda layer: tf.function(layer)(X)) == "reference"
    assert engine_in(lambda layer: tf.function(layer)(X, training=True)) == "reference"
    assert engine_in(lambda layer: in_a_loop(layer, training=False)) == "reference"
    assert engine_in(lambda layer: tf.function(layer, jit_compile=True)(X, training=True)) == "portable"


@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 2}, {"run_eagerly": True}], ids=str)
def test_keras_own_functions_are_fast(options):
    def called(name, *arguments):
        def call(layer):
            model = keras.Sequential([keras.Input(X.shape[1:]), keras.layers.Masking(), layer, keras.layers.Dense(2)])
            model.compile("sgd", "mse", **options)
            getattr(model, name)(*arguments, **({} if "batch" in name else {"verbose": 0, "batch_size": 2}))

        return engine_in(call)

    for name in ("fit", "evaluate", "train_on_batch", "test_on_batch"):
        assert called(name, X, Y) == FAST[0], name
    for name in ("predict", "predict_on_batch"):
        assert called(name, X) == FAST[0], name


def test_a_compiled_fit_has_loops_that_xla_knows():
    def fit(layer):
        model = keras.Sequential([keras.Input(X.shape[1:]), layer, keras.layers.Dense(2)])
        model.compile("sgd", "mse", jit_compile=True)
        model.fit(X, Y, verbose=0)

    assert engine_in(fit) == "portable"


@NATIVE
def test_a_training_step_with_an_operation_of_ours_refuses_to_be_saved(tmp_path):
    """Instead of writing a file that does not load; the error says what to do."""
    module = tf.Module()
    module.layer = layer = LSTM(4)
    layer.build(X.shape)
    module.step = in_a_loop(layer)
    with pytest.raises(ValueError, match="tracing gradients"):
        tf.saved_model.save(module, str(tmp_path / "refused"))
    without = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with pytest.raises(KeyError, match=r"pass engine=.*reference"):
        tf.saved_model.save(module, str(tmp_path / "refused"), options=without)
    module.layer = layer = LSTM(4, engine="reference")
    layer.build(X.shape)
    module.step = in_a_loop(layer)
    tf.saved_model.save(module, str(tmp_path / "written"))


@NATIVE
def test_the_explanation_says_where_native_is_not_used():
    layer = LSTM(4)
    layer.build(X.shape)
    explanations = []
    tf.function(lambda x: explanations.append(layer.explain_engine(x.shape)))(X)
    assert explanations[0].chosen == "reference"
    assert "can be saved" in explanations[0].answers["native"].reason


@pytest.mark.parametrize("cell", [LSTM, VanillaRNN])
def test_a_checkpoint_holds_the_weights_only(cell, tmp_path):
    models = [keras.Sequential([keras.Input(X.shape[1:]), cell(4), keras.layers.Dense(2)]) for _ in range(2)]
    path = tf.train.Checkpoint(model=models[0]).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=models[1]).restore(path).assert_consumed()
    np.testing.assert_array_equal(models[1](X), models[0](X))
