"""`MaskOf`: the mask of a sequence reaches a layer that is called with a state, too."""

import warnings

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom.layers import MaskOf

handed_on = pytest.mark.skipif(
    not keras.layers.GRU(1).supports_masking, reason="from Keras 3.16 on no mask comes out of a recurrent layer"
)


@pytest.mark.parametrize("masked", [True, False])
def test_a_decoder_skips_masked_steps(rng, tmp_path, masked):
    tokens, state = keras.Input((5,)), keras.Input((4,))
    x = keras.layers.Embedding(7, 3, mask_zero=masked)(tokens)
    layer = klc.GRU(4, return_sequences=True)
    model = keras.Model([tokens, state], layer(x, initial_state=state, mask=MaskOf()(x)))
    given = np.array([[1, 0, 2, 3, 0], [4, 5, 0, 0, 0]], "float32"), rng.normal(size=(2, 4)).astype("float32")
    (embedding,) = (one for one in model.layers if isinstance(one, keras.layers.Embedding))
    embedded = embedding(given[0])
    mask = given[0] != 0 if masked else None
    expected = keras.ops.convert_to_numpy(layer(embedded, initial_state=given[1], mask=mask))
    unmasked = keras.ops.convert_to_numpy(layer(embedded, initial_state=given[1], mask=np.ones((2, 5), bool)))
    assert np.allclose(expected, unmasked) is not masked
    model.save(tmp_path / "m.keras")
    for each in (model, keras.saving.load_model(tmp_path / "m.keras")):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(each(list(given))), expected, atol=1e-6)


def decoder(layer, *, masked=True, mask=False, state=True):
    """A model whose layer reads tokens, some of them masked, from a state that is given."""
    tokens, states = keras.Input((5,)), [keras.Input((4,)) for _ in layer.get_initial_state(1) if state]
    x = keras.layers.Embedding(7, 3, mask_zero=masked)(tokens)
    options = {"initial_state": states or None} | ({"mask": MaskOf()(x)} if mask else {})
    return keras.Model([tokens, *states], layer(x, **options))


@handed_on
@pytest.mark.parametrize("name", ["LSTM", "GRU", "VanillaRNN", "SLSTM"])
def test_a_mask_that_keras_leaves_out_is_told_of_once_and_the_numbers_are_those_of_keras(rng, name):
    layer = getattr(klc, name)(4, return_sequences=True, name="reader")
    with pytest.warns(UserWarning, match="(?s)'reader' reads the masked steps.*MaskOf") as told:
        model = decoder(layer)
    given = np.array([[1, 0, 2, 3, 0], [4, 5, 0, 0, 0]], "float32")
    given = [given, *(rng.normal(size=(2, 4)).astype("float32") for _ in model.inputs[1:])]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = keras.ops.convert_to_numpy(model(given))
    assert [warning.category for warning in told].count(UserWarning) == 1
    if name != "SLSTM":
        own = getattr(keras.layers, {"VanillaRNN": "SimpleRNN"}.get(name, name))(4, return_sequences=True)
        keras_model = decoder(own)
        keras_model.set_weights(model.get_weights())
        np.testing.assert_allclose(found, keras.ops.convert_to_numpy(keras_model(given)), atol=1e-6)


@handed_on
@pytest.mark.parametrize("how", [{"masked": False}, {"mask": True}, {"state": False}])
def test_nothing_is_told_where_no_mask_is_left_out(how):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = decoder(klc.LSTM(4), **how)
        model([np.ones((2, x.shape[1]), "float32") for x in model.inputs])


@handed_on
def test_of_both_directions_each_tells_of_its_mask():
    x, states = keras.ops.ones((2, 5, 3)), [keras.ops.ones((2, 4)) for _ in range(2)]
    x = keras.layers.Masking()(x)
    with pytest.warns(UserWarning, match="reads the masked steps") as told:
        keras.layers.Bidirectional(klc.GRU(4))(x, initial_state=states)
    assert [warning.category for warning in told].count(UserWarning) == 2
