"""Where "auto" uses a fast engine: the table of rules, backed by `benchmarks/speed.py`.

An engine may serve a request and yet be slower on it than `keras.layers.LSTM`. Each rule says where
its engine was measured to be faster; outside of it "auto" asks the next engine. An engine without a
rule is used wherever it serves. Figures and how to repeat them: `docs/engines.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from keras_lstm_custom.engines.contract import Request, Support


class Rule(NamedTuple):
    """Where an engine is worth it."""

    holds: Callable[[Request], bool]
    otherwise: str  #: what "auto" says where it does not hold


RULES: dict[str, Rule] = {
    "portable": Rule(
        lambda request: (
            request.sequences.shape[1] is not None and (request.training or request.sequences.shape[0] == 1)
        ),
        "could serve, but is measured faster only in training, or on one sequence, of a fixed number of steps",
    ),
}


def worthwhile(name: str, request: Request) -> Support:
    """Return whether "auto" uses the engine for a request that it can serve."""
    rule = RULES.get(name)
    if rule is None or rule.holds(request):
        return Support(True, "faster wherever it serves")
    return Support(False, rule.otherwise)
