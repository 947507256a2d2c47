"""`attribute`: which input at which step made this prediction."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_lstm_custom.diagnostics.explaining.baselines import Data, references
from keras_lstm_custom.diagnostics.explaining.holding import HeldModel
from keras_lstm_custom.diagnostics.explaining.record import Attribution
from keras_lstm_custom.diagnostics.explaining.summing import Question, Work
from keras_lstm_custom.diagnostics.explaining.targets import find_target
from keras_lstm_custom.diagnostics.explaining.variables import (
    find_variables,
    input_names,
    typed,
    value_shapes,
)
from keras_lstm_custom.diagnostics.inputs import gathered
from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.models.walk import recurrent_layers

Array = np.ndarray
METHODS = ("integrated_gradients", "occlusion")
#: What the gradient may keep of the steps of one batch, in numbers.
NUMBERS_AT_A_TIME = 2**27
#: What it keeps of each step and unit: gates and states, and what they were computed from.
KEPT_FOR_EACH_UNIT = 16
#: More sequences at a time are not faster on a CPU.
MOST_AT_A_TIME = 256
#: From 1 to the next number, by dtype.
SPACING = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}


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
    work = Work(question, verbose)
    if method == "occlusion":
        work.occlude(_precision(model))
        return work.result(method)
    left = work.integrate(_precision(model), tolerance, max_points)
    result = work.result(method)
    left = left[np.abs(result.gap[left]) > tolerance * np.abs(result.delta[left])]  # of the whole, not of one piece
    if len(left):
        _warn(result, left, tolerance)
    return result


def _ask(model: keras.Model, x: Any, target: Any, baseline: Any, batch_size: int | None) -> Question:
    _check_model(model)
    taken = gathered(model, x)
    x, batch = taken.x, taken.size
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
    return Question(data, goal, variables, compared, label, value_shapes(variables, rows, first), at_a_time, fixed)


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
