"""`gradient_flow`: the gradient of the loss with respect to the state after every step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_lstm_custom.cells.base import EquationCell
from keras_lstm_custom.cells.equations_of import changed_methods
from keras_lstm_custom.diagnostics.autodiff import no_gradients, value_and_gradients
from keras_lstm_custom.diagnostics.flow import GradientFlow, GradientFlows
from keras_lstm_custom.diagnostics.inputs import Data, gathered
from keras_lstm_custom.diagnostics.losses import total_loss
from keras_lstm_custom.diagnostics.recurrent_layers import Observable, can_look_into, observable, selection
from keras_lstm_custom.engines import Request, Result, reference
from keras_lstm_custom.errors import InputError
from keras_lstm_custom.structures import Tensor
from keras_lstm_custom.symbols import Description, described

#: What a gradient has to keep of each step and unit, in numbers: the step itself, its parts, and the taps.
KEPT_FOR_EACH_UNIT = 16


def gradient_flow(
    model: keras.Model,
    x: Any,
    y: Any = None,
    loss: Any = None,
    layers: str | Sequence[str] | None = None,
    *,
    sample_weight: Any = None,
    max_bytes: int = 4 * 2**30,
) -> GradientFlows:
    r"""Return how large the gradient is at every step of every recurrent layer.

    For each layer, step and state it is the norm over the units of the total derivative: $\partial L /
    \partial h_t$ over everything that $h_t$ reaches (the output at t and all later steps), and for
    an LSTM $\partial L / \partial c_t$ likewise, through $h_t$ and through $c_{t+1}$. Other states
    (c, n and m of an sLSTM, those of a cell of one's own or of one that overrides `step`, c of an LSTM
    with `cell_zoneout`) are taken as they leave the step: through the next step only, as $h_t$ is then
    made already. In a
    vanilla RNN the way from one step to the one before is the Jacobian

    $$ \frac{\partial h_t}{\partial h_{t-1}} = \operatorname{diag}(\tanh'(z_t))\,U, $$

    whose product over many steps vanishes or explodes (Bengio, Simard & Frasconi 1994; Pascanu et
    al. 2013); in an LSTM it is mainly $\partial c_t / \partial c_{t-1} = f_t$.

    It is computed by the framework: a tensor of zeros is added to every state, and the gradient
    with respect to it is taken. The model runs once for the shapes and once for the gradient, with
    `training=False`, all sequences at a time; nothing of it is changed.

    ```python
    flow = gradient_flow(model, x, y)
    print(flow)                          # a verdict for each layer, with its numbers
    flow["encoder"].mean("c")            # (timesteps,): mean over the sequences
    flow["encoder"].verdict.name         # "healthy"
    ```

    Where the loss reads every step (`return_sequences=True` up to the output), each step has a
    gradient of its own, and the norms say little about long lags (the verdict then says so); pass a
    `loss` of the last step alone to see them: `loss=lambda y, p: keras.ops.mean((y[:, -1] - p[:, -1]) ** 2)`.

    Args:
        model: a built model, as for `trace`.
        x: as for `trace`; batches may hold y and the sample weights.
        y: what the loss compares the output with. Not needed where the model carries its whole loss
            (`add_loss`, an end point layer).
        loss: None for the loss of `fit`: the compiled one with its weights, and what layers add to it
            (`add_loss`, regularisers of activities and weights). A name or a `keras.losses.Loss` is
            applied to every output instead, and the losses are added; a function gets `y` and the
            output as they are. What is not a scalar is averaged.
        layers: names of the layers to return, as for `trace`.
        sample_weight: one weight for each sequence, as for `fit`; not with a function as `loss`.
        max_bytes: refuse when the gradient would have to keep more than about this many bytes.

    Returns:
        `GradientFlows`, a dict from the layer's place in the model to a `GradientFlow` with norms
        `(batch, timesteps)`. The loss is one number for the batch: if it is a mean over the
        sequences, each sequence's gradient has the factor 1 / batch in it.

    Raises:
        ArgumentError: as `trace`; or there is no loss at all, or no `y` for it.
        InputError: as `trace`; or y does not fit x.
    """
    watched = observable(model)
    return flow_of_observable(watched, gathered(model, x, y, sample_weight), loss, layers, max_bytes=max_bytes)


def flow_of_observable(
    watched: Observable, data: Data, loss: Any = None, layers=None, *, max_bytes: int = 4 * 2**30
) -> GradientFlows:
    """Do the work of `gradient_flow` on a model that is already in observable form."""
    model = watched.model
    wanted = selection(layers, watched)
    loss_of = total_loss(model, data, loss)
    survey = _Survey(watched, wanted, max_bytes)
    with watched.watched_by(survey), no_gradients():
        model(data.x, training=False)

    def value(taps: list[Tensor]) -> Tensor:
        remaining = iter(taps)

        def serve(request: Request) -> Result:
            if can_look_into(request.cell) and wanted(watched.name_of(request.cell)):
                tapped = ops.concatenate([request.sequences, next(remaining)], axis=-1)
                widths = tuple(state.shape[1] for state in request.initial_state)
                request = replace(request, cell=_TappedCell(request.cell, widths), sequences=tapped)
            return reference.run(request)

        with watched.watched_by(serve):
            return loss_of(model(data.x, training=False))

    zeros = [ops.zeros(call.shape, call.dtype) for call in survey.calls]
    total, gradients = value_and_gradients(value, zeros)
    total = float(ops.convert_to_numpy(total))
    flows = (call.flow(ops.convert_to_numpy(g), total) for call, g in zip(survey.calls, gradients, strict=True))
    return GradientFlows({flow.name: flow for flow in flows})


class _Call(NamedTuple):
    """One call of one layer: what its gradient will look like."""

    name: str
    about: Description
    widths: tuple[int, ...]  #: of its states
    shape: tuple[int, int, int]  #: `(batch, timesteps, sum of the widths)`
    dtype: str
    mask: np.ndarray | None
    go_backwards: bool
    every_step: bool

    def flow(self, gradient: np.ndarray, loss: float) -> GradientFlow:
        parts = np.split(gradient.astype(np.float64), np.cumsum(self.widths)[:-1], axis=-1)
        norms = {s: np.linalg.norm(part, axis=-1) for s, part in zip(self.about.states, parts, strict=True)}
        if self.mask is not None:
            norms = {state: np.where(self.mask, norm, np.nan) for state, norm in norms.items()}
        keeper = self.about.keeper
        return GradientFlow(
            name=self.name,
            kind=self.about.kind,
            loss=loss,
            go_backwards=self.go_backwards,
            every_step=self.every_step,
            memory=self.about.memory,
            keeper=None if keeper is None else self.about.symbols[keeper].title,
            h=norms.pop("h"),
            c=norms.pop("c", None),
            more=norms,
        )


class _Survey:
    """Serves requests and notes what the calls look like."""

    def __init__(self, watched: Observable, wanted: Callable[[str], bool], max_bytes: int):
        self._watched, self._wanted, self._max_bytes = watched, wanted, max_bytes
        self._counts: dict[str, int] = {}
        self._bytes = 0
        self.calls: list[_Call] = []

    def __call__(self, request: Request) -> Result:
        cell, layer = request.cell, self._watched.name_of(request.cell)
        self._counts[layer] = count = self._counts.get(layer, 0) + 1
        batch, timesteps, _ = request.sequences.shape
        self._check_memory(layer, batch * timesteps * cell.units)
        if can_look_into(cell) and self._wanted(layer):
            widths = tuple(state.shape[1] for state in request.initial_state)
            self.calls.append(
                _Call(
                    name=layer if count == 1 else f"{layer}#{count}",
                    about=described(cell),
                    widths=widths,
                    shape=(batch, timesteps, sum(widths)),
                    dtype=cell.compute_dtype,
                    mask=None if request.mask is None else ops.convert_to_numpy(request.mask).astype(bool),
                    go_backwards=request.go_backwards,
                    every_step=request.return_sequences,
                )
            )
        return reference.run(request)

    def _check_memory(self, layer: str, numbers: int) -> None:
        self._bytes += numbers * KEPT_FOR_EACH_UNIT * 4
        if self._bytes > self._max_bytes:
            raise InputError(
                f"The gradient up to {layer!r} would have to keep about {self._bytes / 2**30:.2f} GiB.",
                expected=f"at most max_bytes = {self._max_bytes / 2**30:.2f} GiB",
                received=f"{numbers} numbers for one state of the layer",
                remedy="Pass fewer or shorter sequences (a few dozen show the flow), or raise `max_bytes`.",
            )


class _TappedCell:
    """A cell that adds the end of its input to its states; with zeros there, their gradient is that of the states."""

    def __init__(self, cell: Any, widths: tuple[int, ...]):
        self._cell, self._width = cell, sum(widths)
        self._starts = [-sum(widths[number:]) for number in range(len(widths))]
        self.kind, self.state_type, self.step_type = cell.kind, cell.state_type, cell.step_type
        self.units, self.compute_dtype = cell.units, cell.compute_dtype
        self.state_of = cell.state_of
        # A tap that passes on within the step belongs to the step that was written beside it.
        self._step = partial(EquationCell.tapped_step, cell) if changed_methods(cell) else cell.tapped_step

    def project_inputs(self, x, dropout=None):
        z_x = self._cell.project_inputs(x[..., : -self._width], dropout)
        return ops.concatenate([z_x, x[..., -self._width :]], axis=-1)

    def checked_step(self, z_x, state, recurrent_dropout=None):
        z_x, *taps = [z_x[:, start:end] for start, end in itertools.pairwise((None, *self._starts, None))]
        return self._step(z_x, state, self.state_type(*taps))
