"""One LSTM or GRU layer in every framework, for `speed.py`: `return_sequences`, float32, random weights and input.

Training is one forward and backward pass of the sum of squares of all outputs, for the gradients of all weights;
inference is one forward pass, of Keras' layers and ours in the function that `predict` runs: in a `tf.function` of the
user's own "auto" takes only what loads everywhere once it is saved.
"""

from __future__ import annotations

import harness

ENGINES = ["reference", "portable", "native", "auto"]
#: All candidates, by the framework whose process they run in.
CANDIDATES = {
    "tensorflow": ["keras", "keras XLA", *ENGINES],
    "tf_keras": ["tf_keras"],
    "torch": ["torch"],
    "jax": ["jax"],
}


def tensorflow():
    """The layer of Keras, as a graph and compiled by XLA, and each engine of ours."""
    import keras
    import tensorflow as tf

    import keras_lstm_custom as klc

    def candidates(shape, training, only=None, cell="LSTM"):
        batch, steps, features, units = shape
        keras.utils.set_random_seed(0)
        x = tf.random.normal((batch, steps, features))
        made = {}
        for name in [only] if only else CANDIDATES["tensorflow"]:
            if name in ENGINES:
                layer = getattr(klc, cell)(units, return_sequences=True, engine=name)
                layer.build(x.shape)
                if not layer.explain_engine(shape[:3], training=training).chosen:
                    continue  # as the native engine that is not built
            else:
                layer = getattr(keras.layers, cell)(units, return_sequences=True)
            compiled = name == "keras XLA"
            if training:
                made[name] = _graph(tf, layer, x, training, compiled)
            else:
                made[name] = predict_function(layer, x, compiled=compiled)
        return made

    return candidates, tensorflow_product(tf)


def tf_keras():
    """Keras 2."""
    import tensorflow as tf
    import tf_keras

    def candidates(shape, training, only=None, cell="LSTM"):
        batch, steps, features, units = shape
        x = tf.random.normal((batch, steps, features))
        return {"tf_keras": _graph(tf, getattr(tf_keras.layers, cell)(units, return_sequences=True), x, training)}

    return candidates, tensorflow_product(tf)


def torch():
    """The layer of `torch.nn`."""
    import torch

    torch.set_num_threads(harness.THREADS)

    def candidates(shape, training, only=None, cell="LSTM"):
        batch, steps, features, units = shape
        torch.manual_seed(0)
        layer = getattr(torch.nn, cell)(features, units, batch_first=True)
        x = torch.randn(batch, steps, features)

        def train():
            layer.zero_grad()
            outputs, _ = layer(x)
            (outputs * outputs).sum().backward()

        def infer():
            with torch.inference_mode():
                layer(x)

        return {"torch": train if training else infer}

    def product(n):
        a = torch.randn(n, n)
        return lambda: a @ a

    return candidates, product


def jax_scan(weights, x):
    """Return the outputs of an LSTM, `(steps, batch, units)`; the input is projected by one product before the scan."""
    import jax
    import jax.numpy as jnp

    kernel, recurrent, bias = weights
    state = (jnp.zeros((x.shape[0], recurrent.shape[0])),) * 2

    def step(state, z):
        h, c = state
        i, f, g, o = jnp.split(z + h @ recurrent, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return jax.lax.scan(step, state, jnp.swapaxes(x @ kernel + bias, 0, 1))[1]


def jax():
    """`jax.lax.scan` over the equations; of the LSTM only."""
    import jax
    import jax.numpy as jnp

    def loss(weights, x):
        return (jax_scan(weights, x) ** 2).sum()

    def candidates(shape, training, only=None, cell="LSTM"):
        if cell != "LSTM":
            return {}
        batch, steps, features, units = shape
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (batch, steps, features))
        shapes = [(features, 4 * units), (units, 4 * units)]
        weights = [jax.random.normal(k, s) / s[0] ** 0.5 for k, s in zip(keys[1:], shapes, strict=True)]
        weights.append(jnp.zeros(4 * units))
        function = jax.jit(jax.value_and_grad(loss) if training else jax_scan)
        return {"jax": lambda: jax.block_until_ready(function(weights, x))}

    def product(n):
        a, multiply = jax.random.normal(jax.random.key(0), (n, n)), jax.jit(jnp.matmul)
        return lambda: multiply(a, a).block_until_ready()

    return candidates, product


def predict_function(layer, *data, compiled=False):
    """Return a call of the function that `predict` runs on each batch, for x and perhaps a mask, of any batch size."""
    import keras

    inputs = [keras.Input(value.shape[1:], dtype=keras.backend.standardize_dtype(value.dtype)) for value in data]
    model = keras.Model(inputs, layer(inputs[0], mask=inputs[1] if inputs[1:] else None))
    model.compile(jit_compile=compiled)
    model.make_predict_function()
    for batch in (data, [value[:1] for value in data], data):  # a second size opens the axis
        model.predict_function([(list(batch),)])

    def call():
        model.predict_function([(list(data),)])

    call.note = lambda: getattr(layer, "last_engine", None)
    return call


def _graph(tf, layer, x, training, compiled=False):
    """Return a call of the layer as a graph whose batch size is open, as it is in `fit`."""
    if not layer.built:
        layer.build(x.shape)

    def run(x):
        if not training:
            return layer(x, training=False)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True) ** 2)
        return tape.gradient(loss, [getattr(w, "value", w) if hasattr(w, "path") else w for w in layer.weights])

    signature = [tf.TensorSpec((None, *x.shape[1:]))]
    graph = tf.function(run, input_signature=signature, jit_compile=compiled, autograph=False)
    # Traced here, not in a call: TensorFlow counts calls that trace, and would warn of so many functions.
    graph.get_concrete_function()

    def call():
        graph(x)

    call.note = lambda: getattr(layer, "last_engine", None)
    return call


def tensorflow_product(tf):
    """Return what makes a call that multiplies two square matrices."""

    def product(n):
        a = tf.random.normal((n, n))
        return lambda: tf.matmul(a, a)

    return product
