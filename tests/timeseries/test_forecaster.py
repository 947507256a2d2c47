"""A forecaster: what it sees, what it learns, and its intervals."""

import keras
import numpy as np
import pandas as pd
import pytest

from keras_lstm_custom import VanillaRNN, timeseries
from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.timeseries.forecasting.samples import newest, part_samples
from tests.timeseries.forecasters import QUICK, SMALL, hourly


def test_the_model_takes_and_gives_the_units_of_the_data(fitted, frame):
    """Doubling all numbers and moving them is another unit; the model of the one is not that of the other."""
    samples = part_samples(fitted.tables(frame), fitted.plan, "test", fitted.shares)
    outputs = fitted.model.predict(samples.x, verbose=0)
    np.testing.assert_allclose(outputs["mean"], fitted.forecast(samples).mean, rtol=1e-5)
    assert outputs["quantiles"].shape == (len(samples), 3, 5)
    assert abs(outputs["mean"].mean() - frame["load"].mean()) < 20
    assert (np.diff(outputs["quantiles"], axis=-1) >= 0).all()


def test_another_unit_gives_the_same_forecast_in_that_unit(fitted, frame):
    other = frame.assign(load=frame["load"] * 2 - 400, wind=frame["wind"] * 10)
    again = timeseries.Forecaster("load", **SMALL).fit(other, **QUICK)
    np.testing.assert_allclose(again.predict(other)["load"], fitted.predict(frame)["load"] * 2 - 400, rtol=1e-3)


