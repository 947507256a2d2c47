"""Keras' layers as values, a row for each class. A layer without a row is read through the operations of its call."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.plain_c.graph.ir import Value
from keras_lstm_custom.export.plain_c.graph.simplify import ALIKE
from keras_lstm_custom.export.plain_c.reading import functions
from keras_lstm_custom.export.plain_c.reading.frame import TIME, Unsupported
from keras_lstm_custom.export.plain_c.reading.merges import MERGES
from keras_lstm_custom.export.plain_c.reading.reader import Reader, Row
from keras_lstm_custom.export.plain_c.reading.recurrent import RECURRENT
from keras_lstm_custom.export.plain_c.reading.tensors import Tensor, array_of, as_tensor, listed
from keras_lstm_custom.export.plain_c.reading.windows import WINDOWS, one_of

kl = keras.layers


def _dense(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    y = reader.frame.linear(x.value, array_of(layer.kernel), None if layer.bias is None else array_of(layer.bias))
    return reader.activation(layer.activation, y)


def _activation(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    return reader.activation(layer.activation, x.value)


def _batch_normalization(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    axis = reader.frame.axis(x.value, one_of(layer.axis))
    scale = 1 / np.sqrt(array_of(layer.moving_variance) + layer.epsilon)
    scale = scale * array_of(layer.gamma) if layer.scale else scale
    offset = -array_of(layer.moving_mean) * scale
    return _affine(reader, x.value, axis, scale, offset + array_of(layer.beta) if layer.center else offset)


def _affine(reader: Reader, x: Value, axis: int, scale: np.ndarray, offset: np.ndarray) -> Value:
    if axis == TIME:
        raise Unsupported("a normalisation of each time step by numbers of its own")
    shape = [1] * len(x.shape)
    shape[axis] = -1
    scaled = reader.b.map("mul", x, scale.reshape(shape))
    return reader.b.map("add", scaled, offset.reshape(shape))


def _layer_normalization(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    rms = getattr(layer, "rms_scaling", False) or isinstance(layer, kl.RMSNormalization)
    if len(axes) != 1 or reader.frame.axis(x.value, axes[0]) != len(x.value.shape) - 1:
        raise Unsupported("a layer normalisation over other axes than the last")
    y = functions.normalised(reader.b, x.value, layer.epsilon, centre=not rms)
    gamma = getattr(layer, "gamma", None) if not isinstance(layer, kl.RMSNormalization) else layer.scale
    beta = getattr(layer, "beta", None)
    y = y if gamma is None else reader.b.map("mul", y, array_of(gamma))
    return y if beta is None else reader.b.map("add", y, array_of(beta))


def _normalization(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    mean, deviation = array_of(layer.mean), np.maximum(np.sqrt(array_of(layer.variance)), keras.config.epsilon())
    frame = reader.frame
    if layer.invert:
        return frame.map("add", frame.map("mul", x.value, deviation), mean)
    away = frame.map("sub", x.value, mean)
    y = frame.map("mul", away, 1 / deviation)
    if np.abs(mean / deviation).max() > ALIKE or deviation.max() > ALIKE * deviation.min():
        away.attributes["exact"] = y.attributes["exact"] = True
    return y


def _rescaling(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    frame = reader.frame
    return frame.map("add", frame.map("mul", x.value, np.asarray(layer.scale)), np.asarray(layer.offset))


def _embedding(reader: Reader, layer: Any, x: Tensor, options: Any) -> Tensor:
    tokens = x.value
    if not reader.frame.within_step and tokens.steps is None and len(tokens.shape) == 1:
        tokens = reader.b.steps(tokens)
    y = reader.b.gather(array_of(layer.embeddings), tokens)
    return Tensor(y, reader.b.map("ne", tokens, 0.0) if layer.mask_zero else None)


def _masking(reader: Reader, layer: Any, x: Tensor, options: Any) -> Tensor:
    b = reader.b
    read = b.reduce("max", b.map("ne", x.value, layer.mask_value))
    return Tensor(b.map("where", read, x.value, 0.0), b.reshape(read, ()))


def _same(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    return x.value


def _flatten(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    return reader.frame.reshape(x.value, (-1,))


def _reshape(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    return reader.frame.reshape(x.value, layer.target_shape)


def _permute(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    return reader.frame.transpose(x.value, (0, *layer.dims))


def _repeat(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    return reader.b.repeat(x.value, layer.n)


#: `TimeDistributed` of what reads several rows of a step is written once for each step: of at most so many.
MOST_COPIES = 64


def _time_distributed(reader: Reader, layer: Any, x: Tensor, options: Any) -> Tensor:
    try:
        with reader.within_step():
            found = _first_of(reader, layer.layer, Tensor(x.value))
    except (Unsupported, ExportError):
        if reader.frame.within_step or not x.value.shape:
            raise
        return Tensor(_step_by_step(reader, layer.layer, x))
    return Tensor(found, x.mask)


def _first_of(reader: Reader, layer: Any, x: Tensor) -> Value:
    return as_tensor(listed(reader.layer(layer, (x,), {}))[0]).value


def _step_by_step(reader: Reader, layer: Any, x: Tensor) -> Value:
    """Return what a layer makes of each time step, which is a sequence for it: written once for each."""
    b, steps, mask = reader.b, x.value.steps or 1, x.mask
    if steps > MOST_COPIES:
        raise Unsupported(f"{type(layer).__name__} in each of {steps} time steps, of which {MOST_COPIES} are written")
    results = []
    for step in range(steps):
        rows = b.at(x.value, step)
        own = None if mask is None or not mask.shape else b.steps(b.at(mask, step))
        given = Tensor(b.steps(rows) if len(rows.shape) > 1 else rows, own)
        results.append(b.whole(_first_of(reader, layer, given)))
    return b.steps(b.reshape(b.concat(results, 0), (steps, *results[0].shape)))


def _crop(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    before, after = layer.cropping
    count = (x.value.steps or 0) - before - after
    return reader.b.reshape(reader.b.window(x.value, 1, 1, 1, -before, count), x.value.shape)


def _pad(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    before, after = layer.padding
    count = (x.value.steps or 0) + before + after
    return reader.b.reshape(reader.b.window(x.value, 1, 1, 1, before, count), x.value.shape)


def _upsample(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    b, times, value = reader.b, layer.size, x.value
    flat = b.whole(value)
    places = np.repeat(np.arange(flat.size).reshape(flat.shape[0], -1), times, axis=0)
    return b.steps(b.pick(flat, places.reshape(-1, *value.shape)))


def _softmax(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    if "mask" in options or x.mask is not None:
        raise Unsupported("a Softmax layer with a mask")
    return reader.frame.softmax(x.value, layer.axis)


def _prelu(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    b, frame, alpha = reader.b, reader.frame, array_of(layer.alpha)
    below = frame.map("mul", b.map("min", x.value, 0.0), alpha)
    return b.map("add", b.map("max", x.value, 0.0), below)


def _relu(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    highest = None if layer.max_value is None else float(layer.max_value)
    return functions.relu(reader.b, x.value, float(layer.negative_slope), highest, float(layer.threshold))


ROWS: dict[type, Row] = {
    kl.Dense: _dense,
    kl.Activation: _activation,
    kl.BatchNormalization: _batch_normalization,
    kl.LayerNormalization: _layer_normalization,
    kl.Normalization: _normalization,
    kl.Rescaling: _rescaling,
    kl.Embedding: _embedding,
    kl.Masking: _masking,
    **dict.fromkeys(
        (kl.Dropout, kl.SpatialDropout1D, kl.GaussianDropout, kl.GaussianNoise, kl.AlphaDropout, kl.Identity,
         kl.ActivityRegularization), _same
    ),
    kl.Flatten: _flatten,
    kl.Reshape: _reshape,
    kl.Permute: _permute,
    kl.RepeatVector: _repeat,
    kl.TimeDistributed: _time_distributed,
    kl.Cropping1D: _crop,
    kl.ZeroPadding1D: _pad,
    kl.UpSampling1D: _upsample,
    kl.Softmax: _softmax,
    kl.ReLU: _relu,
    kl.LeakyReLU: lambda reader, layer, x, options: functions.relu(reader.b, x.value, float(layer.negative_slope)),
    kl.ELU: lambda reader, layer, x, options: functions.elu(reader.b, x.value, float(layer.alpha)),
    kl.PReLU: _prelu,
    **WINDOWS,
    **MERGES,
    **RECURRENT,
}  # fmt: skip
if hasattr(kl, "RMSNormalization"):
    ROWS[kl.RMSNormalization] = _layer_normalization
