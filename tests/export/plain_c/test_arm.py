"""Packages on emulated Cortex-M cores: their own tests, and the cost that is promised."""

from __future__ import annotations

import subprocess

import keras
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom import export
from keras_lstm_custom.export.plain_c import finer
from keras_lstm_custom.export.plain_c.build import Finer
from tests.export.plain_c import arm
from tests.export.plain_c.building import WARNINGS
from tests.export.plain_c.zoo import T, inputs_for, randomised, sequential
from tests.export.random_graphs import samples_of

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.skipif(bool(arm.missing()), reason=f"not installed: {arm.missing()}"),
]
layers = keras.layers


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Packages of floats and of integers: of these the test expects the very bits that this computer gave.

    The finer ones have two int8 for each weight, and two int16 for what a recurrence normalises.
    """
    place = tmp_path_factory.mktemp("packages")
    model = randomised(
        sequential(
            layers.Conv1D(5, 3, activation="relu"),
            layers.LSTM(7, return_sequences=True),
            layers.LayerNormalization(),
            layers.Bidirectional(layers.GRU(5)),
            layers.Dense(3, activation="softmax"),
            shape=(T, 3),
        )
    )
    x = inputs_for(model, 24)
    for quantize, name in ((None, "floats"), ("int16x8", "integers")):
        export.c(model, place / name, quantize, x)
    cell = klc.LSTM(7, layer_normalization="gate", peepholes=True)
    model = randomised(sequential(cell, layers.Dense(3, activation="tanh"), shape=(T, 3)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finer, "CANDIDATES", {"kernels": Finer(finer.every), "more": Finer(finer.every, values=True)})
        patch.setattr(finer, "GOAL", 0.0)
        patch.setattr(finer, "WORTH", 10.0)
        for quantize, name in (("int8", "finer_floats"), ("int16x8", "finer_integers")):
            report = export.c(model, place / name, quantize, inputs_for(model, 24))
            assert any("two int8" in note for note in report.notes)
    return place


@pytest.mark.parametrize("core", arm.CORES)
def test_packages_pass_their_tests(folders, core):
    """Without an FPU (M3), with DSP instructions (M4F, M7), and with Helium (M55)."""
    for name in ("floats", "integers", "finer_floats", "finer_integers"):
        program = arm.compiled(folders / name, core, [f"{name}.c", f"{name}_test.c"], f"{core}.elf", "-O2")
        ran = arm.emulated(program, core)
        assert ran.returncode == 0, (name, ran.stdout, ran.stderr)


@pytest.mark.parametrize("core", arm.CORES)
def test_their_compiler_has_no_word_to_say_either(folders, core):
    for name in ("floats", "integers", "finer_integers"):
        call = ["arm-none-eabi-gcc", *arm.CORES[core].flags, "-mthumb", "-std=c99", "-O2", *WARNINGS, "-c", f"{name}.c"]
        done = subprocess.run(call, cwd=folders / name, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (name, done.stderr[:2000])


def test_the_cost_that_is_promised(tmp_path):
    """LSTM(24) + Dense(4), T = 100, I = 6: TFLite-Micro takes 2.10 million instructions by CMSIS-NN in int8."""
    model = sequential(layers.LSTM(24), layers.Dense(4, activation="softmax"), shape=(100, 6))
    export.c(model, tmp_path / "net", "int16x8", samples_of(model, 32))
    m4, m55 = (arm.cost(tmp_path / "net", "net", core, "net_run_q(&m, tx0, y0)") for core in ("M4F", "M55"))
    assert m4.instructions <= 1.2e6
    assert m4.text <= 8192
    assert m4.struct + m4.stack <= 600
    assert m55.instructions <= 0.8e6
