"""`streaming`: a file that runs one step, or one block of steps, per invocation, as the data comes in."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.errors import ArgumentError, ExportError
from keras_lstm_custom.export.choices import Integers, Runtime, State, check_choice, checked_bound
from keras_lstm_custom.export.litert import INTEGERS, RUNTIMES, Exported, refused
from keras_lstm_custom.export.model.calibration import calibration_arrays, held_back, no_calibration
from keras_lstm_custom.export.model.inputs import check_finite, check_no_text
from keras_lstm_custom.export.model.samples import made_up, predictions
from keras_lstm_custom.export.model.stepping import StepModel, blocks_of, join, step_model
from keras_lstm_custom.export.running import runtimes as rt
from keras_lstm_custom.export.running.report import ExportReport
from keras_lstm_custom.export.running.verify import BOUNDS, check, contents
from keras_lstm_custom.writing import check_file, new_file

#: How many sequences the file is proved on.
SEQUENCES = 4

RESETS = {
    "kept": "Before a new sequence, reset the state: interpreter.reset_all_variables() on LiteRT, "
    "interpreter.Reset() on a microcontroller. The fused LSTM op of CMSIS-NN restarts from zero at every invocation: "
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
    state: State = "kept",
    quantize: Integers | None = None,
    calibration: Any = None,
    steps: int = 1,
    *,
    runtime: Runtime = "both",
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
            inputs. Of 32 sequences and more some are held back, and the file is proved on those; of fewer, on the
            first; without it, on random numbers.
        steps: time steps per invocation. They must divide the length of the sequences.
        runtime: "litert", "micro" or "both": where the file must run.
        bound: the largest accepted error over whole sequences, as a share of the standard deviation of the
            model's output; None = `verify.BOUNDS[quantize]`.

    Returns:
        The report. Its errors are those of whole sequences; its times those of one invocation.

    Raises:
        ArgumentError: `state`, `steps` or another option is unknown.
        ExportError: the model cannot run step by step, or the file does not give its numbers; none is left behind.
        InputError: the calibration does not fit the model.

    Example:
        >>> export.streaming(model, "step.tflite", quantize="int8", calibration=x_train[:100])  # doctest: +SKIP
    """
    return exported_stream(model, path, state, quantize, calibration, steps, runtime=runtime, bound=bound).report


def exported_stream(
    model: keras.Model,
    path: str | os.PathLike,
    state: State,
    quantize: Integers | None,
    calibration: Any,
    steps: int,
    *,
    runtime: Runtime,
    bound: float | None = None,
) -> Exported:
    """Do what `streaming` does; return the report and what it was made from."""
    from keras_lstm_custom.export import streamed_files

    _check_options(state, steps, quantize, runtime)
    bound = checked_bound(bound)
    check_file(path)
    check_no_text(model)
    check_finite(model)
    stepped = step_model(model, steps, batch=1, unroll=True)
    rows = sequences = _sequences(model, stepped, steps, quantize, calibration)
    shown, told = [array[:SEQUENCES] for array in sequences], [RESETS[state]]
    if quantize is not None:
        sequences, shown, compared = held_back(sequences, SEQUENCES)
        told.append(compared)
    make = {"kept": streamed_files.kept, "explicit": streamed_files.explicit}[state]
    with new_file(path) as beside:
        file, feedback = make(model, stepped, steps, quantize, sequences)
        beside.write_bytes(file.content)
        streamed = StreamedFile(stepped, steps, feedback)
        report = _verified(beside, streamed, model, shown, quantize, RUNTIMES[runtime], bound)
        report = replace(report, path=str(path), notes=(*file.notes, *told))
        if not report.ok and not all(check.ran for check in report.checks if check.runtime in report.runtimes):
            raise refused(report, file.graph, model)
        if not report.ok:
            raise ExportError(
                "The streaming file does not give what the model gives for whole sequences, so it was not kept.",
                expected=f"an error of at most {report.bound:.3g} of the output's standard deviation",
                received=str(report),
                remedy="Calibrate on more and real sequences, use int16x8, or accept a larger error by `bound`.",
            )
    return Exported(report, file.graph, rows, feedback)


def _sequences(
    model: keras.Model, stepped: StepModel, steps: int, quantize: str | None, calibration: Any
) -> list[np.ndarray]:
    """Return the user's sequences, checked, or random ones where no range is needed."""
    if calibration is None:
        if quantize is not None:
            raise no_calibration(quantize, "whole sequences")
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


def _verified(
    path: Path,
    streamed: StreamedFile,
    model: keras.Model,
    sequences: Sequence[np.ndarray],
    quantize: str | None,
    made_for: Sequence[str],
    bound: float | None,
) -> ExportReport:
    bound = BOUNDS[quantize] if bound is None else bound
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
    check_choice("state", state, RESETS)
    check_choice("quantize", quantize, (None, *INTEGERS))
    check_choice("runtime", runtime, RUNTIMES)
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
