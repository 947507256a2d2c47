"""What a trace can be turned into, and what is shown on the way."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_lstm_custom import LSTM, VanillaRNN, trace
from keras_lstm_custom.diagnostics import Traces
from keras_lstm_custom.diagnostics.progress import Progress
from keras_lstm_custom.errors import DataError
from tests.diagnostics.trace.models import BATCH, FEATURES, TIMESTEPS, UNITS, small


def test_a_frame_has_one_row_for_each_sequence_step_and_unit(x):
    model = keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), LSTM(UNITS, return_sequences=True), VanillaRNN(3)])
    steps = trace(model, x)
    frame = steps.to_frame()
    assert list(frame) == ["layer", "sequence", "step", "unit", *"ifgoch", "z"]
    assert len(frame) == BATCH * TIMESTEPS * (UNITS + 3)
    first = next(iter(steps))
    row = frame.query(f"layer == '{first}' and sequence == 2 and step == 4 and unit == 1").iloc[0]
    assert row["f"] == steps[first].f[2, 4, 1]


def test_a_file_gives_back_what_was_written(x, tmp_path):
    x[0, 3] = 0
    backwards = LSTM(UNITS, return_sequences=True, go_backwards=True)
    model = keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), layers.Masking(), backwards, VanillaRNN(3)])
    steps = trace(model, x)
    steps.to_npz(tmp_path / "steps.npz")
    again = Traces.from_npz(tmp_path / "steps.npz")
    assert list(again) == list(steps)
    for name, step in steps.items():
        assert (type(again[name]), again[name].go_backwards) == (type(step), step.go_backwards)
        for field in ("x", "mask", "initial_h", *step.symbols):
            np.testing.assert_array_equal(getattr(again[name], field), getattr(step, field))
    np.savez(tmp_path / "other.npz", a=x)
    with pytest.raises(DataError, match="does not hold traces"):
        Traces.from_npz(tmp_path / "other.npz")


def test_a_progress_bar_is_shown_when_asked_for(x, capsys):
    trace(small(LSTM(2)), x, batch_size=1, verbose=1)
    assert f"{BATCH}/{BATCH}" in capsys.readouterr().out
    trace(small(LSTM(2)), x, batch_size=1, verbose=0)
    assert capsys.readouterr().out == ""


def test_the_progress_bar_counts_the_sequences_that_are_through():
    shown = []
    progress = Progress(10, 1, verbose=1)
    progress.begin(4)
    progress._bar._bar.update = lambda done, finalize: shown.append(done)
    for share in (0.5, 0.5, 1.0):  # a layer in two parts, and another that was not reckoned with
        progress.add(share)
    progress.begin(6)
    progress.add(1.0)
    progress.add(1.0)
    progress.finish()
    assert shown == [2, 4, 4, 4, 7, 9, 10]
