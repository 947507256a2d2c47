"""What the integers cannot show, in more bits: outputs in int16, ops in float, where a measured error asks for it.

Eight bits do not suit every tensor: a sigmoid between 0.48 and 0.52 has a tenth of the 256 steps, a concatenation
has one scale for parts of different size, and a signal that fades with depth drowns in the kernels' tables. So an
integer file is run on rows of the calibration, on each runtime that is here and takes it, and while its error is above
the goal of `PLANS` the one change that lowers it most is made: an output stored in int16, or an op with weights or
with a table (sigmoid, softmax, tanh) computed in float. What was promoted stands in the notes of the report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from keras_lstm_custom.export.file import fused_lstm
from keras_lstm_custom.export.file.graph import Graph, Written, signature_of
from keras_lstm_custom.export.quantization.rules import RULES, Rule
from keras_lstm_custom.export.running import runtimes as rt
from keras_lstm_custom.progress import Bar
from keras_lstm_custom.writing import scratch

#: By which factor the error must fall for a change to be worth its bytes.
WORTH = 0.95
ROWS = 16  #: that each candidate is run on
#: Candidates that are tried at most, each in a process for each runtime. A masked classifier, unrolled over 12 steps,
#: is at 5.0 % of its signal after 24 and after 85, where no further one helps. Of 13 random graphs of up to 24 units
#: (`tests/export/random_graphs.py`, seeds 100 to 106) one needed any, and one candidate did.
MOST_TRIED = 24
RUNTIMES = ("litert", "micro")
_STATES = (fused_lstm.H, fused_lstm.C)


class Promoted(NamedTuple):
    """Tensors of the float file: outputs to store in int16, and outputs of ops to compute in float."""

    int16: frozenset[int] = frozenset()
    in_float: frozenset[int] = frozenset()


def promote(
    file: Written,
    rows: Sequence[Sequence[np.ndarray]],
    scheme: str,
    make: Callable[[Promoted], Written],
    finer: frozenset[int] = frozenset(),
    verbose: int | str = 0,
) -> Written:
    """Return the integer file that `make` writes with as much promoted as its error asks for, and notes on it.

    Args:
        file: the float file, which gives the values to compare with.
        rows: of the calibration, for each an array for each input.
        scheme: "int8" or "int16x8".
        make: writes the integer file with some tensors promoted.
        finer: what is int16 anyway, and not looked at.
        verbose: 1 shows a progress bar over the candidates, 0 none, "auto" one that appears when it takes long.
    """
    samples = [np.concatenate(column) for column in zip(*rows[:ROWS], strict=True)]
    goal, changes = PLANS[scheme]
    tried, bar = 0, Bar(MOST_TRIED, verbose, "candidate")
    with scratch() as folder:
        path = folder / "candidate.tflite"

        def run(content: bytes, runtime: str) -> tuple[np.ndarray, ...]:
            path.write_bytes(content)
            return rt.run_file(path, samples, runtime).outputs

        reference = run(file.content, "litert")
        chosen = Promoted()
        made = make(chosen)
        errors = {name: _error(run(made.content, name), reference) for name in RUNTIMES if rt.is_installed(name)}
        # One that refuses the file (LiteRT an int16 LSTM, the other an op that it lacks) says nothing about its bits.
        runtimes = [name for name, error in errors.items() if math.isfinite(error)]
        error = first = max((errors[name] for name in runtimes), default=0.0)
        pending = [change(file.graph, finer) for change in changes]
        while error > goal and pending and tried < MOST_TRIED:
            tries = []
            for candidate in pending[0](chosen)[: MOST_TRIED - tried]:
                other = make(candidate)
                tries.append((max(_error(run(other.content, name), reference) for name in runtimes), candidate, other))
                tried += 1
                bar.show(tried)
            best = min(tries, default=None, key=lambda each: each[0])
            if best is None or best[0] > WORTH * error:
                pending.pop(0)
            else:
                error, chosen, made = best
    bar.finish()
    notes = _notes(file.graph, scheme, chosen, first, error, goal, tried)
    return made._replace(notes=[*made.notes, *notes])


def _error(got: Iterable[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Return the worst output's error as a share of its deviation; infinite if it was not run."""
    pairs = list(zip(got, expected, strict=False))
    if len(pairs) < len(expected):
        return float("inf")
    return max(float(np.sqrt(np.mean((a - b) ** 2)) / (b.std() or 1.0)) for a, b in pairs)


Candidates = Callable[[Promoted], list[Promoted]]


def _more_outputs(graph: Graph, finer: frozenset[int]) -> Candidates:
    outputs = sorted({int(index) for index in signature_of(graph)[1].values()} - finer)
    return lambda now: [now._replace(int16=now.int16 | {index}) for index in outputs if index not in now.int16]


def _more_float(graph: Graph, finer: frozenset[int]) -> Candidates:
    """Offer ops to compute in float, those nearest to the outputs first; ops with the same weights go together."""
    # An LSTM whose states are read from its variables keeps them in the form that their readers expect.
    read = {int(i) for o in graph.operators if RULES.get(graph.code(o)) is not Rule.LSTM for i in o.inputs}
    read |= set(graph.outputs)
    shown = {int(o.outputs[0]) for o in fused_lstm.lstm_ops(graph) if read & {int(o.inputs[s]) for s in _STATES}}
    together: dict[int, set[int]] = {}
    for operator in reversed(graph.operators):
        rule, output = RULES.get(graph.code(operator)), int(operator.outputs[0])
        if rule in (Rule.LOOP, Rule.LSTM, Rule.WEIGHTED, Rule.FIXED) and output not in shown | finer:
            key = int(operator.inputs[1]) if rule is Rule.WEIGHTED else output
            together.setdefault(key, set()).add(output)
    groups = list(together.values())
    return lambda now: [now._replace(in_float=now.in_float | group) for group in groups if not group <= now.in_float]


class Plan(NamedTuple):
    """When and how integers are given up in places."""

    goal: float  #: the error above which they are, as a share of the output's standard deviation
    changes: tuple[Callable[[Graph, frozenset[int]], Candidates], ...]  #: one kind after the other, while each helps


#: By the scheme. A goal is below what a file is to keep, since other rows than those it is measured on give other
#: errors. The outputs of int16x8 are int16 already.
PLANS = {
    "int8": Plan(0.045, (_more_outputs, _more_float, _more_outputs)),
    "int16x8": Plan(0.02, (_more_float,)),
}


def _notes(
    graph: Graph, scheme: str, chosen: Promoted, before: float, after: float, goal: float, tried: int
) -> list[str]:
    notes = []
    if chosen.int16 or chosen.in_float:
        outputs = {index: name for name, index in signature_of(graph)[1].items()}
        told = [f"the output {outputs[index]!r} is int16" for index in sorted(chosen.int16)]
        told += [f"{graph.name(index)!r} computes in float" for index in sorted(chosen.in_float)]
        done = ", ".join(told)
        alone = f"{scheme} alone errs by {before:.1%} of the signal on the calibration"
        notes = [f"{alone}; therefore {done}: {after:.1%}."]
    if tried >= MOST_TRIED and after > goal:
        notes.append(f"The search for what to compute in more bits ended after {tried} candidates.")
    return notes
