"""Forecasters and tables small enough to learn from in a moment."""

import numpy as np
import pandas as pd

SMALL = {"units": 3, "window": 6, "horizon": 3, "period": 6}
QUICK = {"epochs": 2, "batch_size": 64}


def hourly(rows=240, seed=0, freq="h", tz=None, **columns):
    rng = np.random.default_rng(seed)
    index = pd.date_range("2021-12-20", periods=rows, freq=freq, tz=tz, name="when")
    t = np.arange(rows)
    load = 300 + 40 * np.sin(2 * np.pi * t / 6) + rng.normal(0, 4, rows)
    return pd.DataFrame({"load": load, "wind": rng.normal(8, 2, rows), **columns}, index=index)
