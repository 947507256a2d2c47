"""Why a vanilla RNN fails on long lags where an LSTM does not: a table, and the picture that explains it.

    python examples/vanishing_gradient.py

Trains three networks of nearly the same number of weights on the adding problem and the temporal
order problem (Hochreiter & Schmidhuber 1997) at growing lengths, three seeds each, always on fresh
sequences:

- a vanilla RNN,
- an LSTM as Keras starts it, with a forget gate of about σ(1) = 0.73,
- an LSTM whose forget gates are started for the length at hand (Tallec & Ollivier 2018, *Can
  recurrent neural networks warp time?*, the "chrono" initialiser).

Solved means at least 99 % of 1000 fresh sequences correct by the paper's criterion (every output
within 0.04 of the target for the adding problem, 0.3 for the temporal order problem). Results go to
`runs/vanishing_gradient/`: `table.txt`, `outcomes.csv`, and `gradients.png`, which shows for the
longest adding problem how much of the gradient reaches each step before training.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from keras_lstm_custom import LSTM, VanillaRNN, gradient_flow, initializers, plots
from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.tasks import TASKS, Task

BATCH = 64
TEST_SEQUENCES = 1000
SOLVED = 0.99  #: share of the test sequences that must be correct


@dataclass(frozen=True)
class Network:
    """A recurrent layer with about 1300 weights, and the learning rate that served it best."""

    layer: Callable[[int], keras.layers.Layer]  #: from the number of timesteps
    learning_rate: float


#: Those that the table of the README shows.
TASK_NAMES = ("adding", "temporal order")
NETWORKS = {
    "vanilla RNN": Network(lambda timesteps: VanillaRNN(33), 0.003),
    "LSTM": Network(lambda timesteps: LSTM(16), 0.01),
    "LSTM, chrono": Network(lambda timesteps: LSTM(16, bias_initializer=initializers.Chrono(timesteps)), 0.01),
}


@dataclass(frozen=True)
class Outcome:
    """What came of one training."""

    task: str
    length: int
    network: str
    seed: int
    solved_at: int | None  #: training step, or None if not solved within the budget
    correct: float  #: share of fresh sequences that were correct at the end
    seconds: float


def build(task: Task, length: int, network: Network) -> keras.Model:
    """Return the compiled model: mask, recurrent layer, one dense layer on the last hidden state."""
    timesteps = length + length // 10
    one_of_several = task.outputs > 1
    model = keras.Sequential(
        [
            keras.Input((timesteps, task.features)),
            keras.layers.Masking(),
            network.layer(timesteps),
            keras.layers.Dense(task.outputs, activation="softmax" if one_of_several else None),
        ]
    )
    # Exploding gradients are cut off for every network alike, so that only vanishing ones tell them apart.
    optimizer = keras.optimizers.Adam(network.learning_rate, clipnorm=1.0)
    model.compile(optimizer, "categorical_crossentropy" if one_of_several else "mse")
    return model


def train(task_name: str, length: int, network_name: str, seeds: int, steps: int, check_every: int) -> list[Outcome]:
    """Train one network on one task once for each seed, until solved or `steps` batches are used up."""
    task, network = TASKS[task_name], NETWORKS[network_name]
    model = build(task, length, network)
    model.optimizer.build(model.trainable_variables)
    fresh_optimizer = [variable.numpy() for variable in model.optimizer.variables]

    outcomes = []
    for seed in range(seeds):
        began = time.perf_counter()
        keras.utils.set_random_seed(seed)
        # One compiled model serves all seeds; weights and optimizer start anew.
        model.set_weights(build(task, length, network).get_weights())
        for variable, value in zip(model.optimizer.variables, fresh_optimizer, strict=True):
            variable.assign(value)
        solved_at, correct = _until_solved(model, task, length, np.random.default_rng(seed), steps, check_every)
        seconds = time.perf_counter() - began
        outcomes.append(Outcome(task_name, length, network_name, seed, solved_at, correct, seconds))
    return outcomes


def _until_solved(
    model: keras.Model, task: Task, length: int, rng: np.random.Generator, steps: int, check_every: int
) -> tuple[int | None, float]:
    correct = 0.0
    for step in range(check_every, steps + 1, check_every):
        x, y, _ = task.draw(check_every * BATCH, length, rng)
        model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
        x, y, _ = task.draw(TEST_SEQUENCES, length, rng)
        correct = float(task.correct(y, model.predict(x, batch_size=TEST_SEQUENCES, verbose=0)).mean())
        if correct >= SOLVED:
            return step, correct
    return None, correct


def all_outcomes(
    lengths: Sequence[int], task_names: Sequence[str], seeds: int, steps: int, check_every: int, workers: int
) -> Iterator[list[Outcome]]:
    """Yield the outcomes of every task, length and network as they come; longest first, to share the work evenly."""
    jobs = [
        (task, length, network, seeds, steps, check_every)
        for length, task, network in product(sorted(lengths, reverse=True), task_names, NETWORKS)
    ]
    if workers < 2:
        yield from (train(*job) for job in jobs)
        return
    # The networks are small: several trainings of one thread each are faster than one of several threads.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(train, *job) for job in jobs]):
            yield future.result()


def summarise(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the table: solved seeds and the median of their training steps, a row for each task and length."""

    def cell(group: pd.DataFrame) -> str:
        solved = group["solved_at"].dropna()
        if solved.empty:
            return f"0/{len(group)}   ({group['correct'].mean():.0%} correct)"
        return f"{len(solved)}/{len(group)}   {solved.median():.0f} steps"

    columns = ["task", "length", "network"]
    cells = outcomes.groupby(columns)[["solved_at", "correct"]].apply(cell)
    return cells.unstack("network")[list(NETWORKS)]


