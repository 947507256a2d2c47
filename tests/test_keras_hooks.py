"""Guards of the undocumented parts of Keras that `keras_hooks` stands on: each failure names the hook."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from keras_lstm_custom import VanillaRNN, keras_hooks
from keras_lstm_custom.keras_hooks import (
    EngineRNN,
    compile_arguments,
    diverted,
    dropout_masks,
    has_keras_loop,
    loop_over_time,
    methods_replaced,
    optimized_variables,
    replace_loop,
    symbolic_dropout_masks,
    undecayed_variables,
)


class Accumulator(keras.layers.Layer):
    """A cell that adds up what it reads."""

    state_size = 1

    def call(self, inputs, states):
        total = states[0] + inputs
        return total, [total]


def column(*rows):
    return np.array(rows, "float32")[:, :, None]


def test_inner_loop_takes_what_we_override():
    parameters = list(inspect.signature(keras.layers.RNN.inner_loop).parameters)
    assert parameters == ["self", "sequences", "initial_state", "mask", "training"], (
        "Keras changed the hook `RNN.inner_loop`: its arguments are no longer those that "
        "`keras_hooks.EngineRNN.inner_loop` overrides and `keras_hooks.loop_over_time` calls."
    )


@pytest.mark.parametrize("return_sequences", [True, False])
def test_inner_loop_is_what_the_layer_calls(return_sequences):
    calls = []

    class Fixed(EngineRNN):
        def run_loop(self, sequences, initial_state, mask, training):
            calls.append((sequences, initial_state, mask, training))
            return initial_state[0] + 1, sequences * 2, [initial_state[0] + 3]

    x = column([1, 2, 3])
    layer = Fixed(Accumulator(), return_sequences=return_sequences, return_state=True)
    output, state = layer(x, initial_state=[np.zeros((1, 1), "float32")], training=True)
    why = "Keras changed the hook `RNN.inner_loop`: "
    assert len(calls) == 1, why + "`RNN.call` does not call it once"
    assert calls[0][3] is True, why + "`training` does not arrive"
    expected = x * 2 if return_sequences else [[1.0]]
    np.testing.assert_array_equal(ops.convert_to_numpy(output), expected, err_msg=why + "other results")
    np.testing.assert_array_equal(ops.convert_to_numpy(state), [[3.0]], err_msg=why + "other results")


ZERO = {"zero_output_for_mask": True}


@pytest.mark.parametrize(
    ("options", "outputs", "state"),
    [
        ({}, [1, 1, 4], 4),
        (ZERO, [1, 0, 4], 4),
        ({"go_backwards": True}, [3, 3, 4], 4),
        ({"go_backwards": True, **ZERO}, [3, 0, 4], 4),
        ({"unroll": True}, [1, 1, 4], 4),
        ({"unroll": True, "go_backwards": True}, [3, 3, 4], 4),
    ],
    ids=str,
)
def test_loop_over_time_counts(options, outputs, state):
    """Adding up 1, (2), 3, the middle one masked: readable by eye."""
    last, every, (final,) = loop_over_time(
        lambda x, states: (states[0] + x, [states[0] + x]),
        ops.convert_to_tensor(column([1, 2, 3])),
        [ops.zeros((1, 1))],
        ops.convert_to_tensor([[True, False, True]]),
        return_sequences=True,
        **options,
    )
    why = "Keras changed the hook `RNN.inner_loop`: `keras_hooks.loop_over_time` loops differently"
    assert ops.convert_to_numpy(every)[0, :, 0].tolist() == outputs, why
    assert (float(last[0, 0]), float(final[0, 0])) == (outputs[-1], state), why


@pytest.mark.parametrize("cell_class", [keras.layers.LSTMCell, keras.layers.SimpleRNNCell])
@pytest.mark.parametrize("hook", ["get_dropout_mask", "get_recurrent_dropout_mask"])
def test_dropout_masks_are_drawn_once_for_each_call(cell_class, hook):
    why = f"Keras changed the hook `{hook}` of its recurrent cells: "
    cell = cell_class(3, dropout=0.5, recurrent_dropout=0.5)
    assert callable(getattr(cell, hook, None)), why + "it is gone"
    x = ops.ones((40, 3))
    first = keras.tree.flatten(getattr(cell, hook)(x))
    again = keras.tree.flatten(getattr(cell, hook)(x))
    assert all(a is b for a, b in zip(first, again, strict=True)), why + "it draws anew at every step"
    assert len(first) == (4 if cell_class is keras.layers.LSTMCell else 1), why + "another number of masks"
    values = np.unique(ops.convert_to_numpy(first[0]))
    assert values.tolist() == [0, 2], why + "a mask is no longer 0 and 1 / (1 - rate)"

    layer = keras.layers.RNN(cell)
    layer(ops.ones((40, 2, 3)), training=True)
    fresh = keras.tree.flatten(getattr(cell, hook)(x))
    assert fresh[0] is not first[0], why + "`keras.layers.RNN` does not forget the mask after a call"


def test_no_masks_outside_training():
    cell = keras.layers.LSTMCell(3, dropout=0.5, recurrent_dropout=0.5)
    assert dropout_masks(cell, ops.ones((2, 3)), ops.ones((2, 3)), training=False) == (None, None)
    inputs, recurrent = dropout_masks(cell, ops.ones((2, 3)), ops.ones((2, 3)), training=True)
    assert len(inputs) == len(recurrent) == 4


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.0, 0.5), (0.5, 0.0)], ids=str)
@pytest.mark.parametrize("cell_class", [keras.layers.LSTMCell, keras.layers.SimpleRNNCell])
def test_symbolic_masks_are_like_those_that_are_drawn(cell_class, rates):
    """So that `explain_engine` answers what a call would get."""
    cell = cell_class(5, dropout=rates[0], recurrent_dropout=rates[1])

    def shape(mask):
        return (
            [shape(m) for m in mask] if isinstance(mask, (list, tuple)) else None if mask is None else tuple(mask.shape)
        )

    for training in (True, False):
        drawn = dropout_masks(cell, ops.ones((2, 3)), ops.ones((2, 5)), training)
        symbolic = symbolic_dropout_masks(cell, (2, 3), (2, 5), training)
        assert shape(symbolic) == shape(drawn)


def test_a_layers_own_loop_is_the_one_that_keras_calls():
    why = "Keras changed the hook `RNN.inner_loop`: "
    x, layer = ops.ones((2, 3, 4)), keras.layers.LSTM(5)
    expected = ops.convert_to_numpy(layer(x))
    assert has_keras_loop(layer), why + "a layer of Keras has none of the loops that are known"
    assert not has_keras_loop(EngineRNN(keras.layers.LSTMCell(5)))
    calls = []

    def loop(sequences, initial_state, mask, training):
        calls.append((len(initial_state), mask, training))
        return initial_state[0] + 1, sequences, initial_state

    with diverted([(layer, loop)]), diverted([(layer, loop)]):
        np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), np.ones((2, 5)), err_msg=why + "other results")
    assert calls == [(2, None, False)], why + "it is not called once through the instance"
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), expected)
    assert "inner_loop" not in vars(layer)


def test_compile_keeps_what_it_was_given():
    why = "Keras changed the hook `_compile_config`: "
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    loss, metric = keras.losses.Huber(0.3), keras.metrics.MeanSquaredError()
    model.compile("sgd", loss, metrics=[metric], loss_weights=[2.0])
    model.run_eagerly = True
    given = compile_arguments(model)
    assert given["loss"] is loss, why + "the loss is another object"
    assert given["metrics"][0] is metric, why + "the metric is another object"
    assert (given["loss_weights"], given["run_eagerly"]) == ([2.0], True), why + "an argument is lost"
    again = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    again.compile(**given)


def test_an_optimizer_knows_what_it_was_built_for():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    optimizer = keras.optimizers.AdamW(weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(model.trainable_variables)
    why = "Keras changed the hook `_trainable_variables` of optimizers"
    for variable, known in zip(model.trainable_variables, optimized_variables(optimizer), strict=True):
        assert variable is known, why
    assert [v.name for v in undecayed_variables(optimizer)] == ["bias"], "Keras changed the hook `_use_weight_decay`"


@pytest.mark.tensorflow
@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_the_trainers_functions_go_by_their_names(steps_per_execution):
    seen = []

    class Looks(keras.layers.Layer):
        def call(self, x):
            seen.append(keras_hooks.inside_trainer())
            return x

    model = keras.Sequential([keras.Input((1,)), Looks(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=steps_per_execution)
    x = np.ones((4, 1), "float32")
    calls = {"fit": (x, x), "evaluate": (x, x), "predict": (x,), "train_on_batch": (x, x), "predict_on_batch": (x,)}
    for name, arguments in calls.items():
        seen.clear()
        getattr(model, name)(*arguments, **({} if "batch" in name else {"verbose": 0, "batch_size": 2}))
        # A model that is not built yet is called symbolically, too.
        assert seen, name
        assert seen[-1], (
            f"Keras changed the names of its trainer's functions: `TRAINER_FUNCTIONS` misses that of {name}"
        )
    import tensorflow as tf

    seen.clear()
    tf.function(model)(x)
    assert seen == [False]


@pytest.mark.tensorflow
def test_what_records_gradients_is_seen_and_can_be_stopped():
    import tensorflow as tf

    why = "TensorFlow changed `could_possibly_record` or `stop_recording` of its `eager.record`"
    x = tf.ones(2)
    assert not keras_hooks.recording_gradients(), why
    with tf.GradientTape() as tape:
        tape.watch(x)
        assert keras_hooks.recording_gradients(), why
        with keras_hooks.unrecorded():
            y = x * 2
        z = x * 3
    assert tape.gradient([y, z], x).numpy().tolist() == [3, 3], why


@pytest.mark.tensorflow
def test_forward_mode_is_seen():
    import tensorflow as tf

    why = "TensorFlow changed `pack_tangents` of its `eager.forwardprop_util`"
    x, variable = tf.ones(2), tf.Variable(1.0)
    with tf.autodiff.ForwardAccumulator([x, variable], [x, tf.ones(())]):
        assert keras_hooks.has_tangents([x]), why
        assert keras_hooks.has_tangents([variable]), why
        assert not keras_hooks.has_tangents([tf.ones(2), tf.Variable(1.0)]), why
    assert not keras_hooks.has_tangents([x]), why


def test_weights_in_a_file_go_by_the_name_of_the_class(tmp_path):
    """Our files have Keras' names (`stored_as`), and files of an earlier version are read, too (`entry_of`)."""
    h5py = pytest.importorskip("h5py")
    model = keras.Sequential([keras.Input((2, 3)), VanillaRNN(4)])
    model.save_weights(tmp_path / "new.weights.h5")
    why = "Keras names what a file of weights holds otherwise"
    with h5py.File(tmp_path / "new.weights.h5", "a") as file:
        assert list(file["layers"]) == ["simple_rnn"], why
        file.move("layers/simple_rnn", "layers/vanilla_rnn")  # as earlier versions wrote it
    expected = model.get_weights()
    model.set_weights([np.zeros_like(w) for w in expected])
    model.load_weights(tmp_path / "new.weights.h5")
    for got, weight in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(got, weight, err_msg=why)


