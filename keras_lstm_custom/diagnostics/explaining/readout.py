"""How a number of the output comes from the last hidden states that recurrent layers give out."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from keras import ops, tree

from keras_lstm_custom.diagnostics.autodiff import no_gradients, value_and_gradients
from keras_lstm_custom.diagnostics.explaining.targets import find_target
from keras_lstm_custom.diagnostics.inputs import gathered
from keras_lstm_custom.diagnostics.recurrent_layers import Observable
from keras_lstm_custom.engines import Request, Result, reference
from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.structures import Tensor

Array = np.ndarray
#: Points between 0 and h, tried in turn. For a linear map one will do.
POINTS = (1, 4, 16, 64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Readout:
    """The output as a sum over the last hidden states of some layers."""

    target: str  #: which number of the output
    weights: dict[str, Array]  #: of each layer, `(batch, units)`: the mean gradient of the target from h = 0 to h
    prediction: Array  #: `(batch,)`, the target
    rest: Array  #: `(batch,)`, the target with these hidden states set to 0
    through: Array  #: `(batch,)`, the sum of weights times h; with `rest` it gives the prediction

    @property
    def gap(self) -> Array:
        """`(batch,)`, through + rest - prediction: 0 but for rounding where the way to the output is smooth."""
        return self.through + self.rest - self.prediction


def read_out(watched: Observable, x: Any, layers: Iterable[str], target: Any, batch_size: int) -> Readout:
    """Return how `target` comes from those of the layers that give out their last hidden state only.

    Raises:
        ArgumentError: there is no such layer, or no such target.
    """
    data = gathered(watched.model, x)
    batch = data.size
    if any(tensor.shape[0] is not None for tensor in getattr(watched.model, "inputs", None) or []):
        batch_size = batch
    asked = set(layers)
    starts = range(0, batch, batch_size)
    parts = [_part(watched, data.rows(start, start + batch_size), asked, target, start, batch) for start in starts]
    joined = {key: np.concatenate([getattr(part, key) for part in parts]) for key in ("prediction", "rest", "through")}
    weights = {name: np.concatenate([part.weights[name] for part in parts]) for name in parts[0].weights}
    return Readout(target=parts[0].target, weights=weights, **joined)


def _part(watched: Observable, x: Any, asked: set[str], target: Any, start: int, batch: int) -> Readout:
    taps = _Taps(watched, asked)
    output = taps.run(x, None)
    if not taps.last:
        raise ArgumentError(
            "No LSTM layer that was asked for gives out its last hidden state only, from which the output could come.",
            expected="a layer with return_sequences=False",
            received=", ".join(map(repr, sorted(asked))),
            remedy="Leave `target` out: the memory itself can be taken apart in any layer. Or use `attribute`.",
        )
    goal = find_target(watched.model, tree.map_structure(ops.convert_to_numpy, output), target, batch)
    rows_here = len(tree.flatten(output)[goal.leaf])
    place = ops.convert_to_tensor(goal.place[start : start + rows_here])

    def picked(share: float) -> Array:
        with no_gradients():
            given = [ops.cast(share * h, h.dtype) for h in taps.last.values()]
            return _numbers(goal.pick(taps.run(x, given), place))

    def averaged(points: int) -> dict[str, Array]:
        nodes, shares = np.polynomial.legendre.leggauss(points)
        weights = {name: np.zeros(h.shape) for name, h in taps.last.items()}
        for node, share in zip((nodes + 1) / 2, shares / 2, strict=True):
            given = [ops.cast(float(node) * h, h.dtype) for h in taps.last.values()]
            _, gradients = value_and_gradients(lambda tensors: ops.sum(goal.pick(taps.run(x, tensors), place)), given)
            for total, gradient in zip(weights.values(), gradients, strict=True):
                total += share * _numbers(gradient)
        return weights

    prediction, rest = picked(1), picked(0)
    for points in POINTS:
        weights = averaged(points)
        through = sum((weights[name] * _numbers(h)).sum(1) for name, h in taps.last.items())
        if np.allclose(through + rest, prediction, rtol=1e-5, atol=1e-5 * np.abs(prediction - rest).max()):
            break
    return Readout(target=goal.label, weights=weights, prediction=prediction, rest=rest, through=through)


class _Taps:
    """Runs the model and puts other last hidden states in the place of those that layers give out."""

    def __init__(self, watched: Observable, asked: set[str]):
        self._watched, self._asked = watched, asked
        self.last: dict[str, Tensor] = {}
        self._results: list[Result] = []
        self._first = sys.maxsize

    def run(self, x: Any, given: list[Tensor] | None) -> Any:
        """Return the output; with None, note the states instead of replacing them."""
        calls: dict[str, int] = {}
        replacements = iter(given or [])
        numbers = count()

        def serve(request: Request) -> Result:
            number, layer = next(numbers), self._watched.name_of(request.cell)
            calls[layer] = call = calls.get(layer, 0) + 1
            name = layer if call == 1 else f"{layer}#{call}"
            taken = name in self._asked and not request.return_sequences
            if given is None:
                result = reference.run(request)
                self._results.append(result)
                if taken:
                    self._first = min(self._first, number)
                    self.last[name] = result.state[0]
                return result
            if taken:
                h, result = next(replacements), self._results[number]
                return result._replace(outputs=h[:, None], state=[h, *result.state[1:]])
            # What ran before the first layer that is replaced does not depend on it.
            return self._results[number] if number < self._first else reference.run(request)

        with self._watched.watched_by(serve):
            return self._watched.model(x, training=False)


def _numbers(tensor: Tensor) -> Array:
    return ops.convert_to_numpy(tensor).astype(np.float64)
