"""An exported file against the Keras model it comes from, on every runtime that is installed here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.choices import Quantize, check_choice, checked_bound
from keras_lstm_custom.export.model.samples import arrays_of, output_names, predictions
from keras_lstm_custom.export.running import runtimes as rt
from keras_lstm_custom.export.running.npu import check_npu, placement
from keras_lstm_custom.export.running.report import ExportReport, OutputError, RuntimeCheck
from keras_lstm_custom.installation import installing

#: The largest error that is accepted, as a share of the standard deviation of the model's output, for each `quantize`.
BOUNDS: dict[str | None, float] = {None: 1e-3, "float16": 2e-2, "dynamic": 1e-1, "int8": 6e-2, "int16x8": 5e-2}


def verify(
    path: str | os.PathLike,
    model: keras.Model,
    x: Any,
    runtimes: Sequence[str] | None = None,
    *,
    bound: float | None = None,
    quantize: Quantize | Literal["unknown"] | None = "unknown",
    made_for: Sequence[str] | None = None,
    stateful: bool = False,
    timed_invocations: int = 10,
    npu: str | None = None,
    notes: Iterable[str] = (),
) -> ExportReport:
    """Run a TFLite file on each runtime, in processes of their own, and compare it with the Keras model.

    The samples are fed one after another **without a reset in between**, as an application would, so that a file
    that lets one sample leak into the next shows an error. With `stateful=True` the state is reset before each.

    Args:
        path: the file; its inputs and outputs stand in the order of the model's.
        model: the Keras model it was made from.
        x: samples, `(rows, ...)`; a list or a dict for several inputs, as for `model.predict`.
        runtimes: names from `runtimes.RUNTIMES`; None = all that are installed.
        bound: the largest accepted error, as a share of the standard deviation of the model's output
            (of its root mean square if the output does not vary); None = `BOUNDS[quantize]`.
        quantize: how the file holds its values; "unknown" reads it from the file.
        made_for: the runtimes the file is meant for; None = those in `runtimes`, or else those that run it at all.
        stateful: the file keeps its state between invocations on purpose.
        timed_invocations: how many invocations to time on each runtime.
        npu: an Ethos-U, such as "ethos-u55-128" (`npu.NPUS`): the report says which operators of an integer file its
            compiler (`pip install ethos-u-vela`) places on it. Nothing is run there.
        notes: what else the report should say.

    Returns:
        An `ExportReport`; a runtime that refuses, crashes or hangs is one of its checks.

    Raises:
        ExportError: there is no such file, it is not a TFLite file or a damaged one, no runtime is installed, or the
            compiler of `npu` is not or refuses the file.
        ArgumentError: a runtime, `quantize` or `npu` is unknown, or `bound` is no number from 0 on.
        InputError: `x` does not fit the model, or holds NaN or infinity.
    """
    names = list(runtimes) if runtimes is not None else rt.installed()
    if not names:
        raise ExportError(
            "No runtime is installed that could run the file.",
            expected=" or ".join(sorted({runtime.package for runtime in rt.RUNTIMES.values()})),
            received="neither",
            remedy=installing("export"),
        )
    check_choice("quantize", quantize, ("unknown", *BOUNDS))
    bound = checked_bound(bound)
    if npu is not None:
        check_npu(npu)
    path = os.path.expanduser(path)
    ops, values = contents(path)
    scheme = values if quantize == "unknown" else quantize
    bound = BOUNDS[scheme] if bound is None else bound
    inputs = arrays_of(model, x)
    reference = predictions(model, inputs)
    checks = []
    for name in names:
        reset_every = 1 if stateful else 0
        run = rt.run_file(path, inputs, name, reset_every=reset_every, timed_invocations=timed_invocations)
        checks.append(check(run, reference, output_names(model), bound))
    if made_for is None:
        made_for = names if runtimes is not None else [check.runtime for check in checks if check.ran]
    missing = [name for name in made_for if name not in names]
    untested = (f"not run on {', '.join(missing)}, which is not installed here",) if missing else ()
    return ExportReport(
        path=str(path),
        quantize=scheme,
        bytes=os.path.getsize(path),
        ops=ops,
        runtimes=tuple(made_for),
        checks=tuple(checks),
        npu=None if npu is None else placement(path, npu),
        bound=bound,
        notes=(*notes, *untested),
    )


def check(run: rt.Run, reference: Sequence[np.ndarray], names: Sequence[str], bound: float) -> RuntimeCheck:
    """Compare what a runtime gave with what the model gave."""
    if not run.ok:
        return RuntimeCheck(run.runtime, ok=False, message=run.message)
    foreign = [str(array.dtype) for array in run.outputs if array.dtype.kind not in "fiub"]
    if foreign:
        return RuntimeCheck(run.runtime, ok=False, message=f"it gives outputs of type {', '.join(foreign)}")
    shapes = [[array.shape for array in arrays] for arrays in (reference, run.outputs)]
    if shapes[0] != shapes[1]:
        told = f"it gives outputs of shape {shapes[1]}, the model {shapes[0]}"
        return RuntimeCheck(run.runtime, ok=False, message=told)
    errors = tuple(
        output_error(name, expected, got) for name, expected, got in zip(names, reference, run.outputs, strict=True)
    )
    # Written so that NaN is not ok.
    beyond = [error for error in errors if not error.relative_to_signal <= bound]
    message = "; ".join(
        f"{error.name}: error of {error.relative_to_signal:.3g} of the signal, accepted {bound:.3g}" for error in beyond
    )
    return RuntimeCheck(run.runtime, not beyond, errors, run.ms_per_invocation, message)


def output_error(name: str, expected: np.ndarray, got: np.ndarray) -> OutputError:
    """Return the error of one output; the signal is its standard deviation, or its root mean square if that is 0."""
    expected = expected.astype(np.float64)
    difference = got.astype(np.float64) - expected
    rmse = float(np.sqrt(np.mean(difference**2)))
    signal = float(np.std(expected)) or float(np.sqrt(np.mean(expected**2))) or 1.0
    return OutputError(name, float(np.max(np.abs(difference))), rmse, rmse / signal)


def contents(path: str | os.PathLike) -> tuple[dict[str, int], str | None]:
    """Return how often each op stands in a TFLite file, the most frequent first, and how it is quantised.

    Raises:
        ExportError: there is no such file, it is not a TFLite file, or it is damaged.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError, MemoryError) as error:
        raise _no_model(path, f"{type(error).__name__}: {error}") from error
    from keras_lstm_custom.export.file.flatbuffer import FILE_IDENTIFIER  # says how to install what it needs

    if data[4:8] != FILE_IDENTIFIER:
        raise _no_model(path, f"a file of {len(data)} bytes without its mark" if data else "an empty file")
    try:
        return _read(data)
    except Exception as error:  # whatever reading numbers at places that are no numbers raises
        raise _no_model(path, f"a damaged one ({type(error).__name__}: {error})") from error