def gradient_picture(length: int, seed: int = 0):
    """Return a figure: the gradient at each step of the adding problem, for the three networks before training."""
    x, y, _ = TASKS["adding"].draw(BATCH, length, np.random.default_rng(seed))
    flows = {}
    for name, network in NETWORKS.items():
        keras.utils.set_random_seed(seed)
        (flows[name],) = gradient_flow(build(TASKS["adding"], length, network), x, y).values()
    return plots.gradients(flows)


def run(
    lengths: Sequence[int] = (20, 50, 100),
    task_names: Sequence[str] = TASK_NAMES,
    seeds: int = 3,
    steps: int = 2000,
    check_every: int = 100,
    workers: int = os.cpu_count() or 1,
    out: str | Path = "runs/vanishing_gradient",
) -> pd.DataFrame:
    """Train everything, write table and picture to `out`, and return the outcomes.

    Args:
        lengths: T of the tasks, at least 20.
        task_names: of `TASK_NAMES`.
        seeds: trainings of each kind.
        steps: budget of a training, in batches of 64 sequences.
        check_every: batches between two tests on fresh sequences.
        workers: processes to train in; 1 trains in this one.
        out: folder for the results; made if absent.
    """
    if steps < check_every:
        raise ArgumentError(
            "No training would ever be tested.",
            expected="steps of at least check_every",
            received=f"steps={steps}, check_every={check_every}",
            remedy="Raise `steps` or lower `check_every`.",
        )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    found: list[Outcome] = []
    total = len(lengths) * len(task_names) * len(NETWORKS)
    for number, group in enumerate(all_outcomes(lengths, task_names, seeds, steps, check_every, workers), 1):
        found += group
        marks = ", ".join(f"{o.solved_at} steps" if o.solved_at else f"{o.correct:.0%} correct" for o in group)
        print(
            f"[{number:2}/{total}, {time.perf_counter() - began:4.0f} s] "
            f"{group[0].task}, length {group[0].length}, {group[0].network}: {marks}",
            flush=True,
        )
    outcomes = pd.DataFrame(map(asdict, found)).sort_values(["task", "length", "network", "seed"])
    outcomes.to_csv(out / "outcomes.csv", index=False)

    text = (
        f"Solved seeds, and the median of their training steps (batches of {BATCH}); not solved within "
        f"{steps} steps:\nthe mean share of correct sequences at the end.\n\n{summarise(outcomes).to_string()}\n"
    )
    (out / "table.txt").write_text(text)
    gradient_picture(max(lengths)).savefig(out / "gradients.png")
    print(f"\n{text}")
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--tasks", dest="task_names", nargs="+", choices=TASK_NAMES, default=TASK_NAMES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000, help="budget of a training, in batches (2000)")
    parser.add_argument("--check-every", type=int, default=100, help="batches between two tests (100)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (one for each core)")
    parser.add_argument("--out", default="runs/vanishing_gradient")
    run(**vars(parser.parse_args()))
