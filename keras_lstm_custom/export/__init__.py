"""Models to files for phones, microcontrollers and servers; every file is run before it is handed over."""

from keras_lstm_custom.export.litert import tflite
from keras_lstm_custom.export.report import ExportReport, RuntimeCheck
from keras_lstm_custom.export.saved_model import saved_model
from keras_lstm_custom.export.verify import verify

__all__ = ["ExportReport", "RuntimeCheck", "saved_model", "tflite", "verify"]
