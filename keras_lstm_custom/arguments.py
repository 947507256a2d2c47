"""What each argument that comes from Keras is, in a line and as a type: for docstrings and for the stubs of editors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import NamedTuple


class Argument(NamedTuple):
    """One argument of a layer or cell."""

    type: str  #: as a stub writes it; the names of `ALIASES` may stand in it
    text: str  #: what it is, for docstrings


#: Names that the types below use, and what they stand for.
ALIASES = {
    "Activation": "str | Callable[..., Any] | None",
    "Constraint": "str | Mapping[str, Any] | Callable[..., Any] | None",
    "DType": "str | Mapping[str, Any] | keras.DTypePolicy | None",
    "Initializer": "str | Mapping[str, Any] | Callable[..., Any] | None",
    "Regularizer": "str | Mapping[str, Any] | Callable[..., Any] | None",
}

_OF = {"kernel": "kernel", "recurrent": "recurrent kernel", "bias": "bias"}

#: By name, in Keras' meaning; `tests/test_arguments.py` finds every argument of every public layer and cell here.
ARGUMENTS = {
    "units": Argument("int", "size of the hidden state, a positive integer."),
    "activation": Argument("Activation", "function of the candidate and of what leaves; a name, a callable, or None."),
    "recurrent_activation": Argument("Activation", "function of the gates; a name, a callable, or None."),
    "use_bias": Argument("bool", "whether there is a bias."),
    **{
        f"{of}_initializer": Argument("Initializer", f"where the {weight} starts from; a name or a Keras initializer.")
        for of, weight in _OF.items()
    },
    "unit_forget_bias": Argument("bool", "whether the forget gate's bias starts at 1."),
    **{
        f"{of}_regularizer": Argument("Regularizer", f"penalty on the {weight}, or None.") for of, weight in _OF.items()
    },
    "activity_regularizer": Argument("Regularizer", "penalty on the output, or None."),
    **{
        f"{of}_constraint": Argument("Constraint", f"bound on the {weight} after each update, or None.")
        for of, weight in _OF.items()
    },
    "dropout": Argument("float", "share of the input that training drops, in [0, 1); one mask for all steps."),
    "recurrent_dropout": Argument("float", "the same for the hidden state that is read."),
    "seed": Argument("int | None", "of the dropout; None draws one."),
    "reset_after": Argument("bool", "whether the reset gate comes after the product with the recurrent kernel."),
    "return_sequences": Argument("bool", "whether the output holds every step, or the last one alone."),
    "return_state": Argument("bool", "whether the final state comes with the output."),
    "go_backwards": Argument("bool", "whether the sequence is read from its end; the output is in that order, too."),
    "stateful": Argument("bool", "whether a row goes on from the state in which the batch before left it."),
    "unroll": Argument("bool", "whether the loop is written out: faster for few steps, and larger."),
    "use_cudnn": Argument('Literal["auto", True, False]', "whether cuDNN may serve; better chosen by `engine`."),
    "zero_output_for_mask": Argument("bool", "whether the output is zero at masked steps, with `return_sequences`."),
    "name": Argument("str | None", "name of the layer; None makes one."),
    "dtype": Argument("DType", "type of the weights and of what is computed, or a policy such as 'mixed_float16'."),
    "trainable": Argument("bool", "whether training changes the weights."),
}
#: What Keras takes by `**kwargs`, with the defaults: of every layer, and of a layer over time.
BY_KEYWORD = {"name": None, "dtype": None, "trainable": True}
BY_KEYWORD_OVER_TIME = {"zero_output_for_mask": False, **BY_KEYWORD}

_SECTION = re.compile(r"^Args:(?P<body>.*?)(?=^\S|\Z)", re.DOTALL | re.MULTILINE)


def described(docstring: str) -> dict[str, str]:
    """Return what the `Args:` of a docstring says of each argument, by name; several may share a line."""
    found = _SECTION.search(inspect.cleandoc(docstring))
    if found is None:
        return {}
    starts = re.split(r"^    ([a-z_]+(?:, [a-z_]+)*): ", found["body"], flags=re.MULTILINE)[1:]
    texts = {}
    for names, text in zip(starts[::2], starts[1::2], strict=True):
        for name in names.split(", "):
            texts[name] = text.strip()
    return texts


def with_arguments(docstring: str | None, names: Iterable[str], *others: str | None) -> str | None:
    """Return a docstring whose `Args:` describe every argument, one entry each, in the order of `names`.

    Args:
        docstring: its own entries count first; None (Python without docstrings) stays None.
        names: the arguments.
        others: docstrings that describe what it does not; what none of them does has its line in `ARGUMENTS`.
    """
    if docstring is None:
        return None
    docstring = inspect.cleandoc(docstring)
    texts = {name: argument.text for name, argument in ARGUMENTS.items()}
    for source in [*reversed(others), docstring]:
        texts |= described(source or "")
    entries = "\n".join(f"    {name}: {texts[name]}" for name in names if name in texts)
    if not _SECTION.search(docstring):
        docstring += "\n\nArgs:\n"
    return _SECTION.sub(lambda _: f"Args:\n{entries}\n\n", docstring, count=1).rstrip()
