"""Inputs of every kind: tokens in any dtype, text, sequences of two axes, several open lengths, names."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lstm_custom import export
from keras_lstm_custom.errors import ArgumentError, ExportError, InputError
from keras_lstm_custom.export.model.inputs import input_shapes, sequences
from keras_lstm_custom.export.model.samples import is_token_like, made_up
from tests.export import models
from tests.export.interpreters import RUNTIMES, inputs_and_outputs, run

pytestmark = pytest.mark.tensorflow

layers = keras.layers
T, WORDS = 6, 30


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(1, WORDS, (64, T))


def reader(dtype="float32", length=T):
    body = [layers.Embedding(WORDS, 5), layers.LSTM(6), layers.Dense(3)]
    return models.randomised(keras.Sequential([keras.Input((length,), dtype=dtype), *body]))


class Positions(keras.layers.Layer):
    """A layer of the user's own that holds an Embedding, as in many examples."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.words = layers.Embedding(WORDS, 5)

    def call(self, inputs):
        return self.words(inputs)


# Tokens


def nested():
    inner = keras.Sequential([keras.Input((T,)), layers.Embedding(WORDS, 5)])
    x, values = keras.Input((T,), name="tokens"), keras.Input((T,), name="values")
    h = layers.Concatenate()([inner(layers.Reshape((T,))(x)), layers.Reshape((T, 1))(values)])
    return keras.Model([x, values], layers.LSTM(4)(h))


def own_layer():
    return keras.Sequential([keras.Input((T,)), Positions(), layers.LSTM(4)])


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (reader, [True]),
        (lambda: reader("int64"), [True]),
        (lambda: reader(length=None), [True]),
        (nested, [True, False]),
        (own_layer, [True]),
        (models.several, [False, False]),
    ],
)
def test_which_inputs_hold_tokens(build, expected):
    model = build()
    assert [is_token_like(model, number) for number in range(len(model.inputs))] == expected
    for made, is_token in zip(made_up(model), expected, strict=True):
        assert (set(np.unique(made)) <= {0, 1}) == is_token


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int16", "int64"])
def test_tokens_of_every_dtype(dtype, tokens, tmp_path):
    """In the file they are int32, or float32 as in the model; without a calibration those made up are in range."""
    model = reader(dtype)
    report = export.tflite(model, tmp_path / "a.tflite", runtime="both")
    content = (tmp_path / "a.tflite").read_bytes()
    assert inputs_and_outputs(content)[0][0]["dtype"] == (np.float32 if dtype == "float32" else np.int32)
    assert any(f"in the model it is {dtype}" in note for note in report.notes) == (dtype != "float32")
    for runtime in RUNTIMES:
        np.testing.assert_allclose(run(content, [tokens[:4]], runtime)[0], model(tokens[:4]), rtol=0, atol=2e-6)


def test_tokens_stay_exact_among_integers(tokens, tmp_path):
    model = reader()
    report = export.tflite(model, tmp_path / "a.tflite", "int8", calibration=tokens.astype("float32"), runtime="both")
    assert {check.runtime for check in report.checks if check.ok} >= {"litert", "micro"}
    assert inputs_and_outputs((tmp_path / "a.tflite").read_bytes())[0][0]["dtype"] == np.float32


# Text


def reader_of_text():
    words = layers.TextVectorization(output_sequence_length=T, vocabulary=["the", "cat", "dog"])
    return keras.Sequential([keras.Input((1,), dtype="string"), words, layers.Embedding(9, 4), layers.LSTM(4)])


def test_a_saved_model_takes_text(tmp_path):
    model = reader_of_text()
    text = tf.constant([["the cat"], ["a dog, the dog"]])
    for x in (None, np.array([["the cat"], ["dog"]])):
        assert export.saved_model(model, tmp_path / "served", x=x).ok
    serve = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    (got,) = serve(**{model.inputs[0].name: text}).values()
    np.testing.assert_allclose(got, model(text), rtol=0, atol=1e-6)