def test_the_held_out_part_is_not_known_while_learning(fitted, frame):
    changed = frame.copy()
    changed.iloc[-36:] = 1e4
    again = timeseries.Forecaster("load", **SMALL).fit(changed, **QUICK)
    for one, other in zip(again.model.get_weights(), fitted.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for level, margin in again.margins.items():
        np.testing.assert_array_equal(margin, fitted.margins[level])


def test_windows_look_back_into_the_part_before_and_forecast_their_own(fitted, frame):
    tables = fitted.tables(frame)
    parts = {p: part_samples(tables, fitted.plan, p, fitted.shares) for p in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [168 - 8, 36 - 2, 36 - 2]
    load = frame["load"].to_numpy()
    for (first, end), part in zip([(6, 168), (168, 204), (204, 240)], parts.values(), strict=True):
        assert part.origins[0] == first - 1
        assert part.origins[-1] == end - 4
        np.testing.assert_array_equal(part.y[0], load[first : first + 3])
        np.testing.assert_allclose(part.x["past"][0, :, 0], load[first - 6 : first], rtol=1e-6)


def test_a_column_known_in_advance_is_used(frame):
    rng = np.random.default_rng(3)
    switch = rng.integers(0, 2, 400).astype(float)
    data = pd.DataFrame({"load": 50 + 20 * switch + rng.normal(0, 1, 400), "switch": switch}, index=hourly(400).index)
    sizes = {**SMALL, "calendar": False}
    forecaster = timeseries.Forecaster("load", future=["switch"], **sizes)
    forecaster.fit(data, epochs=6, batch_size=32, learning_rate=0.05)
    judged = timeseries.judge(forecaster, data, statistics=False)
    assert judged.errors["network"]["rmse"] < 0.5 * min(judged.errors[n]["rmse"] for n in ("last value", "window mean"))
    assert judged.verdict["better"]
    # What is known in advance decides the forecast beyond the end.
    ahead = pd.DataFrame({"switch": [1.0, 0.0, 1.0]}, index=timeseries.next_times(data.index, 3))
    up, down, again = forecaster.predict(data, ahead)["load"]
    assert min(up, again) > down + 10
    with pytest.raises(
        DataError, match=r"do not reach as far[\s\S]*3 steps from 2022-01-05 16[\s\S]*2 of them[\s\S]*18:00"
    ):
        forecaster.predict(data, ahead.iloc[:2])
    with pytest.raises(DataError, match="columns that are known in advance"):
        forecaster.predict(data)


def test_one_network_serves_several_series_each_in_its_own_scale():
    frames = {"north": hourly(seed=1), "south": hourly(seed=2) * 1000, "west": hourly(seed=3) - 5000}
    for height, frame in enumerate(frames.values()):
        frame["height"] = float(height)
    forecaster = timeseries.Forecaster("load", static=["height"], **SMALL).fit(frames, **QUICK)
    result = forecaster.predict(frames)
    assert result["series"].tolist() == ["north"] * 3 + ["south"] * 3 + ["west"] * 3
    for name, frame in frames.items():
        part = result[result["series"] == name]
        assert (part["load"] - frame["load"].iloc[-6:-3].to_numpy()).abs().max() < 3 * frame["load"].std()
    # One series alone gets the same numbers.
    alone = forecaster.predict({"south": frames["south"]})
    np.testing.assert_allclose(alone["load"], result[result["series"] == "south"]["load"], rtol=1e-5)
    judged = timeseries.judge(forecaster, frames)
    assert judged.windows == 3 * 34
    with pytest.raises(DataError, match=r"does not know the series 'east'[\s\S]*'north', 'south', 'west'"):
        forecaster.predict({"east": frames["north"]})
    frames["west"]["height"] = np.arange(240.0)
    with pytest.raises(DataError, match="'height' changes within the series 'west'"):
        forecaster.predict(frames)


@pytest.mark.parametrize("missing", ["mask", "indicate"])
def test_missing_values_are_masked_or_marked_as_asked(missing):
    frame = hourly()
    frame.iloc[20:24, 0] = np.nan
    frame.iloc[60, 1] = np.nan
    frame.iloc[215, 0] = np.nan
    with pytest.raises(DataError, match=r"'load' is not finite[\s\S]*5 rows"):
        timeseries.Forecaster("load", **SMALL).fit(frame)
    forecaster = timeseries.Forecaster("load", missing=missing, **SMALL).fit(frame, **QUICK)
    judged = timeseries.judge(forecaster, frame)
    assert np.isfinite([row["rmse"] for row in judged.errors.values()]).all()
    assert np.isnan(judged.truth).sum() == 3  # three windows forecast row 215
    x = {name: values.copy() for name, values in newest(forecaster.tables(frame), forecaster.plan).x.items()}
    head = forecaster.model.get_layer("head")
    head.set_weights([np.ones_like(w) for w in head.get_weights()])  # two epochs need not have kept anything
    before = forecaster.model.predict(x, verbose=0)["mean"]
    x["past"][:, 2, 1], x["past"][:, 2, -1] = 99.0, 0.0  # the wind of a step, and that it is not known
    after = forecaster.model.predict(x, verbose=0)["mean"]
    x["past"][:, 2, 1] = -99.0
    again = forecaster.model.predict(x, verbose=0)["mean"]
    assert np.abs(after - before).max() > 0
    assert (np.abs(again - after).max() == 0) == (missing == "mask")


def test_stepping_puts_each_forecast_at_the_end_of_the_next_window():
    frame = hourly()[["load"]]
    forecaster = timeseries.Forecaster("load", stepping=True, **SMALL).fit(frame, **QUICK)
    samples = newest(forecaster.tables(frame), forecaster.plan)
    got = forecaster.forecast(samples).mean[0]
    window, calendar = samples.x["past"][0].copy(), samples.x["future"][0]
    assert window.shape == (6, 1)
    for k in range(3):
        x = {"past": window[None], "future": calendar[None, k : k + 1]}
        step = forecaster.model.predict(x, verbose=0)["mean"][0, 0]
        assert got[k] == pytest.approx(step, rel=1e-5)
        window = np.vstack([window[1:], [[step]]])
    assert sorted(forecaster.margins) == [80.0, 95.0]
    with pytest.raises(ArgumentError, match=r"Stepping needs[\s\S]*'wind'"):
        timeseries.Forecaster("load", stepping=True, **SMALL).fit(hourly())


@pytest.mark.tensorflow  # what a network learns of noise by chance is another matter on each backend
def test_a_network_that_learnt_nothing_that_holds_is_the_simple_forecast():
    """On noise, what is kept of the weights is nothing, and the forecast is the mean of the window."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"v": rng.normal(size=500)}, index=hourly(500).index)
    forecaster = timeseries.Forecaster("v", **SMALL).fit(frame, **QUICK)
    samples = part_samples(forecaster.tables(frame), forecaster.plan, "test", forecaster.shares)
    assert forecaster.history["kept"]["mean"] == 0
    assert forecaster.anchor_used == "window mean"
    assert forecaster.penalty is None
    expected = samples.x["past"][:, :, :1].mean(axis=1) + np.zeros((1, 3))
    np.testing.assert_allclose(forecaster.forecast(samples).mean, expected, atol=1e-5)


def test_the_linear_start_is_found_and_follows_any_level():
    """y_t = 2 y_{t-1} - y_{t-2}: a line, which no simple forecast but a linear one continues."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"v": 5 * np.cumsum(rng.normal(size=40)).repeat(10) + 0.0}, index=hourly(400).index)
    frame["v"] = np.interp(np.arange(400), np.arange(0, 400, 10), frame["v"].iloc[::10])
    forecaster = timeseries.Forecaster("v", **SMALL, levels=()).fit(frame, **QUICK)
    assert forecaster.penalty is not None
    for level in (0.0, 1e4):
        line = pd.DataFrame({"v": level + 2.0 * np.arange(10)}, index=hourly(10).index)
        assert abs(forecaster.predict(line)["v"].iloc[0] - (level + 20)) < 1


def test_levels_that_cannot_be_calibrated_are_refused_or_left_out_with_their_number():
    frame = hourly(120, freq="MS")
    sizes = {"units": 2, "horizon": 12}
    with pytest.raises(DataError, match=r"interval of 95 %[\s\S]*at least 19 windows[\s\S]*7 windows"):
        timeseries.Forecaster("load", levels=(80, 95), **sizes).fit(frame, **QUICK)
    with pytest.warns(UserWarning, match="No interval of 95 %: to calibrate it takes 19 windows, and the validation"):
        forecaster = timeseries.Forecaster("load", **sizes).fit(frame, **QUICK)
    assert list(forecaster.predict(frame).columns) == ["load", "lower_80", "upper_80"]


def test_a_level_that_was_left_out_comes_back_with_a_longer_record():
    forecaster = timeseries.Forecaster("load", units=2, horizon=12)
    with pytest.warns(UserWarning, match="No interval of 95 %"):
        forecaster.fit(hourly(120, freq="MS"), epochs=1)
    assert forecaster.levels == (80.0,)
    assert forecaster.fit(hourly(300, freq="MS"), epochs=1).levels == (80.0, 95.0)


def test_no_levels_are_no_intervals(frame):
    forecaster = timeseries.Forecaster("load", levels=(), **SMALL).fit(frame, **QUICK)
    assert list(forecaster.predict(frame).columns) == ["load"]
    assert list(forecaster.model.output) == ["mean"]


def test_any_recurrent_layer_serves(frame):
    for cell in (VanillaRNN, keras.layers.GRU):
        forecaster = timeseries.Forecaster("load", cell=cell, **SMALL).fit(frame, **QUICK)
        assert np.isfinite(forecaster.predict(frame).to_numpy()).all()
