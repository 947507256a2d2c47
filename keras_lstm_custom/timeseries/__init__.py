"""From a table of measurements to a forecast one may trust, or to arrays for a network of one's own.

```python
from keras_lstm_custom import timeseries

frame = timeseries.read_csv("load.csv", target="load")          # strict: says which line or column is wrong
forecaster = timeseries.Forecaster("load", horizon=24).fit(frame)
print(timeseries.judge({"LSTM": forecaster}, frame))            # against every simple forecast, with a verdict
print(forecaster.predict(frame))                                # the next 24 steps, with intervals
timeseries.save_forecaster(forecaster, "runs/load")
```

For a network of your own, the parts:

```python
parts = timeseries.split(frame, validation=0.15, test=0.15)     # in time order
scaler = timeseries.Scaler.fit(parts.train)                     # knows the training part only
train = timeseries.windows(scaler.transform(parts.train), "load", window=48, horizon=24)
# model.fit(train.x, train.y); scaler.inverse(model.predict(test.x), "load")
```

Everything is NumPy, pandas and Keras and serves every Keras backend; only `dataset` imports TensorFlow. For stateful
layers `consecutive_windows` cuts long series, and the callback `ResetStates` starts each epoch anew.
"""

from keras_lstm_custom.layers.forecasting import OrderedQuantiles, QuantileLoss
from keras_lstm_custom.timeseries.baselines import period_of, periods_of, seasonal_naive, simple_forecasts
from keras_lstm_custom.timeseries.consecutive import ConsecutiveWindows, ResetStates, consecutive_windows
from keras_lstm_custom.timeseries.forecasting.backtesting import backtest, spread
from keras_lstm_custom.timeseries.forecasting.conformal import conformal_margin, intervals, windows_needed
from keras_lstm_custom.timeseries.forecasting.forecaster import Forecaster
from keras_lstm_custom.timeseries.forecasting.judging import Judgement, judge
from keras_lstm_custom.timeseries.forecasting.saving import load_forecaster, save_forecaster
from keras_lstm_custom.timeseries.measures import coverage, gain, mae, mase, naive_scale, pinball, rmse
from keras_lstm_custom.timeseries.reading import read_csv, read_series
from keras_lstm_custom.timeseries.scaling import Scaler
from keras_lstm_custom.timeseries.splitting import Parts, split
from keras_lstm_custom.timeseries.windowing import Windows, dataset, latest, next_times, windows

__all__ = [
    "ConsecutiveWindows",
    "Forecaster",
    "Judgement",
    "OrderedQuantiles",
    "Parts",
    "QuantileLoss",
    "ResetStates",
    "Scaler",
    "Windows",
    "backtest",
    "conformal_margin",
    "consecutive_windows",
    "coverage",
    "dataset",
    "gain",
    "intervals",
    "judge",
    "latest",
    "load_forecaster",
    "mae",
    "mase",
    "naive_scale",
    "next_times",
    "period_of",
    "periods_of",
    "pinball",
    "read_csv",
    "read_series",
    "rmse",
    "save_forecaster",
    "seasonal_naive",
    "simple_forecasts",
    "split",
    "spread",
    "windows",
    "windows_needed",
]
