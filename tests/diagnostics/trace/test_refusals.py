"""Models and inputs that cannot be traced, or not in whole."""

import copy

import keras
import numpy as np
import pytest
from keras import layers

from keras_lstm_custom import LSTM, plots, summary, trace
from keras_lstm_custom.errors import ArgumentError, InputError
from tests.diagnostics.trace.models import BATCH, TIMESTEPS, UNITS, small


class Odd(layers.GRUCell):
    """A cell of Keras' that computes who knows what."""


def test_says_what_is_not_a_model_to_look_into(x):
    with pytest.raises(ArgumentError, match=r"no recurrent layer(.|\n)*no recurrent layer at all"):
        trace(small(layers.Dense(2)), x)
    with pytest.raises(ArgumentError, match=r"no recurrent layer(.|\n)*odd"):
        trace(small(layers.RNN(Odd(2, name="odd"))), x)
    with pytest.raises(ArgumentError, match="Only a Keras model"):
        trace(LSTM(2), x)
    with pytest.raises(InputError, match="no weights yet"):
        trace(keras.Sequential([LSTM(2)]), x)
    with pytest.raises(ArgumentError, match=r"'lstm'(.|\n)*'lsmt'"):
        trace(small(LSTM(2, name="lstm")), x, layers="lsmt")


def test_says_that_traces_are_by_layer(x):
    model = small(LSTM(2, name="lstm"))
    for use in (lambda steps: steps.f, lambda steps: plots.unit(steps, unit=0)):
        with pytest.raises(AttributeError, match=r"pick that of a layer: steps\['lstm'\]"):
            use(trace(model, x))
    with pytest.raises(ArgumentError, match=r"Only traces(.|\n)*summary\(trace\(model, x\)\)"):
        summary(model)
    assert copy.deepcopy(trace(model, x)).keys() == {"lstm"}


def test_says_which_layers_it_leaves_out(x):
    model = small(layers.RNN(Odd(2), return_sequences=True, name="odd"), LSTM(2, name="lstm"))
    with pytest.warns(UserWarning, match="'odd'"):
        steps = trace(model, x)
    assert list(steps) == ["lstm"]


def test_says_where_an_unrolled_loop_of_keras_reads_the_mask_in_another_way(x):
    options = {"unroll": True, "go_backwards": True, "return_sequences": True, "zero_output_for_mask": True}
    sequences, mask = keras.Input(x.shape[1:]), keras.Input(x.shape[1:2], dtype="bool")
    if keras.backend.backend() == "torch":
        return  # Keras' own raises
    model = keras.Model([sequences, mask], layers.LSTM(2, **options)(sequences, mask=mask))
    with pytest.warns(UserWarning, match="unroll=True"):
        trace(model, [x, np.ones(x.shape[:2], bool)])


@keras.saving.register_keras_serializable(package="tests")
class Compiled(layers.Layer):
    """A layer that cannot be replayed step by step: what is inside runs in a compiled function."""

    def __init__(self, **options):
        super().__init__(**options)
        self.memory = LSTM(2)

    def build(self, shape):
        self.memory.build(shape)

    def call(self, x):
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            return tf.function(lambda x: self.memory(x), autograph=False)(x)
        import jax

        return jax.jit(lambda x: self.memory(x))(x)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch does not trace a compiled call")
def test_says_that_a_compiled_call_cannot_be_read(x):
    with pytest.raises(InputError, match="inside a compiled function"):
        trace(small(Compiled()), x)


def test_says_what_is_wrong_with_the_input(x):
    model = small(LSTM(UNITS, name="lstm"))
    bad = x.copy()
    bad[1, 2, 0] = np.nan
    with pytest.raises(InputError, match=r"not finite(.|\n)*1 of 36 values, the first nan at \(1, 2, 0\)"):
        trace(model, bad)
    with pytest.raises(InputError, match="at least one sequence"):
        trace(model, x[:0])
    with pytest.raises(InputError, match=r"'lstm' would need(.|\n)*3 sequences x 6 steps x 4 units"):
        trace(model, x, max_bytes=1000)


def test_only_the_traces_asked_for_count_against_the_limit(x):
    model = small(LSTM(UNITS, return_sequences=True, name="large"), LSTM(1, name="small"))
    needed = 4 * BATCH * (TIMESTEPS * (UNITS + 6) + 2)
    assert list(trace(model, x, layers="small", max_bytes=needed)) == ["small"]
    with pytest.raises(InputError):
        trace(model, x, layers="small", max_bytes=needed - 1)
