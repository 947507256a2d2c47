"""Masked models, unrolled: right on both runtimes for every kind of mask, direction, wrapper and cell."""

import itertools

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom import export
from tests.export import models
from tests.export.interpreters import RUNTIMES, run

pytestmark = pytest.mark.tensorflow

layers = keras.layers

T, WORDS = 5, 9
#: One row for each kind of mask; 0 is what is masked.
TOKENS = np.array(
    [
        [3, 5, 2, 0, 0],  # padded on the right
        [0, 0, 4, 1, 7],  # on the left
        [6, 0, 2, 0, 8],  # holes
        [0, 0, 0, 0, 0],  # nothing to read
        [1, 2, 3, 4, 5],  # all of it
    ],
    "int32",
)
PADDED = -1.0  #: the value of a padded step in `readings`


def readings():
    x = np.random.default_rng(2).standard_normal((len(TOKENS), T, 3)).astype("float32")
    x[TOKENS == 0] = PADDED
    return x


def masked(*body, by="tokens"):
    """Return a model whose first recurrent layer gets a mask, of an Embedding or a Masking layer."""
    if by == "tokens":
        first = [keras.Input((T,), dtype="int32"), layers.Embedding(WORDS, 3, mask_zero=True)]
    else:
        first = [keras.Input((T, 3)), layers.Masking(PADDED)]
    return models.randomised(keras.Sequential([*first, *body]))


def convert(model, **options):
    from keras_lstm_custom.export.model.prepare import prepare
    from tests.export.files import float_file

    return float_file(prepare(model, **options))


def check(model, x, **options):
    content = convert(model, **options or {"fused": False})
    expected = [np.asarray(y) for y in keras.tree.flatten(model(x))]
    for runtime in RUNTIMES:
        for got, wanted in zip(run(content, [x], runtime), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6, err_msg=runtime)


CELLS = {"LSTM": klc.LSTM, "keras LSTM": layers.LSTM, "VanillaRNN": klc.VanillaRNN, "GRU": layers.GRU}


@pytest.mark.parametrize("fused", [False, True], ids=["unrolled", "loop"])
@pytest.mark.parametrize("cell", CELLS)
def test_one_direction(cell, fused):
    """Forwards and backwards, the last step and all of them, masked outputs held or zero: eight outputs of one file."""
    x = keras.Input((T,), dtype="int32")
    h = layers.Embedding(WORDS, 3, mask_zero=True)(x)
    names = ("return_sequences", "go_backwards", "zero_output_for_mask")
    options = [dict(zip(names, chosen, strict=True)) for chosen in itertools.product([False, True], repeat=3)]
    check(models.randomised(keras.Model(x, [CELLS[cell](4, **each)(h) for each in options])), TOKENS, fused=fused)


def test_both_directions():
    x = keras.Input((T,), dtype="int32")
    h = layers.Embedding(WORDS, 3, mask_zero=True)(x)
    outputs = [
        layers.Bidirectional(klc.LSTM(4, return_sequences=sequences), merge_mode=merge)(h)
        for merge, sequences in itertools.product(["concat", "sum", "ave", "mul", None], [False, True])
    ]
    check(models.randomised(keras.Model(x, keras.tree.flatten(outputs))), TOKENS)


@pytest.mark.parametrize("cell", [klc.VanillaRNN, layers.SimpleRNN, layers.LSTM])
def test_two_layers_of_both_directions_behind_a_masking_layer(cell):
    body = [layers.Bidirectional(cell(4, return_sequences=True)), layers.Bidirectional(cell(3)), layers.Dense(2)]
    check(masked(*body, by="readings"), readings())


