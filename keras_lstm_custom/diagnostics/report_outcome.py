"""What the page of `report` shows of a prediction: its value, its target, and what contributed to it."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_lstm_custom.diagnostics.autodiff import no_gradients
from keras_lstm_custom.diagnostics.explaining.attribution import attribute
from keras_lstm_custom.diagnostics.explaining.record import Attribution
from keras_lstm_custom.diagnostics.explaining.targets import output_names
from keras_lstm_custom.diagnostics.naming import Names, feature_labels, step_labels
from keras_lstm_custom.diagnostics.records import LayerTrace
from keras_lstm_custom.errors import ArgumentError

Array = np.ndarray
#: So many numbers of an output are written out for a row, or for a step of one.
MOST_NUMBERS = 8
BATCH = 256


class Shown(NamedTuple):
    """What the page shows beside the traces."""

    x: Any
    outcomes: list[dict[str, Any]]
    attribution: Attribution | None = None
    no_attribution: str = ""  #: why there is none
    feature_names: Names | None = None
    step_names: list[list[str]] | None = None

    def features_of(self, trace: LayerTrace, first: bool) -> list[str]:
        """Return labels of what a layer reads: the names given, if that is the model's input, or it is the first."""
        read = trace.read
        inputs = (leaf for leaf in tree.flatten(self.x) if leaf.shape == trace.x.shape)
        is_input = first or any(np.array_equal(leaf[read].astype(trace.x.dtype), trace.x[read]) for leaf in inputs)
        fits = self.feature_names is not None and len(self.feature_names) == trace.x.shape[2]
        return feature_labels(self.feature_names if fits and is_input else None, trace.x.shape[2], "x[{}]")

    def attribution_of(self, trace: LayerTrace) -> tuple[Array, list[str]] | None:
        """Return contributions `(batch, timesteps, features)` that belong to a layer's steps, and their labels."""
        found = self.attribution
        if found is None:
            return None
        for name in found.names:
            values, mask = found.of(name), found.mask_of(name)
            if values.shape[:2] != trace.h.shape[:2] or values.ndim > 3:
                continue
            cube = values[..., None] if values.ndim == 2 else values
            named = self.feature_names is not None and len(self.feature_names) == cube.shape[2]
            default = "x[{}]" if values.ndim == 3 else "the step's input"
            labels = feature_labels(self.feature_names if named else None, cube.shape[2], default)
            return cube if mask is None else np.where(mask[..., None], cube, np.nan), labels
        return None


def check_names(x: Any, feature_names: Names | None, step_names: Any) -> list[list[str]] | None:
    """Return the step names for each sequence.

    Raises:
        ArgumentError: there are other numbers of names than of features or steps in any input.
    """
    sequences = [leaf for leaf in tree.flatten(x) if leaf.ndim > 1]
    if feature_names is not None and all(leaf.ndim < 3 or leaf.shape[2] != len(feature_names) for leaf in sequences):
        feature_labels(feature_names, next((leaf.shape[2] for leaf in sequences if leaf.ndim > 2), 1))
    return step_labels(step_names, sequences[0].shape[1], len(sequences[0])) if sequences else None


def predictions(model: keras.Model, x: Any) -> Any:
    """Return the model's outputs for `x`, as `model.predict` does; states that layers keep stay as they are."""
    count = len(tree.flatten(x)[0])
    fixed = any(tensor.shape[0] is not None for tensor in getattr(model, "inputs", None) or [])
    size = count if fixed else BATCH
    parts = []
    for start in range(0, count, size):
        rows = tree.map_structure(lambda leaf, start=start: ops.convert_to_tensor(leaf[start : start + size]), x)
        with keras.StatelessScope(), no_gradients():
            parts.append(tree.map_structure(ops.convert_to_numpy, model(rows, training=False)))
    return tree.map_structure(lambda *leaves: np.concatenate(leaves), *parts)


def outcomes(model: keras.Model, outputs: Any, y: Any) -> list[dict[str, Any]]:
    """Return for each output its name, its numbers, and those of its target, for the page's script."""
    leaves = tree.flatten(outputs)
    targets = [None] * len(leaves) if y is None else tree.flatten(y)
    targets = targets if len(targets) == len(leaves) else [None] * len(leaves)
    pairs = zip(output_names(model, outputs), leaves, targets, strict=True)
    return [
        {"name": name, "prediction": _numbers(leaf), "target": None if target is None else _numbers(np.asarray(target))}
        for name, leaf, target in pairs
    ]


def explained(
    model: keras.Model, x: Any, outputs: Any, attribution: Attribution | bool, target: Any, baseline: Any, verbose: Any
) -> tuple[Attribution | None, str]:
    """Return the attribution to show, or None and why there is none.

    Raises:
        ArgumentError: the attribution is of other rows; or as `attribute`.
    """
    count = len(tree.flatten(x)[0])
    if isinstance(attribution, Attribution):
        if len(attribution.prediction) != count:
            raise ArgumentError(
                "The attribution is of other sequences than those to show.",
                expected=f"{count} rows",
                received=f"{len(attribution.prediction)} rows",
                remedy="Pass attribute(model, x) for the same x, or attribution=True.",
            )
        return attribution, ""
    if not attribution:
        return None, "It was not asked what contributed to the prediction (attribution=False)."
    values = sum(leaf[0].size for leaf in tree.flatten(outputs))
    if target is None and values != 1:
        return None, f"The output has {values} numbers for each sequence; name one with report(..., target=...)."
    return attribute(model, x, target, baseline, verbose=verbose), ""


def _numbers(values: Array) -> dict[str, Any]:
    """Return the first numbers of each row, or of each step of it, with five digits."""
    by_step = values.ndim > 2
    flat = values.reshape(*values.shape[: 1 + by_step], -1) if values.ndim > 1 else values[:, None]
    shown = flat[..., :MOST_NUMBERS]
    if np.issubdtype(shown.dtype, np.number):
        rounded = [float(f"{v:.5g}") if np.isfinite(v) else None for v in shown.astype(float).reshape(-1)]
        values_out = np.array(rounded, object).reshape(shown.shape).tolist()
    else:
        values_out = shown.astype(str).tolist()
    return {"by_step": by_step, "numbers": values_out, "more": int(flat.shape[-1] - shown.shape[-1])}
