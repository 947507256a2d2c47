"""The example runs small, as a function and as a command, and counts what it says it counts."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.tasks import TASKS

pytestmark = pytest.mark.tensorflow

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "vanishing_gradient.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("vanishing_gradient", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["vanishing_gradient"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["vanishing_gradient"]


def test_runs_small(example, tmp_path, capsys):
    outcomes = example.run((20,), seeds=2, steps=2, check_every=1, workers=1, out=tmp_path / "out")
    assert len(outcomes) == len(example.TASK_NAMES) * len(example.NETWORKS) * 2
    assert outcomes["solved_at"].isna().all()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["gradients.png", "outcomes.csv", "table.txt"]
    assert len(pd.read_csv(tmp_path / "out" / "outcomes.csv")) == len(outcomes)
    assert "[ 6/6" in capsys.readouterr().out, "progress is shown"
    # A seed decides everything: the same one gives the same share, another one other weights and sequences.
    again = example.train("adding", 20, "LSTM", seeds=2, steps=2, check_every=1)
    same = outcomes.query("task == 'adding' and network == 'LSTM'")
    assert [o.correct for o in again] == same["correct"].tolist()


def test_runs_as_a_command_in_several_processes(tmp_path):
    options = ["--tasks", "adding", "--lengths", "20", "--seeds", "1", "--steps", "2", "--check-every", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, SCRIPT, *options, "--workers", "2", "--out", "out"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    table = (tmp_path / "out" / "table.txt").read_text()
    assert table in run.stdout
    assert all(name in table for name in ("vanilla RNN", "LSTM, chrono", "adding"))


class Oracle:
    """Solves the adding problem by arithmetic, from its third test on."""

    def __init__(self):
        self.batches = self.tests = 0

    def fit(self, x, y, batch_size, **_):
        self.batches += len(x) // batch_size

    def predict(self, x, **_):
        self.tests += 1
        right = 0.5 + (x[:, :, 0] * (x[:, :, 1] == 1)).sum(axis=1, keepdims=True) / 4
        return right if self.tests >= 3 else right + 0.05


def test_solved_is_counted_in_batches_and_ends_the_training(example):
    oracle = Oracle()
    solved = example._until_solved(oracle, TASKS["adding"], 30, np.random.default_rng(0), steps=100, check_every=10)
    assert solved == (30, 1.0)
    assert oracle.batches == 30


def test_table_gives_solved_seeds_and_the_median_of_their_steps(example):
    rows = [("adding", 20, "LSTM", seed, at, correct, 1.0) for seed, (at, correct) in enumerate([(100, 1), (300, 1)])]
    rows += [("adding", 20, "vanilla RNN", 0, None, 0.25, 1.0), ("adding", 20, "vanilla RNN", 1, None, 0.35, 1.0)]
    rows += [("adding", 20, "LSTM, chrono", 0, 500, 1, 1.0), ("adding", 20, "LSTM, chrono", 1, None, 0.5, 1.0)]
    table = example.summarise(pd.DataFrame([vars(example.Outcome(*row)) for row in rows]))
    assert table.loc[("adding", 20)].str.split().str.join(" ").tolist() == [
        "0/2 (30% correct)",
        "2/2 200 steps",
        "1/2 500 steps",
    ]


def test_networks_have_nearly_the_same_number_of_weights(example):
    for task in (TASKS[name] for name in example.TASK_NAMES):
        sizes = [example.build(task, 20, network).count_params() for network in example.NETWORKS.values()]
        assert max(sizes) < 1.12 * min(sizes), sizes


def test_chrono_starts_with_memories_of_one_to_all_steps(example):
    model = example.build(TASKS["adding"], 100, example.NETWORKS["LSTM, chrono"])
    b_i, b_f, b_g, b_o = np.split(keras.ops.convert_to_numpy(model.layers[-2].cell.bias), 4)
    assert (b_i == -b_f).all()
    assert not b_g.any()
    assert not b_o.any()
    assert (np.exp(b_f) >= 1).all()
    assert (np.exp(b_f) <= 109).all()
    assert np.ptp(np.exp(b_f)) > 50


def test_picture_shows_the_three_networks_over_all_steps(example):
    (axis,) = example.gradient_picture(20).axes
    assert [text.get_text().split(":")[0] for text in axis.get_legend().get_texts()] == list(example.NETWORKS)
    assert axis.get_yscale() == "log"
    assert all(len(line.get_xdata()) == 22 for line in axis.lines)


def test_a_budget_below_the_first_test_is_refused(example, tmp_path):
    with pytest.raises(ArgumentError, match=r"steps=50, check_every=100"):
        example.run((20,), steps=50, out=tmp_path)
