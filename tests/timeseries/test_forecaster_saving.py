"""A forecaster saved and loaded."""

import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import DataError
from tests.timeseries.forecasters import QUICK, SMALL, hourly


def test_a_saved_forecaster_predicts_as_before_in_another_process(fitted, frame, tmp_path):
    timeseries.save_forecaster(fitted, tmp_path / "load")
    expected = fitted.predict(frame)
    again = timeseries.load_forecaster(tmp_path / "load").predict(frame)
    pd.testing.assert_frame_equal(again, expected)
    assert str(expected.index.tz) == "UTC+01:00"
    assert expected.index[0] == frame.index[-1] + frame.index.freq
    assert expected.index.name == "when"
    # The model alone is a Keras model that needs nothing but the package.
    code = (
        f"import keras, keras_lstm_custom; print(keras.models.load_model({str(tmp_path / 'load/model.keras')!r}).name)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip().endswith("forecaster")


@pytest.mark.parametrize("damage", ["no folder", "no model", "no json", "text", "other format", "cut off"])
def test_what_is_no_forecaster_is_refused(fitted, tmp_path, damage):
    folder = tmp_path / "load"
    if damage != "no folder":
        timeseries.save_forecaster(fitted, folder)
    facts = folder / "forecaster.json"
    if damage == "no model":
        (folder / "model.keras").unlink()
    elif damage == "no json":
        facts.unlink()
    elif damage == "text":
        facts.write_text("[1, 2")
    elif damage == "other format":
        facts.write_text('{"format": 99}')
    elif damage == "cut off":
        (folder / "model.keras").write_bytes((folder / "model.keras").read_bytes()[:500])
    with pytest.raises(DataError, match="holds no forecaster"):
        timeseries.load_forecaster(folder)


def test_an_unfitted_forecaster_is_not_saved(tmp_path):
    with pytest.raises(DataError, match="nothing to save"):
        timeseries.save_forecaster(timeseries.Forecaster("load"), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_loaded_forecaster_is_fitted_again_with_what_it_was_made_with(frame, tmp_path):
    sizes = {**SMALL, "horizon": np.int64(2), "past": (), "calendar": ["hour"], "missing": "mask"}
    layer = {"cell": keras.layers.GRU, "options": {"dropout": 0.25}}
    made = timeseries.Forecaster("load", **sizes, **layer, linear=False, levels=(80,)).fit(frame, epochs=1)
    timeseries.save_forecaster(made, tmp_path / "load")
    loaded = timeseries.load_forecaster(tmp_path / "load")
    for again in (loaded.fresh(), loaded):
        again.fit(frame, epochs=1)
        assert again.plan == made.plan
        assert (again.penalty, again.levels, again.margins.keys()) == (None, (80.0,), made.margins.keys())
        recurrent = again.model.get_layer("recurrent")
        assert (type(recurrent), recurrent.dropout) == (keras.layers.GRU, 0.25)


def test_levels_that_were_left_out_stay_left_out_after_loading(tmp_path):
    frame = hourly(120, freq="MS")
    with pytest.warns(UserWarning, match="No interval of 95 %"):
        made = timeseries.Forecaster("load", units=2, horizon=12).fit(frame, **QUICK)
    timeseries.save_forecaster(made, tmp_path / "load")
    pd.testing.assert_frame_equal(timeseries.load_forecaster(tmp_path / "load").predict(frame), made.predict(frame))
