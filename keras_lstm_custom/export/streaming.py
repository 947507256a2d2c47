"""`streaming`: a file that runs one step, or one block of steps, per invocation, as the data comes in."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.errors import ArgumentError, ExportError, InputError
from keras_lstm_custom.export import runtimes as rt
from keras_lstm_custom.export.calibration import calibration_arrays
from keras_lstm_custom.export.folder import new_file
from keras_lstm_custom.export.litert import RUNTIMES
from keras_lstm_custom.export.report import ExportReport
from keras_lstm_custom.export.samples import graph_of, made_up, predictions
from keras_lstm_custom.export.stepping import StepModel, blocks_of, join, step_model
from keras_lstm_custom.export.verify import BOUNDS, check, contents

#: How many sequences the file is proved on.
SEQUENCES = 4
#: Accepted where it is not `verify.BOUNDS`: int8 states are rounded at every step, and nothing is promoted here.
LOOSER: dict[str | None, float] = {"int8": 0.1}

RESETS = {
    "kept": "Before a new sequence, reset the state: interpreter.reset_all_variables() on LiteRT, "
    "interpreter.Reset() on a microcontroller. Kernels of CMSIS-NN restart from zero at every invocation: "
    "there, use state='explicit'.",
    "explicit": "Before a new sequence, fill every state input with its zero point (0 in float); "
    "after each invocation, copy every state output into the input of the same name, byte by byte.",
}


@dataclass(frozen=True)
class StreamedFile:
    """How a streaming file is fed."""

    stepped: StepModel
    steps: int
    feedback: Mapping[int, int]  #: state inputs and outputs, as for `run_file`

    def run(self, path: str | os.PathLike, inputs: Sequence[np.ndarray], runtime: str, **options: Any) -> rt.Run:
        """Run whole sequences block by block, the state reset before each; the outputs are those of the sequences."""
        blocks = blocks_of(inputs, self.stepped.sequences, self.steps)
        in_turn = [np.stack(column, 1).reshape(-1, *column[0].shape[1:]) for column in zip(*blocks, strict=True)]
        run = rt.run_file(path, in_turn, runtime, reset_every=len(blocks), feedback=self.feedback, **options)
        if not run.ok:
            return run
        own = run.outputs[: len(self.stepped.whole)]
        series = [array.reshape(len(inputs[0]), len(blocks), *array.shape[1:]) for array in own]
        outputs = join([[array[:, k] for array in series] for k in range(len(blocks))], self.stepped.whole)
        return replace(run, outputs=tuple(outputs))


def streaming(
    model: keras.Model,
    path: str | os.PathLike,
    state: str = "kept",
    quantize: str | None = None,
    calibration: Any = None,
    steps: int = 1,
    *,
    runtime: str = "both",
    bound: float | None = None,
) -> ExportReport:
    """Write a TFLite file that takes `steps` time steps per invocation and carries its state on.

    It is run block by block over whole sequences, and kept only if it gives what the model gives for them.

    Args:
        model: a built Sequential or functional model. Its recurrent layers read forwards, and its other layers treat
            each time step on its own.
        path: the file; an existing one is replaced, and left as it is if the export fails.
        state: "kept": the file keeps h and c itself, in the fused LSTM op. "explicit": they are inputs and outputs
            named `<layer>_h`, `<layer>_c`, behind the model's own, and the cell is made of basic ops; it also runs
            where kernels forget their state between invocations (Cortex-M with CMSIS-NN).
        quantize: None, "int8" or "int16x8".
        calibration: whole sequences of real input, `(rows, timesteps, features)`; a list or dict of arrays for several
            inputs. The file is proved on the first of them; without it, on random numbers.
        steps: time steps per invocation. They must divide the length of the sequences.
        runtime: "litert", "micro" or "both": where the file must run.
        bound: the largest accepted error over whole sequences, as a share of the standard deviation of the
            model's output; None = `verify.BOUNDS[quantize]`, but 0.1 in int8.

    Returns:
        The report. Its errors are those of whole sequences; its times those of one invocation.

    Raises:
        ArgumentError: `state`, `steps` or another option is unknown.
        ExportError: the model cannot run step by step, or the file does not give its numbers; none is left behind.
        InputError: the calibration does not fit the model.

    Example:
        >>> export.streaming(model, "step.tflite", quantize="int8", calibration=x_train[:100])  # doctest: +SKIP
    """
    _check_options(state, steps, quantize, runtime)
    stepped = step_model(model, steps, batch=1, unroll=True)
    sequences = _sequences(model, stepped, steps, quantize, calibration)
    accepted = LOOSER.get(quantize, BOUNDS[quantize]) if bound is None else bound
    make = {"kept": _kept, "explicit": _explicit}[state]
    with new_file(path) as file:
        content, feedback, notes = make(model, stepped, steps, quantize, sequences)
        file.write_bytes(content)
        streamed = StreamedFile(stepped, steps, feedback)
        shown = [array[:SEQUENCES] for array in sequences]
        report = _verified(file, streamed, model, shown, quantize, RUNTIMES[runtime], accepted)
        report = replace(report, path=str(path), notes=(*notes, RESETS[state]))
        if not report.ok:
            raise ExportError(
                "The streaming file does not give what the model gives for whole sequences, so it was not kept.",
                expected=f"an error of at most {report.bound:.3g} of the output's standard deviation",
                received=str(report),
                remedy="Calibrate on more and real sequences; a larger error can be accepted by `bound`.",
            )
    return report


def _sequences(
    model: keras.Model, stepped: StepModel, steps: int, quantize: str | None, calibration: Any
) -> list[np.ndarray]:
    """Return the user's sequences, checked, or random ones where no range is needed."""
    if calibration is None:
        if quantize is not None:
            raise InputError(
                f"The integers of {quantize} need to know the range of real input.",
                expected="calibration=x_train[:200]: some hundred whole sequences",
                received="no calibration",
                remedy="Pass sequences of the training data.",
            )
        return made_up(model, free_size=12 * steps)
    arrays = calibration_arrays(model, calibration)
    lengths = {array.shape[1] for array, cut in zip(arrays, stepped.sequences, strict=True) if cut}
    if len(lengths) != 1 or next(iter(lengths)) % steps:
        raise ArgumentError(
            "`steps` must divide the length of the sequences, and all inputs must be of one length.",
            expected=f"a multiple of {steps} time steps",
            received=f"{', '.join(map(str, sorted(lengths)))} time steps",
            remedy="Cut the sequences, or choose another number of steps.",
        )
    return arrays


