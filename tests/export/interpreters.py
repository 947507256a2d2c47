"""Runs a file on the runtimes' own interpreters, in this process and without anything of the package."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

LITERT, LITERT_PLAIN, MICRO = "litert", "litert without delegates", "micro"
RUNTIMES = [LITERT, MICRO]


def run(content: bytes, inputs: list[np.ndarray], runtime: str = LITERT, reset: bool = False) -> list[np.ndarray]:
    """Feed the rows of `inputs` one after another, and return each output for all rows, in real values."""
    session = _Micro(content) if runtime == MICRO else _LiteRT(content, runtime)
    rows = []
    for number in range(len(inputs[0])):
        if reset:
            session.reset()
        rows.append(session.invoke([array[number : number + 1] for array in inputs]))
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def inputs_and_outputs(content: bytes) -> tuple[list[dict], list[dict]]:
    interpreter = Interpreter(model_content=bytes(content))
    return interpreter.get_input_details(), interpreter.get_output_details()


class _LiteRT:
    def __init__(self, content, runtime):
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        kind = plain if runtime == LITERT_PLAIN else OpResolverType.AUTO
        self.interpreter = Interpreter(model_content=bytes(content), num_threads=1, experimental_op_resolver_type=kind)
        self.interpreter.allocate_tensors()
        self.inputs, self.outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()

    def reset(self):
        self.interpreter.reset_all_variables()

    def invoke(self, arrays):
        for detail, array in zip(self.inputs, arrays, strict=True):
            self.interpreter.set_tensor(detail["index"], _stored(array, detail))
        self.interpreter.invoke()
        return [_real(self.interpreter.get_tensor(d["index"]).copy(), d) for d in self.outputs]


class _Micro:
    def __init__(self, content):
        from tflite_micro import runtime

        self.inputs, self.outputs = inputs_and_outputs(content)
        self.interpreter = runtime.Interpreter.from_bytes(bytes(content), arena_size=1 << 21)

    def reset(self):
        self.interpreter.reset()

    def invoke(self, arrays):
        for number, (detail, array) in enumerate(zip(self.inputs, arrays, strict=True)):
            self.interpreter.set_input(_stored(array, detail), number)
        self.interpreter.invoke()
        return [_real(self.interpreter.get_output(k).copy(), d) for k, d in enumerate(self.outputs)]


def _stored(array, detail):
    scale, zero_point = detail["quantization"]
    if not scale:
        return array.astype(detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.round(array / scale) + zero_point, limits.min, limits.max).astype(detail["dtype"])


def _real(array, detail):
    scale, zero_point = detail["quantization"]
    return (array.astype(np.float64) - zero_point) * scale if scale else array
