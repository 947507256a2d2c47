"""What is known about an exported file: its size, its ops, and its error on each runtime that ran it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field


@dataclass(frozen=True)
class OutputError:
    """The error of one output against the Keras model, over all samples."""

    name: str
    max_error: float  #: largest absolute difference
    rmse: float  #: root of the mean squared difference
    relative_to_signal: float  #: rmse divided by the standard deviation of the model's output


@dataclass(frozen=True)
class RuntimeCheck:
    """What one runtime made of the file."""

    runtime: str  #: a name from `runtimes.RUNTIMES`
    ok: bool  #: it ran, and every output is within the bound
    outputs: tuple[OutputError, ...] = ()
    ms_per_invocation: float | None = None  #: median, on this computer, one thread
    message: str = ""  #: why it is not ok

    @property
    def ran(self) -> bool:
        return bool(self.outputs)

    @property
    def relative_to_signal(self) -> float | None:
        """The worst output's error, as a share of its standard deviation; None if it did not run."""
        return max((output.relative_to_signal for output in self.outputs), default=None)

    @property
    def max_error(self) -> float | None:
        """The largest absolute error of any output; None if it did not run."""
        return max((output.max_error for output in self.outputs), default=None)


@dataclass(frozen=True)
class NpuPlacement:
    """Where the operators of a file land on an Ethos-U, as its compiler says. Nothing was run there."""

    name: str  #: of the processor, such as "ethos-u55-128"
    on_npu: int  #: operators; the compiler makes several of one of the file's
    on_cpu: int
    left_over: tuple[str, ...]  #: those on the CPU: op and name
    resets_states: bool | None  #: whether it writes the states that the file resets; None if there are none

    def __str__(self) -> str:
        told = f"{self.name}: {self.on_npu} of {self.on_npu + self.on_cpu} operators"
        if self.left_over:
            told += f"; on the CPU: {', '.join(self.left_over)}"
        if self.resets_states is not None:
            told += "; states are reset there" if self.resets_states else "; the reset of the states is LOST there"
        return told


@dataclass(frozen=True)
class ExportReport:
    """An exported file and what was measured on it. `str()` gives tables, `to_json()` the numbers."""

    path: str
    quantize: str | None  #: None, "float16", "dynamic", "int8" or "int16x8"
    bytes: int  #: size of the file
    ops: dict[str, int]  #: how often each op stands in it, all subgraphs together
    runtimes: tuple[str, ...] = ()  #: the runtimes this file is meant for
    checks: tuple[RuntimeCheck, ...] = ()
    npu: NpuPlacement | None = None  #: if it was asked for
    bound: float | None = None  #: the largest `relative_to_signal` that is accepted
    arena_bytes: int | None = None  #: memory the microcontroller runtime needs, if it was looked for
    kernels: tuple[str, ...] = ()  #: of that runtime, which run it: "reference", "cmsis-nn"
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether it was run, and every runtime that it is meant for and that is here ran it within the bound."""
        asked = [check.ok for check in self.checks if check.runtime in self.runtimes]
        return bool(asked) and all(asked)

    def check(self, runtime: str) -> RuntimeCheck:
        """Return what `runtime` made of the file.

        Raises:
            KeyError: that runtime did not look at it.
        """
        return {check.runtime: check for check in self.checks}[runtime]

    def facts(self) -> list[tuple[str, str]]:
        """Return what is known about the file itself, as pairs of name and value."""
        ops = ", ".join(f"{name} x{count}" if count > 1 else name for name, count in self.ops.items())
        facts = [
            ("file", self.path),
            ("values", self.quantize or "float32"),
            ("size", f"{self.bytes:,} bytes"),
            *([("ops", ops)] if ops else []),
            ("made for", ", ".join(self.runtimes) or "not stated"),
        ]
        if self.arena_bytes is not None:
            facts.append(("arena", f"{self.arena_bytes:,} bytes"))
        if self.kernels:
            facts.append(("kernels", ", ".join(self.kernels)))
        if self.npu is not None:
            facts.append(("NPU", str(self.npu)))
        if self.bound is not None:
            facts.append(("accepted error", f"{self.bound:.3g} of the signal's standard deviation"))
        return facts

    def rows(self) -> list[tuple[str, ...]]:
        """Return one row for each runtime and output, below the headings `COLUMNS`."""
        return [row for check in self.checks for row in _rows_of(check, check.runtime in self.runtimes)]

    def remarks(self) -> list[str]:
        """Return the notes, and why a runtime did not run the file or was not right."""
        reasons = [f"{check.runtime}: {check.message}" for check in self.checks if check.message]
        return [*reasons, *self.notes]

    def __str__(self) -> str:
        facts = self.facts()
        width = max(len(name) for name, _ in facts)
        lines = [f"{name:<{width}}  {value}" for name, value in facts]
        if self.checks:
            lines += ["", *_table([COLUMNS, *self.rows()]), ""]
        return "\n".join([*lines, *self.remarks()]).rstrip()

    def to_dict(self) -> dict:
        """Return the report as plain dicts, lists, numbers and strings."""
        return {**dataclasses.asdict(self), "ok": self.ok}

    def to_json(self, **options) -> str:
        """Return the report as JSON; `options` go to `json.dumps`. A number that is not finite becomes null."""
        return json.dumps(_finite(self.to_dict()), **{"indent": 2, **options})


COLUMNS = ("runtime", "result", "output", "max error", "rmse", "rmse/signal", "ms")


def _rows_of(check: RuntimeCheck, meant: bool) -> list[tuple[str, ...]]:
    result = "ok" if check.ok else "wrong" if check.ran else "does not run" if meant else "not for it"
    if not check.ran:
        return [(check.runtime, result, "", "", "", "", "")]
    ms = "" if check.ms_per_invocation is None else f"{check.ms_per_invocation:.3g}"
    return [
        (check.runtime, result, o.name, f"{o.max_error:.2e}", f"{o.rmse:.2e}", f"{o.relative_to_signal:.2e}", ms)
        for o in check.outputs
    ]


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
