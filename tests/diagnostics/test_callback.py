"""`GateMonitor` in `fit`."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from keras_lstm_custom import LSTM, VanillaRNN, gradient_flow, trace, writing
from keras_lstm_custom.diagnostics import GateMonitor, callback, summary
from keras_lstm_custom.errors import ArgumentError

BATCH, TIMESTEPS, FEATURES = 8, 4, 2


@pytest.fixture
def data(rng):
    return rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32"), rng.normal(size=(BATCH, 1)).astype(
        "float32"
    )


def build(lstm=LSTM):
    model = keras.Sequential(
        [
            keras.Input((TIMESTEPS, FEATURES)),
            lstm(3, return_sequences=True, name="lstm"),
            VanillaRNN(2, name="rnn"),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.5), loss="mse")
    return model


@pytest.mark.parametrize("lstm", [LSTM, layers.LSTM], ids=["ours", "keras"])
def test_rows_are_what_trace_and_gradient_flow_say_after_the_epoch(lstm, data, tmp_path):
    x, y = data
    model = build(lstm)
    monitor = GateMonitor(x, y, every=2, csv=tmp_path / "gates.csv")
    model.fit(x, y, epochs=4, verbose=0, callbacks=[monitor])
    frame = monitor.to_frame()
    assert list(zip(frame["epoch"], frame["layer"], strict=True)) == [(1, "lstm"), (1, "rnn"), (3, "lstm"), (3, "rnn")]
    last = frame.iloc[2]
    expected = summary(trace(model, x))["lstm"]
    np.testing.assert_allclose(last["f_mean"], expected.mean["f"].mean(), rtol=1e-5)
    np.testing.assert_allclose(last["memory_length"], np.median(expected.memory_length), rtol=1e-5)
    flow = gradient_flow(model, x, y)["lstm"]
    np.testing.assert_allclose(last["gradient_first"], flow.mean()[0], rtol=1e-4)
    np.testing.assert_allclose(last["retained"], flow.verdict.retained, rtol=1e-4)
    assert frame["f_mean"][0] != frame["f_mean"][2]  # training went on in between
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "gates.csv"), frame, check_dtype=False)


def test_training_is_the_same_with_and_without_it(data):
    x, y = data
    model = build()
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    twin.compile(optimizer=keras.optimizers.SGD(0.5), loss="mse")
    model.fit(x, y, epochs=3, shuffle=False, verbose=0)
    twin.fit(x, y, epochs=3, shuffle=False, verbose=0, callbacks=[GateMonitor(x, y, every=1)])
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_auto_keeps_all_records_together_within_the_budget(data, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(callback.time, "perf_counter", lambda: now[0])
    monitor = GateMonitor(*data)

    def record(epoch):
        now[0] += 1.0  # a record takes a second
        monitor.rows.append({"epoch": epoch})

    monkeypatch.setattr(monitor, "record", record)
    monkeypatch.setattr(monitor, "_look", lambda: record(None) or monitor.rows.clear())
    monitor.on_train_begin()
    for epoch in range(50):
        now[0] += 3.0  # an epoch takes three
        monitor.on_epoch_end(epoch)
    # A record may cost 5 % of 20 s, which 7 epochs of 3 s reach first; two 5 % of 40 s; and so on.
    assert [row["epoch"] for row in monitor.rows] == [6, 13, 19, 26, 33, 39, 46]


def test_auto_gives_a_short_training_one_record_at_its_end(data):
    monitor = GateMonitor(*data)
    build().fit(*data, epochs=2, verbose=0, callbacks=[monitor])
    assert [row["epoch"] for row in monitor.rows] == [1] * len(monitor.rows) != []


@pytest.mark.tensorflow
def test_tensorboard_gets_scalars_and_histograms(data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    x, y = data
    build().fit(x, y, epochs=1, verbose=0, callbacks=[GateMonitor(x, y, tensorboard=tmp_path)])
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    tags = events.Tags()["tensors"]
    assert {"lstm/f_open", "lstm/retained", "lstm/memory_length", "rnn/saturated", "rnn/gradient", "lstm/o"} <= set(
        tags
    )


def test_says_what_is_wrong(data, monkeypatch):
    for every in (0, -1, 2.5, True, "often"):
        with pytest.raises(ArgumentError, match="positive integer"):
            GateMonitor(*data, every=every)
    monkeypatch.setattr(callback, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match="pip install tensorflow tensorboard"):
        GateMonitor(*data, tensorboard="logs")


@pytest.mark.parametrize("csv", ["file/gates.csv", "folder", "/dev/full", "", "n" * 300])
def test_a_table_that_cannot_be_written_is_a_warning_and_training_goes_on(data, tmp_path, monkeypatch, csv):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    monitor = GateMonitor(*data, every=1, csv=csv)
    with pytest.warns(UserWarning, match=r"(?s)cannot be written.*Training goes on"):
        history = build().fit(*data, epochs=3, verbose=0, callbacks=[monitor]).history
    assert len(history["loss"]) == 3
    assert len(monitor.to_frame()) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_disk_that_is_full_for_a_while(data, tmp_path, monkeypatch):
    """The table before stays whole, and the next one has all rows."""
    fsync, calls = writing.os.fsync, []

    def full_once(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(writing.os, "fsync", full_once)
    sizes = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: sizes.append(len(pd.read_csv(tmp_path / "gates.csv")))
    )
    monitor = GateMonitor(*data, every=1, csv=tmp_path / "gates.csv")
    with pytest.warns(UserWarning, match="No space left on device"):
        build().fit(*data, epochs=3, verbose=0, callbacks=[monitor, look])
    assert sizes == [2, 2, 6]
    assert [path.name for path in tmp_path.iterdir()] == ["gates.csv"]


@pytest.mark.tensorflow
def test_events_that_cannot_be_written_are_a_warning(data, tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("mine")
    with pytest.warns(UserWarning, match=r"(?s)TensorBoard.*cannot be written.*Training goes on"):
        monitor = GateMonitor(*data, every=1, tensorboard=tmp_path / "file")
    build().fit(*data, epochs=2, verbose=0, callbacks=[monitor])
    assert len(monitor.to_frame()) == 4
    assert (tmp_path / "file").read_text() == "mine"
