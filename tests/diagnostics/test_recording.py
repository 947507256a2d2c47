"""A recorder takes the registry's place, inside its block only."""

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM
from keras_lstm_custom.engines import reference
from keras_lstm_custom.engines.recording import active, recording
from tests.engines.harness import FAST


def test_every_request_in_the_block_reaches_the_innermost_recorder():
    layer = LSTM(3, engine=FAST[0])
    x = np.ones((2, 4, 5), "float32")
    layer(x)
    seen = {"outer": [], "inner": []}

    def recorder(name):
        def serve(request):
            seen[name].append(request)
            return reference.run(request)

        return serve

    with recording(recorder("outer")):
        layer(x)
        with recording(recorder("inner")):
            inside = layer(x)
        layer(x)
    assert (len(seen["outer"]), len(seen["inner"])) == (2, 1)
    assert seen["inner"][0].cell is layer.cell
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(inside), keras.ops.convert_to_numpy(layer(x)), rtol=1e-5, atol=1e-6
    )
    assert active() is None
    assert layer.last_engine == FAST[0]


def test_an_error_ends_the_block_all_the_same():
    with pytest.raises(RuntimeError), recording(reference.run):
        raise RuntimeError
    assert active() is None
