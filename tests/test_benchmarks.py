"""The benchmarks compare what they say they compare."""

import importlib.util
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.oracles import numpy_cells

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import harness

    return harness


def test_ratio_is_taken_round_by_round(harness):
    """A machine that slows down by ten in the middle changes no ratio."""
    row = {"slow": {"ms": [[4, 6], [50], [500]]}, "fast": {"ms": [[1, 1.5, 2], [17], [100]]}}
    assert harness.ratio(row, "slow", "fast") == pytest.approx(10 / 3)
    assert harness.ratio(row, "slow", "absent") is None
    assert harness.median(row["slow"]) == 28


def test_what_is_not_installed_is_left_out_and_named(harness, tmp_path, monkeypatch):
    (tmp_path / "some_benchmark.py").write_text("def absent():\n    import no_such_framework\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = []
    with harness.workers("some_benchmark", ["absent"], said.append) as workers:
        assert workers == []
    (line,) = said
    assert "absent is left out" in line
    assert "no_such_framework" in line


def test_a_process_that_fails_shows_why(harness, tmp_path, monkeypatch):
    code = "def broken():\n    return lambda case: 1 / 0, None\n"
    (tmp_path / "some_benchmark.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        pytest.raises(RuntimeError, match="ZeroDivisionError"),
        harness.workers("some_benchmark", ["broken"], print) as (worker,),
    ):
        worker.ask("prepare", case=1)
    assert worker.process.poll() is not None


@pytest.mark.tensorflow
def test_each_engine_is_measured_by_itself(harness):
    """And the process is stopped whenever it is not asked."""
    shape = (2, 3, 4, 5)
    with harness.workers("layers", ["tensorflow"], pytest.fail) as workers:
        for cell, training, more in (("LSTM", True, {"portable"}), ("LSTM", False, {"portable"}), ("GRU", True, set())):
            shares = []
            found = harness.take_turns(workers, 2, shares.append, shape=shape, training=training, cell=cell)
            assert sum(shares) == pytest.approx(1)
            engines = {name: row["note"] for name, row in found.items()}
            assert engines.pop("auto") in engines
            assert engines.pop("keras") is engines.pop("keras XLA") is None
            assert {"reference"} | more <= engines.keys()
            assert all(name == ran for name, ran in engines.items())
            assert all(len(row["ms"]) == 2 and min(map(min, row["ms"])) > 0 for row in found.values())
        status = Path(f"/proc/{workers[0].process.pid}/status").read_text()
        assert "State:\tT (stopped)" in status


def test_scan_of_jax_is_an_lstm(harness):
    pytest.importorskip("jax")
    import layers

    random = np.random.default_rng(0)
    x, *weights = (random.normal(size=size).astype("float32") for size in [(2, 3, 4), (4, 20), (5, 20), (20,)])
    expected = numpy_cells.lstm(x.astype("float64"), *weights)["y"]
    # float32 against float64: a few rounding errors of outputs below 1
    np.testing.assert_allclose(np.swapaxes(layers.jax_scan(weights, x), 0, 1), expected, atol=2e-6)


@pytest.fixture(scope="module")
def forecasts():
    """The module, under a name of its own: `examples/` has a `forecast` too."""
    spec = importlib.util.spec_from_file_location("benchmark_of_forecasts", BENCHMARKS / "forecast.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_forecasts_shows_what_was_measured_and_leaves_out_what_was_not(forecasts):
    row = {"mase": 0.5, "coverage": {"80": 0.79, "95": 0.94}, "seconds": 3}
    ets = {"mase": 0.75, "coverage": {}, "seconds": None}
    lines = forecasts.table({"a series": {"LSTM": row, "ETS": ets}}).splitlines()
    assert lines[0] == "| series | LSTM | best simple | ETS | AutoETS | darts LSTM |"
    assert lines[2] == "| a series | 0.50 (79/94), 3 s |  | 0.75 |  |  |"


@pytest.mark.parametrize("series", ["JFK temperature, hourly (shipped)", "Sunspots, yearly (statsmodels)"])
def test_all_forecasts_of_a_series_are_made_at_the_same_rows(forecasts, series):
    task = forecasts.make_task(series)
    values = task.values.to_numpy()
    assert task.origins[0] == task.test - 1
    assert task.origins[-1] == len(values) - 1 - task.horizon
    np.testing.assert_allclose(task.truth[-1], values[-task.horizon :])


@pytest.fixture
def gpu_all(monkeypatch, tmp_path):
    """The command for a GPU, with a program of the test's in the place of its part."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_all

    monkeypatch.setattr(gpu_all, "HERE", tmp_path)
    return gpu_all


def part_of(folder, then):
    """Write a program that has done one row of two, and then does this."""
    row = {"check": "parity", "case": "default", "engine": "auto", "ok": True, "worst": "dx", "error": 0.1, "bound": 1}
    content = {"part": "check", "backend": "torch", "device": "a GPU", "seconds": 1, "notes": [], "rows": [row]}
    code = "import json, os, pathlib, sys, time\nout = pathlib.Path(sys.argv[sys.argv.index('--out') + 1])\n"
    code += f"(out / 'gpu-check-torch.json').write_text(json.dumps({content} | {{'missing': ['parity of a GRU']}}))\n"
    (folder / "gpu.py").write_text(code + then)


@pytest.mark.parametrize(
    ("then", "seconds", "says"),
    [("time.sleep(60)", 3, "still running after"), ("sys.exit('no memory left')", 20, "no memory left")],
)
def test_what_a_process_has_done_on_a_gpu_is_kept_when_it_ends_too_soon(gpu_all, tmp_path, then, seconds, says):
    part_of(tmp_path, then)
    processes = gpu_all.Processes(tmp_path)
    processes.run([gpu_all.Job("torch", "check", tmp_path)], seconds)
    (problem,) = processes.problems
    assert says in problem
    lines, failed = gpu_all.summary(tmp_path, processes.problems)
    assert "1 passed, 0 failed" in lines
    assert any("gpu-check-torch.json: 1: parity of a GRU" in line for line in lines)
    assert any(says in line for line in lines)
    assert failed is ("broke down" in problem)


def test_what_failed_on_a_gpu_comes_last(gpu_all, tmp_path):
    part_of(tmp_path, "")
    gpu_all.Processes(tmp_path).run([gpu_all.Job("torch", "check", tmp_path)], 20)
    file = tmp_path / "gpu-check-torch.json"
    file.write_text(file.read_text().replace('"ok": true', '"ok": false'))
    row = {
        "units": 512,
        "dtype": "float32",
        "case": "plain",
        "mode": "training",
        "failed": {"auto": "OutOfMemoryError"},
    }
    content = {"part": "measure", "backend": "torch", "device": "a GPU", "seconds": 1, "notes": [], "missing": []}
    (tmp_path / "gpu-measure-torch.json").write_text(json.dumps(content | {"rows": [row]}))
    lines, failed = gpu_all.summary(tmp_path, [])
    assert failed
    wrong = "\n".join(lines[lines.index("== went wrong") :])
    assert "FAILED parity auto [default] dx" in wrong
    assert "auto FAILED: OutOfMemoryError" in wrong


def test_no_time_of_a_cpu_is_called_a_gpus(monkeypatch, capsys, tmp_path):
    """Where there is no GPU nothing runs, and what the framework warns of is said."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu
    import gpu_device

    def of_an_old_driver():
        warnings.warn("The NVIDIA driver on your system is too old (found version 11040).", stacklevel=1)
        return "cpu"

    monkeypatch.setattr(gpu_device, "device", of_an_old_driver)
    monkeypatch.setattr("sys.argv", ["gpu.py", "--measure", "--out", str(tmp_path)])
    assert gpu.main() == gpu.gpu_tables.NO_GPU
    said = capsys.readouterr().out
    assert "has no GPU here, so nothing was run" in said
    assert "driver on your system is too old" in said
    assert not list(tmp_path.iterdir())
