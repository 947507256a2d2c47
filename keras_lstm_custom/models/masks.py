"""Where masks may come from in a model, and which layers of Keras read them in another way when unrolled."""

from __future__ import annotations

from typing import Any

import keras
from keras import tree

from keras_lstm_custom.models.walk import walk

#: Whether a layer with `unroll=True` treats a mask in another way than the same layer without, by backend: TensorFlow's
#: unrolled loop puts the zeros of a backward layer where its mask would be if it read forwards, JAX's puts none, and
#: torch's raises. Compared layer by layer in `tests/layers/test_convert.py`.
UNROLLED_DIFFERS = {
    "tensorflow": lambda layer: layer.go_backwards and layer.return_sequences and layer.zero_output_for_mask,
    "jax": lambda layer: layer.zero_output_for_mask,
    "torch": lambda layer: layer.go_backwards,
}


def unrolled_differs(layer: Any) -> bool:
    """Say whether a `keras.layers.RNN` has unroll=True, and with it reads masks in another way than without."""
    return layer.unroll and UNROLLED_DIFFERS[keras.backend.backend()](layer)


def may_mask(model: keras.Model) -> bool:
    """Say whether some layer of the model may get a mask. True where it cannot be known."""
    return any(_makes_masks(layer) for _, layer in walk(model)) or any(
        _is_boolean(operation) for operation in getattr(model, "operations", ())
    )


def _makes_masks(layer: keras.Layer) -> bool:
    if isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False):
        return True
    is_own = not type(layer).compute_mask.__module__.startswith("keras.")
    return is_own and not isinstance(layer, keras.layers.RNN)


def _is_boolean(operation: Any) -> bool:
    """Say whether the operation gives booleans, which may be handed to a layer as its mask."""
    try:
        outputs = tree.flatten(operation.output)
    except (AttributeError, ValueError):  # it is called several times
        return True
    return any(keras.backend.standardize_dtype(tensor.dtype) == "bool" for tensor in outputs)
