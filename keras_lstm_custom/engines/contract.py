"""What an engine is asked, what it answers, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from keras_lstm_custom.keras_hooks import NO_DROPOUT, DropoutMasks
from keras_lstm_custom.structures import Tensor

#: What `engine=` of a layer takes: "auto", or an engine of `registry.ENGINES` by name. A type checker reads it here.
EngineName: TypeAlias = Literal[
    "auto", "cudnn", "native", "portable", "jax_scan", "torch_nn", "torch_loop", "derived", "reference"
]


@dataclass(frozen=True)
class Request:
    """One call of a recurrent layer. Shapes: `sequences` `(batch, timesteps, features)`, states `(batch, units)`.

    `sequences` and states are tensors, or `keras.KerasTensor`s when only `supports` is asked.
    """

    cell: Any  #: an `EquationCell`: kind, weights, activations, `project_inputs`, `step`
    sequences: Tensor
    initial_state: list[Tensor]
    mask: Tensor | None = None  #: `(batch, timesteps)`; a masked step keeps the state and repeats the output
    dropout: DropoutMasks = NO_DROPOUT
    go_backwards: bool = False  #: run over reversed time; outputs come in the order they were computed
    unroll: bool = False
    return_sequences: bool = False  #: all outputs are wanted; else only the last one is
    zero_output_for_mask: bool = False
    stateful: bool = False
    training: bool = False
    checkpoint_every: int | None = None  #: how many steps' gates training keeps at a time; None: all
    use_cudnn: bool | str = "auto"  #: Keras' option: False forbids cuDNN
    keep_steps: bool = False  #: return all that each step computed, too; what is there at masked steps means nothing


class Support(NamedTuple):
    """Whether an engine can serve a request, and why (not)."""

    ok: bool
    reason: str


class Result(NamedTuple):
    """What a run returns: `h` after each step, in the order in which the steps ran, and the final state.

    A masked step keeps the state, so `h` after it is the `h` before it, and the initial `h` before the first
    step that is read. What a layer gives out at such steps is not the engine's matter: `masking.masked` puts
    it in for all of them, in `registry.run`.
    """

    outputs: Tensor  #: `(batch, timesteps, units)`, or `(batch, 1, units)` unless `return_sequences` asked for all
    state: list[Tensor]
    engine: str  #: name of the engine that ran
    steps: Any = None  #: the cell's `step_type`, each field `(batch, timesteps, units)`, if asked for

    @property
    def last_output(self) -> Tensor:
        """The output of the last step, `(batch, units)`."""
        return self.outputs[:, -1]


@dataclass(frozen=True)
class Engine:
    """A way to run a cell over time.

    `supports` decides from shapes, dtypes and options alone and never runs anything; `run` may
    assume that `supports` said yes.
    """

    name: str
    summary: str
    supports: Callable[[Request], Support]
    run: Callable[[Request], Result]
    graph: Literal["plain", "xla", "own"] = "plain"  #: what a TensorFlow graph of it holds (`saved_graphs`)
    derivatives: Literal["all", "first"] = "all"  #: "first": under TensorFlow `higher_derivatives` adds the others
