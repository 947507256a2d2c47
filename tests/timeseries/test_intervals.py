"""Quantiles that do not cross, their loss, and intervals that hold what they promise."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.layers.forecasting import free_numbers


def test_the_loss_is_the_mean_pinball_loss(rng):
    quantiles = (0.1, 0.5, 0.9)
    truth, forecast = rng.normal(size=(7, 4, 1)), rng.normal(size=(7, 4, 3))
    got = float(timeseries.QuantileLoss(quantiles)(truth.astype("float32"), forecast.astype("float32")))
    expected = np.mean([timeseries.pinball(truth[..., 0], forecast[..., k], q) for k, q in enumerate(quantiles)])
    assert got == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_least_at_the_quantiles():
    x = np.random.default_rng(1).exponential(size=(4000, 1, 1)).astype("float32")
    loss = timeseries.QuantileLoss((0.2, 0.9))

    def at(low, high):
        return float(loss(x, np.broadcast_to(np.array([low, high], "float32"), (4000, 1, 2))))

    low, high = np.quantile(x, [0.2, 0.9])
    assert at(low, high) <= min(at(low + d, high) for d in (-0.05, 0.05))
    assert at(low, high) <= min(at(low, high + d) for d in (-0.05, 0.05))


@pytest.mark.parametrize("quantiles", [(), (0.5, 0.5), (0.9, 0.1), (0.0, 0.5), (0.5, 1.0)])
def test_what_are_no_quantiles_is_refused(quantiles):
    with pytest.raises(ArgumentError, match="no quantiles"):
        timeseries.QuantileLoss(quantiles)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 10_000))
def test_quantiles_never_cross(count, seed):
    x = np.random.default_rng(seed).normal(0, 50, size=(3, 4, count)).astype("float32")
    got = np.asarray(timeseries.OrderedQuantiles()(x))
    assert got.shape == x.shape
    assert (np.diff(got, axis=-1) >= 0).all()
    np.testing.assert_array_equal(got[..., count // 2], x[..., count // 2])


@pytest.mark.parametrize("quantiles", [[-2.0, -1.0, 0.5, 0.75, 4.0], [1.0], [0.0, 3.0, 3.5]])
def test_the_free_numbers_give_the_quantiles(quantiles):
    free = free_numbers(np.array(quantiles)).astype("float32")
    np.testing.assert_allclose(np.asarray(timeseries.OrderedQuantiles()(free[None])), [quantiles], rtol=1e-5, atol=1e-6)


def test_a_model_with_them_is_saved_and_loaded(tmp_path, rng):
    inputs = keras.Input((5,))
    outputs = timeseries.OrderedQuantiles()(keras.layers.Dense(3)(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", timeseries.QuantileLoss((0.1, 0.5, 0.9)))
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    x = rng.normal(size=(4, 5)).astype("float32")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    assert again.loss.get_config()["quantiles"] == [0.1, 0.5, 0.9]


# Conformal calibration


@pytest.mark.parametrize(("level", "windows"), [(50, 1), (80, 4), (90, 9), (95, 19), (99, 99)])
def test_so_many_windows_are_needed(level, windows):
    assert timeseries.windows_needed(level) == windows
    truth = np.arange(windows * 2.0).reshape(windows, 2)
    zeros = np.zeros_like(truth)
    # With just as many, the margin is the largest error.
    assert timeseries.conformal_margin(truth, zeros, zeros, level=level).tolist() == truth[-1].tolist()
    few = slice(0, windows - 1)
    with pytest.raises(
        DataError, match=rf"too few windows[\s\S]*at least {windows} windows[\s\S]*{windows - 1} windows"
    ):
        timeseries.conformal_margin(truth[few], zeros[few], zeros[few], level=level)


def test_missing_truth_does_not_count():
    truth = np.full((30, 2), 1.0)
    truth[:, 1] = np.nan
    truth[:5, 1] = 3.0
    zeros = np.zeros_like(truth)
    assert timeseries.conformal_margin(truth, zeros, zeros, level=80).tolist() == [1.0, 3.0]
    with pytest.raises(DataError, match="5 windows"):
        timeseries.conformal_margin(truth, zeros, zeros, level=95)


@pytest.mark.parametrize("levels", [[0], [100], ["many"], [80, float("nan")], None, 80])
def test_what_is_no_level_is_refused(levels):
    with pytest.raises(ArgumentError, match="level"):
        timeseries.Forecaster("x", levels=levels) if levels is not None else timeseries.conformal_margin(
            np.ones((9, 1)), np.ones((9, 1)), np.ones((9, 1)), level=None
        )


@pytest.mark.parametrize("level", [80, 95])
@pytest.mark.parametrize("kind", ["gaussian", "skewed", "heavy tails", "wrong model"])
def test_coverage_is_what_was_promised_on_exchangeable_data(level, kind):
    """Over 300 seeds, at three steps of different spread, for a good model and for one that is far off."""
    held = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        noise = {"skewed": rng.exponential(size=(160, 3)), "heavy tails": rng.standard_t(2, size=(160, 3))}
        y = noise.get(kind, rng.normal(size=(160, 3))) * [1.0, 2.0, 5.0]
        off = 4.0 if kind == "wrong model" else 0.0
        lower, upper = np.full_like(y, off - 0.5), np.full_like(y, off + 0.7)
        margin = timeseries.conformal_margin(y[:80], lower[:80], upper[:80], level=level)
        got = timeseries.intervals({level: (lower[80:], upper[80:])}, {level: margin})[level]
        held.append(np.mean((y[80:] >= got[0]) & (y[80:] <= got[1]), axis=0))
    assert np.abs(100 * np.mean(held, axis=0) - level).max() < 3


def test_intervals_lie_within_each_other_and_are_never_inside_out(rng):
    y = rng.normal(size=(50, 2)) * 0.01
    wide = {level: (np.full_like(y, -5.0), np.full_like(y, 5.0)) for level in (50.0, 80.0, 90.0)}
    margins = {level: timeseries.conformal_margin(y, *bounds, level=level) for level, bounds in wide.items()}
    assert (margins[50.0] < 0).all()
    margins[80.0] -= 1.0  # so that it would be narrower than that of 50 %, and inside out
    got = timeseries.intervals(wide, margins)
    for inner, outer in ((50.0, 80.0), (80.0, 90.0)):
        assert (got[outer][0] <= got[inner][0]).all()
        assert (got[outer][1] >= got[inner][1]).all()
    assert all((lower <= upper).all() for lower, upper in got.values())
