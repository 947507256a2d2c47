"""What a microcontroller package is made from, and how C++ deals with its types and names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_lstm_custom.export.running.runtimes import Tensor


@dataclass(frozen=True)
class Package:
    """What the files are made from."""

    name: str  #: namespace of all that is declared; one that `reserved_names.why_not` allows
    model: bytes
    ops: Sequence[str]  #: the builtin ops by name
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    test_inputs: Sequence[np.ndarray]  #: of each input but states: (sequences · invocations, ...), as it is stored
    test_outputs: Sequence[np.ndarray]  #: of each output
    invocations: int  #: of each sequence of the test
    states: Mapping[int, int]  #: inputs that are, at the next invocation, what an output was
    reset: bool  #: whether the runtime keeps states that a new sequence must not see
    arena_bytes: int
    arena_comment: str
    cmsis_nn_bytes: int  #: what the kernels of CMSIS-NN take of the arena beyond that
    not_on_cmsis_nn: str  #: why they do not run the model; empty if they do

    @property
    def sequences(self) -> int:
        """How many the test has."""
        return len(self.test_outputs[0]) // self.invocations


@dataclass(frozen=True)
class CType:
    """How C++ code deals with a tensor's type."""

    name: str
    member: str  #: of TfLiteTensor.data
    tolerance: str  #: how far two kernels may differ, in the stored unit


#: Kernels of different vendors round differently: by a few steps of int8, and as much of a range in int16.
TYPES = {
    "int8": CType("int8_t", "int8", "4"),
    "int16": CType("int16_t", "i16", "256"),
    "int32": CType("int32_t", "i32", "0"),
    "float32": CType("float", "f", "1e-4"),
}


def shown(name: str) -> str:
    """Return a tensor's name for a comment or a string of C++; what could end either is written as octal bytes."""
    plain = [chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in name.encode(errors="replace")]
    return "".join(plain)
