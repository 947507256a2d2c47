"""Derivatives of every order and in both modes, also where an engine does not have them.

JAX's engines have them all (`jax.derivatives`). torch differentiates its engines as often as it is asked to, but not
in forward mode nor inside `torch.func`: there "auto" has the reference engine.

Under TensorFlow a fast engine computes the outputs and their gradient. What is a gradient of that gradient (a gradient
penalty, a Hessian) is computed from the same inputs by the reference engine, whose plain operations TensorFlow can
differentiate as often as it is asked to: slower, and only where it is asked for. In forward mode "auto" has the
reference engine at once.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import keras

from keras_lstm_custom.engines import reference
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.keras_hooks import has_tangents, inside_torch_func, recording_gradients
from keras_lstm_custom.structures import Tensor


def of_every_order(engine: Engine) -> Engine:
    """Return the engine; under TensorFlow, if it has first derivatives only, with those of higher order added."""
    if engine.derivatives == "all" or keras.backend.backend() != "tensorflow":
        return engine
    return replace(engine, run=partial(_run, engine))


def allows(engine: Engine, request: Request) -> Support:
    """Return whether "auto" may use the engine for the derivatives that are asked for."""
    way = _FOLLOWED.get(keras.backend.backend())
    if engine is reference.ENGINE or way is None or not way[0](request):
        return Support(True, "")
    return Support(False, f"could serve, but has no {way[1]}")


def _followed_by_tensorflow(request: Request) -> bool:
    return recording_gradients() and has_tangents(_tensors(request))


def _followed_by_torch(request: Request) -> bool:
    if inside_torch_func():
        return True
    from torch.autograd.forward_ad import unpack_dual

    return any(unpack_dual(t).tangent is not None for t in _tensors(request) if not isinstance(t, keras.KerasTensor))


def _tensors(request: Request) -> list[Tensor]:
    return [request.sequences, *request.initial_state, *(weight.value for weight in request.cell.weights)]


#: By backend: whether forward mode follows a request, and what a fast engine does not have then.
_FOLLOWED = {
    "tensorflow": (_followed_by_tensorflow, "forward mode (tf.autodiff.ForwardAccumulator)"),
    "torch": (_followed_by_torch, "forward mode, nor any other transform of torch.func"),
}


def _run(engine: Engine, request: Request) -> Result:
    if not recording_gradients():
        return engine.run(request)
    import tensorflow as tf

    def outputs_of(engine: Engine, x: Tensor, *tensors: Tensor, **changes: Any) -> tuple[Tensor, ...]:
        state, values = tensors[:states], tensors[states:]
        mapping = list(zip(weights, values, strict=True))
        with keras.StatelessScope(mapping, initialize_variables=False):
            result = engine.run(replace(request, sequences=x, initial_state=list(state), **changes))
        return (result.outputs, *result.state)

    @tf.custom_gradient
    def recurrence(*inputs):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            outputs = outputs_of(engine, *inputs)

        def gradient(*incoming):
            @tf.custom_gradient
            def first(*_):
                gradients = tape.gradient(outputs, inputs, incoming, tf.UnconnectedGradients.ZERO)
                return gradients, partial(_second, tf, partial(outputs_of, reference.ENGINE), inputs, incoming)

            return first(*inputs, *incoming)

        return outputs, gradient

    states, weights = len(request.initial_state), request.cell.weights
    tensors = [tf.convert_to_tensor(w.value) for w in weights]
    outputs, *state = recurrence(request.sequences, *request.initial_state, *tensors)
    return Result(outputs, state, engine.name)


def _second(tf, outputs_of, inputs, incoming, *incoming_to_gradients):
    """Return the gradients of the gradients, with respect to what they were computed from."""
    if not tf.executing_eagerly() and hasattr(inputs[0], "numpy"):
        # An eager call whose gradient is traced: `tape.jacobian`, which cannot vectorise the gradient of a loop.
        outputs_of = partial(outputs_of, unroll=True)
    with tf.GradientTape() as outer:
        outer.watch([*inputs, *incoming])
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            outputs = outputs_of(*inputs)
        gradients = inner.gradient(outputs, inputs, incoming, tf.UnconnectedGradients.ZERO)
    return outer.gradient(gradients, [*inputs, *incoming], incoming_to_gradients, tf.UnconnectedGradients.ZERO)
