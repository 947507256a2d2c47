"""Simple forecasts, measures, and when a gain is one."""

import numpy as np
import pandas as pd
import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import ArgumentError, InputError
from keras_lstm_custom.timeseries import baselines
from keras_lstm_custom.timeseries.forecasting import statistical

VALUES = np.random.default_rng(5).normal(50, 9, 90).cumsum()


def test_simple_forecasts_are_those_of_the_text_book():
    origins = np.array([30, 47, 89])
    got = timeseries.simple_forecasts(VALUES, origins, horizon=9, window=10, periods=(4, 7, 80))
    assert list(got) == ["last value", "window mean", "drift", "seasonal naive (4)", "seasonal naive (7)"]
    for row, t in enumerate(origins):
        past = list(VALUES[: t + 1])
        assert got["last value"][row].tolist() == [past[-1]] * 9
        np.testing.assert_allclose(got["window mean"][row], np.mean(past[-10:]))
        slope = (past[-1] - past[0]) / t
        np.testing.assert_allclose(got["drift"][row], [past[-1] + k * slope for k in range(1, 10)])
        for period in (4, 7):
            series = list(past)
            for _ in range(9):
                series.append(series[-period])
            assert got[f"seasonal naive ({period})"][row].tolist() == series[t + 1 :]


def test_simple_forecasts_know_nothing_of_what_follows():
    changed = VALUES.copy()
    changed[51:] = 1e9
    sizes = {"horizon": 5, "window": 8, "periods": (7,)}
    before, after = (timeseries.simple_forecasts(v, [20, 50], **sizes) for v in (VALUES, changed))
    assert all((before[name] == after[name]).all() for name in before)


@pytest.mark.parametrize("name", ["last value", "window mean", "seasonal naive (3)", "seasonal naive (12)"])
def test_a_kernel_is_the_same_forecast(name):
    origins = np.arange(20, 80)
    past = VALUES[origins[:, None] + np.arange(-11, 1)]
    expected = timeseries.simple_forecasts(VALUES, origins, horizon=7, window=12, periods=(3, 12))[name]
    np.testing.assert_allclose(past @ baselines.simple_kernel(name, horizon=7, window=12), expected)


def test_what_a_window_does_not_show_is_refused():
    with pytest.raises(InputError, match="whole window"):
        timeseries.simple_forecasts(VALUES, [3], horizon=2, window=8)
    for name in ("drift", "seasonal naive (13)"):
        with pytest.raises(InputError, match="does not follow from a window"):
            baselines.simple_kernel(name, horizon=3, window=12)


@pytest.mark.parametrize(
    ("frequency", "periods"),
    [("h", (24, 168)), ("15min", (96, 672)), ("D", (7, 365)), ("MS", (12,)), ("QE", (4,)), ("W", (52,)), ("5h", ())],
)
def test_all_seasons_that_the_spacing_suggests(frequency, periods):
    assert timeseries.periods_of(pd.date_range("2013-01-01", periods=9, freq=frequency)) == periods


def test_mase_is_the_error_in_naive_errors():
    train = [1.0, 3.0, 2.0, 5.0, np.nan]
    assert timeseries.naive_scale(train) == pytest.approx((2 + 1 + 3) / 3)
    assert timeseries.naive_scale(train, period=2) == pytest.approx((1 + 2) / 2)
    assert timeseries.mase([4.0, 6.0], [2.0, 6.0], scale=2.0) == pytest.approx(0.5)
    assert np.isnan(timeseries.naive_scale([7.0] * 9))


def test_pinball_and_coverage():
    assert timeseries.pinball([4.0, 1.0], [2.0, 2.0], 0.9) == pytest.approx((0.9 * 2 + 0.1 * 1) / 2)
    assert timeseries.coverage([1.0, 2.0, np.nan, 9.0], [1.0] * 4, [2.0] * 4) == pytest.approx(2 / 3)
    with pytest.raises(ArgumentError, match="cannot be compared"):
        timeseries.coverage([1.0], [1.0, 2.0], [1.0, 2.0])


def overlapping(rng, windows, horizon):
    """Mean losses of windows that share all steps but one, of noise without any gain."""
    return np.lib.stride_tricks.sliding_window_view(rng.normal(size=windows + horizon - 1), horizon).mean(axis=1)


@pytest.mark.parametrize(("windows", "horizon"), [(300, 1), (277, 24), (1287, 24), (120, 12)])
def test_no_gain_is_rarely_called_one(windows, horizon):
    """A naive standard error, of windows as if they were independent, would do so in a third of the cases."""
    called = naive = 0
    for seed in range(400):
        change = overlapping(np.random.default_rng(seed), windows, horizon)
        called += timeseries.gain(np.zeros(windows), change, horizon=horizon).sure
        naive += change.mean() > 2 * change.std(ddof=1) / np.sqrt(windows)
    assert called / 400 < 0.05
    assert horizon == 1 or naive / 400 > 0.15


def test_a_true_gain_is_seen_and_few_windows_tell_nothing():
    change = overlapping(np.random.default_rng(0), 400, 12) + 0.5
    assert timeseries.gain(np.zeros(400), change, horizon=12).sure
    few = timeseries.gain(np.zeros(26), change[:26] + 100, horizon=12)
    assert few.blocks < 4
    assert not few.sure


