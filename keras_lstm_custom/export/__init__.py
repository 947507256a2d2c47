"""Models to files for phones, microcontrollers and servers; every file is run before it is handed over."""

from keras_lstm_custom.export.litert import tflite
from keras_lstm_custom.export.micro import micro
from keras_lstm_custom.export.onnx import onnx
from keras_lstm_custom.export.plain_c.export import c
from keras_lstm_custom.export.running.report import ExportReport, RuntimeCheck
from keras_lstm_custom.export.running.verify import verify
from keras_lstm_custom.export.saved_model import saved_model
from keras_lstm_custom.export.streaming import streaming

__all__ = ["ExportReport", "RuntimeCheck", "c", "micro", "onnx", "saved_model", "streaming", "tflite", "verify"]
