"""Windows, parts, scaling and the simplest baselines."""

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import ArgumentError, DataError, InputError


def hourly(rows, **columns):
    index = pd.date_range("2013-01-01", periods=rows, freq="h", name="time")
    return pd.DataFrame(columns or {"load": np.arange(rows) * 1.0, "wind": -np.arange(rows) * 1.0}, index=index)


# Windows


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 5), st.integers(1, 4), st.integers(0, 20))
def test_windows_hold_the_rows_they_say(window, horizon, stride, extra):
    rows = window + horizon + extra
    samples = timeseries.windows(hourly(rows), "load", window=window, horizon=horizon, stride=stride)
    # The cells are their row numbers, so a plain loop over rows says what each sample must hold.
    expected = [r for r in range(rows) if r % stride == 0 and r + window + horizon <= rows]
    assert samples.x.shape == (len(expected), window, 2)
    assert samples.y.shape == samples.times.shape == (len(expected), horizon)
    for k, r in enumerate(expected):
        assert samples.x[k, :, 0].tolist() == samples.past[k].tolist() == list(range(r, r + window))
        assert samples.x[k, :, 1].tolist() == [-v for v in range(r, r + window)]
        assert samples.y[k].tolist() == list(range(r + window, r + window + horizon))
        assert samples.times[k, 0] == np.datetime64("2013-01-01") + np.timedelta64(r + window, "h")


def test_features_choose_and_order_what_is_seen():
    samples = timeseries.windows(hourly(9), "load", window=3, horizon=2, features=["wind"])
    assert samples.x.shape == (5, 3, 1)
    assert samples.x[0, :, 0].tolist() == [0, -1, -2]
    assert samples.past[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("relative", [False, True])
def test_latest_is_the_window_after_the_last_sample(relative):
    frame = hourly(9)
    options = {"window": 3, "features": ["wind"], "relative": relative}
    samples = timeseries.windows(frame, "load", horizon=1, **options)
    newest = timeseries.latest(frame, "load", **options)
    assert newest.x.shape == (1, 3, 1)
    assert newest.y.shape == newest.times.shape == (1, 0)
    assert newest.past[0].tolist() == [6, 7, 8]
    np.testing.assert_array_equal(newest.x[0, :-1], samples.x[-1, 1:])
    assert newest.x[0, -1].tolist() == [-8]
    with pytest.raises(DataError, match="at least 10 rows"):
        timeseries.latest(frame, "load", window=10)


def test_relative_windows_count_the_target_from_its_last_known_value(rng):
    frame = hourly(30, wind=rng.normal(size=30), load=rng.normal(size=30))
    sizes = {"window": 5, "horizon": 3, "stride": 2}
    plain = timeseries.windows(frame, "load", **sizes)
    relative = timeseries.windows(frame, "load", relative=True, **sizes)
    np.testing.assert_array_equal(relative.past, plain.past)
    np.testing.assert_array_equal(relative.x[:, :, 0], plain.x[:, :, 0])
    assert not relative.x[:, -1, 1].any()
    np.testing.assert_allclose(relative.x[:, :, 1] + plain.past[:, -1:], plain.x[:, :, 1], atol=1e-6)
    np.testing.assert_allclose(relative.y + relative.past[:, -1:], plain.y, atol=1e-6)
    # The same everywhere on a slope: what a network sees does not depend on the level.
    slope = timeseries.windows(hourly(30)[["load"]], "load", relative=True, **sizes)
    assert (slope.x == slope.x[0]).all()
    assert (slope.y == slope.y[0]).all()


def test_next_times_follow_the_calendar():
    months = pd.date_range("2013-01-01", periods=5, freq="MS")
    assert list(timeseries.next_times(months, 2)) == [pd.Timestamp("2013-06-01"), pd.Timestamp("2013-07-01")]
    with pytest.raises(DataError, match="freq"):
        timeseries.next_times(pd.DatetimeIndex(["2013-01-01", "2013-01-02"]), 2)


@pytest.mark.tensorflow
def test_dataset_holds_every_sample_once():
    samples = timeseries.windows(hourly(40), "load", window=3, horizon=2)
    plain = list(timeseries.dataset(samples, batch_size=8))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in plain]), samples.x)
    shuffled = np.concatenate([y for _, y in timeseries.dataset(samples, batch_size=8, shuffle=True, seed=3)])
    assert not np.array_equal(shuffled, samples.y)
    np.testing.assert_array_equal(shuffled[np.argsort(shuffled[:, 0])], samples.y)


