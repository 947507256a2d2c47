"""`report`: one page on what happened inside a model, in one file that opens anywhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras

from keras_lstm_custom.diagnostics.explaining.record import Attribution
from keras_lstm_custom.diagnostics.gradients import flow_of_observable
from keras_lstm_custom.diagnostics.inputs import Data, gathered
from keras_lstm_custom.diagnostics.losses import carries_its_loss
from keras_lstm_custom.diagnostics.recurrent_layers import observable
from keras_lstm_custom.diagnostics.report_data import page_data
from keras_lstm_custom.diagnostics.report_outcome import Shown, check_names, explained, outcomes, predictions
from keras_lstm_custom.diagnostics.tracing import trace_observable
from keras_lstm_custom.errors import ArgumentError, message
from keras_lstm_custom.installation import installing
from keras_lstm_custom.version import __version__
from keras_lstm_custom.writing import check_file, write_bytes

#: Template, style and script of the page.
PAGE = Path(__file__).parent / "page"
#: What a page of ours says in its head, so that it may be written over.
GENERATOR = "keras_lstm_custom.report"


def report(
    model: keras.Model,
    x: Any,
    y: Any,
    path: str | os.PathLike,
    *,
    loss: Any = None,
    layers: str | Sequence[str] | None = None,
    target: Any = None,
    baseline: Any = None,
    attribution: Attribution | bool = True,
    feature_names: Sequence[Any] | None = None,
    step_names: Any = None,
    max_bytes: int = 25_000_000,
    verbose: int | str = "auto",
) -> Path:
    """Write one HTML file in which to look through a model: pick a layer, a sequence, a unit, a step.

    It shows prediction and target, the input, what each of its numbers contributed to the prediction
    (`attribute`), the gates through time, the equations filled with the step's numbers, all units as
    a heat map, the gradient on its way back, and a summary. The file holds all it needs
    (figures by plotly.js) and opens without a network.

    ```python
    report(model, x_test[:20], y_test[:20], "inside.html")
    ```

    Numbers are stored with 16 bits, and those of gates with 8 if the page would otherwise be too
    large, spread over the range of each unit; the page says to which precision.

    Args:
        model: a built model, as for `trace`.
        x: as for `trace`; a few dozen sequences make a good page.
        y: the targets, for the gradient of the loss. None leaves the gradient out, and the page says so,
            unless `x` holds the targets or the model carries its loss.
        path: the file to write. Its folder is made if absent; an earlier page of ours is replaced.
        loss: as for `gradient_flow`; None for the compiled loss.
        layers: names of the layers to show, as for `trace`; None shows all.
        target: which number of the output is explained, as for `attribute`. Where there are several and none is
            named, the page says so and shows no contributions.
        baseline: what x is compared with, as for `attribute`.
        attribution: False leaves the contributions out, which take the longest; or what `attribute` returned for x.
        feature_names: names of the features of x.
        step_names: names of the steps: one for each step; or for each sequence a list of its own, as of words.
        max_bytes: refuse to write a larger file.
        verbose: as for `trace`.

    Returns:
        The path of the file.

    Raises:
        ArgumentError: `path` is a file that is not a page of ours or cannot be written, the page would be larger than
            `max_bytes`, or names do not fit x; or as `trace`, `gradient_flow` and `attribute`.
        InputError: x or y does not fit the model or holds NaN, or the model itself gives NaN.
        ImportError: plotly or jinja2 is not installed.
    """
    check_file(path, ArgumentError)
    path = Path(os.path.expanduser(path))
    _check_path(path)
    template, plotly = _tools()
    watched = observable(model)
    data = gathered(model, x, y)
    traces = trace_observable(watched, data, layers, verbose=verbose)
    has_loss = data.y is not None or (loss is None and carries_its_loss(watched, data))
    flows = flow_of_observable(watched, data, loss, layers) if has_loss else {}
    shown = _shown(model, data, (attribution, target, baseline, verbose), feature_names, step_names)
    for gate_bits in (16, 8):
        page, blobs = page_data(traces, flows, watched.model, shown, gate_bits)
        text = template.render(
            generator=GENERATOR,
            version=__version__,
            keras_version=keras.__version__,
            backend=keras.backend.backend(),
            model_name=model.name,
            page=page,
            blobs=blobs,
            plotly=plotly,
            style=(PAGE / "style.css").read_text(encoding="utf-8"),
            script=(PAGE / "page.js").read_text(encoding="utf-8"),
        ).encode()
        if len(text) <= max_bytes:
            write_bytes(path, text, ArgumentError)
            return path
    raise ArgumentError(
        "The page would be too large to be pleasant.",
        expected=f"at most max_bytes = {max_bytes / 1e6:.1f} MB",
        received=f"{len(text) / 1e6:.1f} MB, with 8 bits for a gate's number: {', '.join(map(repr, traces.values()))}",
        remedy="Pass fewer or shorter sequences, only some `layers`, or raise `max_bytes`.",
    )


def _shown(model: keras.Model, data: Data, explain: tuple, feature_names: Any, step_names: Any) -> Shown:
    x = data.x
    names = check_names(x, feature_names, step_names)
    outputs = predictions(model, x)
    found, why_not = explained(model, x, outputs, *explain)
    return Shown(x, outcomes(model, outputs, data.y), found, why_not, feature_names, names)


def _check_path(path: Path) -> None:
    """Refuse to write over what is not a page of ours."""
    if not path.exists():
        return
    with suppress(OSError), path.open("rb") as file:  # what cannot be read is not known to be ours
        if GENERATOR.encode() in file.read(1000):
            return
    raise ArgumentError(
        "There is something at `path` that is not a page of ours.",
        expected="a path that is free, or an earlier page to replace",
        received=f"{str(path)!r}, another file",
        remedy="Pass another path, e.g. 'inside.html', or remove what is there.",
    )


def _tools() -> tuple[Any, str]:
    """Return the page's template, and plotly.js."""
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError(
            message(
                "The page is made with plotly and jinja2.",
                expected="both installed",
                received=str(error),
                remedy=installing("report"),
            )
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html.jinja"), get_plotlyjs()