@pytest.mark.parametrize("fused", [False, True], ids=["unrolled", "loop"])
def test_a_layer_that_keras_unrolls_zeroes_as_keras_does(fused):
    """Its unrolled loop puts the zeros of a backward layer elsewhere than its loop; so does the model at hand."""
    options = {"return_sequences": True, "go_backwards": True, "zero_output_for_mask": True, "unroll": True}
    theirs, ours = masked(layers.LSTM(4, **options)), masked(klc.LSTM(4, **options))
    ours.set_weights(theirs.get_weights())
    assert np.abs(np.asarray(theirs(TOKENS)) - np.asarray(ours(TOKENS))).max() > 0.1
    check(theirs, TOKENS, fused=fused)
    check(ours, TOKENS, fused=fused)


def test_states_of_a_masked_layer():
    x = keras.Input((T,), dtype="int32")
    h = layers.Embedding(WORDS, 3, mask_zero=True)(x)
    model = keras.Model(x, list(layers.LSTM(4, return_state=True, return_sequences=True)(h)))
    check(models.randomised(model), TOKENS)


@pytest.mark.parametrize("fused", [False, True], ids=["unrolled", "loop"])
def test_states_that_the_model_computes(fused):
    """The output of a masked first step is zero, not the state that it starts from."""
    x = keras.Input((T,), dtype="int32")
    h = layers.Embedding(WORDS, 3, mask_zero=True)(x)
    _, *state = layers.LSTM(4, return_state=True)(h)
    model = keras.Model(x, layers.LSTM(4, return_sequences=True)(h, initial_state=state))
    check(models.randomised(model), TOKENS, fused=fused)


@pytest.mark.parametrize("fused", [False, True], ids=["unrolled", "loop"])
def test_a_nested_model_and_stacked_cells(fused):
    inner = keras.Sequential([keras.Input((T, 3)), layers.Bidirectional(layers.LSTM(4, return_sequences=True))])
    check(masked(inner, layers.RNN([layers.LSTMCell(3), klc.VanillaRNNCell(2)])), TOKENS, fused=fused)


def test_what_else_reads_a_mask():
    x = keras.Input((T,), dtype="int32")
    h = layers.LSTM(4, return_sequences=True)(layers.Embedding(WORDS, 3, mask_zero=True)(x))
    mean = layers.GlobalAveragePooling1D()(layers.TimeDistributed(layers.Dense(3))(h))
    seen = layers.GlobalMaxPooling1D()(layers.Attention()([h, h]))
    model = models.randomised(keras.Model(x, layers.Concatenate()([mean, seen])))
    row = [0, 1, 2, 4]  # the mean over no steps at all is 0 / 0
    check(model, TOKENS[row])


@pytest.mark.parametrize("by", ["tokens", "readings"])
@pytest.mark.parametrize(("quantize", "fused"), [("int8", False), ("int16x8", False), ("int8", True)])
def test_integers(by, quantize, fused, tmp_path):
    """A padded step is found among integers, too, though -1 itself is none of them; and a state is kept as it is."""
    rng = np.random.default_rng(3)
    tokens = rng.integers(1, WORDS, (64, T)) * (np.arange(T) < rng.integers(1, T + 1, (64, 1)))
    x = rng.standard_normal((64, T, 3)).astype("float32")
    x[tokens == 0] = PADDED
    model = masked(layers.Bidirectional(layers.LSTM(4, return_sequences=True)), layers.LSTM(4), layers.Dense(2), by=by)
    options = {"calibration": tokens if by == "tokens" else x, "runtime": "both", "fused": fused}
    report = export.tflite(model, tmp_path / "a.tflite", quantize, **options)
    assert {check.runtime for check in report.checks if check.ok} >= {"litert", "micro"}


@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
def test_streaming_over_masked_steps(sequences, tmp_path):
    """Step by step the output of a masked step is that of the step before, which is in another invocation."""
    model = masked(layers.LSTM(4, return_sequences=sequences), layers.Dense(2))
    report = export.streaming(model, tmp_path / "a.tflite", "explicit", calibration=TOKENS[[0, 1, 2, 4]])
    assert {check.runtime for check in report.checks if check.ok} >= {"litert", "micro"}
