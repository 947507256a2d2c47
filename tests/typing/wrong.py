"""What a user gets wrong: a type checker says so in every line that is marked, and in no other."""

import keras

import keras_lstm_custom as klc
from keras_lstm_custom import GRU, LSTM, SLSTM, LSTMCell, VanillaRNN, export, gate_weights, plots, timeseries, trace

model = keras.Sequential()
LSTM(units="x")  # error
LSTM(3, retrun_sequences=True)  # error
LSTM(units="x", retrun_sequences=True)  # error
LSTM()  # error
LSTM(3, layer_normalization="batch")  # error
LSTM(3, checkpoint_every="128")  # error
LSTM(4, engine="nativ")  # error
GRU(3, engine=None)  # error
GRU(3, peepholes=True)  # error
SLSTM(4, heads="2")  # error
VanillaRNN(3, recurrent_activation="sigmoid")  # error
LSTMCell(3, dropout="a half")  # error
export.tflite(model, "model.tflite", quantize="int9")  # error
export.tflite(model, "model.tflite", runtime="mirco")  # error
export.micro(model, "model/", quantize="float16")  # error
export.streaming(model, "step.tflite", state="keep")  # error
export.tflight(model, "model.tflite")  # error
trace(model)  # error
plots.unit(trace(model, None)["lstm"], unit="3")  # error
plots.weights()  # error
print(gate_weights(model)["lstm"].biases)  # error
print(klc.sumary)  # error
timeseries.Forecaster("load", horizont=24)  # error
