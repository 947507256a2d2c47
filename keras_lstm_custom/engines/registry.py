"""The table of engines, and the choice among them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import keras

from keras_lstm_custom.engines import (
    checkpoint,
    cudnn,
    derived,
    higher_derivatives,
    jax_scan,
    masking,
    measured,
    memory,
    native,
    no_steps,
    portable,
    recording,
    reference,
    saved_graphs,
    torch_loop,
    torch_nn,
)
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.errors import EngineError

#: Every engine by name, in the order in which "auto" asks them.
ENGINES: dict[str, Engine] = {
    module.ENGINE.name: module.ENGINE
    for module in (cudnn, native, portable, jax_scan, torch_nn, torch_loop, derived, reference)
}

AUTO: Final = "auto"


@dataclass(frozen=True)
class Explanation:
    """Which engine serves a request, and what each engine answered. `str()` gives a table."""

    chosen: str | None  #: None: the forced engine cannot serve
    answers: dict[str, Support]

    def __str__(self) -> str:
        width = max(map(len, self.answers))
        rows = [
            f"{'->' if name == self.chosen else '  '} {name:<{width}}  {'yes' if ok else 'no '}  {reason}"
            for name, (ok, reason) in self.answers.items()
        ]
        return "\n".join(rows)


def check_name(name: str) -> str:
    """Return `name` if it is "auto" or a known engine.

    Raises:
        EngineError: it is neither.
    """
    if name != AUTO and name not in ENGINES:
        raise EngineError(
            "There is no engine of that name.",
            expected=", ".join(repr(known) for known in (AUTO, *ENGINES)),
            received=repr(name),
            remedy="Pass engine='auto', or one of the names above.",
        )
    return name


def choose(name: str, request: Request) -> Engine:
    """Return the engine `name`, or for "auto" the first that can serve, is worth it and may be in the graph.

    `measured` says where an engine is worth it, `saved_graphs` what may be in which graph.

    Raises:
        EngineError: the name is unknown, or a forced engine cannot serve; the message has its reasons.
    """
    request = checkpoint.segment_of(request)
    if check_name(name) == AUTO:
        chosen = next((engine for engine in ENGINES.values() if _answer(engine, request).ok), None)
        if chosen is None:  # the reference engine serves everything, unless it may not
            raise _no_cudnn(request)
        return chosen
    engine = ENGINES[name]
    support = engine.supports(request)
    if not support.ok:
        raise EngineError(
            f"The engine {name!r} was forced but cannot serve this call.",
            expected=f"a call that {name!r} supports",
            received=support.reason,
            remedy="Pass engine='auto', or change what the reason names; `layer.explain_engine` lists every engine.",
        )
    return engine


def _no_cudnn(request: Request) -> EngineError:
    own = "torch_nn" if keras.backend.backend() == "torch" else "cudnn"
    return EngineError(
        "use_cudnn=True, but cuDNN cannot serve this call.",
        expected="a call that cuDNN can serve, on an NVIDIA GPU",
        received=f"the engine {own!r} {ENGINES[own].supports(request).reason}",
        remedy="Change what the reason names, or leave use_cudnn at 'auto'; `layer.explain_engine` lists every engine.",
    )


def _answer(engine: Engine, request: Request) -> Support:
    """Return what the engine answers to "auto"."""
    support = engine.supports(request)
    if not support.ok:
        return support
    limits = (
        measured.worthwhile(engine.name, request),
        saved_graphs.allows(engine, request),
        higher_derivatives.allows(engine, request),
    )
    refused = next((limit for limit in limits if not limit.ok), None)
    return refused or support._replace(reason="; ".join(filter(None, (support.reason, *(said for _, said in limits)))))


def explain(name: str, request: Request) -> Explanation:
    """Return what every engine answers to the request, and which one serves it."""
    request = checkpoint.segment_of(request)
    auto = check_name(name) == AUTO
    answers = {e.name: _answer(e, request) if auto else e.supports(request) for e in ENGINES.values()}
    asked = answers if auto else {name: answers[name]}
    return Explanation(next((engine for engine, (ok, _) in asked.items() if ok), None), answers)


def run(name: str, request: Request) -> Result:
    """Run the request on the engine that `choose` picks, or hand it to the active recorder; then apply the mask."""
    serve = recording.active()
    if serve is None:
        engine = choose(name, request)
        if name == AUTO:
            saved_graphs.forbid_saving(engine)
        engine = higher_derivatives.of_every_order(engine)
        serve = no_steps.served(partial(checkpoint.run, engine)) if checkpoint.cuts(request) else engine.run
    with memory.explained(request):
        result = serve(request)
    return masking.masked(request, result)
