"""Gradients of gradients: a fast engine has those of the reference engine, with respect to all that goes in."""

import functools

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES, registry
from tests.engines.harness import FAST, Case, arrays, layer_of, request_of

CASES = [
    Case(),
    Case(kind="vanilla_rnn", return_sequences=False),
    Case(mask="scattered", go_backwards=True, inputs_dropout=4, recurrent_dropout=4),
    Case(recurrent_dropout=1, use_bias=False),
    Case(kind="vanilla_rnn", mask="rows without a step", recurrent_dropout=1),
    Case(training=False, mask="left padded"),
]
X = np.random.default_rng(1).normal(size=(4, 6, 3)).astype("float32")


def penalty_gradients(engine, case, wrap=lambda function: function):
    """Gradients of the squared norm of all gradients, with respect to x, the states and the weights."""
    data = arrays(case)
    layer = layer_of(case, data["weights"])
    request = request_of(case, layer, data)
    loss_weights = [keras.ops.convert_to_tensor(w, "float32") for w in data["loss"]]

    def loss(x, *state):
        result = registry.run(engine, request_of(case, layer, data, x, list(state)))
        outputs = [result.outputs, result.last_output, *result.state]
        # Squared: of a linear loss the second derivatives by the incoming gradients would be left out.
        return sum(keras.ops.sum(o**2 * w[:, : o.shape[1]]) for o, w in zip(outputs, loss_weights, strict=True))

    inputs = [request.sequences, *request.initial_state]
    gradients = PENALTY[keras.backend.backend()](loss, inputs, layer.weights, wrap)
    return [keras.ops.convert_to_numpy(g) for g in gradients]


def _tensorflow(loss, inputs, weights, wrap):
    import tensorflow as tf

    def penalty(inputs):
        watched = [*inputs, *(w.value for w in weights)]
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                value = loss(*inputs)
            first = inner.gradient(value, watched)
            total = sum(tf.reduce_sum(g**2) for g in first)
        return outer.gradient(total, watched, unconnected_gradients="zero")

    return wrap(penalty)(inputs)


def _torch(loss, inputs, weights, wrap):
    import torch

    watched = [x.detach().requires_grad_() for x in inputs]
    value = loss(*watched)
    watched += [w.value for w in weights]
    first = torch.autograd.grad(value, watched, create_graph=True)
    return [g.detach() for g in torch.autograd.grad(sum((g**2).sum() for g in first), watched, materialize_grads=True)]


def _jax(loss, inputs, weights, wrap):
    import jax

    def value(inputs, values):
        with keras.StatelessScope(state_mapping=list(zip(weights, values, strict=True))):
            return loss(*inputs)

    def penalty(inputs, values):
        return sum((g**2).sum() for g in jax.tree.leaves(jax.grad(value, (0, 1))(inputs, values)))

    return jax.tree.leaves(jax.grad(penalty, (0, 1))(inputs, [w.value for w in weights]))


PENALTY = {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}


def assert_close(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert np.abs(b).max() > 0 or not np.abs(a).max()
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * max(1, np.abs(b).max()))


@functools.cache
def of_the_equations(case):
    return penalty_gradients("reference", case)


#: On JAX each takes seconds to compile, and "auto" takes one of them.
@pytest.mark.parametrize("engine", FAST + ["auto"] * (keras.backend.backend() != "jax"))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_they_are_those_of_the_equations(engine, case):
    layer = layer_of(case, arrays(case)["weights"])
    if engine != "auto" and not ENGINES[engine].supports(request_of(case, layer, arrays(case))).ok:
        pytest.skip(f"{engine} does not serve this case")
    assert_close(penalty_gradients(engine, case), of_the_equations(case))


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("case", "compiled"),
    # TensorFlow cannot compile the second derivative of any loop with a dropout mask for each gate.
    [(CASES[2], False), (Case(mask="scattered", go_backwards=True), True)],
    ids=str,
)
def test_in_a_graph(case, compiled):
    import tensorflow as tf

    def wrap(function):
        return tf.function(function, jit_compile=compiled, autograph=False)

    expected = penalty_gradients("reference", case)
    for engine in ("auto",) if compiled else ("auto", *FAST):
        assert_close(penalty_gradients(engine, case, wrap), expected)


class WithPenalty(keras.Model):
    """A model whose training step adds the norm of the gradient with respect to its input (TensorFlow)."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.dense = layer, keras.layers.Dense(1)

    def call(self, x, training=False):
        return self.dense(self.layer(x, training=training))

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(x)
                prediction = self(x, training=True)
            penalty = tf.reduce_mean(inner.gradient(prediction, x) ** 2)
            loss = self.compute_loss(x, y, prediction) + 10 * penalty
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss, "penalty": penalty}


@pytest.mark.tensorflow
@pytest.mark.parametrize("options", [{}, {"jit_compile": True}], ids=str)
def test_fit_with_a_gradient_penalty(options):
    models = [WithPenalty(klc.LSTM(4, engine=engine)) for engine in ("reference", "auto")]
    for model in models:
        model(X)
    models[1].set_weights(models[0].get_weights())
    for model in models:
        model.compile("sgd", "mse", **options)
        model.fit(X, np.ones((4, 1), "float32"), batch_size=2, epochs=2, shuffle=False, verbose=0)
    assert_close(models[1].get_weights(), models[0].get_weights())
    assert models[1].layer.last_engine in FAST


@pytest.mark.tensorflow
@pytest.mark.parametrize("layer_class", [klc.LSTM, klc.VanillaRNN])
def test_jacobian_hessian_and_forward_mode(layer_class):
    import tensorflow as tf

    layers = [layer_class(4, engine=engine) for engine in ("reference", "auto")]
    x = tf.constant(X[:2, :4])
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights(layers[0].get_weights())

    def jacobian(layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.batch_jacobian(y, x)

    def hessian(layer):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(layer(x) ** 2)
            first = inner.gradient(y, x)
        return outer.jacobian(first, x)

    def hessian_times_vector(layer):
        kernel = layer.cell.kernel.value
        with tf.autodiff.ForwardAccumulator(kernel, tf.ones_like(kernel)) as forward:
            with tf.GradientTape() as tape:
                y = tf.reduce_sum(layer(x) ** 2)
            gradient = tape.gradient(y, kernel)
        return forward.jvp(gradient)

    def several(layer):
        return tf.vectorized_map(lambda row: layer(row[None])[0], x)

    for function in (jacobian, hessian, hessian_times_vector, several):
        expected, got = (np.asarray(function(layer)) for layer in layers)
        np.testing.assert_allclose(got, expected, atol=2e-6, err_msg=function.__name__)


@pytest.mark.tensorflow
def test_a_graph_of_the_second_derivative_that_a_persistent_tape_takes():
    """Each gradient asked for again, from tapes that stay open: nothing is used up by the first answer."""
    import tensorflow as tf

    layers = [klc.LSTM(4, engine=engine) for engine in ("reference", "auto")]
    x = tf.constant(X)
    results = []
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights(layers[0].get_weights())
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(x)
            with tf.GradientTape(persistent=True) as inner:
                inner.watch(x)
                y = layer(x, training=True) ** 2
                last = y[:, 0]
            first = [inner.gradient(y, x), inner.gradient(last, x)]
        results.append([outer.gradient(g, x).numpy() for g in (*first, first[0])])
    assert_close(results[1], results[0])