def test_a_model_learns_from_windows_on_every_backend():
    time = np.arange(300)
    frame = hourly(300, load=10 + 3 * np.sin(2 * np.pi * time / 12))
    scaler = timeseries.Scaler.fit(frame)
    samples = timeseries.windows(scaler.transform(frame), "load", window=12, horizon=2)
    model = keras.Sequential([keras.Input((12, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(samples.x, samples.y, epochs=40, verbose=0)
    truth = scaler.inverse(samples.y, "load")
    forecast = scaler.inverse(model.predict(samples.x, verbose=0), "load")
    assert timeseries.rmse(truth, forecast) < 0.3  # a sine of amplitude 3 is linear in its past


# Parts


def test_parts_are_the_table_cut_in_time_order():
    frame = hourly(101)
    parts = timeseries.split(frame, validation=0.2, test=0.1)
    assert [len(part) for part in parts] == [71, 20, 10]
    pd.testing.assert_frame_equal(pd.concat(parts), frame)


def test_no_later_value_reaches_what_is_learnt_from():
    """Change the later parts: the scaler and the training windows must not notice."""

    def learnt(frame):
        parts = timeseries.split(frame, at_least=6)
        scaler = timeseries.Scaler.fit(parts.train)
        return scaler, timeseries.windows(scaler.transform(parts.train), "load", window=4, horizon=2)

    frame = hourly(100)
    changed = frame.copy()
    changed.iloc[70:] = 1e6
    (scaler, samples), (same_scaler, same_samples) = learnt(frame), learnt(changed)
    assert scaler == same_scaler
    np.testing.assert_array_equal(samples.x, same_samples.x)
    np.testing.assert_array_equal(samples.y, same_samples.y)
    assert samples.times.max() < timeseries.split(frame).validation.index[0].to_datetime64()


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.2, 1.0), (0.6, 0.4), (-0.1, 0.2)])
def test_shares_that_leave_nothing_raise(shares):
    with pytest.raises(ArgumentError, match="leave nothing for training"):
        timeseries.split(hourly(50), validation=shares[0], test=shares[1])


def test_too_short_a_part_says_how_long_the_series_must_be():
    with pytest.raises(
        DataError, match=r"too short for a (validation|test) part[\s\S]*at least 72 rows[\s\S]*481 in all"
    ):
        timeseries.split(hourly(100), at_least=72)


# Scaling


def test_scaler_normalises_and_inverts(rng):
    frame = hourly(50, load=rng.normal(30, 7, 50), wind=rng.normal(-2, 0.1, 50))
    scaler = timeseries.Scaler.fit(frame)
    scaled = scaler.transform(frame)
    np.testing.assert_allclose(scaled.to_numpy().mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.to_numpy().std(axis=0), 1, atol=1e-12)
    np.testing.assert_allclose(scaler.inverse(scaled["wind"].to_numpy().reshape(5, 10), "wind").ravel(), frame["wind"])
    assert timeseries.Scaler(**scaler.to_dict()) == scaler


def test_scaler_keeps_to_the_columns_it_is_given():
    scaler = timeseries.Scaler.fit(hourly(5))
    swapped = scaler.transform(hourly(5)[["wind", "load"]])
    assert list(swapped.columns) == ["wind", "load"]
    assert swapped["load"].iloc[-1] == pytest.approx(np.sqrt(2))
    with pytest.raises(DataError, match="does not know the column 'rain'"):
        scaler.transform(hourly(5, rain=np.ones(5)))
    with pytest.raises(DataError, match="does not know the column 'rain'"):
        scaler.inverse([1.0], "rain")


@pytest.mark.parametrize("value", [0.0, 0.1, -1e9])
def test_a_constant_column_raises(value):
    with pytest.raises(DataError, match="'wind' is constant"):
        timeseries.Scaler.fit(hourly(7, load=np.arange(7.0), wind=np.full(7, value)))


# Tables and sizes that cannot be used


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (hourly(20, wind=np.ones(20)), r"no column 'load'[\s\S]*\['wind'\]"),
        (hourly(20, load=["a"] * 20), "'load' does not hold numbers"),
        (
            hourly(20, load=[1.0] * 12 + [np.nan] * 2 + [1.0] * 6),
            r"'load' is not finite[\s\S]*2013-01-01 12:00:00 \(2 rows",
        ),
        (hourly(20, load=[1.0] * 19 + [np.inf]), r"inf at 2013-01-01 19:00:00"),
        (hourly(5), r"too short for one sample[\s\S]*at least 6 rows[\s\S]*5 rows"),
        (np.ones((20, 2)), r"table with named columns[\s\S]*ndarray"),
    ],
)
def test_unusable_tables_raise(frame, words):
    with pytest.raises(DataError, match=words):
        timeseries.windows(frame, "load", window=4, horizon=2, features=["load"])


