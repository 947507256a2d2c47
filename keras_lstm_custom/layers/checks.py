"""Checks of what a recurrent layer is called with. A size that is not known yet (None) fits anything."""

from __future__ import annotations

import warnings
from typing import Any

from keras import tree
from keras.backend import standardize_dtype

from keras_lstm_custom.errors import InputError


def check_rank(layer: Any, shape) -> None:
    """Raise `InputError` unless the shape has the axes batch, timesteps and features."""
    if len(shape) != 3:
        raise InputError(
            f"{layer.name!r} runs over sequences, so its input has three axes.",
            expected="(batch, timesteps, features)",
            received=f"an input of shape {tuple(shape)}",
            remedy="For one feature add an axis: x[..., None]; for one sequence add a batch axis: x[None].",
        )


def check_dtype(layer: Any, sequences) -> None:
    """Raise `InputError` if the input holds texts or complex numbers, of which a cast would leave the real part."""
    dtype = standardize_dtype(sequences.dtype)
    if dtype == "string" or dtype.startswith("complex"):
        raise InputError(
            f"{layer.name!r} computes with real numbers.",
            expected="a floating-point, integer or boolean dtype",
            received=f"an input of dtype {dtype}",
            remedy="Turn texts into numbers (keras.layers.TextVectorization, Embedding), and complex numbers into two "
            "features each.",
        )


def check_features_known(layer: Any, shape) -> None:
    """Raise `InputError` unless the number of features, which the weights depend on, is known."""
    if shape[-1] is None:
        raise InputError(
            f"{layer.name!r} must know the number of features to make its weights.",
            expected="a number for the last axis of (batch, timesteps, features)",
            received=f"an input of shape {tuple(shape)}",
            remedy="Declare it: keras.Input((None, features)); only timesteps and batch may be None.",
        )


def check_features(layer: Any, shape) -> None:
    """Raise `InputError` unless a built layer gets as many features as it was built for."""
    if layer.built and shape[-1] not in (None, layer.cell.kernel.shape[0]):
        raise InputError(
            f"{layer.name!r} was built for another number of features.",
            expected=f"(batch, timesteps, {layer.cell.kernel.shape[0]})",
            received=f"an input of shape {tuple(shape)}",
            remedy="Give the features it was built for, or use a new layer: the weights depend on their number.",
        )


def check_batch(layer: Any, shape) -> None:
    """Raise `InputError` unless a stateful layer gets as many rows as it keeps states for."""
    if layer.stateful and layer.states is not None and shape[0] not in (None, layer.states[0].shape[0]):
        raise InputError(
            f"With `stateful=True` {layer.name!r} keeps a state for each row, so the batch size cannot change.",
            expected=f"a batch size of {layer.states[0].shape[0]}",
            received=f"an input of shape {tuple(shape)}",
            remedy="Give batches of one size, or build another layer with the same weights for the other size.",
        )


def check_mask(layer: Any, sequences, mask) -> None:
    """Raise `InputError` unless the mask has one value for each timestep of each sequence."""
    if mask is None:
        return
    expected = tuple(sequences.shape[:2])
    if len(mask.shape) != 2 or any(m != s for m, s in zip(mask.shape, expected, strict=True) if None not in (m, s)):
        raise InputError(
            f"The mask given to {layer.name!r} does not fit its input.",
            expected=f"(batch, timesteps) = {expected}",
            received=f"a mask of shape {tuple(mask.shape)}",
            remedy="Give one boolean for each timestep of each sequence: True to read the step, False to skip it.",
        )


def check_state(layer: Any, sequences, initial_state) -> None:
    """Raise `InputError` unless the state has the tensors that the cell keeps, of its size."""
    names = layer.cell.state_type._fields
    # None and what is no tensor has no shape, and fits nothing.
    shapes = [tuple(getattr(state, "shape", ())) for state in tree.flatten(initial_state)]
    batch, widths = sequences.shape[0], layer.state_size
    fits = len(shapes) == len(names) and all(
        len(shape) == 2 and shape[1] in (None, width) and (None in (shape[0], batch) or shape[0] == batch)
        for shape, width in zip(shapes, widths, strict=True)
    )
    if not fits:
        raise InputError(
            f"The initial state given to {layer.name!r} does not fit.",
            expected=f"{len(names)} tensor(s): "
            + ", ".join(f"{name} of shape ({batch}, {width})" for name, width in zip(names, widths, strict=True)),
            received=f"{len(shapes)} tensor(s) of shape {', '.join(map(str, shapes))}",
            remedy="Pass what a layer with return_state=True and the same units returned, in the same order.",
        )


def tell_of_mask(layer: Any, mask) -> None:
    """Warn, once for each layer, of a mask that Keras left out since the layer was called with a state."""
    if layer.told_of_mask or all(one is None for one in tree.flatten(mask)):
        return
    layer.told_of_mask = True
    warnings.warn(
        f"{layer.name!r} reads the masked steps of its sequences, too, as the layers of Keras do: Keras hands no mask "
        "to a layer that is called with an `initial_state`. To skip them pass the mask, "
        "layer(x, initial_state=state, mask=MaskOf()(x)) with `MaskOf` of keras_lstm_custom.layers; to read them, "
        "a mask of ones.",
        stacklevel=2,
    )