@pytest.mark.parametrize("layer_class", [keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN])
def test_a_layer_calls_the_loop_that_was_put_in_place_of_its_own(layer_class):
    layer = layer_class(2, return_sequences=True)
    fixed = ops.ones((3, 4, 2))

    def loop(sequences, initial_state, mask, training=False):
        return fixed[:, -1], fixed, initial_state

    layer.build((3, 4, 5))
    replace_loop(layer, loop)
    assert np.array_equal(ops.convert_to_numpy(layer(ops.zeros((3, 4, 5)))), np.ones((3, 4, 2))), (
        "Keras no longer calls the hook `RNN.inner_loop` of the layer at hand, which `keras_hooks.replace_loop` sets."
    )


def test_a_layer_calls_the_function_that_stands_for_its_method():
    layer = keras.layers.Masking()
    model = keras.Sequential([keras.Input((2, 1)), layer])
    own = column([1, 2])
    with methods_replaced([(layer, "call", lambda inputs: inputs + 1)]):
        inside = ops.convert_to_numpy(model(own))
    why = "Keras changed the hook `Layer.__call__`: it does not look up `call` on the layer itself"
    np.testing.assert_array_equal(inside, own + 1, err_msg=why)
    np.testing.assert_array_equal(ops.convert_to_numpy(model(own)), own, err_msg="the method was not put back")
    assert "call" not in vars(layer)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="needs the torch backend")