#: What `_kept` and `_explicit` return: the file, which inputs are states (as for `run_file`), what should be said.
Made = tuple[bytes, dict[int, int], Sequence[str]]


def _kept(
    model: keras.Model, stepped: StepModel, steps: int, quantize: str | None, sequences: Sequence[np.ndarray]
) -> Made:
    """Return the file whose fused ops keep their states."""
    from keras_lstm_custom.export.convert import float_file
    from keras_lstm_custom.export.prepare import prepare
    from keras_lstm_custom.export.quantize import quantize as quantized
    from keras_lstm_custom.export.ranges import calibrate
    from keras_lstm_custom.export.schemes import SCHEMES

    prepared = prepare(model, steps)
    content = float_file(prepared, stateful=True, for_integers=quantize is not None)
    if quantize is None:
        return content, {}, prepared.notes
    blocks = len(blocks_of(sequences, stepped.sequences, steps))
    # `calibrate` cuts every input into that many blocks, so what is no sequence is given once for each.
    cut = [a if is_cut else np.tile(a, (1, blocks)) for a, is_cut in zip(sequences, stepped.sequences, strict=True)]
    ranges = calibrate(content, ([array[row : row + 1] for array in cut] for row in range(len(cut[0]))))
    content, notes = quantized(content, ranges, SCHEMES[quantize])
    return content, {}, [*prepared.notes, *notes]


