"""What an LSTM with options tells people of what it computes."""

from __future__ import annotations

from dataclasses import replace

from keras_lstm_custom.equations.lstm_options import LSTMOptions
from keras_lstm_custom.symbols import Formula, Symbol

SAYS = {
    "f": "forget gate: [f_t %] of the memory stays",
    "i": "input gate: [i_t %] of the candidate enters",
    "g": "candidate: pushes the memory [g_t: down, up]",
    "o": "output gate: [o_t %] of the memory leaves",
    "c": "memory: [f_t * c_{t-1}] stays, [i_t * g_t] enters",
    "h": "short-term memory: what leaves",
}
SEEN = {"i": "c_{t-1}", "f": "c_{t-1}", "o": "c_t"}  #: by a peephole


SYMBOLS = {
    "i": Symbol("input gate", "share", does="enters"),
    "f": Symbol("forget gate", "share", does="stays", keeps="c", enters="i_t g_t"),
    "g": Symbol("candidate", "signed"),
    "o": Symbol("output gate", "share", does="leaves"),
    "c": Symbol("cell state", label="long-term"),
    "h": Symbol("hidden state", label="short-term"),
}


def symbols(options: LSTMOptions) -> dict[str, Symbol]:
    """Return what a step computes, in words."""
    if options.cell_clip is None and not options.cell_zoneout and options.layer_normalization != "addons":
        return SYMBOLS
    return {**SYMBOLS, "f": replace(SYMBOLS["f"], enters="")}  # c changes by more than i g


def formulas(options: LSTMOptions) -> list[Formula]:
    """Return the equations of a step in inference, in the order in which they are read."""
    right = {gate: _gate(gate, options) for gate in ("f", "i", "g", "o")}
    if options.coupled:
        right["i"] = "1 - f_t"
    new = _clipped(r"f_t \odot c_{t-1} + i_t \odot g_t", options.cell_clip)
    if options.layer_normalization == "addons":
        new = rf"\operatorname{{LN}}({new})"
    right["c"] = _kept("c", options.cell_zoneout, new)
    # What the output is made of is the c before zoneout, which stands in no trace.
    fresh = r"\tilde c_t" if options.cell_zoneout else "c_t"
    seen = rf"\operatorname{{LN}}({fresh})" if options.layer_normalization == "joint" else fresh
    out = rf"o_t \odot \tanh({seen})"
    if options.projection is not None:
        out = _clipped(f"({out}) P", options.projection_clip)
    right["h"] = _kept("h", options.zoneout, out)
    says = dict(SAYS)
    if options.projection is not None:
        says["h"] = "short-term memory: what all units let out, times P"
    if options.layer_normalization == "addons":
        says["c"] = "memory: f lets [f_t * c_{t-1}] stay and [i_t * g_t] comes in; then normalised"
    elif options.cell_clip is not None or options.cell_zoneout:
        says["c"] = "memory: f lets [f_t * c_{t-1}] stay and [i_t * g_t] comes in; then clip and zoneout"
    mixed = {symbol: "LN" in text or text.endswith(" P") or " P)" in text for symbol, text in right.items()}
    return [Formula(symbol, text, says[symbol], mixed[symbol]) for symbol, text in right.items()]


def _gate(gate: str, options: LSTMOptions) -> str:
    w, u, b = f"W_{gate} x_t", f"U_{gate} h_{{t-1}}", f" + b_{gate}"
    seen = SEEN.get(gate, "") if options.peepholes else ""
    if gate == "o" and options.cell_zoneout:
        seen = seen and r"\tilde c_t"
    peephole = rf" + p_{gate} \odot {seen}" if seen else ""
    inner = {
        None: f"{w} + {u}{peephole}{b}",
        "gate": rf"\operatorname{{LN}}({w} + {u}{peephole}) \odot \gamma_{gate}{b}",
        "joint": rf"\operatorname{{LN}}({w}) + \operatorname{{LN}}({u}){b}{peephole}",
        "addons": rf"\operatorname{{LN}}({w}) + \operatorname{{LN}}({u}){b}{peephole}",
    }[options.layer_normalization]
    return rf"\tanh({inner})" if gate == "g" else rf"\sigma({inner})"


def _clipped(text: str, bound: float | None) -> str:
    return text if bound is None else rf"\operatorname{{clip}}_{{±{bound:g}}}({text})"


def _kept(state: str, rate: float, text: str) -> str:
    return rf"{rate:g} \odot {state}_{{t-1}} + {1 - rate:g} \odot ({text})" if rate else text
