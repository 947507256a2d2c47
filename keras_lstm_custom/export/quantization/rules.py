"""Which op can compute in integers, and what it asks of the scales of its inputs and outputs."""

from __future__ import annotations

from enum import Enum, auto

import numpy as np

from keras_lstm_custom.export.file.flatbuffer import Op


class Rule(Enum):
    """What an op asks of scales."""

    OWN = auto()  #: every input and output has its own
    SAME = auto()  #: it moves or compares values, so that all of them must have one
    FIXED = auto()  #: its output has one that the kernels presuppose
    WEIGHTED = auto()  #: a constant second input of int8 weights, and a bias with the scale of the product
    LSTM = auto()
    LOOP = auto()


RULES: dict[int, Rule] = {
    **dict.fromkeys(
        [
            Op.ADD,
            Op.BATCH_MATMUL,
            Op.LEAKY_RELU,
            Op.MEAN,
            Op.MUL,
            Op.RELU,
            Op.RELU6,
            Op.SUB,
        ],
        Rule.OWN,
    ),
    **dict.fromkeys(
        [
            Op.AVERAGE_POOL_2D,
            Op.BROADCAST_TO,
            Op.CONCATENATION,
            Op.DYNAMIC_UPDATE_SLICE,
            Op.EXPAND_DIMS,
            Op.GATHER,
            Op.MAX_POOL_2D,
            Op.MAXIMUM,
            Op.MINIMUM,
            Op.PACK,
            Op.PAD,
            Op.PADV2,
            Op.RESHAPE,
            Op.REVERSE_V2,
            Op.SELECT_V2,
            Op.SLICE,
            Op.SPLIT,
            Op.SPLIT_V,
            Op.SQUEEZE,
            Op.STRIDED_SLICE,
            Op.TILE,
            Op.TRANSPOSE,
            Op.UNPACK,
        ],
        Rule.SAME,
    ),
    **dict.fromkeys([Op.LOGISTIC, Op.SOFTMAX, Op.TANH], Rule.FIXED),
    **dict.fromkeys([Op.CONV_2D, Op.DEPTHWISE_CONV_2D, Op.FULLY_CONNECTED], Rule.WEIGHTED),
    Op.UNIDIRECTIONAL_SEQUENCE_LSTM: Rule.LSTM,
    Op.WHILE: Rule.LOOP,
}

#: The axis of the output channels in the weights; each channel has a scale.
CHANNEL_AXIS = {Op.CONV_2D: 0, Op.DEPTHWISE_CONV_2D: 3, Op.FULLY_CONNECTED: 0}
#: The op and the type of its input for which CMSIS-NN takes one scale for all weights only (tflite-micro,
#: kernels/cmsis_nn/fully_connected.cc, `Prepare`).
PER_TENSOR = {(Op.FULLY_CONNECTED, np.int16)}
