"""Models and layers that were trained elsewhere, as models of Keras 3 with the numbers of their source.

`keras2` reads the .h5 files of Keras 2 and tf_keras, `torch` the recurrent modules of torch, `onnx` ONNX files and
`tf1` checkpoints of TensorFlow 1; `to_torch` is the way back. Nothing that a file holds is executed.
"""

from keras_lstm_custom.load.keras2 import keras2
from keras_lstm_custom.load.onnx import onnx
from keras_lstm_custom.load.tf1 import tf1
from keras_lstm_custom.load.to_torch import to_torch
from keras_lstm_custom.load.torch import torch

__all__ = ["keras2", "onnx", "tf1", "to_torch", "torch"]
