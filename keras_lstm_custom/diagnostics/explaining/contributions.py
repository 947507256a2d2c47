"""`memory_contributions`: which step put what into the memory of which unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops

from keras_lstm_custom.cells.as_ours import as_ours
from keras_lstm_custom.cells.equations_of import changed_methods
from keras_lstm_custom.diagnostics.explaining.readout import Readout, read_out
from keras_lstm_custom.diagnostics.records import GateTrace
from keras_lstm_custom.diagnostics.recurrent_layers import cells, observable
from keras_lstm_custom.diagnostics.tracing import trace_observable
from keras_lstm_custom.errors import ArgumentError

Array = np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class MemoryContributions:
    r"""What each step put into the cell state of one LSTM layer, and how much of it was still there at the end.

    `values` and `initial` add up to `c`: it is the equation $c_t = f_t \odot c_{t-1} + i_t \odot g_t$ written out.
    """

    name: str  #: where the layer is in its model
    values: Array  #: `(batch, timesteps, units)`, of each step to `c`
    initial: Array  #: `(batch, units)`, of the cell state before the first step
    c: Array  #: `(batch, units)`, the cell state that is taken apart
    slope: Array  #: `(batch, units)`, (h - offset) / c: what of each part of c leaves
    h: Array  #: `(batch, units)`, the hidden state with that c
    x: Array  #: `(batch, timesteps, features)`, what the layer was given
    mask: Array | None  #: `(batch, timesteps)`, False where the layer skipped the step
    go_backwards: bool  #: whether the layer read the sequence from its end
    step: int  #: after which step, counted as the layer reads
    readout: Readout | None = None  #: how a number of the output came from h, where a target was named

    @property
    def hidden(self) -> Array:
        r"""`(batch, timesteps, units)`, each step's part of $h = o \odot \tanh(c)$, in proportion to its part of c.

        It is a convention, the one that integrated gradients of tanh from 0 to c give; the parts of c are not.
        The initial state's part is `initial * slope`.
        """
        return self.values * self.slope[:, None]

    @property
    def prediction(self) -> Array:
        """`(batch, timesteps, units)`, the parts of the target that came through h."""
        return self.hidden * self._readout.weights[self.name][:, None]

    @property
    def by_step(self) -> Array:
        """`(batch, timesteps)`, the parts of the target summed over units; without one, those of c without signs."""
        return np.abs(self.values).sum(2) if self.readout is None else self.prediction.sum(2)

    @property
    def _readout(self) -> Readout:
        if self.readout is None:
            raise ArgumentError(
                "It was not said which number of the output is to be taken apart.",
                expected="a target",
                received="target=None",
                remedy="Call memory_contributions(model, x, target=0), or with another target as for `attribute`.",
            )
        return self.readout

    def to_frame(self) -> pd.DataFrame:
        """Return a tidy table: one row for each sequence, step and unit; step -1 is the state before the first."""
        whole = np.concatenate([self.initial[:, None], self.values], axis=1)
        levels = [range(whole.shape[0]), range(-1, whole.shape[1] - 1), range(whole.shape[2])]
        index = pd.MultiIndex.from_product(levels, names=["sequence", "step", "unit"])
        frame = pd.DataFrame({"contribution": whole.reshape(-1)}, index=index).reset_index()
        frame.insert(0, "layer", self.name)
        return frame

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.values, dtype=dtype)

    def __repr__(self) -> str:
        batch, timesteps, units = self.values.shape
        return f"MemoryContributions({self.name!r}: {batch} sequences x {timesteps} steps x {units} units)"


class AllContributions(dict[str, MemoryContributions]):
    """The contributions of a model's LSTM layers by name, in the order in which the model ran them."""

    def __missing__(self, name: str) -> Any:
        raise ArgumentError(
            "There is no LSTM layer of that name among the contributions.",
            expected=", ".join(map(repr, self)),
            received=repr(name),
            remedy="Use one of the names above; they say where the layer is in the model.",
        )


