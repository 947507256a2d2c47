"""`trace`: what every recurrent layer of a model computed, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lstm_custom.diagnostics.autodiff import no_gradients
from keras_lstm_custom.diagnostics.inputs import gathered
from keras_lstm_custom.diagnostics.numbers import as_numpy
from keras_lstm_custom.diagnostics.progress import Progress
from keras_lstm_custom.diagnostics.records import check_names, record
from keras_lstm_custom.diagnostics.recurrent_layers import Observable, can_look_into, observable, selection
from keras_lstm_custom.diagnostics.traces import Traces
from keras_lstm_custom.engines import Request, Result, reference
from keras_lstm_custom.errors import InputError
from keras_lstm_custom.models.walk import recurrent_layers
from keras_lstm_custom.symbols import described

#: What one run of the loop over time may hold at once, in numbers; longer sequences are cut in time.
CHUNK = 2**24


def trace(
    model: keras.Model,
    x: Any,
    layers: str | Sequence[str] | None = None,
    *,
    batch_size: int = 256,
    max_bytes: int = 4 * 2**30,
    verbose: int | str = "auto",
) -> Traces:
    r"""Run `model` on `x` and return all that its recurrent layers computed at every step.

    The model runs once, as `model(x, training=False)`, each recurrent layer on the reference
    engine, which scans the equations themselves: what is returned is what the layer computed, and h
    is its output. Layers of `keras.layers` are traced where they are, also in a subclassed model or
    inside a custom layer. Nothing of the model is changed; the state that a stateful layer keeps is
    read, and left as it is. Cells of one's own are traced by what their `step_type` declares
    (`RecurrentCell`); a recurrent layer whose equations are not known (a cell of Keras' with an
    override, or one that is none of ours) is named in a warning.

    ```python
    steps = trace(model, x)                # {"encoder": GateTrace(...), "bidirectional/forward_lstm": ...}
    steps["encoder"].f[0, :, 3]            # the forget gate of unit 3 over the first sequence
    steps.to_frame(); steps.to_npz("steps.npz")
    ```

    Args:
        model: a built model.
        x: what `predict` takes: an array `(batch, timesteps, features)`, a list or dict of arrays, a DataFrame; or
            batches of them, with targets or without: a `tf.data.Dataset`, a `PyDataset`, a torch `DataLoader`, a
            generator. Batches are put together in memory.
        layers: names of the layers to keep, as in the result; the name of a model or wrapper stands
            for all within it. None keeps all.
        batch_size: how many sequences run at a time. Long sequences without a mask are cut in
            time, too, with the state carried over.
        max_bytes: refuse to hold more than this many bytes of traces.
        verbose: 1 shows a progress bar, 0 does not; "auto" shows one when it takes longer than two seconds.

    Returns:
        `Traces`, a dict from the layer's place in the model to a `GateTrace` (LSTM), an `RNNTrace`
        (vanilla RNN) or a `CellTrace` (GRU, sLSTM, cells of one's own), in the order of the calls. A layer
        called again is there again as "name#2". Arrays are `(batch, timesteps, units)` in the order of time.

    Raises:
        ArgumentError: there is no recurrent layer to trace, or no layer of the name asked for.
        InputError: x holds NaN, no sequence or batches that do not fit together, the model is not built, or the
            traces need more than `max_bytes`.
    """
    return trace_observable(observable(model), x, layers, batch_size=batch_size, max_bytes=max_bytes, verbose=verbose)


def trace_observable(
    watched: Observable,
    x: Any,
    layers: str | Sequence[str] | None = None,
    *,
    batch_size: int = 256,
    max_bytes: int = 4 * 2**30,
    verbose: int | str = "auto",
) -> Traces:
    """Do the work of `trace` on a model that is already in observable form; `x` may be `Data`."""
    data = gathered(watched.model, x)
    batch = data.size
    if any(layer.stateful for layer in recurrent_layers(watched.model).values()):
        batch_size = batch  # every row has its own state
    wanted = selection(layers, watched)
    progress = Progress(batch, len(watched.names), verbose)
    recorder = _TraceRecorder(watched, wanted, batch, max_bytes, progress)
    for start in range(0, batch, batch_size):
        recorder.begin(start, min(batch_size, batch - start))
        with watched.watched_by(recorder), no_gradients():
            watched.model(data.rows(start, start + batch_size), training=False)
    progress.finish()
    return recorder.traces()


class _TraceRecorder:
    """Serves requests on the reference engine and files what each step computed."""

    def __init__(
        self, watched: Observable, wanted: Callable[[str], bool], batch: int, max_bytes: int, progress: Progress
    ):
        self._watched = watched
        self._wanted = wanted
        self._batch = batch
        self._max_bytes = max_bytes
        self._progress = progress
        self._arrays: dict[str, dict[str, Any]] = {}
        self._about: dict[str, tuple[type, dict[str, Any]]] = {}
        self._start = self._count = 0
        self._calls: dict[str, int] = {}

    def begin(self, start: int, count: int) -> None:
        """Say that the next call of the model holds `count` sequences from `start` on."""
        self._start, self._count, self._calls = start, count, {}
        self._progress.begin(count)

    def traces(self) -> Traces:
        """Return all that was filed."""
        return Traces({name: record(*self._about[name], arrays) for name, arrays in self._arrays.items()})

    def __call__(self, request: Request) -> Result:
        layer = self._watched.name_of(request.cell)
        self._calls[layer] = call = self._calls.get(layer, 0) + 1
        name = layer if call == 1 else f"{layer}#{call}"
        if not (can_look_into(request.cell) and self._wanted(layer)):
            self._progress.add(1)
            return reference.run(request)
        if name not in self._arrays:
            self._arrays[name] = self._allocate(name, request)
        return self._run_in_chunks(request, self._arrays[name])

    def _run_in_chunks(self, request: Request, arrays: dict[str, Any]) -> Result:
        batch, timesteps, _ = request.sequences.shape
        first = self._start * self._fold(request)
        here = slice(first, first + batch)
        state, outputs = request.initial_state, []
        arrays["x"][here] = _read(request.sequences)
        for field, value in zip(request.cell.state_type._fields, state, strict=True):
            arrays[f"initial_{field}"][here] = _read(value)
        if request.mask is not None:
            arrays["mask"][here] = _read(request.mask)
        for span in _spans(request):
            result = reference.run(_cut(request, span, state))
            state = result.state
            for field, values in zip(request.cell.step_type._fields, result.steps, strict=True):
                values = _read(values)
                if field not in arrays:  # how wide it is, the cell does not say
                    arrays[field] = np.empty((len(arrays["x"]), timesteps, values.shape[2]), arrays["x"].dtype)
                arrays[field][here, span] = values[:, ::-1] if request.go_backwards else values
            outputs.append(result.outputs)
            self._progress.add((span.stop - span.start) / timesteps)
        if request.mask is not None:
            _keep_state_at_masked_steps(arrays, here, request)
        kept = outputs if request.return_sequences else [outputs[-1][:, -1:]]
        return Result(kept[0] if len(kept) == 1 else ops.concatenate(kept, axis=1), state, result.engine)

    def _allocate(self, name: str, request: Request) -> dict[str, Any]:
        """Make room for all sequences, or say beforehand that there is not enough."""
        cell = request.cell
        check_names(cell)
        _, timesteps, features = request.sequences.shape
        batch = self._batch * self._fold(request)
        dtype = np.float64 if cell.compute_dtype == "float64" else np.float32
        states = dict(zip(cell.state_type._fields, request.initial_state, strict=True))
        shapes = {
            "x": (batch, timesteps, features),
            **{f"initial_{field}": (batch, state.shape[1]) for field, state in states.items()},
        }
        widths = [states[field].shape[1] if field in states else cell.units for field in cell.step_type._fields]
        held = sum(a.nbytes for arrays in self._arrays.values() for a in arrays.values() if isinstance(a, np.ndarray))
        numbers = sum(int(np.prod(shape)) for shape in shapes.values()) + batch * timesteps * sum(widths)
        needed = held + numbers * np.dtype(dtype).itemsize
        if needed > self._max_bytes:
            raise InputError(
                f"The traces up to {name!r} would need {needed / 2**30:.2f} GiB.",
                expected=f"at most max_bytes = {self._max_bytes / 2**30:.2f} GiB",
                received=f"{batch} sequences x {timesteps} steps x {cell.units} units "
                f"x {len(cell.step_type._fields)} values",
                remedy="Trace fewer or shorter sequences, only some `layers`, or raise `max_bytes`.",
            )
        arrays: dict[str, Any] = {field: np.empty(shape, dtype) for field, shape in shapes.items()}
        if request.mask is not None:
            arrays["mask"] = np.empty((batch, timesteps), bool)
        plain = {"name": name, "go_backwards": request.go_backwards, "about": described(cell)}
        self._about[name] = (cell.step_type, plain)
        return arrays

    def _fold(self, request: Request) -> int:
        """Return how many sequences the layer reads for each of the model's; more than 1 where an axis is folded in."""
        fold, rest = divmod(request.sequences.shape[0], self._count)
        if rest or fold == 0:
            raise InputError(
                "A recurrent layer reads another number of sequences than the model was given.",
                expected=f"{self._count} sequences, or a multiple where the model folds an axis into the batch",
                received=f"{request.sequences.shape[0]} sequences",
                remedy="Pass fewer or more sequences to the trace, so that one is a multiple of the other.",
            )
        return fold


def _spans(request: Request) -> Iterator[slice]:
    """Yield the chunks of time in the order in which the layer reads them."""
    batch, timesteps, _ = request.sequences.shape
    numbers_in_a_step = batch * request.cell.units * (len(request.cell.step_type._fields) + 4)
    length = max(1, CHUNK // numbers_in_a_step)
    starts = range(0, timesteps, length)
    for start in reversed(starts) if request.go_backwards else starts:
        yield slice(start, min(start + length, timesteps))


def _cut(request: Request, span: slice, state: list) -> Request:
    mask = None if request.mask is None else request.mask[:, span]
    sequences = request.sequences[:, span]
    return replace(request, sequences=sequences, mask=mask, initial_state=state, keep_steps=True, return_sequences=True)


def _keep_state_at_masked_steps(arrays: dict[str, Any], here: slice, request: Request) -> None:
    """Put NaN where nothing was computed, and in the states what was kept."""
    read = arrays["mask"][here]
    state_fields = request.cell.state_type._fields
    for field in request.cell.step_type._fields:
        values = arrays[field][here]
        if field in state_fields:
            initial = arrays[f"initial_{field}"][here]
            arrays[field][here] = _fill_forward(values, initial, read, request.go_backwards)
        else:
            values[~read] = np.nan


def _fill_forward(values: np.ndarray, initial: np.ndarray, read: np.ndarray, go_backwards: bool) -> np.ndarray:
    """Return `values` with each step that was not read replaced by the one read before it."""
    order = slice(None, None, -1 if go_backwards else 1)
    read, values = read[:, order], np.concatenate([initial[:, None], values[:, order]], axis=1)
    latest = np.maximum.accumulate(np.where(read, np.arange(1, read.shape[1] + 1), 0), axis=1)
    return np.take_along_axis(values, latest[:, :, None], axis=1)[:, order]


def _read(tensor: Any) -> np.ndarray:
    return as_numpy(tensor, "A recurrent layer")
