"""Packages on emulated Cortex-M cores: compiled by arm-none-eabi-gcc, run by QEMU, with what they cost."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent / "arm"
NEEDED = ("arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm")


@dataclass(frozen=True)
class Core:
    """A core, and the board of QEMU's that has it."""

    flags: tuple[str, ...]
    machine: str


CORES = {
    "M3": Core(("-mcpu=cortex-m3",), "mps2-an385"),
    "M4F": Core(("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"), "mps2-an386"),
    "M7": Core(("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"), "mps2-an500"),
    "M55": Core(("-mcpu=cortex-m55", "-mfpu=auto", "-mfloat-abi=hard"), "mps3-an547"),
}


@dataclass(frozen=True)
class Cost:
    """What one sequence costs on a core."""

    instructions: float
    stack: int
    struct: int
    text: int  #: code and constants of NAME.o
    image: int  #: flash of a whole program: start-up code, C library and one call


def missing() -> str:
    """Return which tools are not installed; "" if all are."""
    return ", ".join(tool for tool in NEEDED if not shutil.which(tool))


def compiled(folder: Path, core: str, sources: list[str], program: str, *flags: str) -> Path:
    """Compile C files of a folder, with the start-up code, to an image for a core."""
    call = ["arm-none-eabi-gcc", *CORES[core].flags, "-mthumb", "-std=gnu99", "-ffunction-sections", "-fdata-sections"]
    call += [*flags, "-Wl,--gc-sections", "--specs=rdimon.specs", "-nostartfiles", "-T", str(HERE / "board.ld")]
    call += [str(HERE / "startup.c"), *sources, "-lm", "-lrdimon", "-o", program]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    return folder / program


def emulated(program: Path, core: str, timeout: int = 120) -> subprocess.CompletedProcess:
    call = ["qemu-system-arm", "-M", CORES[core].machine, "-nographic", "-monitor", "none", "-icount", "shift=0"]
    call += ["-semihosting-config", "enable=on,target=native", "-kernel", str(program)]
    return subprocess.run(call, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)


def cost(folder: Path, name: str, core: str, call: str, level: str = "-O2") -> Cost:
    """Return the cost of a call, C text that uses `m` and arrays of the package's test.

    Args:
        folder: where the package is.
        name: of the package.
        core: one of `CORES`.
        call: such as `gesture_run_q(&m, tx0, y0)`.
        level: of optimisation.
    """
    head = (folder / f"{name}_test.c").read_text().split("/* How many values")[0]
    (folder / "cost.h").write_text(f"{head}\n#define CALL {call}\n")
    (folder / "cost.c").write_text((HERE / "cost.c").read_text())
    program = compiled(folder, core, ["cost.c", f"{name}.c"], "cost.elf", level)
    ran = emulated(program, core)
    line = next(line for line in ran.stdout.splitlines() if line.startswith("@"))
    took, known, stack, struct = map(int, line.split()[1:])
    subprocess.run(
        ["arm-none-eabi-gcc", *CORES[core].flags, "-mthumb", "-std=c99", level, "-c", f"{name}.c", "-o", f"{name}.o"],
        cwd=folder, check=True,
    )  # fmt: skip
    in_ram = re.sub(r"static const (\w+ t[xy]\d+\[\d+\]) = {.*?};", r"static \1;", head, flags=re.DOTALL)
    (folder / "cost.h").write_text(f"{in_ram}\n#define CALL {call}\n")
    (folder / "bare.c").write_text((HERE / "bare.c").read_text())
    bare = compiled(folder, core, ["bare.c", f"{name}.c"], "bare.elf", level)
    return Cost(took * 2_000_000 / known, stack, struct, size(folder / f"{name}.o"), size(bare))


def size(file: Path) -> int:
    """Return the bytes of code, constants and set variables of a program or an object file."""
    table = subprocess.run(["arm-none-eabi-size", str(file)], capture_output=True, text=True, check=True).stdout
    text, data, *_ = table.splitlines()[1].split()
    return int(text) + int(data)
