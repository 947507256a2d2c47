"""Keras' layers as values, a row for each class. A layer without a row is read through the operations of its call."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lstm_custom.export.plain_c import functions
from keras_lstm_custom.export.plain_c.ir import LOWEST, Value
from keras_lstm_custom.export.plain_c.operations import TIME, Unsupported
from keras_lstm_custom.export.plain_c.reading import Reader, Row, Tensor, array_of, mask_of
from keras_lstm_custom.export.plain_c.recurrent import RECURRENT

kl = keras.layers


def _dense(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    y = reader.frame.linear(x.value, array_of(layer.kernel), None if layer.bias is None else array_of(layer.bias))
    return reader.activation(layer.activation, y)


def _activation(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    return reader.activation(layer.activation, x.value)


def _windows(layer: Any, length: int, stride: int, dilation: int, steps: int) -> tuple[int, int]:
    """Return how many zeros stand before a sequence, and how many windows there are."""
    reach = (length - 1) * dilation + 1
    if layer.padding == "same":
        count = -(-steps // stride)
        return max((count - 1) * stride + reach - steps, 0) // 2, count
    before = reach - 1 if layer.padding == "causal" else 0
    return before, (steps + before - reach) // stride + 1


def _one(value: Any) -> int:
    return int(value[0]) if isinstance(value, (tuple, list)) else int(value)


def _window_of(reader: Reader, layer: Any, x: Value, length: int) -> Value:
    if reader.frame.within_step or x.steps is None or layer.data_format != "channels_last":
        raise Unsupported("a convolution or pooling of other than (batch, timesteps, channels)")
    stride, dilation = _one(layer.strides), _one(getattr(layer, "dilation_rate", 1))
    before, count = _windows(layer, length, stride, dilation, x.steps)
    if count < 1:
        raise Unsupported("a sequence shorter than one window")
    return reader.b.window(x, length, stride, dilation, before, count)


def _convolution(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    b, kernel = reader.b, array_of(layer.kernel)  # (length, channels / groups, filters)
    length, channels, filters = kernel.shape
    window = _window_of(reader, layer, x.value, length)
    bias = np.zeros(filters) if layer.bias is None else array_of(layer.bias)
    parts = []
    for group in range(layer.groups):
        own, out = slice(group * channels, (group + 1) * channels), filters // layer.groups
        columns = slice(group * out, (group + 1) * out)
        places = np.arange(window.size).reshape(window.shape)[:, own].reshape(-1)
        parts.append(b.linear([(b.pick(window, places), kernel[..., columns].reshape(-1, out))], bias[columns]))
    return reader.activation(layer.activation, b.concat(parts))


def _depthwise(reader: Reader, layer: Any, x: Value, kernel: np.ndarray) -> Value:
    """Return Σ_k x[t + k] ⊙ K[k] for a kernel (length, channels, multiplier)."""
    b = reader.b
    window = _window_of(reader, layer, x, len(kernel))
    places = np.arange(window.size).reshape(window.shape)
    total: Value | None = None
    for tap, weights in enumerate(kernel):
        part = b.map("mul", b.reshape(b.pick(window, places[tap]), (kernel.shape[1], 1)), weights)
        total = part if total is None else b.map("add", total, part)
    assert total is not None
    return b.reshape(total, (total.size,))


def _depthwise_convolution(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    y = _depthwise(reader, layer, x.value, array_of(layer.kernel))
    y = y if layer.bias is None else reader.b.map("add", y, array_of(layer.bias))
    return reader.activation(layer.activation, y)


def _separable_convolution(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    y = _depthwise(reader, layer, x.value, array_of(layer.depthwise_kernel))
    bias = None if layer.bias is None else array_of(layer.bias)
    return reader.activation(layer.activation, reader.b.linear([(y, array_of(layer.pointwise_kernel)[0])], bias))


def _average_pooling(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    """Return the mean of each window, over those of its steps that there are."""
    b, length = reader.b, _one(layer.pool_size)
    window = _window_of(reader, layer, x.value, length)
    places = np.arange(window.size).reshape(window.shape)
    total = b.pick(window, places[0])
    for tap in range(1, length):
        total = b.map("add", total, b.pick(window, places[tap]))
    starts = np.arange(window.steps or 1) * window.stride - window.before
    shares = 1 / (np.minimum(starts + length, x.value.steps or 1) - np.maximum(starts, 0))
    return b.map("mul", total, shares[0] if (shares == shares[0]).all() else b.table(shares[:, None]))


def _max_pooling(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    """Return the largest of each window: of those steps that there are, which the sequence's ends cut short."""
    b, length = reader.b, _one(layer.pool_size)
    window = _window_of(reader, layer, x.value, length)
    places = np.arange(window.size).reshape(window.shape)
    taps = np.arange(window.steps or 1)[:, None] * window.stride - window.before + np.arange(length)
    there = (taps >= 0) & (taps < (x.value.steps or 1))
    total = b.pick(window, places[0])
    if not there.all():
        total = b.map("where", b.table(there[:, :1].astype(float)), total, LOWEST)
    for tap in range(1, length):
        part = b.pick(window, places[tap])
        if not there[:, tap].all():
            part = b.map("where", b.table(there[:, tap : tap + 1].astype(float)), part, total)
        total = b.map("max", total, part)
    return total


