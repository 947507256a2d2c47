"""What a cell tells people of what it computes: names, ranges and formulas, for traces, pictures and pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple


@dataclass(frozen=True)
class Symbol:
    """One thing that a step computes."""

    title: str = ""  #: in words: "forget gate"
    range: Literal["share", "signed", "free"] = "free"  #: "share": in [0, 1]; "signed": in [-1, 1]
    does: str = ""  #: of a share: what the part does that it stands for ("stays", "enters")
    keeps: str = ""  #: of a share: the state of which it is the part that stays
    enters: str = ""  #: what is added to that state beside, in LaTeX; by default the difference
    label: str = ""  #: in a legend, where the title is too long or too dry

    def latex(self, name: str) -> str:
        """Return title and symbol for matplotlib: `forget gate $f_t$`."""
        upright = name if len(name) == 1 else rf"\mathrm{{{name}}}"
        return f"{self.title} {f'${upright}_t$' if name.isalnum() else name}".strip()


class Formula(NamedTuple):
    r"""One equation of a cell, as the page of `report` shows it with the numbers of a step.

    `right` is written in a little LaTeX. Numbers take the place of `f_t` (what the step computes), `c_{t-1}` (the state
    before), `W_f x_t`, `U_f h_{t-1}` and `U_f (r_t \odot h_{t-1})` (products with the block of a gate), `b_f`
    (`bias`; of a bias with two rows `b_f` and `d_f`), and what `EquationCell.vectors` names; `\tanh` stands for the
    activation, `\sigma` for the recurrent one. In `says`, `[f_t %]` is a share in percent, `[f_t * c_{t-1}]` a product,
    and `[g_t: down, up]` a word for below 0 and one for the rest.
    """

    symbol: str
    right: str
    says: str = ""
    of_all_units: bool = False  #: made of more than the unit shown, so that no numbers are put in


@dataclass(frozen=True)
class Description:
    """What a trace knows of its cell; plain data, so that it is read back without the cell's class."""

    title: str  #: of the cell: "LSTM"
    kind: str  #: as `EquationCell.kind` says
    states: tuple[str, ...]  #: the first is what the cell gives out
    symbols: Mapping[str, Symbol] = field(default_factory=dict)  #: all that a step computes, in the order shown

    @property
    def memory(self) -> str:
        """The state that carries the past: the one that a gate keeps; else of several the one behind the output."""
        kept = (symbol.keeps for symbol in self.symbols.values() if symbol.keeps in self.states)
        return next(kept, self.states[:2][-1])

    @property
    def keeper(self) -> str | None:
        """The gate that is the share of the memory that stays, if there is one."""
        return next((name for name, symbol in self.symbols.items() if symbol.keeps == self.memory), None)

    def names(self, within: str) -> tuple[str, ...]:
        """Return the names of the symbols of a range."""
        return tuple(name for name, symbol in self.symbols.items() if symbol.range == within)

    @property
    def computed(self) -> tuple[str, ...]:
        """What is not a state."""
        return tuple(name for name in self.symbols if name not in self.states)

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Description:
        symbols = {name: Symbol(**symbol) for name, symbol in data["symbols"].items()}
        return cls(**{**data, "states": tuple(data["states"]), "symbols": symbols})


def described(cell: Any, known: Mapping[str, Symbol] | None = None) -> Description:
    """Return what a cell says of what it computes; of a class, `known` says it. Other symbols are there by name.

    They come in the order: what the step computes on its way, then the states, the output last.
    """
    states = cell.state_type._fields
    computed = cell.step_type._fields[len(states) :]
    unnamed = {name: Symbol(f"state {name}") for name in states} | {states[0]: Symbol("hidden state")}
    names = [*computed, *reversed(states)]
    known = cell.symbols if known is None else known
    symbols = {name: known.get(name) or unnamed.get(name) or Symbol() for name in names}
    return Description(cell.title or cell.kind.removesuffix("Cell"), cell.kind, states, symbols)
