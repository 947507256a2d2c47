"""`GateMonitor`: gates and gradients during training, on a fixed probe batch."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast

import keras
import numpy as np
import pandas as pd

from keras_lstm_custom.diagnostics.flow import GradientFlow
from keras_lstm_custom.diagnostics.gradients import flow_of_observable
from keras_lstm_custom.diagnostics.inputs import Data, gathered
from keras_lstm_custom.diagnostics.losses import carries_its_loss
from keras_lstm_custom.diagnostics.records import LayerTrace
from keras_lstm_custom.diagnostics.recurrent_layers import Observable, observable
from keras_lstm_custom.diagnostics.summaries import GateSummary, LayerSummary, RNNSummary, summary
from keras_lstm_custom.diagnostics.traces import Traces
from keras_lstm_custom.diagnostics.tracing import trace_observable
from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.writing import write_text

BUDGET = 0.05  #: share of the training time that recording may cost when `every` is "auto"


class GateMonitor(keras.callbacks.Callback):
    """Record gate saturation and gradient norms on a fixed probe batch while a model trains.

    ```python
    monitor = GateMonitor(x_val[:32], y_val[:32], csv="gates.csv", tensorboard="logs")
    model.fit(x, y, epochs=20, callbacks=[monitor])
    monitor.to_frame()                     # one row for each record and layer
    ```

    A row holds the epoch (counted from 0, as Keras does), the layer, and for a cell with gates each
    gate's mean and its shares below 0.1 and above 0.9 (`f_mean`, `f_closed`, `f_open`, ...) and, where a
    gate says what stays, the median memory length; for a vanilla RNN the share of saturated steps; the
    median size of every state beside h (`c_size`), the number of dead units
    and, with `y`, the gradient norm at the first and the last step, its ratio (`retained`), its
    decay for each step back, and the verdict. TensorBoard gets the numbers as scalars, and the
    gates, memory lengths and gradient norms as histograms.

    Args:
        x: probe sequences, a few dozen; as for `trace`. Batches are put together once, when training begins.
        y: their targets, if `x` does not hold them. Without targets no gradients are recorded, unless the
            model carries its loss (`add_loss`).
        loss: as for `gradient_flow`; None takes the whole loss of `fit`.
        layers: names of the layers to record, as for `trace`.
        sample_weight: as for `gradient_flow`.
        every: record at the end of every so many epochs. "auto" records whenever all records
            together, the next one included, cost at most 5 % of the time spent training. It looks
            once before the first epoch, to know the cost, and a training too short for any record
            gets one at its end.
        csv: file to write the rows to, anew at each record. If it cannot be written a warning says so, and training
            goes on.
        tensorboard: directory of the event files, with a warning as for `csv`. Needs the packages tensorflow and
            tensorboard.

    Raises:
        ArgumentError: `every` is not usable, or TensorBoard is asked for and not installed. From
            `fit`: what `trace` and `gradient_flow` raise.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        loss: Any = None,
        layers: str | Sequence[str] | None = None,
        sample_weight: Any = None,
        every: int | str = "auto",
        csv: str | os.PathLike | None = None,
        tensorboard: str | os.PathLike | None = None,
    ):
        super().__init__()
        self._probe = (x, y, sample_weight)
        self._data: Data | None = None
        self._loss, self._layers = loss, layers
        self._every = _check_every(every)
        self._csv = csv
        self._writer: _TensorBoard | None = None
        if tensorboard is not None:
            _check_tensorboard()
            with _training_goes_on(f"TensorBoard's event files in {str(tensorboard)!r}"):
                self._writer = _TensorBoard(tensorboard)
        self._watched: Observable | None = None
        self._started = 0.0  # when training began
        self._spent = 0.0  # seconds that all records since then took
        self._latest = 0.0  # seconds that the latest one took
        self._epoch: int | None = None  # the latest to end
        self.rows: list[dict[str, Any]] = []  #: one for each record and layer

    def to_frame(self) -> pd.DataFrame:
        """Return all records so far, one row for each record and layer; what a layer lacks is NaN."""
        return pd.DataFrame(self.rows)

    def on_train_begin(self, logs=None):
        self._watched = None  # the model may be another one than at the last `fit`
        self._spent, self._latest = 0.0, 0.0
        self._epoch = None
        if self._every == "auto":
            self._latest = _seconds(self._look)
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch
        if self._is_due(epoch):
            self._latest = _seconds(lambda: self.record(epoch))
            self._spent += self._latest

    def on_train_end(self, logs=None):
        if self._every == "auto" and not self._spent and self._epoch is not None:
            self.record(self._epoch)
        if self._writer is not None:
            with _training_goes_on("TensorBoard's event file"):
                self._writer.flush()

    def record(self, epoch: int) -> None:
        """Look into the model now, whatever the interval says."""
        traces, flows = self._look()
        for name, layer in summary(traces).items():
            numbers = {**_numbers(layer), **(_gradient_numbers(flows[name]) if flows else {})}
            self.rows.append({"epoch": epoch, "layer": name, **numbers})
            if self._writer is not None:
                with _training_goes_on("TensorBoard's event file"):
                    self._writer.write(epoch, name, numbers, _distributions(traces[name], layer, flows.get(name)))
        if self._csv is not None:
            with _training_goes_on(f"{str(self._csv)!r}"):
                write_text(self._csv, self.to_frame().to_csv(index=False))

    def _look(self) -> tuple[Traces, dict[str, GradientFlow]]:
        if self._watched is None:
            self._watched = observable(self.model)
            self._data = gathered(self.model, *self._probe) if self._data is None else self._data
            own = self._loss is None and carries_its_loss(self._watched, self._data)
            self._has_loss = own or self._data.y is not None
        watched, data = self._watched, cast(Data, self._data)
        traces = trace_observable(watched, data, self._layers, verbose=0)
        return traces, flow_of_observable(watched, data, self._loss, self._layers) if self._has_loss else {}

    def _is_due(self, epoch: int) -> bool:
        if isinstance(self._every, int):
            return (epoch + 1) % self._every == 0
        trained = time.perf_counter() - self._started - self._spent
        return self._spent + self._latest <= BUDGET * trained


