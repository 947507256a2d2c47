"""What `report` refuses, and that it then leaves nothing behind."""

import sys

import keras
import numpy as np
import pytest

from keras_lstm_custom import attribute, report
from keras_lstm_custom.diagnostics.reporting import GENERATOR
from keras_lstm_custom.errors import ArgumentError, InputError
from tests.diagnostics.report.pages import FEATURES, STEPS


def test_only_a_page_of_ours_is_written_over(small, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("somebody's work")
    with pytest.raises(ArgumentError, match=r"(?s)not a page of ours.*page\.html.*another file"):
        report(small.model, small.x, small.y, path)
    assert path.read_text() == "somebody's work"
    with pytest.raises(ArgumentError, match="a folder"):
        report(small.model, small.x, small.y, tmp_path)
    path.unlink()
    report(small.model, small.x, small.y, path)
    before = path.read_bytes()
    report(small.model, small.x + 1, small.y, path)
    assert GENERATOR in path.read_text()[:1000]
    assert path.read_bytes() != before
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_page_that_would_be_too_large_is_refused(small, tmp_path):
    with pytest.raises(ArgumentError, match=r"(?s)at most max_bytes = 1\.0 MB.*Pass fewer"):
        report(small.model, small.x, small.y, tmp_path / "page.html", max_bytes=1_000_000)
    assert not list(tmp_path.iterdir())


def test_names_and_attributions_that_do_not_fit_are_refused(small, tmp_path):
    for wrong, says in (
        ({"feature_names": ["a", "b"]}, "(?s)3 names.*2 names"),
        ({"step_names": ["a"] * 3}, f"(?s){STEPS} names.*3 names"),
        ({"step_names": [["a"] * STEPS] * 2}, "(?s)3 names.*2 names"),
        ({"target": 2}, "no value 2"),
        ({"attribution": attribute(small.model, small.x[:2], target=0)}, "(?s)3 rows.*2 rows"),
    ):
        with pytest.raises(ArgumentError, match=says):
            report(small.model, small.x, small.y, tmp_path / "page.html", **wrong)
    assert not list(tmp_path.iterdir())


def test_a_model_without_recurrent_layers_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), keras.layers.Dense(2)])
    with pytest.raises(ArgumentError, match="no recurrent layer"):
        report(model, np.zeros((3, STEPS, FEATURES)), None, tmp_path / "page.html")


def test_input_that_is_not_finite_is_refused(small, tmp_path):
    small.x[1, 2, 0] = np.nan
    with pytest.raises(InputError, match=r"(?s)not finite.*\(1, 2, 0\)"):
        report(small.model, small.x, small.y, tmp_path / "page.html")


def test_a_model_that_has_diverged_is_refused(small, tmp_path):
    small.model.set_weights([np.full(w.shape, np.nan) for w in small.model.get_weights()])
    with pytest.raises(InputError, match=r"(?s)'lstm' itself computes.*lower learning rate"):
        report(small.model, small.x, None, tmp_path / "page.html")


def test_targets_of_another_number_are_refused(small, tmp_path):
    with pytest.raises(InputError, match=r"(?s)3 targets.*2 targets"):
        report(small.model, small.x, small.y[:2], tmp_path / "page.html")


def test_targets_of_another_shape_are_refused(small, tmp_path):
    with pytest.raises(InputError, match=r"(?s)targets do not fit.*\(3, 5\).*model.evaluate"):
        report(small.model, small.x, np.zeros((3, 5)), tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_missing_tools_are_named_with_the_command_that_installs_them(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"\.\[report\]"):
        report(small.model, small.x, small.y, tmp_path / "page.html")
