"""What a user writes; no type checker has anything to say."""

import keras
import numpy as np

import keras_lstm_custom as klc
from keras_lstm_custom import (
    GRU,
    SLSTM,
    GateMonitor,
    LSTMCell,
    VanillaRNN,
    export,
    gate_weights,
    plots,
    summary,
    timeseries,
    trace,
)
from keras_lstm_custom.layers import LSTM as OF_LAYERS

x = np.zeros((4, 20, 3), "float32")
penalty = keras.regularizers.L2(0.1)
layer: klc.LSTM = OF_LAYERS(16, "tanh", return_sequences=True, name="lstm", kernel_regularizer=penalty, zoneout=0.1)
units: int = layer.units
cell: LSTMCell = layer.cell
rate: float = layer.zoneout
width: int | None = layer.projection
normalised = OF_LAYERS(3, layer_normalization="addons", return_sequences=True, engine="reference")
print(normalised.engine, layer.explain_engine((4, 20, 3)).chosen, layer.last_engine, layer(x, mask=None, training=True))

others = [GRU(4, return_sequences=True), SLSTM(4, heads=2, return_sequences=True, dtype="float32"), VanillaRNN(3)]
model = keras.Sequential([keras.Input((20, 3)), layer, *others])
keras.layers.RNN(LSTMCell(8, peepholes=True, layer_normalization="joint"), return_sequences=True)(x)

steps = trace(model, x)
print(steps["lstm"].f.shape, summary(steps), gate_weights(model)["lstm"].bias["f"])
plots.unit(steps["lstm"], unit=3).savefig("unit.png")
model.fit(x, x, callbacks=[GateMonitor(x, every=2)])
klc.report(model, x, None, "inside.html")

written = export.tflite(model, "model.tflite", quantize="int8", calibration=x)
print(written.ok, written.bytes, export.micro(model, "model/", "int16x8", x, state=None).arena_bytes)
export.streaming(model, "step.tflite", "explicit", runtime="litert")
print(timeseries.Forecaster("load", horizon=24).fit(timeseries.read_csv("load.csv", target="load")))