@contextmanager
def _training_goes_on(what: str) -> Iterator[None]:
    """Warn where something cannot be written: a training of days must not end for a full disk."""
    try:
        yield
    except Exception as error:  # TensorFlow's writers raise errors of many classes
        said = str(error) if what in str(error) else f"{what} cannot be written.\n  {type(error).__name__}: {error}"
        warnings.warn(f"GateMonitor: {said}\n  Training goes on; `to_frame()` has all rows.", stacklevel=3)


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _numbers(layer: LayerSummary) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    if isinstance(layer, GateSummary):
        for gate in layer.gates:
            numbers[f"{gate}_mean"] = float(layer.mean[gate].mean())
            numbers[f"{gate}_closed"] = float(layer.closed[gate].mean())
            numbers[f"{gate}_open"] = float(layer.open[gate].mean())
        if layer.memory_length is not None:
            numbers["memory_length"] = float(np.median(layer.memory_length))
    if isinstance(layer, RNNSummary):
        numbers["saturated"] = float(layer.saturated.mean())
    sizes = {f"{state}_size": float(np.median(size)) for state, size in layer.size.items()}
    return {**numbers, **sizes, "dead_units": len(layer.dead)}


def _gradient_numbers(flow: GradientFlow) -> dict[str, Any]:
    mean = flow.mean()[:: -1 if flow.go_backwards else 1]
    read = mean[np.isfinite(mean)]
    first, last = (float(read[0]), float(read[-1])) if len(read) else (np.nan, np.nan)
    verdict = flow.verdict
    return {
        "gradient_first": first,
        "gradient_last": last,
        "retained": verdict.retained,
        "decay": verdict.decay,
        "verdict": verdict.name,
    }


def _distributions(trace: LayerTrace, layer: LayerSummary, flow: GradientFlow | None) -> dict[str, np.ndarray]:
    values = {symbol: getattr(trace, symbol)[trace.read].reshape(-1) for symbol in trace.symbols}
    if isinstance(layer, GateSummary) and layer.memory_length is not None:
        values["memory_length"] = layer.memory_length
    if flow is not None:
        values["gradient"] = flow.norms().reshape(-1)
    return {name: array[np.isfinite(array)] for name, array in values.items()}


class _TensorBoard:
    """Writes event files by TensorFlow's public summaries, on whatever backend the model trains."""

    def __init__(self, directory: str | os.PathLike):
        import tensorflow as tf

        self._summary = tf.summary
        self._writer = tf.summary.create_file_writer(os.fspath(directory))

    def write(self, epoch: int, layer: str, numbers: dict[str, Any], distributions: dict[str, np.ndarray]) -> None:
        """Write one layer's numbers and distributions under its name."""
        with self._writer.as_default():
            for name, number in numbers.items():
                if not isinstance(number, str):
                    self._summary.scalar(f"{layer}/{name}", number, step=epoch)
            for name, values in distributions.items():
                self._summary.histogram(f"{layer}/{name}", values, step=epoch)

    def flush(self) -> None:
        """Bring all that was written to disk."""
        self._writer.flush()


def _check_tensorboard() -> None:
    missing = [package for package in ("tensorflow", "tensorboard") if find_spec(package) is None]
    if missing:
        raise ArgumentError(
            "TensorBoard's event files cannot be written here.",
            expected="the packages tensorflow and tensorboard",
            received=f"no {' and no '.join(missing)}",
            remedy=f"pip install {' '.join(missing)}; or leave `tensorboard` out and use `csv`.",
        )


def _check_every(every: Any) -> int | str:
    if every == "auto" or (isinstance(every, int) and not isinstance(every, bool) and every > 0):
        return every
    raise ArgumentError(
        "`every` says after how many epochs to record.",
        expected="a positive integer, or 'auto'",
        received=repr(every),
        remedy="Pass every=1 to record after each epoch.",
    )
