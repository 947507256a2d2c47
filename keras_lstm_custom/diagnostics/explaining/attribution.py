"""`attribute`: which input at which step made this prediction."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import reduce
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_lstm_custom.diagnostics.explaining.baselines import Data, references
from keras_lstm_custom.diagnostics.explaining.holding import HeldModel
from keras_lstm_custom.diagnostics.explaining.paths import (
    Block,
    Panels,
    Runner,
    Version,
    baseline_values,
    middle_values,
    occluded,
    occlusion,
    panel_gradients,
)
from keras_lstm_custom.diagnostics.explaining.record import Attribution
from keras_lstm_custom.diagnostics.explaining.targets import Target, find_target
from keras_lstm_custom.diagnostics.explaining.variables import (
    Variable,
    find_variables,
    input_names,
    typed,
    value_shapes,
)
from keras_lstm_custom.diagnostics.inputs import check_batch
from keras_lstm_custom.diagnostics.progress import Progress
from keras_lstm_custom.diagnostics.recurrent_layers import recurrent_layers
from keras_lstm_custom.errors import ArgumentError

Array = np.ndarray
METHODS = ("integrated_gradients", "occlusion")
#: Points of a panel: enough for the whole way where gates are neither shut nor open.
POINTS = 16
#: The same where there are many ways, from a sample of reference rows.
SAMPLE_POINTS = 8
#: What the gradient may keep of the steps of one batch, in numbers.
NUMBERS_AT_A_TIME = 2**27
#: What it keeps of each step and unit: gates and states, and what they were computed from.
KEPT_FOR_EACH_UNIT = 16
#: More sequences at a time are not faster on a CPU.
MOST_AT_A_TIME = 256
#: From 1 to the next number, by dtype.
SPACING = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}
#: How many roundings of that size, of the sizes that were added, are no sign of a wrong integral.
ROUNDINGS = 32


def attribute(
    model: keras.Model,
    x: Any,
    target: Any = None,
    baseline: Any = None,
    method: str = "integrated_gradients",
    *,
    tolerance: float = 1e-3,
    max_points: int = 1024,
    batch_size: int | None = None,
    verbose: int | str = "auto",
) -> Attribution:
    r"""Say how much each number of the input contributed to one number of the output.

    With F the number that is explained, x a row of the input and x' the baseline:

    - **Integrated gradients** (Sundararajan, Taly & Yan 2017, arXiv 1703.01365):
      $$ v_{tj} = (x_{tj} - x'_{tj}) \int_0^1 \frac{\partial F(x' + \alpha (x - x'))}{\partial x_{tj}} \, d\alpha $$
      They are complete: $\sum_{tj} v_{tj} = F(x) - F(x')$. The integral is computed by Gauss-Legendre, and
      the way halved again and again where the sum over a piece of it is not the change of F there; `gap` says
      how far the sum is off in the end, and a warning when that is too far.
    - **Expected gradients** (Erion et al. 2021, arXiv 1906.10670), where the baseline is a sample of
      rows: the mean of the above over all of them, complete against the mean of F over the sample.
    - **Occlusion** (Zeiler & Fergus 2014): $F(x) - F(x \text{ with } x_{tj} \text{ replaced by } x'_{tj})$, a check
      that needs no gradients. It is not complete: two inputs that say the same are both found unimportant.

    The model may hold any layers, of ours and of Keras; it runs as it is, with `training=False`, and
    nothing of it is changed. **Masks** are those of x throughout; a `Masking` layer would mask other
    steps on the way from the baseline. Steps that all layers skip contribute exactly 0. **Tokens**: where an
    `Embedding` reads the input, the vectors are varied, and a token gets the sum over its vector.

    ```python
    found = attribute(model, x)
    print(found)                       # what was explained, and how complete it is
    found.values                       # (batch, timesteps, features)
    found.by_step, found.by_feature    # sums: (batch, timesteps), (batch, features)
    ```

    Args:
        model: a built model.
        x: what the model takes: an array `(batch, timesteps, features)` or of token numbers `(batch, timesteps)`,
            or a list or dict of such. Boolean inputs are held as they are.
        target: which number of the output. None where there is only one; `2` for a class; `(step, class)` where
            the output has more axes; `"name"` or `("name", 2)` where the model has several outputs; an array
            `(batch,)` for a class of each row, e.g. `model.predict(x).argmax(-1)`.
        baseline: what x is compared with. None or "zeros"; "mean", of each feature over all rows and steps of x that
            are not masked; a number, `(features,)` or `(timesteps, features)`, one row for all; or
            `(n, timesteps, features)`, a sample of n rows. For tokens, their numbers likewise; "zeros" and
            "mean" are vectors. A list or dict like x where there are several inputs.
        method: "integrated_gradients" (expected gradients with a sample) or "occlusion".
        tolerance: how far the sum may be from the change of the output, as a share of it, beside rounding.
        max_points: at most so many points between x and a row of the baseline; then there is a warning.
        batch_size: how many sequences run at a time, rows times points; None chooses by their length. Stateful
            models and those with a fixed batch run in it.
        verbose: as for `trace`.

    Returns:
        An `Attribution`: `values` in the form of x, `prediction`, `reference`, `delta`, `gap`, `points`.

    Raises:
        ArgumentError: the target or the method does not exist, or it is not said which target of several.
        InputError: x or the baseline has a wrong shape or is not finite; or whole numbers are not read
            by an Embedding.
    """
    if method not in METHODS:
        raise ArgumentError(
            "There is no method of that name.",
            expected=", ".join(map(repr, METHODS)),
            received=repr(method),
            remedy="A sample of rows as `baseline` makes integrated gradients expected gradients.",
        )
    if not 0 < tolerance < 1 or max_points < 1 or (batch_size is not None and batch_size < 1):
        raise ArgumentError(
            "A number of `attribute` is out of range.",
            expected="tolerance between 0 and 1, max_points and batch_size 1 or more",
            received=f"tolerance={tolerance}, max_points={max_points}, batch_size={batch_size}",
            remedy="Leave out what you do not need.",
        )
    question = _ask(model, x, target, baseline, batch_size)
    work = _Work(question, verbose)
    if method == "occlusion":
        work.occlude(_precision(model))
        return work.result(method)
    left = work.integrate(_precision(model), tolerance, max_points)
    result = work.result(method)
    if len(left):
        _warn(result, left, tolerance)
    return result


@dataclass(frozen=True)
class _Question:
    """What is to be explained against what, and how many sequences may run at a time."""

    data: Data
    target: Target
    variables: list[Variable]
    references: list[Array]  #: of each variable, `(1 or n, ...)`
    baseline: str
    shapes: list[tuple]  #: of one row's attributions, for each input
    at_a_time: int
    fixed: bool  #: whether the batch must stay what it is

    @property
    def samples(self) -> int:
        return max(map(len, self.references))


def _ask(model: keras.Model, x: Any, target: Any, baseline: Any, batch_size: int | None) -> _Question:
    _check_model(model)
    x, batch = check_batch(model, x)
    names = input_names(model, x)
    x = typed(model, x)
    fixed = _batch_is_fixed(model)
    at_a_time = batch if fixed else batch_size or _batch_size(model, tree.flatten(x))
    data = Data(HeldModel(model), x, names, min(batch, at_a_time))
    rows = data.rows(next(data.blocks())[0])
    first = data.record(rows)
    goal = find_target(model, first.output, target, batch)
    variables = find_variables(names, rows, first)
    compared, label = references(data, variables, baseline, first)
    return _Question(data, goal, variables, compared, label, value_shapes(variables, rows, first), at_a_time, fixed)


class _Work:
    """Goes over the rows, block by block, and adds up what each of them gives."""

    def __init__(self, question: _Question, verbose: int | str):
        self._question, self._verbose = question, verbose
        batch = question.data.batch
        self._totals = [np.zeros((batch, *shape)) for shape in question.shapes]
        self._masks: list[Array | None] = [None] * len(question.shapes)
        self._points = np.zeros(batch, int)
        together = max(1, question.at_a_time // question.data.rows_at_a_time)
        self._runner = Runner(question.data, question.variables, question.target, together)
        self._find_ends()

    def _find_ends(self) -> None:
        """Compute the prediction, the output at the baseline, and the masks of the inputs."""
        question, data = self._question, self._question.data
        self.prediction, self._at_baseline = np.zeros(data.batch), np.zeros((data.batch, question.samples))
        progress = Progress(data.batch * question.samples, self._verbose)
        for numbers, new in data.blocks():
            block = Block(data, numbers, question.variables)
            output = tree.flatten(block.recorded.output)[question.target.leaf].reshape(len(numbers), -1)
            self.prediction[numbers] = output[np.arange(len(numbers)), question.target.place[numbers]]
            self._at_baseline[numbers] = baseline_values(self._runner, block, question.references, progress)
            for k in range(len(self._masks)):
                mask = data.mask(block.leaves, k, block.recorded)
                if mask is not None:
                    whole = self._masks[k]
                    whole = np.ones((data.batch, mask.shape[1]), bool) if whole is None else whole
                    whole[numbers[:new]] = mask[:new]
                    self._masks[k] = whole
        self.reference = self._at_baseline.mean(1)
        progress.finish()

    def integrate(self, spacing: float, tolerance: float, max_points: int) -> Array:
        """Halve the panels of each way until every sum agrees; return the rows where points ran out before."""
        question, data = self._question, self._question.data
        samples, batch = question.samples, data.batch
        points = POINTS if samples == 1 else SAMPLE_POINTS
        panels = self._whole_ways()
        self._points = np.full((batch, samples), points)
        left = np.zeros(batch, bool)
        while len(panels):
            progress = Progress(len(panels) * points, self._verbose)
            further: list[Panels] = []
            for numbers, new in data.blocks(np.arange(len(panels))):
                some = panels.take(numbers)
                block = Block(data, some.row, question.variables)
                parts = panel_gradients(self._runner, block, question.references, some, points, progress)
                flat = [part.reshape(len(part), -1) for part in parts]
                change, size = some.high - some.low, sum(np.abs(part).sum(1) for part in flat)
                allowed = ROUNDINGS * spacing * (size + np.abs(some.high) + np.abs(some.low))
                allowed += tolerance * np.abs(self.prediction - self.reference)[some.row] * (some.stop - some.start)
                split = ~(np.abs(sum(part.sum(1) for part in flat) - change) <= allowed)
                if question.fixed:
                    split[:] = split.any()
                split[new:] = False
                spent = split & ~self._afford(some, split, 2 * points, max_points)
                left[some.row[spent]] = True
                split &= ~spent
                self._add(some.row, parts, ~split & (np.arange(len(numbers)) < new), 1 / samples)
                if split.any():
                    middle = middle_values(self._runner, block, question.references, some, progress)
                    further.append(some.take(split).halves(middle[split]))
            progress.finish()
            panels = reduce(Panels.joined, further) if further else panels.take(np.arange(0))
        self._points = self._points.max(1)
        return np.flatnonzero(left)

    def _afford(self, panels: Panels, which: Array, points: int, most: int) -> Array:
        """Take so many points for each of those panels as long as its way has some left; say which got them."""
        got = np.zeros(len(panels), bool)
        for k in np.flatnonzero(which):
            way = panels.row[k], panels.sample[k]
            got[k] = self._points[way] + points <= most
            self._points[way] += points * got[k]
        return got

    def _whole_ways(self) -> Panels:
        question, batch = self._question, self._question.data.batch
        row, sample = np.tile(np.arange(batch), question.samples), np.repeat(np.arange(question.samples), batch)
        start, stop = np.zeros(len(row)), np.ones(len(row))
        return Panels(row, sample, start, stop, low=self._at_baseline[row, sample], high=self.prediction[row])

    def occlude(self, spacing: float) -> None:
        """Take away one number after the other."""
        question, data = self._question, self._question.data
        rows = np.arange(data.batch)
        places = occluded(Block(data, next(data.blocks())[0], question.variables), question.variables)
        progress = Progress(data.batch * (1 + question.samples * places), self._verbose)
        for numbers, new in data.blocks(rows):
            block = Block(data, numbers, question.variables)
            parts = occlusion(self._runner, block, question.variables, question.references, progress)
            self._add(numbers, parts, np.arange(len(numbers)) < new, 1)
        progress.finish()
        for total, mask in zip(self._totals, self._masks, strict=True):
            if mask is not None:  # what the same model gives for the same numbers may differ by rounding
                noise = ROUNDINGS * spacing * np.abs(self.prediction).reshape(-1, *[1] * (total.ndim - 1))
                skipped = ~mask.reshape(*mask.shape, *[1] * (total.ndim - mask.ndim))
                total[skipped & (np.abs(total) <= noise)] = 0

    def _add(self, rows: Array, parts: Version, which: Array, share: float) -> None:
        """Add the parts of some rows to their totals; a row may come more than once."""
        fresh = [np.zeros((len(rows), *shape)) for shape in self._question.shapes]
        for variable, part in zip(self._question.variables, parts, strict=True):
            variable.add(fresh, part)
        for total, values in zip(self._totals, fresh, strict=True):
            np.add.at(total, rows[which], share * values[which])

    def result(self, method: str) -> Attribution:
        question = self._question
        x = question.data.x
        return Attribution(
            values=tree.pack_sequence_as(x, self._totals),
            x=x,
            names=tuple(question.data.names),
            prediction=self.prediction,
            reference=self.reference,
            target=question.target.label,
            baseline=question.baseline,
            method="expected_gradients" if question.samples > 1 and method != "occlusion" else method,
            points=self._points,
            mask=tree.pack_sequence_as(x, self._masks),
        )


def _warn(result: Attribution, left: Array, tolerance: float) -> None:
    worst = left[np.argmax(np.abs(result.gap[left]))]
    warnings.warn(
        f"The attributions of {len(left)} of {len(result.gap)} rows do not add up to the change of {result.target}, "
        f"after {result.points.max()} points: in row {worst} the sum is {result.total[worst]:.6g}, the change "
        f"{result.delta[worst]:.6g} (gap {result.gap[worst]:.2g}, tolerance {tolerance:g} of the change). The output "
        "changes abruptly between x and the baseline, or a part of the model has no gradient (rounding, comparisons, "
        "whole numbers). Raise `max_points`, choose a baseline nearer to x, or compare with method='occlusion'.",
        stacklevel=3,
    )


def _batch_is_fixed(model: keras.Model) -> bool:
    """Say whether the model runs with one batch only: that of its states, or of its Input."""
    shapes = [tensor.shape for tensor in getattr(model, "inputs", None) or []]
    return any(layer.stateful for layer in recurrent_layers(model).values()) or any(s[0] is not None for s in shapes)


def _batch_size(model: keras.Model, leaves: list[Array]) -> int:
    """Return how many sequences fit into what a batch may keep."""
    units = sum(getattr(layer, "units", 0) or 0 for layer in recurrent_layers(model).values())
    steps = max((leaf.shape[1] for leaf in leaves if leaf.ndim > 1), default=1)
    kept = max(1, units * steps * KEPT_FOR_EACH_UNIT)
    return int(min(MOST_AT_A_TIME, max(1, NUMBERS_AT_A_TIME // kept)))


def _precision(model: keras.Model) -> float:
    """Return the spacing of the coarsest numbers that the model computes with."""
    dtypes = {layer.compute_dtype for layer in [model, *model.layers]}
    return max((SPACING[dtype] for dtype in dtypes if dtype in SPACING), default=SPACING["float32"])


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ArgumentError(
            "Only the predictions of a Keras model can be explained.",
            expected="a keras.Model",
            received=type(model).__name__,
            remedy="Wrap a single layer: keras.Sequential([keras.Input((timesteps, features)), layer]).",
        )