def _global_pooling(fn: str) -> Row:
    def row(reader: Reader, layer: Any, x: Tensor, options: Any) -> Tensor:
        b, value = reader.b, x.value
        if value.steps is None or layer.data_format != "channels_last":
            raise Unsupported("pooling of other than (batch, timesteps, channels)")
        mask = mask_of(b, x, options.get("mask"))
        if fn == "add" and mask is not None:
            total = b.over_time("add", b.map("where", mask, value, 0.0))
            y = b.map("div", total, b.over_time("add", mask))
        else:
            y = b.over_time(fn, value)
            y = b.map("mul", y, 1 / value.steps) if fn == "add" else y
        return Tensor(b.repeat(y, 1) if layer.keepdims else y)

    return row


def _batch_normalization(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    axis = reader.frame.axis(x.value, _one(layer.axis))
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
    return frame.map("add", frame.map("mul", x.value, 1 / deviation), -mean / deviation)


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


def _time_distributed(reader: Reader, layer: Any, x: Tensor, options: Any) -> Tensor:
    mask = x.mask
    with reader.within_step():
        found = reader.layer(layer.layer, (Tensor(x.value),), {})
    found = found[0] if isinstance(found, list) else found
    return Tensor(found.value if isinstance(found, Tensor) else found, mask)


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


def _merge(fn: str, share: bool = False) -> Row:
    def row(reader: Reader, layer: Any, xs: list[Tensor], options: Any) -> Tensor:
        total = xs[0].value
        for x in xs[1:]:
            total = reader.frame.map(fn, total, x.value)
        total = reader.frame.map("mul", total, 1 / len(xs)) if share else total
        return Tensor(total, _any_mask(reader, [x.mask for x in xs]))

    return row


def _any_mask(reader: Reader, masks: list[Value | None]) -> Value | None:
    """Return the mask of a merge: where any input is read; none if an input has none."""
    if any(mask is None for mask in masks):
        return None
    first, *others = [mask for mask in masks if mask is not None]
    for other in others:
        first = first if other is first else reader.b.map("max", first, other)
    return first


def _concatenate(reader: Reader, layer: Any, xs: list[Tensor], options: Any) -> Tensor:
    frame, masks = reader.frame, [x.mask for x in xs]
    y = frame.concatenate([x.value for x in xs], layer.axis)
    if frame.axis(xs[0].value, layer.axis) != TIME:
        return Tensor(y, _any_mask(reader, masks))
    if all(mask is None for mask in masks):
        return Tensor(y)
    there = [reader.b.table(np.ones(x.value.steps or 1)) if m is None else m for x, m in zip(xs, masks, strict=True)]
    return Tensor(y, reader.b.steps(reader.b.concat([reader.b.whole(m) for m in there], 0)))


def _dot(reader: Reader, layer: Any, xs: list[Tensor], options: Any) -> Value:
    b, (x, y) = reader.b, [t.value for t in xs]
    axes = [layer.axes] * 2 if isinstance(layer.axes, int) else list(layer.axes)
    own = [reader.frame.axis(v, axis) for v, axis in zip((x, y), axes, strict=True)]
    if layer.normalize:
        raise Unsupported("Dot with normalize=True")
    if x.steps is None and y.steps is None and len(x.shape) == len(y.shape) == 1:
        return b.reduce("add", b.map("mul", x, y))
    if own == [0, 0] and x.steps and y.steps is None:
        return b.dots(x, y)
    if own == [0, 0] and x.steps and y.steps:  # (steps of x, steps of y)
        return b.dots(y, x)
    if own == [TIME, 0] and y.steps is None:
        return b.mix(x, y)
    if own == [0, TIME] and x.steps:
        return b.mix(y, x)
    if own == [TIME, TIME] and x.steps == y.steps and len(x.shape) == len(y.shape) == 1:
        outer = b.map("mul", b.reshape(x, (*x.shape, 1)), b.reshape(y, (1, *y.shape)))
        return b.steps(b.over_time("add", outer))
    raise Unsupported(f"Dot over the axes {tuple(layer.axes) if not isinstance(layer.axes, int) else layer.axes}")


def _attention(reader: Reader, layer: Any, xs: list[Tensor], options: Any) -> Tensor:
    b = reader.b
    if options.get("use_causal_mask") or options.get("return_attention_scores"):
        raise Unsupported("attention with a causal mask, or with its scores as a result")
    query, values, keys = xs[0], xs[1], xs[-1]
    if query.value.steps is None or values.value.steps is None:
        raise Unsupported("attention over other than sequences")
    scale = None if getattr(layer, "scale", None) is None else array_of(layer.scale)
    if layer.score_mode == "dot" and not isinstance(layer, kl.AdditiveAttention):
        scores = b.dots(keys.value, query.value)
        scores = scores if scale is None else b.map("mul", scores, scale)
    elif isinstance(layer, kl.AdditiveAttention):
        scale = np.ones(query.value.size) if not layer.use_scale else array_of(layer.scale)
        rows = b.whole(keys.value)  # (steps of keys, features)
        sums = b.map("tanh", b.map("add", rows, b.reshape(query.value, (1, query.value.size))))
        scores = b.reshape(b.linear([(sums, scale[:, None])]), rows.shape[:1])
    else:
        raise Unsupported(f"attention with score_mode={layer.score_mode!r}")
    given = options.get("mask") or [None, None]
    mask, of_query = mask_of(b, values, given[1]), mask_of(b, query, given[0])
    if mask is not None:
        there = b.reshape(b.whole(mask), scores.shape)
        scores = b.map("where", there, scores, b.map("sub", scores, 1e9))
    y = b.mix(values.value, functions.softmax(b, scores))
    return Tensor(y if of_query is None else b.map("where", of_query, y, 0.0), of_query)


def _multi_head(reader: Reader, layer: Any, xs: Any, options: Any) -> Value:
    raise Unsupported("MultiHeadAttention; keras.layers.Attention and AdditiveAttention are written")


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
    kl.Conv1D: _convolution,
    kl.DepthwiseConv1D: _depthwise_convolution,
    kl.SeparableConv1D: _separable_convolution,
    kl.MaxPooling1D: _max_pooling,
    kl.AveragePooling1D: _average_pooling,
    kl.GlobalAveragePooling1D: _global_pooling("add"),
    kl.GlobalMaxPooling1D: _global_pooling("max"),
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
    kl.Add: _merge("add"),
    kl.Subtract: _merge("sub"),
    kl.Multiply: _merge("mul"),
    kl.Maximum: _merge("max"),
    kl.Minimum: _merge("min"),
    kl.Average: _merge("add", share=True),
    kl.Concatenate: _concatenate,
    kl.Dot: _dot,
    kl.Attention: _attention,
    kl.AdditiveAttention: _attention,
    kl.MultiHeadAttention: _multi_head,
    kl.Softmax: _softmax,
    kl.ReLU: _relu,
    kl.LeakyReLU: lambda reader, layer, x, options: functions.relu(reader.b, x.value, float(layer.negative_slope)),
    kl.ELU: lambda reader, layer, x, options: functions.elu(reader.b, x.value, float(layer.alpha)),
    kl.PReLU: _prelu,
    **RECURRENT,
}  # fmt: skip
if hasattr(kl, "RMSNormalization"):
    ROWS[kl.RMSNormalization] = _layer_normalization