def _read(data: bytes) -> tuple[dict[str, int], str | None]:
    from keras_lstm_custom.export.file.flatbuffer import OP_NAMES, Type, schema

    model = schema.Model.GetRootAs(data, 0)
    graphs = [model.Subgraphs(k) for k in range(model.SubgraphsLength())]
    # Each takes four bytes at least, so more of them do not fit in.
    if 4 * sum(graph.OperatorsLength() + graph.TensorsLength() for graph in graphs) > len(data):
        raise ValueError("more operators and tensors than the file has room for")
    ops: Counter[str] = Counter()
    for graph in graphs:
        for k in range(graph.OperatorsLength()):
            code = model.OperatorCodes(graph.Operators(k).OpcodeIndex())
            custom, builtin = code.CustomCode(), max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            ops[custom.decode(errors="replace") if custom else OP_NAMES.get(builtin, f"op {builtin}")] += 1
    stored: set[int] = set()
    computed: set[int] = set()
    for graph in graphs:
        for tensor in (graph.Tensors(k) for k in range(graph.TensorsLength())):
            (stored if model.Buffers(tensor.Buffer()).DataLength() else computed).add(tensor.Type())
    return dict(ops.most_common()), _quantisation(Type, stored, computed)


def _no_model(path: str | os.PathLike, received: str) -> ExportError:
    return ExportError(
        f"{str(path)!r} is not a TFLite file.",
        expected="the path of a file written by export.tflite or another TFLite converter",
        received=received,
        remedy="Check the path, or export the model again.",
    )


def _quantisation(types: Any, stored: set[int], computed: set[int]) -> str | None:
    """Tell the kind of quantisation by the types of a file's weights and of its activations."""
    if types.INT8 in computed:
        return "int8"
    if types.INT16 in computed:
        return "int16x8"
    if types.INT8 in stored:
        return "dynamic"
    return "float16" if types.FLOAT16 in stored else None
