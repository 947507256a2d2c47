"""`saved_model`: a TensorFlow SavedModel that needs TensorFlow alone."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import keras

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export import folder
from keras_lstm_custom.export.model.backend import check_backend
from keras_lstm_custom.export.model.samples import arrays_of, graph_of, made_up, output_names, predictions
from keras_lstm_custom.export.model.stepping import step_model
from keras_lstm_custom.export.running.report import ExportReport, RuntimeCheck
from keras_lstm_custom.export.running.verify import output_error
from keras_lstm_custom.layers.convert import keras_graph
from keras_lstm_custom.writing import target_of

#: The largest error that is accepted, as a share of the standard deviation of the model's output.
BOUND = 1e-4


def saved_model(model: keras.Model, path: str | os.PathLike, *, stateful: bool = False, x: Any = None) -> ExportReport:
    """Write `model` as a TensorFlow SavedModel, run it, and compare it with the model.

    Its signature `serving_default` takes the model's inputs and returns its outputs, each by its name, for any batch.
    With `stateful=True` the signature `step` takes any number of time steps and the states `<layer>_h`, `<layer>_c`,
    and returns the outputs and the new states under the same names; a sequence begins with states of zero.

    The recurrent layers in it are Keras' own, or run by the reference engine where Keras has none such, so a process
    that loads it needs TensorFlow and nothing else. It is made
    for serving; to train on, save the model with `model.save("model.keras")`.

    Args:
        model: a built Sequential or functional model.
        path: the folder to write. It may be free, empty, or an earlier export in which nothing was changed or added.
        stateful: also give the signature `step`.
        x: samples to compare with; None = random numbers.

    Returns:
        An `ExportReport`, whose one check is named "tensorflow".

    Raises:
        ExportError: the backend is not TensorFlow, the path is taken or cannot be written, the result differs from
            the model, or with `stateful=True` the model cannot run step by step.
        ConversionError: the model is subclassed or not built.

    Example:
        >>> export.saved_model(model, "saved_models/har", stateful=True)  # doctest: +SKIP
        >>> serve = tf.saved_model.load("saved_models/har").signatures["serving_default"]  # doctest: +SKIP
    """
    check_backend()
    _check_readable(path)
    folder.check_folder(path)
    plain = keras_graph(model, for_serving)
    inputs = arrays_of(model, x) if x is not None else made_up(model)
    reference = predictions(model, inputs)
    endpoints = {"serving_default": (graph_of(plain), [t.name for t in model.inputs], output_names(model))}
    if stateful:
        stepped = step_model(model, steps=None)
        states = [state.name for state in stepped.states]
        names = [*stepped.input_names, *states], [*stepped.output_names, *states]
        endpoints["step"] = (stepped.model, *names)
    with folder.new_folder(path) as place:
        _write(place, endpoints)
        arguments = dict(zip(endpoints["serving_default"][1], inputs, strict=True))
        report = _verified(place, path, arguments, reference, output_names(model), tuple(endpoints))
        folder.seal(place, report.to_json())
    return report


def _check_readable(path: str | os.PathLike) -> None:
    target, _ = target_of(path, ExportError)
    if re.search(r"\[.*\]|\\", str(target)):
        raise ExportError(
            f"TensorFlow cannot load a SavedModel from {str(target)!r}.",
            expected="a path without \\ and without brackets, which TensorFlow takes for a pattern of names",
            received=repr(str(target)),
            remedy="Choose another path.",
        )


def _write(place: Path, endpoints: dict[str, tuple[keras.Model, list[str], list[str]]]) -> None:
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    for name, (graph, names_in, names_out) in endpoints.items():
        archive.track(graph)
        archive.add_endpoint(name, _serving(graph, names_in, names_out))
    try:
        archive.write_out(str(place), verbose=False)
    except tf.errors.OpError as error:  # TensorFlow has a file system of its own, whose errors are no OSErrors
        raise OSError(error.message) from error


def _serving(graph: keras.Model, names_in: list[str], names_out: list[str]) -> Any:
    """Return the traced function that takes and returns tensors by these names."""
    import tensorflow as tf

    specs = [tf.TensorSpec(t.shape, t.dtype, name) for t, name in zip(graph.inputs, names_in, strict=True)]

    @tf.function(input_signature=specs, autograph=False)
    def serve(*tensors):
        results = keras.tree.flatten(graph(list(tensors), training=False))
        return dict(zip(names_out, map(tf.identity, results), strict=True))

    serve.get_concrete_function()
    return serve


def _verified(place, path, arguments, reference, names, signatures) -> ExportReport:
    """Load what was written, as a server would, and compare it with the model."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(place)).signatures["serving_default"]
    results = serve(**{name: tf.constant(array) for name, array in arguments.items()})
    errors = tuple(output_error(n, r, results[n].numpy()) for n, r in zip(names, reference, strict=True))
    ok = all(error.relative_to_signal <= BOUND for error in errors)
    report = ExportReport(
        path=str(path),
        quantize=None,
        bytes=sum(file.stat().st_size for file in place.rglob("*") if file.is_file()),
        ops={},
        runtimes=("tensorflow",),
        checks=(RuntimeCheck("tensorflow", ok, errors),),
        bound=BOUND,
        notes=(f"signatures: {', '.join(signatures)}",),
    )
    if not ok:
        raise ExportError(
            "The SavedModel does not give the model's numbers; it was not kept.",
            expected=f"an error of at most {BOUND:g} of the signal",
            received=str(report),
            remedy="Please report this, with the model's configuration.",
        )
    return report


def for_serving(entry: dict) -> dict:
    """Let a model take any batch, keep no state between calls, and run without a GPU; for `rebuild`."""
    config = entry["config"]
    if entry["class_name"] == "InputLayer":
        return {**entry, "config": {**config, "batch_shape": [None, *config["batch_shape"][1:]]}}
    if isinstance(config, dict):
        changes = {name: False for name in ("stateful", "use_cudnn") if name in config}
        return {**entry, "config": {**config, **changes}}
    return entry