def memory_contributions(
    model: keras.Model,
    x: Any,
    layer: str | Sequence[str] | None = None,
    *,
    step: int = -1,
    target: Any = None,
    batch_size: int = 256,
    max_bytes: int = 4 * 2**30,
    verbose: int | str = "auto",
) -> AllContributions:
    r"""Take the memory of every LSTM layer apart into what each step put there and what was left of it.

    The cell state is a sum that was added up step by step, so it can be taken apart exactly:

    $$ c_T = \Bigl(\prod_{s=1}^{T} f_s\Bigr) \odot c_0 + \sum_{t=1}^{T} i_t \odot g_t \odot \prod_{s=t+1}^{T} f_s $$

    Each term is how much of the memory of each unit came from which step, with all gates as they were. (What a
    step did to later gates, through h, counts as those steps' doing; `attribute` answers what the input did in
    all.) The products are multiplied up from the end, so closed gates, f = 0, do no harm. Steps that a mask
    skips contribute 0.

    With a `target` it goes on to the output, through the layers that give out their last hidden state only.
    $h_T = o_T \odot \tanh(c_T)$ is no sum; each step gets its share of c_T of it, which adds up too, but where
    parts of c_T cancel each other, shares are large and of both signs. From h_T to the output the gradient is
    averaged over the way from 0 to h_T (integrated gradients): for a `Dense` without activation it is its
    kernel, V, and the parts of $\hat y = V h_T + d$ are exact.

    ```python
    parts = memory_contributions(model, x)["encoder"]
    parts.values.sum(axis=1) + parts.initial    # parts.c: (batch, units)
    through = memory_contributions(model, x, target=0)["encoder"]
    through.prediction                          # (batch, timesteps, units), of the output
    ```

    Args:
        model: a built model, as for `trace`.
        x: what the model takes.
        layer: the name of a layer, or several, as for `trace`; None takes all LSTM layers.
        step: which state is taken apart: that after this step, counted in the order in which the layer reads. -1 is
            the last one, the final state; for a layer with `go_backwards` that is at time 0.
        target: a number of the output, as for `attribute`. None leaves the output out.
        batch_size: how many sequences run at a time.
        max_bytes: refuse to hold more than this many bytes of traces.
        verbose: as for `trace`.

    Returns:
        A dict from the layer's place in the model to `MemoryContributions`: `values` `(batch, timesteps, units)` in the
        order of time, `initial` and `c` `(batch, units)`, `hidden` and `prediction`.

    Raises:
        ArgumentError: there is no LSTM layer, none of that name, or no such step or target.
        InputError, ConversionError: as `trace`.
    """
    watched = observable(model)
    traces = trace_observable(watched, x, layer, batch_size=batch_size, max_bytes=max_bytes, verbose=verbose)
    lstms = {name: steps for name, steps in traces.items() if isinstance(steps, GateTrace)}
    if not lstms:
        raise ArgumentError(
            f"In what was asked for of {model.name!r} there is no LSTM layer, so no cell state to take apart.",
            expected="an LSTM layer, of keras_lstm_custom or of keras.layers",
            received=", ".join(f"{name!r} ({steps.kind})" for name, steps in traces.items()),
            remedy="Use `attribute`, which explains models of any layers.",
        )
    known = cells(watched.model)
    for name in lstms:
        _check_equations(name, as_ours(known[name.split("#")[0]]))
    readout = None
    if target is not None:
        if step != -1:
            raise ArgumentError(
                "The output comes from the final state, so it cannot be taken apart after another step.",
                expected="step=-1 where a target is named",
                received=f"step={step}, target={target!r}",
                remedy="Leave one of the two out.",
            )
        readout = read_out(watched, x, lstms, target, batch_size)
        lstms = {name: steps for name, steps in lstms.items() if name in readout.weights}
    return AllContributions(
        {name: _take_apart(steps, step, known[name.split("#")[0]].activation, readout) for name, steps in lstms.items()}
    )


def _check_equations(name: str, cell: Any) -> None:
    """Raise unless c = f c + i g and h = o tanh(c), of which the parts are parts."""
    harmless = {"peepholes", "coupled"} | (
        {"layer_normalization"} if getattr(cell, "layer_normalization", "") == "gate" else set()
    )
    changes = sorted(cell.features - harmless) or changed_methods(cell)
    if changes:
        raise ArgumentError(
            f"In {name!r} the cell state and the output are not the sums that could be taken apart.",
            expected="c = f c + i g and h = o tanh(c), as with peepholes, coupled gates, layer normalisation by gate",
            received=f"a cell with its own {', '.join(changes)}",
            remedy="Name another layer, or use `attribute`, which explains models of any layers.",
        )


def _take_apart(trace: GateTrace, step: int, activation: Callable, readout: Readout | None) -> MemoryContributions:
    timesteps = trace.timesteps
    if not -timesteps <= step < timesteps:
        raise ArgumentError(
            f"The layer {trace.name!r} has no such step.",
            expected=f"{-timesteps} to {timesteps - 1}",
            received=f"step={step}",
            remedy="-1 is the last step that the layer reads.",
        )
    step %= timesteps
    order = slice(None, None, -1 if trace.go_backwards else 1)
    read = trace.read[:, order, None]
    # At a step that is skipped nothing enters and all stays.
    f, entered = (np.where(read, a[:, order], skipped) for a, skipped in ((trace.f, 1), (trace.entered, 0)))
    f, entered, c = f.astype(np.float64), entered.astype(np.float64), trace.c[:, order][:, step].astype(np.float64)
    entered[:, step + 1 :] = 0
    # stays[t]: the share of what was there after step t - 1 that is left; multiplied from the end, never divided.
    stays = np.ones((f.shape[0], timesteps + 2, f.shape[2]))
    stays[:, : step + 1] = np.cumprod(f[:, step::-1], axis=1)[:, ::-1]
    values = entered * stays[:, 1 : timesteps + 1]
    return MemoryContributions(
        name=trace.name,
        values=values[:, order],
        initial=trace.initial_c * stays[:, 0],
        c=trace.c[:, order][:, step],
        h=trace.h[:, order][:, step],
        slope=_slope(trace, order, step, c, activation),
        x=trace.x,
        mask=trace.mask,
        go_backwards=trace.go_backwards,
        step=step,
        readout=readout,
    )


def _slope(trace: GateTrace, order: slice, step: int, c: Array, activation: Callable) -> Array:
    """Return o (tanh(c) - tanh(0)) / c, with the layer's activation for tanh, and its limit where c is nearly 0."""
    read = trace.read[:, order][:, : step + 1]
    latest = step - np.argmax(read[:, ::-1], axis=1)
    o = np.take_along_axis(trace.o[:, order], latest[:, None, None], axis=1)[:, 0]
    o = np.where(read.any(axis=1, keepdims=True), o, 0)  # nothing was read: h is what it was before

    def apply(values: Array) -> Array:
        return ops.convert_to_numpy(activation(ops.convert_to_tensor(values.astype("float32")))).astype(np.float64)

    near = np.where(np.abs(c) < 1e-3, 1e-3, c)
    return o * (apply(near) - apply(np.zeros_like(c))) / near