def test_a_gain_of_nothing_over_nothing_is_none():
    assert not timeseries.gain(np.zeros(300), np.zeros(300), horizon=3).sure


@pytest.mark.parametrize("kind", ["level", "trend", "season", "product"])
def test_exponential_smoothing_is_that_of_statsmodels_at_every_origin(kind, rng):
    """Our forecasts from the states at an origin against those of a model that saw no more than that."""
    ets = pytest.importorskip("statsmodels.tsa.exponential_smoothing.ets")
    t = np.arange(150)
    values = 100 + {"level": 0 * t, "trend": t * 2.0, "season": 20 * np.sin(t * np.pi / 6), "product": t * 2.0}[kind]
    values = values * (1 + 0.3 * np.sin(t * np.pi / 6) * (kind == "product")) + rng.normal(size=150)
    origins = [119, 130, 149]
    seen = []
    original = ets.ETSModel.smooth
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ets.ETSModel, "smooth", lambda self, p, **k: seen.append((self, p)) or original(self, p, **k))
        got = statistical.exponential_smoothing(values, origins, horizon=14, period=12, fitted=120)
    model, parameters = seen[-1]
    assert len(model.endog) == 150
    for row, origin in zip(got, origins, strict=True):
        options = {name: getattr(model, name) for name in ("error", "trend", "damped_trend", "seasonal")}
        options |= {"seasonal_periods": 12 if model.seasonal else None, "initialization_method": "known"}
        for name in ("level", "trend", "seasonal"):
            state = getattr(model, f"initial_{name}", None)
            options |= {f"initial_{name}": state} if state is not None else {}
        part = ets.ETSModel(values[: origin + 1], **options).smooth(parameters)
        np.testing.assert_allclose(row, part.forecast(14), rtol=1e-6)


@pytest.mark.parametrize("quantile", [95, 0, 1.0, float("nan")])
def test_a_quantile_is_a_share_and_no_per_cent(quantile):
    with pytest.raises(ArgumentError, match=r"quantile=0\.95 for 95 %"):
        timeseries.pinball([1.0], [2.0], quantile)


UNUSABLE = {
    "period 0": lambda: timeseries.naive_scale(VALUES, period=0),
    "period -1": lambda: timeseries.naive_scale(VALUES, period=-1),
    "two series": lambda: timeseries.naive_scale(VALUES.reshape(2, -1)),
    "scale 0": lambda: timeseries.mase(VALUES, VALUES, scale=0),
    "scale 0 of NumPy": lambda: timeseries.mase(VALUES, VALUES, scale=np.float64(0)),
    "scale in words": lambda: timeseries.mase(VALUES, VALUES, scale="one"),
    "quantile in words": lambda: timeseries.pinball(VALUES, VALUES, "0.5"),
    "other losses": lambda: timeseries.gain(VALUES, VALUES[:-1], horizon=1),
    "one other loss": lambda: timeseries.gain(VALUES, VALUES[:1], horizon=1),
    "no losses": lambda: timeseries.gain([], [], horizon=1),
    "losses by step": lambda: timeseries.gain(VALUES[:, None], VALUES[:, None], horizon=1),
    "no horizon": lambda: timeseries.gain(VALUES, VALUES, horizon=0),
    "origin after the end": lambda: timeseries.simple_forecasts(VALUES, [90], horizon=1, window=2),
    "half an origin": lambda: timeseries.simple_forecasts(VALUES, [4.5], horizon=1, window=2),
    "a hole": lambda: timeseries.simple_forecasts(np.r_[VALUES, np.nan], [80], horizon=1, window=2),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_measured_is_refused(case):
    with pytest.raises((ArgumentError, InputError), match=r"(?s)Expected: .*Received: .*What to do: "):
        UNUSABLE[case]()


def test_truth_that_is_all_missing_has_no_coverage():
    assert np.isnan(timeseries.coverage([np.nan] * 2, [0.0] * 2, [1.0] * 2))
    assert timeseries.coverage([0.5, 0.5, np.nan], [np.nan, 0, 0], [1.0] * 3) == 0.5


@pytest.mark.parametrize("side", [0, 1])
def test_an_infinite_loss_is_not_left_out_as_if_it_were_missing(side):
    losses = [np.ones(40) + 0.01 * VALUES[:40] / 50, np.full(40, 5.0)]
    assert timeseries.gain(*losses, horizon=1).sure
    losses[side] = np.r_[losses[side][:-1], np.inf]
    assert not timeseries.gain(*losses, horizon=1).sure


@pytest.mark.parametrize("blocks", [4, 8, 11, 12, 16, 40])
def test_how_many_standard_errors_are_needed(blocks):
    stats = pytest.importorskip("scipy.stats")
    found = timeseries.gain(np.zeros(blocks**2), np.arange(blocks**2), horizon=1)
    assert found.blocks == blocks
    assert found.needed == pytest.approx(stats.t.ppf(stats.norm.cdf(2), blocks - 1), abs=0.01)