def _explicit(
    model: keras.Model, stepped: StepModel, steps: int, quantize: str | None, sequences: Sequence[np.ndarray]
) -> Made:
    """Return the file whose states are inputs and outputs."""
    from keras_lstm_custom.export.convert import float_file
    from keras_lstm_custom.export.graph import Graph, signature_of
    from keras_lstm_custom.export.prepare import Prepared
    from keras_lstm_custom.export.quantize import quantize as quantized
    from keras_lstm_custom.export.ranges import calibrate
    from keras_lstm_custom.export.schemes import SCHEMES

    graph = graph_of(stepped.model)
    states = [state.name for state in stepped.states]
    content = float_file(
        Prepared(
            model=graph,
            input_names=[*stepped.input_names, *states],
            input_shapes=[tuple(tensor.shape) for tensor in graph.inputs],
            input_dtypes=[str(tensor.dtype) for tensor in graph.inputs],
            output_names=[*stepped.output_names, *states],
            notes=[],
        )
    )
    feedback = {len(stepped.input_names) + k: len(stepped.output_names) + k for k in range(len(states))}
    if quantize is None:
        return content, feedback, ()
    _, fed = stepped.run(sequences, steps)
    samples = ([array[row : row + 1] for array in block] for block in fed for row in range(len(block[0])))
    inputs, outputs = signature_of(Graph(content))
    # What comes out goes in again as it is stored, so both are stored alike.
    alike = [(inputs[name], outputs[name]) for name in states]
    content, notes = quantized(content, calibrate(content, samples), SCHEMES[quantize], alike=alike)
    _check_alike(Graph(content), states)
    return content, feedback, notes


def _check_alike(graph: Any, states: Sequence[str]) -> None:
    """Raise `ExportError` unless each state goes in as it comes out."""
    from keras_lstm_custom.export.graph import signature_of

    inputs, outputs = signature_of(graph)
    for name in states:
        records = [graph.tensors[index].quantization for index in (inputs[name], outputs[name])]
        stored = [(np.float32(record.scale[0]), int(record.zeroPoint[0])) for record in records]
        if stored[0] != stored[1]:
            raise ExportError(
                f"The state {name!r} would go in with another scale than it comes out with.",
                expected="a cell whose state the quantiser can store in one way",
                received=f"(scale, zero point) of {stored[0]} and {stored[1]}",
                remedy="Use state='kept', or quantize=None.",
            )


def _verified(
    path: Path,
    streamed: StreamedFile,
    model: keras.Model,
    sequences: Sequence[np.ndarray],
    quantize: str | None,
    made_for: Sequence[str],
    bound: float,
) -> ExportReport:
    reference = predictions(model, sequences)
    runs = [streamed.run(path, sequences, name, timed_invocations=20) for name in rt.installed()]
    return ExportReport(
        path=str(path),
        quantize=quantize,
        bytes=path.stat().st_size,
        ops=contents(path)[0],
        runtimes=tuple(made_for),
        checks=tuple(check(run, reference, streamed.stepped.output_names, bound) for run in runs),
        bound=bound,
    )


def _check_options(state: str, steps: int, quantize: str | None, runtime: str) -> None:
    known: dict[str, tuple[Any, Sequence[Any]]] = {
        "state": (state, tuple(RESETS)),
        "quantize": (quantize, (None, "int8", "int16x8")),
        "runtime": (runtime, tuple(RUNTIMES)),
    }
    for name, (value, allowed) in known.items():
        if value not in allowed:
            raise ArgumentError(
                f"`{name}` is not one that streaming knows.",
                expected=" or ".join(map(repr, allowed)),
                received=repr(value),
                remedy="Use one of these.",
            )
    if state == "kept" and quantize == "int16x8" and runtime != "micro":
        raise ArgumentError(
            "LiteRT refuses the fused LSTM op in int16x8.",
            expected="runtime='micro', or state='explicit'",
            received=f"state={state!r}, quantize={quantize!r}, runtime={runtime!r}",
            remedy="Choose one of these, or quantize='int8'.",
        )
    if not isinstance(steps, int) or steps < 1:
        raise ArgumentError(
            "`steps` is the number of time steps per invocation.",
            expected="a positive integer",
            received=repr(steps),
            remedy="Pass steps=1, or the length of the blocks in which the data comes.",
        )
