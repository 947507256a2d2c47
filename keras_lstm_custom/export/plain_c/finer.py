"""Kernels of two int8 for each weight, and values of two int16, where the measured error of a package asks for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_lstm_custom.export.plain_c.build import Finer
from keras_lstm_custom.export.plain_c.compare import Comparison, Errors
from keras_lstm_custom.export.plain_c.graph.ir import Value
from keras_lstm_custom.export.plain_c.package import Package
from keras_lstm_custom.progress import Bar

#: Of the accepted error, what a package is to keep on the rows it is compared on: on others it errs a little more.
GOAL = 0.9
#: By which factor the error must fall for a change to be worth its bytes, if it does not reach the goal.
WORTH = 0.95


def recurrent(product: Value) -> list[bool]:
    """Say of each input of a product whether it is computed from a state, in the loop of the product."""
    return [_from_state(x, product.group) for x in product.inputs]


def _from_state(value: Value, group: int | None) -> bool:
    seen: set[int] = set()
    pending = [value] if group is not None else []
    while pending:
        v = pending.pop()
        if v.group == group and v.number not in seen:
            if v.kind == "state":
                return True
            seen.add(v.number)
            pending += v.inputs
    return False


def every(product: Value) -> list[bool]:
    """Say so of each input of a product."""
    return [True] * len(product.inputs)


#: What is tried, one after the other: an error in a recurrent kernel grows from step to step.
CANDIDATES = {
    "recurrent kernels": Finer(recurrent),
    "kernels": Finer(every),
    "kernels and normalised values": Finer(every, values=True),
}


def improved(
    made: Package,
    errors: Errors,
    make: Callable[[Finer], Package],
    comparison: Comparison,
    verbose: int | str,
) -> tuple[Package, Errors, list[str]]:
    """Return a package with as many kernels of two int8 as its error asks for, its errors, and notes on it.

    Args:
        made: the package with one int8 for each weight.
        errors: its own.
        make: makes it with some kernels doubled.
        comparison: compiles and runs a package, and says which error is accepted.
        verbose: 1 shows a progress bar over the candidates, 0 none, "auto" one that appears when it takes long.
    """
    before, first, what = made, _worst(errors), ""
    bar = Bar(len(CANDIDATES), verbose, "candidate")
    for tried, (name, finer) in enumerate(CANDIDATES.items(), 1):
        if _worst(errors) <= GOAL * comparison.bound or (finer.values and not before.emitter.normalises):
            break
        other = make(finer)
        found = comparison.errors(other)
        if _worst(found) <= max(GOAL * comparison.bound, WORTH * _worst(errors)):
            made, errors, what = other, found, name
        bar.show(tried)
    bar.finish()
    if not what:
        return made, errors, []
    layers = dict.fromkeys(v.layer for v in made.emitter.schedule.values if "doubled" in v.attributes)
    more = made.emitter.constant_bytes - before.emitter.constant_bytes
    told = f"the {what} of {', '.join(map(repr, layers))} take two int8 for each weight ({more:,} bytes more)"
    ram = made.emitter.struct_bytes - before.emitter.struct_bytes
    if any("coarse" in value.attributes for value in made.emitter.schedule.values):
        told += f", and two int16 for each normalised value ({ram:,} bytes of RAM more)"
    return (
        made,
        errors,
        [f"int8 weights alone err by {first:.2%} of the signal; therefore {told}: {_worst(errors):.2%}."],
    )


def _worst(errors: Errors) -> float:
    return float(np.max([error.relative_to_signal for error in errors]))
