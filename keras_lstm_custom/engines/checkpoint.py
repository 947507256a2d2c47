"""Long sequences in bounded memory: `checkpoint_every=k` on top of any engine.

The steps are cut into segments of k, each a request of its own. Forward, only the state between two segments is
kept; backward, a segment is run again before its gradient is taken (`keras.remat`). So the gates of k steps are
held at a time, and T / k states, for one more forward pass. Source: Chen et al. 2016, *Training Deep Nets with
Sublinear Memory Cost* (arXiv 1604.06174). The numbers are those of one run over all steps, up to rounding: a
gradient of a weight is summed over the segments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import keras
from keras import ops

from keras_lstm_custom.engines import masking
from keras_lstm_custom.engines.contract import Engine, Request, Result
from keras_lstm_custom.structures import Tensor

#: `(state, one segment of each input) -> (new state, output of the segment)`
Body = Callable[[list[Tensor], list[Tensor]], tuple[list[Tensor], Tensor]]


def cuts(request: Request) -> bool:
    """Return whether the request is cut: only training keeps anything, and only what is longer than a segment."""
    every, timesteps = request.checkpoint_every, request.sequences.shape[1]
    return every is not None and request.training and not request.keep_steps and (timesteps or every + 1) > every


def segment_of(request: Request) -> Request:
    """Return what an engine is asked to serve: one segment, in symbols, if the request is cut, else the request."""
    if not cuts(request):
        return request
    batch, timesteps, features = request.sequences.shape
    steps = request.checkpoint_every
    filled_up = timesteps is None or timesteps % steps != 0
    mask = keras.KerasTensor((batch, steps), "bool") if filled_up or request.mask is not None else None
    dtype = keras.backend.standardize_dtype(request.sequences.dtype)
    return _segment(request, keras.KerasTensor((batch, steps, features), dtype), mask, request.initial_state)


def run(engine: Engine, request: Request) -> Result:
    """Run the request on the engine, segment by segment. The last segment is filled up with masked steps."""
    cell, steps = request.cell, request.checkpoint_every
    batch, timesteps = ops.shape(request.sequences)[:2]
    x = ops.flip(request.sequences, axis=1) if request.go_backwards else request.sequences
    mask = masking.in_running_order(request)
    missing = -timesteps % steps
    if request.sequences.shape[1] is None or missing:
        mask = ops.ones((batch, timesteps), dtype="bool") if mask is None else mask
        mask = ops.concatenate([mask, ops.zeros((batch, missing), dtype="bool")], axis=1)
        x = ops.concatenate([x, ops.zeros((batch, missing, x.shape[2]), dtype=x.dtype)], axis=1)
    shape = (batch, (timesteps + missing) // steps, steps)
    inputs = [ops.reshape(x, (*shape, x.shape[2])), *([] if mask is None else [ops.reshape(mask, shape)])]
    # Weights go in as tensors, in the precision that they are kept in: a rematerialised function can only
    # be relied on to differentiate its arguments, and their gradients are summed over the segments.
    weights = [ops.cast(ops.convert_to_tensor(w), cell.variable_dtype) for w in cell.weights]

    def body(state: list[Tensor], here: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        x, *mask = here

        def segment(x, *tensors):
            state, values = tensors[: len(request.initial_state)], tensors[len(request.initial_state) :]
            with keras.StatelessScope(state_mapping=list(zip(cell.weights, values, strict=True))):
                result = engine.run(_segment(request, x, mask[0] if mask else None, list(state)))
            return (*result.state, result.outputs)

        *new, outputs = keras.remat(segment)(x, *state, *weights)
        return new, outputs

    scan = _tensorflow_scan if keras.backend.backend() == "tensorflow" else ops.scan
    # Under torch a stateful layer overwrites its state before the gradient is taken.
    start = [ops.copy(s) for s in request.initial_state]
    state, outputs = scan(body, start, [ops.swapaxes(values, 0, 1) for values in inputs])
    if not request.return_sequences:
        return Result(state[0][:, None], state, engine.name)
    outputs = ops.reshape(ops.swapaxes(outputs, 0, 1), (batch, timesteps + missing, outputs.shape[-1]))
    return Result(outputs[:, :timesteps], state, engine.name)


def _segment(request: Request, sequences: Tensor, mask: Tensor | None, state: list[Tensor]) -> Request:
    return replace(
        request,
        sequences=sequences,
        mask=mask,
        initial_state=state,
        go_backwards=False,  # the segments are cut in running order
        checkpoint_every=None,
    )


def _tensorflow_scan(body: Body, state: list[Tensor], inputs: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Do what `ops.scan` does: under TensorFlow that takes no outputs of another shape than the state's."""
    import tensorflow as tf

    count = inputs[0].shape[0] if inputs[0].shape[0] is not None else tf.shape(inputs[0])[0]
    arrays = [tf.TensorArray(x.dtype, count, element_shape=x.shape[1:]).unstack(x) for x in inputs]
    outputs = tf.TensorArray(state[0].dtype, count)

    def step(t, state, outputs):
        new, output = body(state, [array.read(t) for array in arrays])
        new = [tf.ensure_shape(after, before.shape) for after, before in zip(new, state, strict=True)]
        return t + 1, new, outputs.write(t, output)

    _, state, outputs = tf.while_loop(
        lambda t, *_: t < count, step, (0, state, outputs), maximum_iterations=count, parallel_iterations=1
    )
    return state, outputs.stack()
