"""A forecaster as a folder: `model.keras`, scaling inside, and `forecaster.json` beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.errors import DataError
from keras_lstm_custom.timeseries.forecasting.forecaster import Forecaster
from keras_lstm_custom.timeseries.forecasting.network import RECURRENT
from keras_lstm_custom.timeseries.forecasting.plan import Plan
from keras_lstm_custom.writing import new_file, write_text

MODEL, FACTS = "model.keras", "forecaster.json"
_FORMAT = 2


def save_forecaster(forecaster: Forecaster, folder: str | Path) -> None:
    """Write a fitted forecaster to a folder, which is made if need be; `load_forecaster` reads it.

    Raises:
        DataError: the forecaster is not fitted.
    """
    if not hasattr(forecaster, "model"):
        raise DataError(
            "There is nothing to save.",
            expected="a forecaster that was fitted",
            received="one that was not",
            remedy="Call fit first.",
        )
    folder = Path(folder)
    facts: dict[str, Any] = {
        "format": _FORMAT,
        "arguments": _plain_arguments(forecaster),
        "plan": forecaster.plan.to_dict(),
        "levels": list(forecaster.levels),
        "margins": {f"{level:g}": list(margin) for level, margin in forecaster.margins.items()},
        "anchor": forecaster.anchor_used,
        "history": forecaster.history,
        "reading": forecaster.reading,
        "inputs": {name: list(tensor.shape[1:]) for name, tensor in _inputs(forecaster.model).items()},
        "channels": channels(forecaster.plan),
    }
    with new_file(folder / MODEL, DataError) as file:
        forecaster.model.save(file)
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    write_text(folder / FACTS, text, DataError)


def load_forecaster(folder: str | Path) -> Forecaster:
    """Return the forecaster in a folder that `save_forecaster` wrote; it predicts, judges and is fitted as before.

    Raises:
        DataError: the folder holds no forecaster, or a damaged one.
    """
    folder = Path(folder)
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts["format"] != _FORMAT:
            raise ValueError(f"format {facts['format']}, not {_FORMAT}")
        model = keras.models.load_model(folder / MODEL, compile=False)
        arguments = keras.saving.deserialize_keras_object(facts["arguments"])
        forecaster = Forecaster(**arguments, cell=type(model.get_layer(RECURRENT)))
        forecaster.model, forecaster.plan = model, Plan.from_dict(facts["plan"])
        forecaster.history, forecaster.reading = facts["history"], facts["reading"]
        forecaster.anchor_used, forecaster.levels = facts["anchor"], tuple(facts["levels"])
        forecaster.margins = {float(level): np.array(margin) for level, margin in facts["margins"].items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"{str(folder)!r} holds no forecaster that can be used.",
            expected=f"a folder with {FACTS} and {MODEL}, as save_forecaster or `keras-lstm-custom forecast` writes it",
            received=f"{type(error).__name__}: {str(error)[:200]}",
            remedy="Check the path, or train again.",
        ) from error
    return forecaster


def _plain_arguments(forecaster: Forecaster) -> dict[str, Any]:
    """Return what a forecaster was made with, for JSON; the class of its cell is that of the layer in the model."""
    plain = {
        name: list(value) if isinstance(value, Iterable) and not isinstance(value, (str, Mapping)) else value
        for name, value in forecaster.arguments.items()
        if name != "cell"
    }
    return keras.saving.serialize_keras_object(plain)


def channels(plan: Plan) -> dict[str, list[str]]:
    """Return what stands in which channel of the network's inputs, for whoever runs the model without this package."""
    calendar = [f"{cycle}_{wave}" for cycle in plan.calendar for wave in ("sin", "cos")]
    calendar += ["holiday"] if plan.holidays else []
    known = [f"{column}_known" for column in plan.columns] if plan.missing != "refuse" else []
    return {
        "past": [*plan.columns, *known],
        "future": [*plan.future, *calendar],
        "static": list(plan.static),
    }


def _inputs(model: keras.Model) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in model.inputs}
