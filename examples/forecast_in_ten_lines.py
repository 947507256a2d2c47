"""A forecast in ten lines: read, train, judge, predict, save; `docs/is-my-forecast-any-good.md` explains them.

python examples/forecast_in_ten_lines.py
"""

from pathlib import Path

from keras_lstm_custom import timeseries

frame = timeseries.read_csv(Path(__file__).parent / "data" / "jfk_weather_2013.csv", target="temperature")
forecaster = timeseries.Forecaster("temperature", horizon=24, levels=(80, 95)).fit(frame, verbose=2)
print(timeseries.judge({"LSTM": forecaster}, frame))  # against every simple forecast, with a verdict
print(forecaster.predict(frame))  # the next 24 hours, with intervals
timeseries.save_forecaster(forecaster, "runs/jfk")
print(timeseries.load_forecaster("runs/jfk").predict(frame).equals(forecaster.predict(frame)))
