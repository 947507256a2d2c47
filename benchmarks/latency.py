"""How fast a trained model answers: `predict` on a batch, one sequence, and one step at a time.

    python benchmarks/latency.py [--quick] [--out runs/latency]

The model is LSTM(64) and Dense(1) on 16 features: with `keras.layers.LSTM` and with our layer (auto), each by
`model.predict`, as a compiled tf.function and as an eager call; torch in inference mode, onnxruntime and LiteRT on the
exported files. All have the same weights and are checked to give the same. "nothing" is a model that returns its
input: what the call alone costs. Prints a table and writes the figures (JSON, with versions and machine).
"""

from __future__ import annotations

import tempfile

import harness
import serving
from rich.console import Console

RATIOS = [("keras, predict", "auto, predict"), ("keras, tf.function", "auto, tf.function")]
RATIOS += [("keras, eager", "auto, eager"), ("torch", "auto, tf.function")]


def measure(rounds, console) -> dict[str, dict]:
    """Return the times of each candidate in each situation."""
    rows = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        harness.workers("serving", serving.RUNTIMES, console.print) as workers,
        harness.bar(console) as progress,
    ):
        step = progress.add_task("", total=len(serving.SITUATIONS))
        for situation in serving.SITUATIONS:
            progress.update(step, description=situation)
            rows[situation] = harness.take_turns(
                workers, rounds, lambda share: progress.advance(step, share), situation=situation, folder=folder
            )
    return rows


def main() -> None:
    """Read the command line, measure, print, and write what was measured."""
    arguments = harness.options(__doc__, "latency").parse_args()
    console = Console(width=harness.WIDTH)
    result = harness.environment()
    console.print(harness.describe(result))
    rows = measure(8 if arguments.quick else 30, console)
    headings = ["{}: {} x {}".format(name, *size) for name, size in serving.SITUATIONS.items()]
    title = "milliseconds: median ± half the distance of the quartiles; batch x steps"
    table = harness.table(title, "", *headings, left=("",))
    for name in dict.fromkeys(name for row in rows.values() for name in row):
        table.add_row(name, *(harness.cell(row, name) for row in rows.values()))
    for slow, fast in RATIOS:
        ratios = [harness.ratio(row, slow, fast) for row in rows.values()]
        table.add_row(f"{slow} / {fast}", *("-" if r is None else f"{r:.2f}" for r in ratios))
    table.caption = "nothing: a model that returns its input; litert has batch 1, so it takes a batch row by row"
    console.print(table)
    console.print(f"wrote {harness.write(arguments.out, result | {'situations': rows})}")


if __name__ == "__main__":
    main()