@pytest.mark.parametrize("write", [export.tflite, export.streaming, export.micro])
def test_files_for_devices_refuse_text(write, tmp_path):
    with pytest.raises(ExportError, match=r"(?s)takes strings.*behind the TextVectorization"):
        write(reader_of_text(), tmp_path / "a", calibration=np.array([["the cat"]]))
    assert not list(tmp_path.iterdir())


def test_text_for_an_input_of_numbers(tmp_path):
    with pytest.raises(InputError, match=r"(?s)are no numbers.*dtype"):
        export.tflite(reader(), tmp_path / "a.tflite", calibration=np.full((4, T), "word"))


# Sequences of two axes


def behind_a_reshape():
    return models.randomised(keras.Sequential([keras.Input((T,)), layers.Reshape((T, 1)), layers.LSTM(4)]))


@pytest.mark.parametrize("build", [reader, lambda: reader("int32"), lambda: reader(length=None), behind_a_reshape])
@pytest.mark.parametrize("state", ["kept", "explicit"])
def test_streaming_of_two_axes(build, state, tokens, tmp_path):
    report = export.streaming(build(), tmp_path / "a.tflite", state, calibration=tokens[:4])
    assert {check.runtime for check in report.checks if check.ok} >= {"litert", "micro"}


@pytest.mark.parametrize("build", [reader, lambda: reader(length=None)])
def test_a_saved_model_that_steps_over_tokens(build, tokens, tmp_path):
    model = build()
    export.saved_model(model, tmp_path / "served", stateful=True)
    step = tf.saved_model.load(str(tmp_path / "served")).signatures["step"]
    specs = {name: spec for name, spec in step.structured_input_signature[1].items() if name != model.inputs[0].name}
    states = {name: tf.zeros((2, spec.shape[1])) for name, spec in specs.items()}
    for block in (tokens[:2, :1], tokens[:2, 1:]):
        results = step(**{model.inputs[0].name: tf.constant(block, "float32")}, **states)
        states = {name: results[name] for name in states}
    (output,) = [value for name, value in results.items() if name not in states]
    np.testing.assert_allclose(output, model(tokens[:2]), rtol=0, atol=2e-6)


def test_a_model_without_a_sequence_does_not_stream(tmp_path):
    x = keras.Input((3,))
    model = keras.Model(x, layers.LSTM(2)(layers.RepeatVector(4)(x)))
    with pytest.raises(ExportError, match="step by step"):
        export.streaming(model, tmp_path / "a.tflite")


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(None, 3)], [True]),
        ([(None, 3), (4,)], [True, False]),
        ([(8, 3), (8,)], [True, True]),  # tokens beside the readings
        ([(8, 3), (1,)], [True, False]),  # one category for all of it
        ([(8, 3), (4,)], [True, False]),
    ],
)
def test_which_inputs_run_over_time(shapes, expected):
    inputs = [keras.Input(shape, dtype="float32" if len(shape) > 1 else "int32") for shape in shapes]
    embedded = [x if len(x.shape) > 2 else layers.Embedding(9, 3)(x) for x in inputs]
    output = layers.Add()([layers.LSTM(2)(h) for h in embedded]) if len(inputs) > 1 else layers.LSTM(2)(embedded[0])
    assert sequences(keras.Model(inputs, output)) == expected


# Lengths


def two_lengths():
    encoded, decoded = keras.Input((None, 3), name="encoded"), keras.Input((None, 2), name="decoded")
    _, *state = layers.LSTM(4, return_state=True)(encoded)
    return models.randomised(
        keras.Model([encoded, decoded], layers.LSTM(4, return_sequences=True)(decoded, initial_state=state))
    )


@pytest.mark.parametrize("by", ["dict", "list", "calibration"])
def test_several_open_lengths(by, tmp_path):
    model = two_lengths()
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((4, 7, 3)).astype("float32"), rng.standard_normal((4, 5, 2)).astype("float32")]
    options = {
        "dict": {"timesteps": {"decoded": 5, "encoded": 7}},
        "list": {"timesteps": [7, 5]},
        "calibration": {"calibration": {"decoded": x[1], "encoded": x[0]}},
    }[by]
    assert export.tflite(model, tmp_path / "a.tflite", runtime="both", **options).ok
    (got,) = run((tmp_path / "a.tflite").read_bytes(), x)
    np.testing.assert_allclose(got, model(x), rtol=0, atol=2e-6)


