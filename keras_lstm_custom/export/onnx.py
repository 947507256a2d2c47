"""`onnx`: an ONNX file, by Keras' own exporter, with one ONNX LSTM for each direction."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export import onnx_nodes
from keras_lstm_custom.export.model.backend import check_backend
from keras_lstm_custom.export.model.samples import arrays_of, graph_of, made_up, output_names, predictions
from keras_lstm_custom.export.running.report import ExportReport, RuntimeCheck
from keras_lstm_custom.export.running.verify import output_error
from keras_lstm_custom.export.saved_model import BOUND, for_serving
from keras_lstm_custom.layers.convert import keras_graph
from keras_lstm_custom.writing import check_file, new_file

#: What the export needs besides TensorFlow: the module, and the package that holds it.
NEEDED = {"tf2onnx": "tf2onnx", "onnx": "onnx", "onnxruntime": "onnxruntime"}


def onnx(model: keras.Model, path: str | os.PathLike, *, x: Any = None) -> ExportReport:
    """Write `model` as an ONNX file, run it by onnxruntime, and compare it with the model.

    Batch and time stay open where the model leaves them open; both are tried with several sizes. Keras converts by
    tf2onnx, which knows the loop of `keras.layers.LSTM`; so our layers are exchanged for Keras' first. LSTMs with
    peepholes or coupled gates, and GRUs, become one ONNX node each, too; other cells, and what reads a mask, a Loop.

    Args:
        model: a built Sequential or functional model.
        path: the file; an existing one is replaced, and left as it is if the export fails.
        x: samples to compare with besides random numbers.

    Returns:
        An `ExportReport`, whose one check is named "onnxruntime".

    Raises:
        ExportError: the backend is not TensorFlow, a package is missing, or the file does not give the model's numbers.
        ConversionError: the model is subclassed or not built.
    """
    check_backend()
    _check_installed()
    check_file(path)
    plain = graph_of(keras_graph(model, for_serving))
    trials = [made_up(model, rows, free_size) for rows, free_size in ((4, 12), (1, 5))]
    trials += [] if x is None else [arrays_of(model, x)]
    with new_file(path) as file, onnx_nodes.marked(plain):
        plain(trials[0])  # Keras exports what has been called
        try:
            plain.export(str(file), format="onnx", verbose=False)
            results = [_run(file, trial) for trial in trials]
        except Exception as error:  # the converter and the runtime raise errors of many classes
            raise _refusal(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}") from error
        names = output_names(model)
        expected = [predictions(model, trial) for trial in trials]
        errors = [
            output_error(name, np.concatenate([a.ravel() for a in wanted]), np.concatenate([b.ravel() for b in got]))
            for name, wanted, got in zip(names, zip(*expected, strict=True), zip(*results, strict=True), strict=True)
        ]
        report = ExportReport(
            path=str(path),
            quantize=None,
            bytes=file.stat().st_size,
            ops=_ops(file),
            runtimes=("onnxruntime",),
            checks=(RuntimeCheck("onnxruntime", all(e.relative_to_signal <= BOUND for e in errors), tuple(errors)),),
            bound=BOUND,
        )
        if not report.ok:
            raise _refusal(str(report))
    return report


def _run(file: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: array for i, array in zip(session.get_inputs(), inputs, strict=True)})


def _ops(file: Path) -> dict[str, int]:
    from onnx import load

    return dict(Counter(node.op_type for node in load(str(file)).graph.node).most_common())


def _check_installed() -> None:
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ExportError(
            "A package that the export to ONNX needs is not installed.",
            expected=", ".join(NEEDED.values()),
            received=f"no {', '.join(missing)}",
            remedy=f"pip install {' '.join(missing)}",
        )


def _refusal(received: str) -> ExportError:
    return ExportError(
        "The model cannot be written as an ONNX file that gives its numbers; none was kept.",
        expected=f"a file that onnxruntime runs with an error of at most {BOUND:g} of the signal",
        received=received,
        remedy="Use export.saved_model or export.tflite, or replace the layer that the converter does not know.",
    )
