"""Layers that read several time steps at once: convolutions and pooling."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lstm_custom.export.plain_c.ir import LOWEST, Value
from keras_lstm_custom.export.plain_c.operations import Unsupported
from keras_lstm_custom.export.plain_c.reading import Reader, Row, Tensor, array_of, mask_of

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


def _average_pooling(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
    """Return the mean of each window, over those of its steps that there are."""
    b, length = reader.b, one_of(layer.pool_size)
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
    b, length = reader.b, one_of(layer.pool_size)
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


def _pooling_2d(fn: str) -> Row:
    def row(reader: Reader, layer: Any, x: Tensor, options: Any) -> Value:
        b, length = reader.b, tuple(layer.pool_size)
        if layer.padding != "valid":
            raise Unsupported("pooling over rows and columns with padding")
        window, count = _planes(reader, layer, x.value, length)
        places = np.arange(window.size).reshape(window.shape)
        starts = np.arange(count) * layer.strides[1]
        taps = [b.pick(window, places[i][starts + j]) for i in range(length[0]) for j in range(length[1])]
        total = taps[0]
        for tap in taps[1:]:
            total = b.map(fn, total, tap)
        return b.map("mul", total, 1 / len(taps)) if fn == "add" else total

    return row


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
    kl.MaxPooling2D: _pooling_2d("max"),
    kl.AveragePooling2D: _pooling_2d("add"),
    kl.GlobalAveragePooling2D: _global_pooling_2d("add"),
    kl.GlobalMaxPooling2D: _global_pooling_2d("max"),
    kl.MaxPooling1D: _max_pooling,
    kl.AveragePooling1D: _average_pooling,
    kl.GlobalAveragePooling1D: _global_pooling("add"),
    kl.GlobalMaxPooling1D: _global_pooling("max"),
}
