"""Where the operators of an integer file land on an Ethos-U, Arm's processor for networks: asked of its compiler.

The compiler, `ethos-u-vela`, writes each operator as several of the processor's own. Nothing is run: that takes Arm's
simulator or a device.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.choices import check_choice
from keras_lstm_custom.export.running.report import NpuPlacement
from keras_lstm_custom.writing import scratch

#: As `vela --help` of 5.2.0 lists them.
NPUS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *(f"ethos-u65-{macs}" for macs in (256, 512)),
    *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)),
)
TIMEOUT = 300.0  #: seconds for the compiler; an LSTM of 100 steps takes about 20


def placement(path: str | os.PathLike, npu: str) -> NpuPlacement:
    """Return where the operators of a TFLite file land.

    Raises:
        ArgumentError: `npu` is unknown.
        ExportError: the compiler is not installed, or refuses the file.
    """
    check_npu(npu)
    with scratch() as folder:
        command = [sys.executable, "-m", "ethosu.vela", os.fspath(path), "--accelerator-config", npu]
        command += ["--show-cpu-operations", "--output-dir", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            raise _refused(f"no answer within {TIMEOUT:g} seconds") from None
    counts = {kind: re.search(rf"^{kind} operators = (\d+)", done.stdout, re.MULTILINE) for kind in ("CPU", "NPU")}
    if done.returncode or not all(counts.values()):
        raise _refused((done.stderr.strip() or done.stdout.strip() or f"code {done.returncode}").splitlines()[-1])
    on = {kind: re.findall(rf"^ +{kind}: (\S+) = (.+) \(outputs", done.stdout, re.MULTILINE) for kind in counts}
    return NpuPlacement(
        name=npu,
        on_npu=int(counts["NPU"][1]),  # type: ignore[index]
        on_cpu=int(counts["CPU"][1]),  # type: ignore[index]
        left_over=tuple(dict.fromkeys(f"{op} {name}" for op, name in on["CPU"])),
        resets_states=resets(path, on["NPU"]),
    )


def check_npu(npu: str) -> None:
    """Raise unless the compiler knows the processor, and is installed."""
    check_choice("npu", npu, NPUS)
    if find_spec("ethosu") is None:
        raise ExportError(
            "The compiler for Ethos-U, which tells where operators land, is not installed.",
            expected="ethos-u-vela",
            received="no such package",
            remedy="pip install ethos-u-vela",
        )


def resets(path: str | os.PathLike, on_npu: list[tuple[str, str]]) -> bool | None:
    """Return whether each state that the file resets is written before it is first read; None without a state."""
    from keras_lstm_custom.export.file import fused_lstm  # needs the TFLite schema
    from keras_lstm_custom.export.file.graph import Graph

    with open(path, "rb") as file:
        graph = Graph(file.read())
    written = {int(output) for operator in graph.operators for output in operator.outputs}
    states = [index for pair in fused_lstm.state_tensors(graph) for index in pair if index in written]
    if not states:
        return None
    firsts = (next((op for op, of in on_npu if of == graph.name(index)), "") for index in states)
    return all(first == "Maximum" for first in firsts)


def _refused(received: str) -> ExportError:
    return ExportError(
        "The compiler for Ethos-U does not take the file.",
        expected="a file that computes in integers",
        received=received[:500],
        remedy="Export with quantize='int8' or 'int16x8'.",
    )
