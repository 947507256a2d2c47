"""Layers that read several time steps at once: convolutions and pooling."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lstm_custom.export.plain_c.graph.ir import LOWEST, Value
from keras_lstm_custom.export.plain_c.reading.frame import Unsupported
from keras_lstm_custom.export.plain_c.reading.reader import Reader, Row
from keras_lstm_custom.export.plain_c.reading.tensors import Tensor, array_of, mask_of

kl = keras.layers


def _windows(layer: Any, length: int, stride: int, dilation: int, steps: int) -> tuple[int, int]:
    """Return how many zeros stand before a sequence, and how many windows there are."""
    reach = (length - 1) * dilation + 1
    if layer.padding == "same":
        count = -(-steps // stride)
        return max((count - 1) * stride + reach - steps, 0) // 2, count
    before = reach - 1 if layer.padding == "causal" else 0
    return before, (steps + before - reach) // stride + 1


def one_of(value: Any) -> int:
    """Return a number that Keras keeps alone or in a tuple."""
    return int(value[0]) if isinstance(value, (tuple, list)) else int(value)


def _window_of(reader: Reader, layer: Any, x: Value, length: int) -> Value:
    if reader.frame.within_step or x.steps is None or layer.data_format != "channels_last":
        raise Unsupported("a convolution or pooling of other than (batch, timesteps, channels)")
    stride, dilation = one_of(layer.strides), one_of(getattr(layer, "dilation_rate", 1))
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


def _pooling(fn: str) -> Row:
    """Return a row for the largest, or the mean, of each window: of what of it there is, which padding cuts short."""

    def row(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
        sizes = [int(size) for size in layer.pool_size]
        y = _over_steps(reader, layer, x.value, fn, sizes[0])
        return y if len(sizes) == 1 else _over_columns(reader, layer, y, fn, sizes[1])

    return row


def _over_steps(reader: Reader, layer: Any, x: Value, fn: str, length: int) -> Value:
    b = reader.b
    window = _window_of(reader, layer, x, length)
    taps = np.arange(window.steps or 1)[:, None] * window.stride - window.before + np.arange(length)
    there = ((taps >= 0) & (taps < (x.steps or 1))).astype(float)
    column = (-1, *(1 for _ in x.shape))
    total: Value | None = None
    for tap, places in enumerate(np.arange(window.size).reshape(window.shape)):
        part = b.pick(window, places)
        if fn == "max" and not there[:, tap].all():
            part = b.map("where", b.table(there[:, tap].reshape(column)), part, LOWEST if total is None else total)
        total = part if total is None else b.map(fn, total, part)
    assert total is not None
    return total if fn == "max" else b.map("mul", total, _shares(reader, there, column))


def _over_columns(reader: Reader, layer: Any, x: Value, fn: str, length: int) -> Value:
    b, (width, channels), stride = reader.b, x.shape, int(layer.strides[1])
    left, count = _windows(layer, length, stride, 1, width)
    if count < 1:
        raise Unsupported("an input smaller than one window")
    taps = np.arange(count)[:, None] * stride - left + np.arange(length)
    there = ((taps >= 0) & (taps < width)).astype(float)
    places = np.arange(x.size).reshape(width, channels)
    total: Value | None = None
    for tap in range(length):
        part = b.pick(x, places[taps[:, tap].clip(0, width - 1)])  # the end stands for what is beyond it in a `max`
        if fn == "add" and not there[:, tap].all():
            part = b.map("mul", part, there[:, tap, None])
        total = part if total is None else b.map(fn, total, part)
    assert total is not None
    return total if fn == "max" else b.map("mul", total, 1 / there.sum(1)[:, None])


def _shares(reader: Reader, there: np.ndarray, column: tuple[int, ...]) -> float | Value:
    shares = 1 / there.sum(1)
    return float(shares[0]) if (shares == shares[0]).all() else reader.b.table(shares.reshape(column))


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


def _planes(reader: Reader, layer: Any, x: Value, length: tuple[int, int]) -> tuple[Value, int]:
    """Return windows over the rows, which are the time steps, of padded columns, and how many windows these have."""
    b = reader.b
    if reader.frame.within_step or x.steps is None or len(x.shape) != 2 or layer.data_format != "channels_last":
        raise Unsupported("a convolution or pooling of other than (batch, rows, columns, channels)")
    rows, columns = layer.strides
    dilation = getattr(layer, "dilation_rate", (1, 1))
    if tuple(dilation) != (1, 1):
        raise Unsupported("a dilated convolution over rows and columns")
    width, channels = x.shape
    left, count = _windows(layer, length[1], columns, 1, width)
    right = max((count - 1) * columns + length[1] - width - left, 0)
    if left or right:
        sides = [b.const(np.zeros((size, channels))) for size in (left, right) if size]
        x = b.concat([*sides[: bool(left)], x, *sides[bool(left) :]], 0)
    before, steps = _windows(layer, length[0], rows, 1, x.steps or 1)
    if count < 1 or steps < 1:
        raise Unsupported("an input smaller than one window")
    return b.window(x, length[0], rows, 1, before, steps), count


def _convolution_2d(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    b, kernel = reader.b, array_of(layer.kernel)  # (rows, columns, channels, filters)
    if layer.groups != 1:
        raise Unsupported("a convolution over rows and columns in groups")
    window, count = _planes(reader, layer, x.value, kernel.shape[:2])
    places = np.arange(window.size).reshape(window.shape)
    bias = np.zeros(kernel.shape[-1]) if layer.bias is None else array_of(layer.bias)
    parts = [
        (b.pick(window, row), weights.reshape(-1, kernel.shape[-1]))
        for row, weights in zip(places, kernel, strict=True)
    ]
    y = b.slide(parts, bias, count, layer.strides[1] * kernel.shape[2])
    return reader.activation(layer.activation, y)


def _global_pooling_2d(fn: str) -> Row:
    def row(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
        frame, axes = reader.frame, [1, 2]
        y = frame.reduce(fn, x.value, axes, layer.keepdims)
        return reader.b.map("mul", y, 1 / frame.count(x.value, axes)) if fn == "add" else y

    return row


WINDOWS: dict[type, Row] = {
    kl.Conv1D: _convolution,
    kl.DepthwiseConv1D: _depthwise_convolution,
    kl.SeparableConv1D: _separable_convolution,
    kl.Conv2D: _convolution_2d,
    kl.MaxPooling2D: _pooling("max"),
    kl.AveragePooling2D: _pooling("add"),
    kl.GlobalAveragePooling2D: _global_pooling_2d("add"),
    kl.GlobalMaxPooling2D: _global_pooling_2d("max"),
    kl.MaxPooling1D: _pooling("max"),
    kl.AveragePooling1D: _pooling("add"),
    kl.GlobalAveragePooling1D: _global_pooling("add"),
    kl.GlobalMaxPooling1D: _global_pooling("max"),
}
