"""Layers of several inputs: merges and attention."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lstm_custom.export.plain_c import functions
from keras_lstm_custom.export.plain_c.ir import Value
from keras_lstm_custom.export.plain_c.operations import TIME, Unsupported
from keras_lstm_custom.export.plain_c.reading import Reader, Row, Tensor, array_of, mask_of

kl = keras.layers


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


def _multi_head(reader: Reader, layer: Any, xs: Any, options: dict[str, Any]) -> Value:
    """Return multi-head attention: each head a product of its own with queries, keys and values."""
    b = reader.b
    given = xs if isinstance(xs, list) else [xs]
    query, value, *more = [*given, *(options[name] for name in ("value", "key") if name in options)]
    key = more[0] if more else value
    asked = [name for name, option in options.items() if name not in ("value", "key") and option is not False]
    if asked or any(x.mask is not None for x in (query, value, key)) or query.value.steps is None:
        raise Unsupported(f"multi-head attention with {', '.join(asked) or 'masks'}")
    scale, contexts = layer.key_dim**-0.5, []
    for head in range(layer.num_heads):
        q, k, v = (
            b.linear(
                [(x.value, array_of(dense.kernel)[:, head])], array_of(dense.bias)[head] if layer.use_bias else None
            )
            for x, dense in zip(
                (query, key, value), (layer.query_dense, layer.key_dense, layer.value_dense), strict=True
            )
        )
        scores = b.dots(k, b.map("mul", q, scale))
        contexts.append((b.mix(v, functions.softmax(b, scores)), array_of(layer.output_dense.kernel)[head]))
    return b.linear(contexts, array_of(layer.output_dense.bias) if layer.use_bias else None)


MERGES: dict[type, Row] = {
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
}
