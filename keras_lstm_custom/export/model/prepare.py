"""From a Keras model to what the converter takes: a copy with batch 1, known sizes, float32, and no loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np

from keras_lstm_custom.errors import ConversionError, ExportError
from keras_lstm_custom.export.model.backend import check_backend
from keras_lstm_custom.export.model.inputs import Timesteps, check_no_text, check_sizes, input_shapes, sized
from keras_lstm_custom.export.model.recurrence import mark
from keras_lstm_custom.export.model.samples import fits, input_names, output_names
from keras_lstm_custom.export.model.stand_ins import stand_in
from keras_lstm_custom.export.model.unrolled import unroll, unrolled_by_keras
from keras_lstm_custom.layers.convert import keras_graph

LONGEST_UNROLLED = 512  #: timesteps; each one stands in an unrolled file as a dozen ops


class Prepared(NamedTuple):
    """A model ready to be traced."""

    model: keras.Model
    input_names: list[str]
    input_shapes: list[tuple[int, ...]]  #: with batch 1 and every size known
    input_dtypes: list[str]
    output_names: list[str]
    notes: list[str]  #: what the user should know of what was changed


def with_length(model: keras.Model, timesteps: Timesteps) -> keras.Model:
    """Return `model`, or where it was built for another length of its sequences a copy for the one asked for.

    Args:
        model: a built Sequential or functional model.
        timesteps: the lengths of its sequences, as `export.tflite` takes them.

    Raises:
        ArgumentError: `timesteps` does not fit the model.
        ExportError: the model cannot be rebuilt, or the backend is not TensorFlow.
    """
    check_backend()
    if not getattr(model, "inputs", None):
        return _rebuilt(model, lambda entry: entry)  # which says what is wrong with it
    shapes = input_shapes(model, timesteps)
    if all(fits(tensor.shape, shape) for tensor, shape in zip(model.inputs, shapes, strict=True)):
        return model
    return _rebuilt(model, sized(model, shapes))


def prepare(
    model: keras.Model,
    timesteps: Timesteps = None,
    rows: Sequence[np.ndarray] = (),
    *,
    fused: bool = True,
    variants: bool = False,
) -> Prepared:
    """Return a copy of `model` with batch 1 whose recurrent layers can be converted.

    Args:
        model: a built Sequential or functional model with recurrent layers of Keras or of ours.
        timesteps: the lengths of its sequences, as `export.tflite` takes them; needed where the model leaves them
            open, and put in place of those it was built with otherwise.
        rows: input that tells the sizes which are still open.
        fused: whether each recurrent layer becomes a mark, for the fused op or a loop, or is unrolled.
        variants: whether the fused op may have what LiteRT alone computes, such as peepholes.

    Raises:
        ArgumentError: `timesteps` does not fit the model.
        ExportError: the backend is not TensorFlow, or the model has what cannot be exported.
    """
    check_backend()
    notes: list[str] = []
    rewrite = _rewrite(notes)
    if getattr(model, "inputs", None):
        resize = sized(model, input_shapes(model, timesteps, rows))
        copy = _rebuilt(model, lambda entry: rewrite(resize(entry)))
    else:
        copy = _rebuilt(model, rewrite)  # which says what is wrong with it
    shapes = [(1, *tensor.shape[1:]) for tensor in copy.inputs]
    check_no_text(model)
    check_sizes(model, shapes)
    if fused:
        mark(copy, unrolled_by_keras(model), variants=variants)
    else:
        _check_length(copy)
        unroll(copy, unrolled_by_keras(model))
    return Prepared(
        model=copy,
        input_names=input_names(model),
        input_shapes=shapes,
        input_dtypes=[keras.backend.standardize_dtype(tensor.dtype) for tensor in copy.inputs],
        output_names=output_names(model),
        notes=notes,
    )


def _rebuilt(model: keras.Model, rewrite: Callable[[dict], dict]) -> keras.Model:
    """Return a copy of the model, with Keras' recurrent layers in place of ours, and every object rewritten."""
    try:
        return keras_graph(model, rewrite)
    except ConversionError as error:
        raise ExportError(str(error)) from error


def _rewrite(notes: list[str]) -> Callable[[dict], dict]:
    def rewrite(entry: dict) -> dict:
        name, config = entry["class_name"], entry["config"]
        if not isinstance(config, dict):
            return entry
        if name == "InputLayer":
            return _int32(float32(_with_batch_1(entry)), notes)
        if name in ("DTypePolicy", "DTypePolicyMap"):
            return float32(entry)
        if "return_sequences" not in config:
            return stand_in(entry)
        if config.get("stateful"):
            notes.append(
                f"The layer {config['name']!r} is stateful; what the file keeps is said by `stateful` of the export."
            )
        return {**entry, "config": {**config, "stateful": False}}

    return rewrite


def _with_batch_1(entry: dict) -> dict:
    shape = [1, *entry["config"]["batch_shape"][1:]]
    return {**entry, "config": {**entry["config"], "batch_shape": shape}}


def float32(entry: dict) -> dict:
    """Let what computes in another float type compute in float32."""
    config = dict(entry["config"])
    for key in ("dtype", "name") if entry["class_name"] == "DTypePolicy" else ("dtype",):
        if isinstance(config.get(key), str) and "float" in config[key]:
            config[key] = "float32"
    return {**entry, "config": config}


def _int32(entry: dict, notes: list[str]) -> dict:
    """Let an input of whole numbers be int32, the one type of them that every op of both runtimes takes."""
    dtype = entry["config"].get("dtype")
    if not isinstance(dtype, str) or "int" not in dtype or dtype == "int32":
        return entry
    notes.append(f"The input {entry['config']['name']!r} is int32 in the file; in the model it is {dtype}.")
    return {**entry, "config": {**entry["config"], "dtype": "int32"}}


def _check_length(model: keras.Model) -> None:
    for tensor in model.inputs:
        if len(tensor.shape) == 3 and tensor.shape[1] > LONGEST_UNROLLED:
            raise ExportError(
                f"The input {tensor.name!r} is too long to unroll.",
                expected=f"at most {LONGEST_UNROLLED} timesteps with fused=False",
                received=f"{tensor.shape[1]} timesteps",
                remedy="Use the fused op (fused=True), export the model for shorter blocks, or stream it.",
            )
