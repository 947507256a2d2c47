"""What onnx2c and keras2c write in C for the same models, measured as `edge.py` measures ours.

    python benchmarks/edge_peers.py

onnx2c (github.com/kraiskil/onnx2c, ea045cc) is a program that must be on the PATH. keras2c (2.0 on the package index;
it needs pydantic below 2) brings no C: the variable KERAS2C names the folder `include` of its sources
(github.com/PlasmaControl/keras2c, 606db15). Both compute in float alone. `text` is code and constants of all that a
call needs but the C library, `RAM` its variables and the stack; the error is that of eight rows against Keras, as a
share of the signal.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np

from benchmarks.edge import MODELS
from tests.export.plain_c import arm
from tests.export.random_graphs import samples_of

ROWS = 8
#: onnx' order of the gates in Keras' order: i, o, f, c of i, f, c, o; and z, r, h.
GATES = {
    keras.layers.LSTM: ("LSTM", (0, 3, 1, 2), {}),
    keras.layers.GRU: ("GRU", (0, 1, 2), {"linear_before_reset": 1}),
}


#: Prints what the call makes of some rows.
ROWS_PROGRAM = """\
#include <stddef.h>
#include <stdio.h>
#include <string.h>
static float x[{inputs}], y[{outputs}];
static const float rows[{count}][{inputs}] = {{{rows}}};
{declared}
int main(void) {{
  for (int r = 0; r < {count}; ++r) {{
    memcpy(x, rows[r], sizeof x);
    {call};
    for (int k = 0; k < {outputs}; ++k) printf("@ %.9g\\n", (double)y[k]);
  }}
  return 0;
}}
"""


class Code(NamedTuple):
    """What a peer has written, and how it is called."""

    sources: list[str]
    function: str
    declared: str  #: C that includes its header, and declares what the call needs besides x and y
    call: str


def onnx2c(model: keras.Model, folder: Path) -> Code:
    """Write an ONNX file with known sizes, and let onnx2c write C."""
    program = shutil.which("onnx2c")
    if program is None:
        raise FileNotFoundError("onnx2c is not on the PATH")
    (folder / "net.onnx").write_bytes(onnx_file(model))
    done = subprocess.run([program, "-l", "1", "net.onnx"], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    (folder / "net.c").write_text(done.stdout)
    timesteps, features = model.input_shape[1:]
    sizes = f"[1][{timesteps}][{features}]", f"[1][{model.output_shape[-1]}]"
    declared = f"void entry(const float x{sizes[0]}, float y{sizes[1]});\n"
    return Code(["net.c"], "entry", declared, f"entry((const float(*){sizes[0][3:]})x, (float(*){sizes[1][3:]})y)")


def onnx_file(model: keras.Model) -> bytes:
    """Return an ONNX file of a recurrent layer and a Dense, of batch 1 and known length: other files onnx2c refuses."""
    from onnx import TensorProto, helper, numpy_helper

    cell, dense = model.layers
    op, order, options = GATES[type(cell)]
    (timesteps, features), units = model.input_shape[1:], cell.units

    def packed(weights: np.ndarray) -> np.ndarray:
        parts = np.split(weights, len(order), -1)
        return np.concatenate([parts[gate] for gate in order], -1)

    kernel, recurrent_kernel, bias = map(np.asarray, cell.get_weights())
    biases = [*map(packed, np.atleast_2d(bias)), np.zeros(len(order) * units, np.float32)][:2]
    kernels = {"W": packed(kernel).T[None], "R": packed(recurrent_kernel).T[None], "B": np.concatenate(biases)[None]}
    constants = {**kernels, "V": dense.get_weights()[0], "d": dense.get_weights()[1], "axes": np.array([0], np.int64)}
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node(op, ["steps", "W", "R", "B"], ["", "last"], hidden_size=units, **options),
        helper.make_node("Squeeze", ["last", "axes"], ["h"]),
        helper.make_node("Gemm", ["h", "V", "d"], ["y" if dense.activation is keras.activations.linear else "z"]),
    ]
    if dense.activation is keras.activations.softmax:
        nodes.append(helper.make_node("Softmax", ["z"], ["y"], axis=1))
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, timesteps, features]), ("y", [1, dense.units]))
    )
    initial = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "net", [x], [y], initial)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def keras2c(model: keras.Model, folder: Path) -> Code:
    """Let keras2c write C, and bring its library."""
    library = os.environ.get("KERAS2C", "")
    if not (Path(library) / "k2c_include.h").is_file():
        raise FileNotFoundError("the variable KERAS2C does not name the folder `include` of keras2c's sources")
    from keras2c.keras2c_main import model2c

    before = os.getcwd()
    os.chdir(folder)
    try:
        model2c(model, "net", verbose=False)
    finally:
        os.chdir(before)
    shutil.copytree(library, folder / "include")
    timesteps, features = model.input_shape[1:]
    declared = (
        '#include "net.h"\n'
        f"static k2c_tensor tx = {{x, 2, {timesteps * features}, {{{timesteps}, {features}, 1, 1, 1}}}};\n"
        f"static k2c_tensor ty = {{y, 1, {model.output_shape[-1]}, {{{model.output_shape[-1]}, 1, 1, 1, 1}}}};\n"
    )
    sources = [f"include/{file.name}" for file in sorted((folder / "include").glob("*.c"))]
    return Code(["net.c", *sources], "net", declared, "net(&tx, &ty)")


PEERS: dict[str, Callable[[keras.Model, Path], Code]] = {"onnx2c": onnx2c, "keras2c": keras2c}


def measure(model: keras.Model, write: Callable[[keras.Model, Path], Code], core: str) -> tuple[arm.Cost, float]:
    """Return what one call costs on a core, and its error; its variables are counted with the stack."""
    x = samples_of(model, ROWS)[0]
    expected = np.asarray(model(x))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        code = write(model, folder)
        arrays = f"static float y[{expected[0].size}];\nstatic float x[{x[0].size}]"
        text = f"{arrays} = {{{', '.join(f'{value:.9g}f' for value in x[0].ravel())}}};\n{code.declared}\n"
        end = f"\nstatic char m[1];\n#define CALL {code.call}\n"
        (folder / "cost.h").write_text(f"#include <stddef.h>\n{text}{end}")
        (folder / "cost.c").write_text((arm.HERE / "cost.c").read_text())
        took, known, stack, _ = map(int, _answers(folder, core, code, "cost")[0].split())
        code_size, data, variables = _needed(folder, core, code)
        (folder / "cost.h").write_text(f"#include <stddef.h>\n{arrays};\n{code.declared}\n{end}")
        (folder / "bare.c").write_text((arm.HERE / "bare.c").read_text())
        image = arm.size(arm.compiled(folder, core, ["bare.c", *code.sources], "bare.elf", "-O2"))
        error = _error(folder, core, code, x, expected)
    text_size = code_size + data
    return arm.Cost(took * 2_000_000 / known, stack + data + variables, 0, text_size, image), error


def _needed(folder: Path, core: str, code: Code) -> tuple[int, int, int]:
    """Return bytes of code and constants, of set variables and of others, of all that a call needs."""
    call = ["arm-none-eabi-gcc", *arm.CORES[core].flags, "-mthumb", "-std=gnu99", "-O2", "-ffunction-sections"]
    call += ["-fdata-sections", "-r", "-nostdlib", "-Wl,--gc-sections", f"-Wl,-e,{code.function}", *code.sources]
    subprocess.run([*call, "-o", "needed.o"], cwd=folder, check=True, capture_output=True)
    table = subprocess.run(["arm-none-eabi-size", "needed.o"], cwd=folder, capture_output=True, text=True, check=True)
    text, data, variables, *_ = map(int, table.stdout.splitlines()[1].split()[:3])
    return text, data, variables


def _error(folder: Path, core: str, code: Code, x: np.ndarray, expected: np.ndarray) -> float:
    """Return the error over some rows, as the emulated core computes them."""
    rows = ",\n".join("{" + ", ".join(f"{value:.9g}f" for value in row.ravel()) + "}" for row in x)
    program = ROWS_PROGRAM.format(
        inputs=x[0].size,
        outputs=expected[0].size,
        count=len(x),
        rows=rows,
        declared=code.declared,
        call=code.call,
    )
    (folder / "rows.c").write_text(program)
    got = [float(line) for line in _answers(folder, core, code, "rows")]
    difference = np.reshape(got, expected.shape) - expected
    return float(np.sqrt(np.mean(difference**2)) / expected.std())


def _answers(folder: Path, core: str, code: Code, program: str) -> list[str]:
    """Return the lines that a program prints for us on the emulated core."""
    ran = arm.emulated(arm.compiled(folder, core, [f"{program}.c", *code.sources], f"{program}.elf", "-O2"), core)
    lines = [line[1:] for line in ran.stdout.splitlines() if line.startswith("@")]
    if not lines:
        raise RuntimeError(f"it ended with {ran.returncode} and no answer; the stack has 16 kB")
    return lines


def main() -> None:
    """Print a row for each model and peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", default="M4F", choices=list(arm.CORES))
    parser.add_argument("--models", nargs="+", default=list(MODELS)[:2], choices=list(MODELS))
    options = parser.parse_args()
    if arm.missing():
        parser.exit(1, f"not installed: {arm.missing()}\n")
    print("| model | by | core | text | all in | RAM | million instructions | error |")
    print("|---|---|---|---|---|---|---|---|")
    for label in options.models:
        for name, write in PEERS.items():
            try:
                cost, error = measure(MODELS[label](), write, options.core)
            except Exception as reason:
                print(
                    f"| {label} | {name} | {options.core} | {type(reason).__name__}: {str(reason)[:200]} |", flush=True
                )
                continue
            numbers = f"{cost.text:,} | {cost.image:,} | {cost.stack:,} | {cost.instructions / 1e6:.2f} | {error:.1e}"
            print(f"| {label} | {name} | {options.core} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
