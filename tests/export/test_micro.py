"""Microcontroller packages: the C++ compiles, the array is the file, and the test vector is what the runtime gives."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, export
from keras_lstm_custom.errors import ArgumentError, ExportError, InputError
from keras_lstm_custom.export.micro_files import resolver_call
from keras_lstm_custom.export.running.runtimes import run_file
from tests.export import models

pytestmark = pytest.mark.tensorflow

STAND_INS = Path(__file__).parent / "stand_ins"
KINDS = {
    "float32": {"quantize": None},
    "int8": {"quantize": "int8"},
    "int16x8": {"quantize": "int16x8"},
    "float_io": {"quantize": "int8", "io_dtype": "float32"},
    "kept": {"quantize": "int8", "state": "kept", "steps": 2},
    "explicit": {"quantize": "int8", "state": "explicit"},
    "int16_output": {"quantize": "int8"},  # of `models.hardly_moving`
}
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")


@pytest.fixture(scope="module")
def model():
    x = keras.Input((8, 3), name="x")
    h = LSTM(6, return_sequences=True)(x)
    return models.randomised(keras.Model(x, [keras.layers.Dense(2, name="y")(h), LSTM(4, name="last")(h)]))


@pytest.fixture(scope="module")
def calibration():
    return np.random.default_rng(0).standard_normal((20, 8, 3)).astype("float32")


@pytest.fixture(scope="module")
def packages(model, calibration, tmp_path_factory):
    """Every kind of package, made on first use."""
    made = {}

    def get(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp("micro") / f"pack-{kind}"
            which, rows = model, calibration
            if kind == "int16_output":
                which = models.hardly_moving()
                (rows,) = models.inputs_for(which, 64)
            made[kind] = folder, export.micro(which, folder, calibration=rows, **KINDS[kind])
        return made[kind]

    return get


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_the_code_compiles_without_a_warning(packages, kind):
    folder, _ = packages(kind)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-fsyntax-only"]
    on_cmsis_nn = "cmsis-nn" in packages(kind)[1].kernels
    for source in ("main.cc", "model.cc", "test_vector.cc"):
        for more in ([], ["-DCMSIS_NN"]):
            command = ["g++", *flags, *more, f"-I{STAND_INS}", f"-I{folder}", str(folder / source)]
            done = subprocess.run(command, capture_output=True, text=True)
            if more and source == "main.cc" and not on_cmsis_nn:
                assert "starts its integer LSTM from zero" in done.stderr
            else:
                assert done.returncode == 0, done.stderr


@needs_compiler
def test_the_array_is_the_file_and_is_aligned(packages, tmp_path):
    folder, report = packages("int8")
    (tmp_path / "print.cc").write_text(
        '#include <cstdint>\n#include <cstdio>\n#include "model.h"\n'
        "int main() {\n"
        "  if (reinterpret_cast<uintptr_t>(pack_int8::kModel) % 16) return 1;\n"
        "  return fwrite(pack_int8::kModel, 1, pack_int8::kModelBytes, stdout) == pack_int8::kModelBytes ? 0 : 2;\n}\n"
    )
    program = tmp_path / "print"
    sources = [str(tmp_path / "print.cc"), str(folder / "model.cc")]
    subprocess.run(["g++", "-std=c++17", f"-I{folder}", *sources, "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, check=True)
    assert done.stdout == (folder / "model.tflite").read_bytes()
    assert report.bytes == len(done.stdout)


def vectors(folder, kind):
    """Return the arrays of the test vector by the number of the input or output."""
    text = (folder / "test_vector.cc").read_text()
    found = re.findall(rf"kTest{kind}(\d+)\[(\d+)\] = \{{([^}}]*)\}}", text)
    arrays = {int(k): np.array([float(value) for value in values.split(",")]) for k, _, values in found}
    assert [int(size) for _, size, _ in found] == [array.size for array in arrays.values()]
    return arrays


@pytest.mark.parametrize("kind", KINDS)
def test_the_vector_is_what_the_runtime_gives(packages, kind):
    """As `main.cc` runs it, by the interpreter itself with the arena that the package states."""
    from tflite_micro import runtime

    folder, report = packages(kind)
    inputs, outputs = vectors(folder, "Input"), vectors(folder, "Output")
    settings, header = (folder / "model_settings.h").read_text(), (folder / "test_vector.h").read_text()
    arena = int(re.search(r"kArenaBytes = (\d+);", settings)[1])
    assert arena == report.arena_bytes
    interpreter = runtime.Interpreter.from_file(str(folder / "model.tflite"), arena_size=arena)
    count, invocations = (int(re.search(rf"kTest{n} = (\d+);", header)[1]) for n in ("Sequences", "Invocations"))
    assert (count, invocations) == (2, {"kept": 4, "explicit": 8}.get(kind, 1))
    details = [interpreter.get_input_details(k) for k in range(int(re.search(r"kInputCount = (\d+)", settings)[1]))]
    first_state = len(details) - (4 if kind == "explicit" else 0)  # h and c of two layers
    assert list(inputs) == list(range(first_state))
    for sequence in (0, 1, 0):
        if kind == "kept":
            interpreter.reset()
        states = [
            np.full(d["shape"], d["quantization_parameters"]["zero_points"][0], d["dtype"])
            for d in details[first_state:]
        ]
        for at in range(sequence * invocations, (sequence + 1) * invocations):
            for index, values in inputs.items():
                rows = values.astype(details[index]["dtype"]).reshape(count * invocations, *details[index]["shape"])
                interpreter.set_input(rows[at], index)
            for index, state in enumerate(states, first_state):
                interpreter.set_input(state, index)
            interpreter.invoke()
            got = [np.array(interpreter.get_output(index)) for index in outputs]
            states = got[len(got) - len(states) :]
            for index, values in outputs.items():
                np.testing.assert_array_equal(
                    got[index].ravel(), values.astype("float32").reshape(count * invocations, -1)[at]
                )
    assert int(re.search(r"kOutputCount = (\d+)", settings)[1]) == len(outputs)
    for index in range(len(outputs)):
        record = interpreter.get_output_details(index)["quantization_parameters"]
        if len(record["scales"]):
            scale = re.search(rf"kOutput{index}Scale = ([\d.e+-]+)f", settings)[1]
            assert np.float32(scale) == np.float32(record["scales"][0])
            assert f"kOutput{index}ZeroPoint = {record['zero_points'][0]};" in settings


def test_the_vector_of_a_stream_sees_the_recurrence(packages):
    """Each invocation from a fresh state, which is what CMSIS-NN does with a kept one, gives something else."""
    folder, _ = packages("kept")
    outputs = vectors(folder, "Output")[0].reshape(2, 4, -1)
    inputs = vectors(folder, "Input")[0].reshape(8, 2, 3).astype("int8")
    afresh = run_file(folder / "model.tflite", inputs, "micro", reset_every=1).raw[0]
    difference = np.abs(afresh.reshape(2, 4, -1).astype(int) - outputs)
    assert difference[:, 0].max() == 0  # the first of each sequence is from a fresh state
    assert difference[:, 1:].max() > 4  # the tolerance of `main.cc`


def test_a_promoted_output_is_declared_as_int16(packages):
    folder, report = packages("int16_output")
    settings = (folder / "model_settings.h").read_text()
    assert "using Input0Type = int8_t;" in settings
    assert "using Output0Type = int16_t;" in settings
    assert "const int16_t kTestOutput0[4]" in (folder / "test_vector.cc").read_text()
    assert "data.i16" in (folder / "main.cc").read_text()
    assert any("the output 'p' is int16" in note for note in report.notes)


def test_the_report(packages):
    folder, report = packages("int8")
    assert json.loads((folder / "keras_lstm_custom.json").read_text())["arena_bytes"] == report.arena_bytes
    assert report.check("micro").ok
    assert any("64-bit" in note for note in report.notes)
    assert packages("int16x8")[1].check("micro").relative_to_signal < report.check("micro").relative_to_signal


def test_names_of_the_resolvers_methods():
    """As micro_mutable_op_resolver.h of tflite-micro (90b983c) names them."""
    methods = {
        "ADD": "AddAdd", "CONV_2D": "AddConv2D", "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
        "MAX_POOL_2D": "AddMaxPool2D", "AVERAGE_POOL_2D": "AddAveragePool2D", "EXPAND_DIMS": "AddExpandDims",
        "FULLY_CONNECTED": "AddFullyConnected", "LEAKY_RELU": "AddLeakyRelu", "RELU6": "AddRelu6",
        "REVERSE_V2": "AddReverseV2", "SPLIT_V": "AddSplitV", "STRIDED_SLICE": "AddStridedSlice",
        "BATCH_MATMUL": "AddBatchMatMul", "CUMSUM": "AddCumSum", "PADV2": "AddPadV2",
        "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM", "L2_NORMALIZATION": "AddL2Normalization",
        "DYNAMIC_UPDATE_SLICE": "AddDynamicUpdateSlice", "SQUARED_DIFFERENCE": "AddSquaredDifference",
    }  # fmt: skip
    assert {op: resolver_call(op) for op in methods} == methods


def test_nothing_is_left_behind(model, calibration, tmp_path):
    with pytest.raises(ArgumentError, match="C identifier"):
        export.micro(model, tmp_path / "p", calibration=calibration, name="a-b")
    with pytest.raises(InputError, match="calibration"):
        export.micro(model, tmp_path / "p")
    with pytest.raises(ArgumentError, match="microcontroller runtime does not run float16"):
        export.micro(model, tmp_path / "p", "float16")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "main.cc").write_text("mine")
    with pytest.raises(ExportError, match="not written by this package"):
        export.micro(model, tmp_path / "mine", calibration=calibration)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_without_the_runtime(model, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["keras_lstm_custom.export.micro"], "is_installed", lambda name: False)
    with pytest.raises(ExportError, match="pip install tflite-micro"):
        export.micro(model, tmp_path / "p", None)
