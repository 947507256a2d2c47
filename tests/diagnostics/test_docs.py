"""The page about the gates: its code runs, and what it names is there."""

import re
from pathlib import Path

import pytest

from keras_lstm_custom.diagnostics import GateTrace

PAGE = (Path(__file__).parents[2] / "docs" / "inside-the-gates.md").read_text(encoding="utf-8")


def test_the_code_on_the_page_runs(capsys):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    quick = code.replace("epochs=25", "epochs=1").replace("2000", "200")
    assert quick.count("epochs=1,") == 1
    exec(compile(quick, "inside-the-gates.md", "exec"), {})
    printed = capsys.readouterr().out
    for line in ("forget gate", "memory length -1/log(mean f)", "‖∂L/∂c‖", "spectral radius"):
        assert line in printed
    plt.close("all")


def test_every_name_in_the_table_is_a_field_or_property():
    names = re.findall(r"`t\.(\w+)`", PAGE)
    assert {"f", "i", "g", "o", "c", "h", "kept", "forgotten", "entered", "c_before", "initial_c"} <= set(names)
    known = set(GateTrace.__dataclass_fields__) | set(dir(GateTrace)) | {"z"}  # z is the vanilla RNN's
    assert set(names) <= known