def test_torch_says_when_a_transform_of_torch_func_runs():
    import torch

    seen = []
    torch.func.vmap(lambda x: seen.append(keras_hooks.inside_torch_func()) or x)(torch.ones(2, 3))
    assert [keras_hooks.inside_torch_func(), *seen] == [False, True], "torch changed `_are_functorch_transforms_active`"


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="needs the torch backend")
def test_operations_of_torch_say_what_they_change():
    import torch

    aten = torch.ops.aten
    operations = (aten.add_.Tensor, aten.add.Tensor, aten.select.int)
    why = "torch changed `_schema` of its operations"
    assert list(map(keras_hooks.changes_in_place, operations)) == [True, False, False], why
    assert list(map(keras_hooks.gives_new_tensors, operations)) == [False, True, False], why


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="needs the torch backend")
def test_torch_has_the_kernels_of_an_lstms_step():
    forward, backward = (
        [argument.name for argument in kernel.default._schema.arguments] for kernel in keras_hooks.fused_lstm_kernels()
    )
    why = "torch changed or dropped the kernels behind `torch.nn.LSTMCell`"
    assert forward[:3] == ["input_gates", "hidden_gates", "cx"], why
    assert backward == ["grad_hy", "grad_cy", "cx", "cy", "workspace", "has_bias"], why
