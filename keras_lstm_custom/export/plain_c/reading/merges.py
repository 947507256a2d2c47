"""Layers of several inputs: merges and attention."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lstm_custom.export.plain_c.graph.ir import Value
from keras_lstm_custom.export.plain_c.reading import functions
from keras_lstm_custom.export.plain_c.reading.frame import TIME, Unsupported
from keras_lstm_custom.export.plain_c.reading.reader import Reader, Row
from keras_lstm_custom.export.plain_c.reading.tensors import Tensor, array_of, mask_of

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
    b, frame, (x, y) = reader.b, reader.frame, [t.value for t in xs]
    axes = [layer.axes] * 2 if isinstance(layer.axes, int) else list(layer.axes)
    if layer.normalize:
        x, y = (frame.of_length_one(v, axis) for v, axis in zip((x, y), axes, strict=True))
    of_x, of_y = (frame.axis(v, axis) for v, axis in zip((x, y), axes, strict=True))
    if len(x.shape) != 1 or len(y.shape) != 1:
        raise Unsupported("Dot of other than vectors and sequences of vectors")
    if x.steps is None and y.steps is None:
        return b.reduce("add", b.map("mul", x, y))
    if y.steps is None:
        x, y, of_x, of_y = y, x, of_y, of_x
    x = x if of_x != TIME else frame.transpose(x, (0, 2, 1))
    return b.dots(y, x) if of_y != TIME else b.mix(y, x)


def _attention(reader: Reader, layer: Any, xs: list[Tensor], options: Any) -> list[Tensor] | Tensor:
    b = reader.b
    query, values, keys = xs[0], xs[1], xs[-1]
    if query.value.steps is None or values.value.steps is None:
        raise Unsupported("attention over other than sequences")
    scale = None if getattr(layer, "scale", None) is None else array_of(layer.scale)
    if isinstance(layer, kl.AdditiveAttention):
        scores = _added(reader, query.value, keys.value, np.ones(query.value.size) if scale is None else scale)
    elif layer.score_mode == "concat":
        weight = np.full(query.value.size, array_of(layer.concat_score_weight))
        scores = _added(reader, query.value, keys.value, weight, scale)
    else:
        scores = b.dots(keys.value, query.value)
        scores = scores if scale is None else b.map("mul", scores, scale)
    given = options.get("mask") or [None, None]
    mask, of_query = mask_of(b, values, given[1]), mask_of(b, query, given[0])
    there = _there(reader, scores, [mask], options.get("use_causal_mask"))
    if there is not None:
        scores = b.map("where", there, scores, b.map("sub", scores, 1e9))
    weights = functions.softmax(b, scores)
    y = b.mix(values.value, weights)
    found = Tensor(y if of_query is None else b.map("where", of_query, y, 0.0), of_query)
    return [found, Tensor(weights)] if options.get("return_attention_scores") else found


def _added(reader: Reader, query: Value, keys: Value, weight: np.ndarray, scale: np.ndarray | None = None) -> Value:
    """Return Σ w tanh(s (query + key)) for each key."""
    b, rows = reader.b, reader.b.whole(keys)  # (steps of keys, features)
    sums = b.map("add", rows, b.reshape(query, (1, query.size)))
    sums = b.map("tanh", sums if scale is None else b.map("mul", sums, scale))
    return b.reshape(b.linear([(sums, weight[:, None])]), rows.shape[:1])


def _there(reader: Reader, scores: Value, masks: list[Value | None], causal: Any) -> Value | None:
    """Return which keys a query may read, one number for each score; None if it may read all."""
    b, there = reader.b, None
    if causal:
        there = b.table(np.tril(np.ones((scores.steps or 1, scores.size))))
    for mask in masks:
        if mask is not None:
            own = b.reshape(b.whole(mask), scores.shape)
            there = own if there is None else b.map("min", there, own)
    return there


def _multi_head(reader: Reader, layer: Any, xs: Any, options: dict[str, Any]) -> Tensor:
    """Return multi-head attention: each head a product of its own with queries, keys and values."""
    b = reader.b
    given = xs if isinstance(xs, list) else [xs]
    query, value, *more = [*given, *(options[name] for name in ("value", "key") if name in options)]
    key = more[0] if more else value
    named = {"query": query, "value": value, "key": key}
    masks = [mask_of(b, x, options.get(f"{name}_mask")) for name, x in named.items()]
    known = ("value", "key", "use_causal_mask", *(f"{name}_mask" for name in named))
    asked = [name for name, option in options.items() if option and name not in known]
    asked += [name for name in ("use_gate", "sliding_window", "output_shape") if layer.get_config().get(name)]
    if asked or any(x.value.steps is None or len(x.value.shape) != 1 for x in named.values()):
        raise Unsupported(f"multi-head attention with {', '.join(asked) or 'other than sequences of vectors'}")
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
        there = _there(reader, scores, masks[1:] if more else masks[1:2], options.get("use_causal_mask"))
        there = masks[0] if there is None else there if masks[0] is None else b.map("min", there, masks[0])
        if there is not None:
            scores = b.map("where", there, scores, -1e9)  # a query that may read nothing reads all, as in Keras
        contexts.append((b.mix(v, functions.softmax(b, scores)), array_of(layer.output_dense.kernel)[head]))
    return Tensor(b.linear(contexts, array_of(layer.output_dense.bias) if layer.use_bias else None), masks[0])


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