def test_several_open_axes_of_one_input(tmp_path):
    body = [layers.TimeDistributed(layers.Conv1D(3, 2)), layers.TimeDistributed(layers.GlobalMaxPooling1D())]
    model = models.randomised(keras.Sequential([keras.Input((None, None, 2)), *body, layers.LSTM(4)]))
    x = np.random.default_rng(0).standard_normal((4, 3, 5, 2)).astype("float32")
    assert export.tflite(model, tmp_path / "a.tflite", runtime="both", calibration=x).ok


@pytest.mark.parametrize(
    ("timesteps", "told"),
    [
        ({"encoder": 7}, "'encoded', 'decoded'"),
        ([7], "2 lengths"),
        ([7, 0], "positive"),
        ({"encoded": "7"}, "positive"),
    ],
)
def test_lengths_that_do_not_fit(timesteps, told, tmp_path):
    with pytest.raises(ArgumentError, match=rf"(?s)`timesteps`.*{told}"):
        export.tflite(two_lengths(), tmp_path / "a.tflite", timesteps=timesteps)


def test_a_length_that_is_still_open_is_named(tmp_path):
    with pytest.raises(ExportError, match=r"(?s)the input 'decoded'.*'decoded': 100"):
        export.tflite(two_lengths(), tmp_path / "a.tflite", timesteps={"encoded": 7})


def test_a_number_is_for_what_runs_over_time():
    model = models.several()
    assert input_shapes(model, 9) == [(None, 9, models.F), (None, 3)]


# Names


@pytest.mark.parametrize("calibration", [{"data": None}, {"data": None, "labels": None}])
def test_a_calibration_by_other_names_is_told_both(calibration, tmp_path):
    x = np.zeros((4, models.T, models.F), "float32")
    model = keras.Sequential([keras.Input((models.T, models.F), name="readings"), layers.LSTM(3)])
    with pytest.raises(InputError, match=r"(?s)names.*'readings'.*'data'"):
        export.tflite(model, tmp_path / "a.tflite", calibration=dict.fromkeys(calibration, x))


def test_a_calibration_is_no_path(tmp_path):
    model = keras.Sequential([keras.Input((models.T, models.F)), layers.LSTM(3)])
    with pytest.raises(InputError, match=r"(?s)not the path.*numpy\.load\(path\).*'x\.npy'"):
        export.tflite(model, tmp_path / "a.tflite", quantize="int8", calibration="x.npy")


def test_batches_by_name(tmp_path):
    model = models.several()
    batches = [dict(zip(["zulu", "alpha"], parts, strict=True)) for parts in [models.inputs_for(model, 4)] * 3]
    assert export.tflite(model, tmp_path / "a.tflite", calibration=batches).ok
    with pytest.raises(InputError, match=r"(?s)'zulu', 'alpha'.*'beta'"):
        export.tflite(model, tmp_path / "a.tflite", calibration=[{"zulu": 0, "beta": 1}] * 3)


def test_the_same_model_gives_the_same_file(tmp_path):
    """Also when it was saved and loaded: the names of tensors that Keras counts are in no file."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((models.T, models.F)), layers.LSTM(3), layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    files = []
    for each in (model, model, keras.models.load_model(tmp_path / "model.keras")):
        keras.Input((2,))  # which moves Keras' counter on
        export.tflite(each, tmp_path / "a.tflite")
        files.append((tmp_path / "a.tflite").read_bytes())
    assert files[0] == files[1] == files[2]


def test_another_length_by_the_name_of_an_input_that_only_the_user_has(tmp_path):
    """Keras counts the names of tensors; the copy of another length has other ones."""
    x = keras.Input((9, 3))
    model = models.randomised(keras.Model(x, keras.layers.LSTM(4)(x)))
    report = export.tflite(model, tmp_path / "a.tflite", timesteps={model.inputs[0].name: 5}, runtime="both")
    assert report.ok
    (details,), _ = inputs_and_outputs((tmp_path / "a.tflite").read_bytes())
    assert list(details["shape"]) == [1, 5, 3]
