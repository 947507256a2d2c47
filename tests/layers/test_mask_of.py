"""`MaskOf`: the mask of a sequence reaches a layer that is called with a state, too."""

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom.layers import MaskOf


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
