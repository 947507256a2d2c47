"""The numbers that a model computed, taken out of its framework."""

from __future__ import annotations

from typing import Any

from keras import ops, tree

from keras_lstm_custom.errors import InputError


def as_numpy(structure: Any, where: str = "A part of the model") -> Any:
    """Return a structure of tensors with every tensor a NumPy array.

    Args:
        structure: one tensor, or lists and dicts of them.
        where: what computed them, for the error.

    Raises:
        InputError: they stand for numbers that are not computed yet.
    """
    try:
        return tree.map_structure(ops.convert_to_numpy, structure)
    except Exception as error:  # each framework has its own class for "this is not a number yet"
        raise InputError(
            f"{where} runs inside a compiled function, where its numbers cannot be read.",
            expected="a model whose `call` runs eagerly",
            received=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            remedy="Take @tf.function, jax.jit or vectorized_map out of the model's `call`.",
        ) from error
