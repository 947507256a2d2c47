"""Running a file in a process of its own: values, states, shapes, and runtimes that refuse, crash or hang."""

import subprocess
import sys

import numpy as np
import pytest

from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.export.running import runtimes
from tests.export.conftest import exported

pytestmark = pytest.mark.tensorflow

FUSED = ("litert", "micro")  #: the runtimes that run a fused file


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    """A float file with two fused LSTMs that resets itself, its inputs and the model's outputs."""
    made = exported("theirs")
    path = tmp_path_factory.mktemp("fused") / "fused.tflite"
    path.write_bytes(made.content)
    return path, made.inputs, made.outputs


@pytest.fixture(scope="module")
def stateful(tmp_path_factory):
    """The same file, but with its state kept between invocations."""
    from keras_lstm_custom.export.model.prepare import prepare
    from tests.export.files import float_file

    made = exported("theirs")
    path = tmp_path_factory.mktemp("stateful") / "stateful.tflite"
    path.write_bytes(float_file(prepare(made.model), stateful=True))
    return path, made.inputs, made.outputs


@pytest.mark.parametrize("runtime", FUSED)
def test_gives_the_models_numbers(fused, runtime):
    path, inputs, outputs = fused
    run = runtimes.run_file(path, inputs, runtime, timed_invocations=3)
    assert run.ok, run.message
    np.testing.assert_allclose(run.outputs[0], outputs[0], atol=2e-6)  # float32 in another order of sums
    assert len(run.seconds) == 3
    assert run.ms_per_invocation > 0


@pytest.mark.parametrize("runtime", FUSED)
def test_reset_every(stateful, runtime):
    path, inputs, outputs = stateful
    twice = np.repeat(inputs[0], 2, axis=0)
    kept = runtimes.run_file(path, twice, runtime).outputs[0]
    fresh = runtimes.run_file(path, twice, runtime, reset_every=1).outputs[0]
    np.testing.assert_allclose(fresh, np.repeat(outputs[0], 2, axis=0), atol=2e-6)
    assert np.abs(kept[1] - kept[0]).max() > 1e-3
    in_pairs = runtimes.run_file(path, twice, runtime, reset_every=2).outputs[0]
    np.testing.assert_array_equal(in_pairs[:2], kept[:2])
    np.testing.assert_array_equal(in_pairs[2], fresh[2])


def test_compiled_model_refuses_a_fused_file_with_its_reason(fused):
    run = runtimes.run_file(fused[0], fused[1], "compiled")
    assert not run.ok
    assert "Variable tensors" in run.message


@pytest.mark.parametrize("runtime", FUSED)
def test_a_shape_that_does_not_fit_is_a_result(fused, runtime):
    run = runtimes.run_file(fused[0], fused[1][0][:, :3], runtime)
    assert not run.ok
    assert run.message


@pytest.mark.parametrize("runtime", list(runtimes.RUNTIMES))
def test_a_missing_or_broken_file_is_a_result(tmp_path, runtime):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"    TFL3" + bytes(200))
    for path in (tmp_path / "none.tflite", broken):
        run = runtimes.run_file(path, np.zeros((1, 2, 3), "float32"), runtime)
        assert not run.ok
        assert run.message


def test_a_crash_is_a_result(fused, tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(runtimes, "WORKER", worker)
    run = runtimes.run_file(fused[0], fused[1], "litert")
    assert not run.ok
    assert "SIGSEGV" in run.message


def test_a_hang_is_a_result(fused, tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(runtimes, "WORKER", worker)
    run = runtimes.run_file(fused[0], fused[1], "litert", timeout=0.5)
    assert not run.ok
    assert "did not finish within 0.5 seconds" in run.message


def test_unknown_runtime():
    with pytest.raises(ArgumentError, match="'litert', 'compiled', 'micro'"):
        runtimes.run_file("x.tflite", np.zeros((1, 2)), "onnx")


def test_the_worker_imports_no_framework(fused, tmp_path):
    """It starts in a fraction of a second only as long as it does not import TensorFlow, Keras or this package."""
    code = (
        "import runpy, sys\n"
        f"worker = runpy.run_path({str(runtimes.WORKER)!r})\n"
        "for name in ('litert', 'micro'):\n"
        f"    worker['RUNTIMES'][name]({str(fused[0])!r})\n"
        "print(*{name.split('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert not {"tensorflow", "keras", "jax", "torch", "keras_lstm_custom"} & set(done.stdout.split())


def test_smallest_arena_is_the_smallest(fused):
    """Checked by the interpreter itself, in processes, since too small an arena may end one."""
    found, reason = runtimes.smallest_arena(fused[0], [fused[1][0]], step=16)
    assert found, reason
    code = (
        "import sys\nfrom tflite_micro import runtime\n"
        "runtime.Interpreter.from_file(sys.argv[1], arena_size=int(sys.argv[2])).invoke()\n"
    )

    def works(size):
        return (
            subprocess.run([sys.executable, "-c", code, str(fused[0]), str(size)], capture_output=True).returncode == 0
        )

    assert works(found)
    assert not works(found - 64)


def test_smallest_arena_of_a_file_that_does_not_run(tmp_path):
    found, reason = runtimes.smallest_arena(tmp_path / "none.tflite", [np.zeros((1, 2, 3), "float32")])
    assert found is None
    assert "none.tflite" in reason
