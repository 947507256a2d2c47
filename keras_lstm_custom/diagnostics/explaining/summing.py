"""The work of `attribute`: it goes over the rows, block by block, and adds up what each of them gives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from keras import tree

from keras_lstm_custom.diagnostics.explaining.baselines import Data
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
from keras_lstm_custom.diagnostics.explaining.targets import Target
from keras_lstm_custom.diagnostics.explaining.variables import Variable
from keras_lstm_custom.diagnostics.progress import Progress

Array = np.ndarray
#: Points of a panel: enough for the whole way where gates are neither shut nor open.
POINTS = 16
#: The same where there are many ways, from a sample of reference rows.
SAMPLE_POINTS = 8
#: How many roundings of that size, of the sizes that were added, are no sign of a wrong integral.
ROUNDINGS = 32


@dataclass(frozen=True)
class Question:
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


class Work:
    """Goes over the rows, block by block, and adds up what each of them gives."""

    def __init__(self, question: Question, verbose: int | str):
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
        progress = Progress.of_rows(data.batch * question.samples, self._verbose)
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
            progress = Progress.of_rows(len(panels) * points, self._verbose)
            further: list[Panels] = []
            for numbers, new in data.blocks(np.arange(len(panels))):
                some = panels.take(numbers)
                block = Block(data, some.row, question.variables)
                parts = panel_gradients(self._runner, block, question.references, some, points, progress)
                flat = [part.reshape(len(part), -1) for part in parts]
                change, size = some.high - some.low, sum(np.abs(part).sum(1) for part in flat)
                allowed = ROUNDINGS * spacing * (size + np.abs(some.high) + np.abs(some.low))
                # Half of the tolerance by the length of a panel, half shared by as many as there can be: where the
                # slope jumps (a ReLU), the error of the panel around it falls no faster than its length.
                share = (some.stop - some.start + min(1, points / max_points)) / 2
                allowed += tolerance * np.abs(self.prediction - self.reference)[some.row] * share
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
        progress = Progress.of_rows(data.batch * (1 + question.samples * places), self._verbose)
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
