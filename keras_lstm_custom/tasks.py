"""Tasks from the literature that need a memory over many steps, as generators of fresh sequences.

They are those of Hochreiter & Schmidhuber 1997, *Long Short-Term Memory*, Neural Computation 9(8): the
embedded Reber grammar (section 5.1), the adding problem (5.4), the multiplication problem (5.5) and the
temporal order problem (5.6, task 6a). What counts as correct in the last three is theirs, too.

```python
task = tasks.TASKS["adding"]
x, y, marks = task.draw(1000, length=100, rng=np.random.default_rng(0))
share = task.correct(y, model.predict(x)).mean()      # solved if at least 0.99 on fresh sequences
```

Lengths vary from sequence to sequence. Shorter ones are filled up with all-zero steps at the end,
which no real step is, so that a `keras.layers.Masking()` in front of the network skips them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from keras_lstm_custom.errors import ArgumentError, InputError

#: Symbols of the temporal order problem, in the order of its input columns.
SYMBOLS = ("E", "B", "a", "b", "c", "d", "X", "Y")
#: Its classes, in the order of the target's columns, and what each stands for.
CLASSES = {"Q": ("X", "X"), "R": ("X", "Y"), "S": ("Y", "X"), "U": ("Y", "Y")}


#: Symbols of the embedded Reber grammar, in the order of its columns.
REBER_SYMBOLS = ("B", "T", "P", "S", "X", "V", "E")
#: Reber's grammar: from each state the symbols that may come, and the state that each leads to. State 7 is the end.
REBER = (
    {"B": 1},
    {"T": 2, "P": 3},
    {"S": 2, "X": 4},
    {"T": 3, "V": 5},
    {"X": 3, "S": 6},
    {"P": 4, "V": 6},
    {"E": 7},
)


class Sequences(NamedTuple):
    """Sequences with their targets."""

    x: np.ndarray  #: `(count, timesteps, features)` float32; all-zero steps after a sequence's end
    y: np.ndarray  #: `(count, outputs)` float32; `(count, timesteps, outputs)` where each step has a target
    marks: np.ndarray  #: `(count, 2)`, the two steps (from 0) that the target depends on, earlier one first


@dataclass(frozen=True)
class Task:
    """A task: how its sequences are drawn, and when an answer is correct."""

    name: str
    features: int
    outputs: int
    tolerance: float | None  #: the absolute error of every output must be below this; None: see `correct`
    shortest: int  #: the smallest `length` for which the definition makes sense
    draw: Callable[..., Sequences]  #: `(count, length, rng)`

    def correct(self, y: np.ndarray, answer: np.ndarray) -> np.ndarray:
        """Return for each sequence whether the answer is correct, `(count,)` booleans.

        Without a tolerance each step is a prediction: what may come next must have a higher output than all else. Steps
        without a target do not count.

        Args:
            y: targets, `(count, outputs)` or `(count, timesteps, outputs)`.
            answer: what the network gave, of the same shape.

        Raises:
            InputError: the shapes differ, so that comparing them would mix up sequences.
        """
        if np.shape(y) != np.shape(answer):
            raise InputError(
                f"Targets and answers of the task {self.name!r} do not fit.",
                expected=f"answers of the targets' shape {np.shape(y)}",
                received=f"answers of shape {np.shape(answer)}",
                remedy=f"End the model in a layer with {self.outputs} output(s) for each "
                + ("step." if self.tolerance is None else "sequence."),
            )
        y, answer = np.asarray(y), np.asarray(answer)
        if self.tolerance is not None:
            return (np.abs(y - answer) < self.tolerance).all(axis=-1)
        lowest_right = np.where(y > 0, answer, np.inf).min(axis=-1)
        highest_wrong = np.where(y > 0, -np.inf, answer).max(axis=-1)
        return (lowest_right > highest_wrong).all(axis=-1)  # without a target the lowest is +inf


def adding_problem(count: int, length: int, rng: np.random.Generator) -> Sequences:
    """Draw sequences of the adding problem: remember two marked numbers, answer with their sum.

    Each step is a pair: a number drawn uniformly from [-1, 1], and a marker. One of the first ten
    steps and one of the first `length / 2 - 1` that are then still unmarked carry the marker 1; the
    first and the last step carry -1 (if the first step was the marked one, it counts as 0); all
    others 0. A sequence has from `length` to `length + length / 10` steps, all equally likely. The
    target is `0.5 + (X1 + X2) / 4`, in [0, 1]; correct means an absolute error below 0.04. The
    answer is due at least `length / 2` steps after the second marked number.

    Args:
        count: how many sequences.
        length: T of the paper, which uses 100, 500 and 1000; at least 20.
        rng: source of randomness.

    Returns:
        `Sequences`; x is `(count, length + length // 10, 2)`, y is `(count, 1)`.

    Raises:
        ArgumentError: `count` or `length` is too small or no whole number, or `rng` is no generator.
    """
    _check("adding", count, length, rng)
    x, (one, other), marks = _marked_numbers(count, length, rng, lowest=-1, at_first_step=0)
    y = 0.5 + (one + other) / 4
    return Sequences(x, y[:, None].astype("float32"), marks)


def multiplication_problem(count: int, length: int, rng: np.random.Generator) -> Sequences:
    """Draw sequences of the multiplication problem: remember two marked numbers, answer with their product.

    As `adding_problem`, but numbers are drawn from [0, 1], the first step counts as 1 if it was the marked one, and
    the target is `X1 X2`. Not to be solved by adding up: the memory must hold each number.

    Args:
        count: how many sequences.
        length: T of the paper, which uses 100; at least 20.
        rng: source of randomness.

    Returns:
        `Sequences`; x is `(count, length + length // 10, 2)`, y is `(count, 1)`.

    Raises:
        ArgumentError: `count` or `length` is too small or no whole number, or `rng` is no generator.
    """
    _check("multiplication", count, length, rng)
    x, (one, other), marks = _marked_numbers(count, length, rng, lowest=0, at_first_step=1)
    return Sequences(x, (one * other)[:, None].astype("float32"), marks)


def embedded_reber(count: int, length: int, rng: np.random.Generator) -> Sequences:
    """Draw strings of the embedded Reber grammar: after each symbol predict which may come next.

    A string is B, then T or P, then a string of Reber's grammar (`REBER`, both branches of a state equally likely),
    then the T or P of the start again, then E. All but that last T or P follows from the symbols just before it. A
    string has from 9 to `length` symbols; longer ones are drawn again. The target of a step has a 1 for each symbol
    that may follow; the last symbol of a string has none.

    Args:
        count: how many strings.
        length: the most symbols of a string; at least 20.
        rng: source of randomness.

    Returns:
        `Sequences`; x and y are `(count, length, 7)` in the order of `REBER_SYMBOLS`; marks are the steps of the first
        T or P, and of the symbol that it is to be predicted after.

    Raises:
        ArgumentError: `count` or `length` is too small or no whole number, or `rng` is no generator.
    """
    _check("embedded Reber grammar", count, length, rng)
    x, y = np.zeros((2, count, length, len(REBER_SYMBOLS)), "float32")
    marks = np.ones((count, 2), int)
    for row in range(count):
        text, following = _reber_string(rng)
        while len(text) > length:
            text, following = _reber_string(rng)
        for step, symbol in enumerate(text):
            x[row, step, REBER_SYMBOLS.index(symbol)] = 1
        for step, symbols in enumerate(following):
            y[row, step, [REBER_SYMBOLS.index(symbol) for symbol in symbols]] = 1
        marks[row, 1] = len(text) - 3
    return Sequences(x, y, marks)


def _reber_string(rng: np.random.Generator) -> tuple[str, list[str]]:
    """Return an embedded string, and for each symbol but the last those that may follow it."""
    side = "TP"[rng.integers(2)]
    text, following, state = "B" + side, ["TP", "B"], 0
    while state < len(REBER):
        symbols = sorted(REBER[state])
        symbol = symbols[rng.integers(len(symbols))]
        state = REBER[state][symbol]
        text += symbol
        following.append("".join(REBER[state]) if state < len(REBER) else side)
    return text + side + "E", [*following, "E"]


def _marked_numbers(
    count: int, length: int, rng: np.random.Generator, lowest: float, at_first_step: float
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return sequences of numbers and markers, the two marked numbers, and their steps."""
    lengths, timesteps = _lengths(count, length, rng)
    rows = np.arange(count)

    first = rng.integers(0, 10, count)
    second = rng.integers(0, length // 2 - 1, count)  # counts the unmarked steps; skip the marked one
    second += second >= first

    numbers = rng.uniform(lowest, 1, (count, timesteps))
    numbers[(first == 0) | (second == 0), 0] = at_first_step
    markers = np.zeros((count, timesteps))
    markers[rows, first] = markers[rows, second] = 1
    markers[:, 0] = markers[rows, lengths - 1] = -1

    x = np.stack([numbers, markers], axis=-1) * _inside(lengths, timesteps)
    marks = np.sort(np.stack([first, second], 1))
    return x.astype("float32"), (numbers[rows, first], numbers[rows, second]), marks


def temporal_order(count: int, length: int, rng: np.random.Generator) -> Sequences:
    """Draw sequences of the temporal order problem: which of X and Y came first, which second?

    Each step is one symbol, coded with a single 1. A sequence starts with E, ends with B, and
    consists of random symbols from a, b, c, d, but for an X or a Y at each of two steps t1 and t2.
    The class is Q for X, X; R for X, Y; S for Y, X; U for Y, Y. With `length=100`, the paper's
    case, a sequence has 100 to 110 steps, t1 lies from 10 to 20 and t2 from 50 to 60 (counted from
    0); for other lengths these numbers are scaled and rounded down. Correct means that the absolute
    error of every output is below 0.3. The two symbols are more than
    `0.3 * length - 1` steps apart, and the answer is due at least `0.4 * length - 1` steps after the second.

    Args:
        count: how many sequences.
        length: 100 in the paper; at least 20.
        rng: source of randomness.

    Returns:
        `Sequences`; x is `(count, length + length // 10, 8)` in the order of `SYMBOLS`, y is
        `(count, 4)`, a single 1 in the order of `CLASSES`.

    Raises:
        ArgumentError: `count` or `length` is too small or no whole number, or `rng` is no generator.
    """
    _check("temporal order", count, length, rng)
    lengths, timesteps = _lengths(count, length, rng)
    rows = np.arange(count)

    marks = np.stack(
        [rng.integers(length * start // 10, length * (start + 1) // 10 + 1, count) for start in (1, 5)], axis=1
    )
    which = rng.integers(0, 2, (count, 2))  # 0 for X, 1 for Y

    symbols = rng.integers(SYMBOLS.index("a"), SYMBOLS.index("d") + 1, (count, timesteps))
    symbols[rows[:, None], marks] = SYMBOLS.index("X") + which
    symbols[:, 0] = SYMBOLS.index("E")
    symbols[rows, lengths - 1] = SYMBOLS.index("B")

    x = np.eye(len(SYMBOLS))[symbols] * _inside(lengths, timesteps)
    y = np.eye(len(CLASSES))[2 * which[:, 0] + which[:, 1]]
    return Sequences(x.astype("float32"), y.astype("float32"), marks)


#: The tasks by name.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("adding", features=2, outputs=1, tolerance=0.04, shortest=20, draw=adding_problem),
        Task("multiplication", features=2, outputs=1, tolerance=0.04, shortest=20, draw=multiplication_problem),
        Task("temporal order", features=8, outputs=4, tolerance=0.3, shortest=20, draw=temporal_order),
        Task("embedded Reber grammar", features=7, outputs=7, tolerance=None, shortest=20, draw=embedded_reber),
    )
}


def _check(name: str, count: Any, length: Any, rng: Any) -> None:
    shortest = TASKS[name].shortest
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in (count, length))
    if not whole or count < 1 or length < shortest or not isinstance(rng, np.random.Generator):
        raise ArgumentError(
            f"Sequences of the task {name!r} cannot be drawn.",
            expected=f"whole numbers, count of at least 1, length of at least {shortest} (room for its marked steps), "
            "and a numpy.random.Generator",
            received=f"count={count!r}, length={length!r}, rng={rng!r}",
            remedy="Pass e.g. 1000, length=100 and rng=np.random.default_rng(0).",
        )


def _lengths(count: int, length: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Return the length of each sequence, and that of the longest possible one."""
    longest = length + length // 10
    return rng.integers(length, longest + 1, count), longest


def _inside(lengths: np.ndarray, timesteps: int) -> np.ndarray:
    """Return `(count, timesteps, 1)`: whether a step belongs to its sequence."""
    return (np.arange(timesteps) < lengths[:, None])[..., None]