@pytest.mark.parametrize("name", ["window", "horizon", "stride"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True, None])
def test_sizes_must_be_positive_integers(name, value):
    with pytest.raises(ArgumentError, match=f"`{name}` counts time steps"):
        timeseries.windows(hourly(20), "load", **{"window": 4, "horizon": 2, name: value})


# Baselines


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 15), st.integers(0, 5))
def test_seasonal_naive_repeats_the_season(period, horizon, extra):
    window = period + extra
    past = np.random.default_rng(period).normal(size=(3, window))
    forecast = timeseries.seasonal_naive(past, horizon=horizon, period=period)
    for row in range(3):
        series = list(past[row])
        for _ in range(horizon):
            series.append(series[-period])
        assert forecast[row].tolist() == series[window:]


def test_seasonal_naive_needs_a_whole_season():
    with pytest.raises(InputError, match=r"one whole season[\s\S]*period = 8[\s\S]*\(2, 7\)"):
        timeseries.seasonal_naive(np.ones((2, 7)), horizon=3, period=8)


@pytest.mark.parametrize(
    ("frequency", "period"),
    [
        ("h", 24),
        ("30min", 48),
        ("15min", 96),
        ("D", 7),
        ("24h", 7),
        ("168h", 52),
        ("B", 5),
        ("W-TUE", 52),
        ("MS", 12),
        ("QE-NOV", 4),
        ("YS", 1),
    ],
)
def test_period_follows_from_the_spacing(frequency, period):
    index = pd.date_range("2013-01-01", periods=9, freq=frequency)
    assert timeseries.period_of(index) == timeseries.period_of(pd.DatetimeIndex(index.to_numpy())) == period


@pytest.mark.parametrize("frequency", ["5h", "2D", "36h", "2MS"])
def test_a_spacing_without_a_season_raises(frequency):
    with pytest.raises(DataError, match="length of a season"):
        timeseries.period_of(pd.date_range("2013-01-01", periods=9, freq=frequency))


def test_errors_are_those_of_the_text_books():
    truth, forecast = [[1.0, 2.0], [3.0, 4.0]], [[1.0, 5.0], [3.0, 0.0]]
    assert timeseries.mae(truth, forecast) == pytest.approx(7 / 4)
    assert timeseries.rmse(truth, forecast) == pytest.approx(5 / 2)
    for function in (timeseries.mae, timeseries.rmse):
        # (2, 2) against (2,) would broadcast to a number that means nothing.
        with pytest.raises(ArgumentError, match="cannot be compared"):
            function(truth, [1.0, 2.0])


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (pd.DataFrame({"a": []}, dtype="float64"), r"nothing to scale by.*0 rows"),
        (pd.DataFrame({"a": [1e200, -1e200]}), r"too large for a network's float32.*1e\+200"),
        (pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], columns=["a", "a"]), r"'a' is there more than once.*2 columns"),
        (np.zeros((3, 2)), r"must be a table.*ndarray"),
    ],
    ids=["empty", "huge", "a name twice", "no table"],
)
def test_what_cannot_be_scaled_is_refused(frame, says):
    with pytest.raises(DataError, match=f"(?s){says}.*What to do"):
        timeseries.Scaler.fit(frame) if isinstance(frame, pd.DataFrame) else timeseries.split(frame)


@pytest.mark.parametrize("options", [{"validation": "a"}, {"test": None}, {"at_least": 0}, {"at_least": 2.5}], ids=str)
def test_shares_and_sizes_of_parts_are_numbers(options):
    with pytest.raises(ArgumentError, match="Received: "):
        timeseries.split(pd.DataFrame({"a": range(40)}), **options)
