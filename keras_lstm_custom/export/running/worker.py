"""Runs one TFLite file on one runtime, in a process of its own, so that a crash or a hang stays there.

`python -P worker.py request.npz reply.npz` imports NumPy and the one runtime, nothing of this package:
it starts in a fraction of a second. `runtimes.run_file` writes the request and reads the reply.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np

#: Room for the tensors on the microcontroller runtime, on top of ten times the file; far more than a device has.
AMPLE_ARENA = 32 << 20

#: What a run may allocate, on top of 16 times the file and within what the computer has: far more than files need that
#: are made for phones and microcontrollers.
MEMORY = 8 << 30

#: Seconds after which no further invocation is timed.
TIMING_BUDGET = 1.0


def tensor(name, shape, signature, dtype, scale, zero_point) -> dict:
    """Return what is known about an input or output: the one form for all runtimes."""
    return {
        "name": name,
        "shape": [int(size) for size in shape],
        "signature": [int(size) for size in signature],  # -1 where the size is free
        "dtype": np.dtype(dtype).name,
        "scale": float(scale),  # 0 where the values are not quantised
        "zero_point": int(zero_point),
    }


class LiteRT:
    """The LiteRT Interpreter, as on phones and computers."""

    def __init__(self, path: str, arena_bytes: int | None = None):
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_path=path, num_threads=1)
        self.describe()

    def describe(self):
        self._inputs, self._outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        self.inputs, self.outputs = map(self._tensors, (self._inputs, self._outputs))

    @staticmethod
    def _tensors(details):
        return [tensor(d["name"], d["shape"], d["shape_signature"], d["dtype"], *d["quantization"]) for d in details]

    def prepare(self, shapes):
        for details, shape in zip(self._inputs, shapes, strict=True):
            if list(details["shape"]) != shape:
                self.interpreter.resize_tensor_input(details["index"], shape, strict=True)
        self.interpreter.allocate_tensors()
        self.describe()

    def reset(self):
        self.interpreter.reset_all_variables()

    def invoke(self, arrays):
        for details, array in zip(self._inputs, arrays, strict=True):
            self.interpreter.set_tensor(details["index"], array)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(details["index"]) for details in self._outputs]


class Compiled(LiteRT):
    """LiteRT's CompiledModel API, which replaces the Interpreter. It describes no scales, so the Interpreter does."""

    def __init__(self, path: str, arena_bytes: int | None = None):
        from ai_edge_litert.compiled_model import CompiledModel

        super().__init__(path)
        self.model = CompiledModel.from_file(path)
        self.signature = next(iter(self.model.get_signature_list()))

    def prepare(self, shapes):
        ins = self._in_order(self.model.get_input_tensor_details(self.signature), self._inputs)
        for name, details, shape in zip(ins, self._inputs, shapes, strict=True):
            if list(details["shape"]) != shape:
                self.model.resize_input_tensor_by_name(self.signature, name, shape)
                self.interpreter.resize_tensor_input(details["index"], shape, strict=True)
        self.interpreter.allocate_tensors()
        self.describe()
        outs = self._in_order(self.model.get_output_tensor_details(self.signature), self._outputs)
        self.into = {name: self.model.create_input_buffer_by_name(self.signature, name) for name in ins}
        self.out_of = {name: self.model.create_output_buffer_by_name(self.signature, name) for name in outs}

    @staticmethod
    def _in_order(named, details):
        """Return the signature's names in the order of the file's tensors."""
        by_index = {entry["index"]: name for name, entry in named.items()}
        by_tensor = {entry["name"]: name for name, entry in named.items()}
        return [by_tensor.get(d["name"]) or by_index[d["index"]] for d in details]

    def reset(self):
        pass  # it runs no file that keeps a state

    def invoke(self, arrays):
        for buffer, array in zip(self.into.values(), arrays, strict=True):
            buffer.write(array)
        self.model.run_by_name(self.signature, self.into, self.out_of)
        pairs = zip(self.out_of.values(), self.outputs, strict=True)
        return [b.read(int(np.prod(t["shape"])), np.dtype(t["dtype"])).reshape(t["shape"]) for b, t in pairs]


class Micro:
    """TensorFlow Lite for Microcontrollers."""

    def __init__(self, path: str, arena_bytes: int | None = None):
        from tflite_micro import runtime

        arena_bytes = arena_bytes or AMPLE_ARENA + 10 * os.path.getsize(path)
        self.interpreter = runtime.Interpreter.from_file(path, arena_size=arena_bytes)
        self.inputs = self._tensors(self.interpreter.get_input_details)
        self.outputs = self._tensors(self.interpreter.get_output_details)

    @staticmethod
    def _tensors(get):
        tensors: list[dict] = []
        while True:
            try:
                d = get(len(tensors))
            except (IndexError, ValueError, RuntimeError):
                return tensors
            q = d["quantization_parameters"]
            scale, zero_point = (q["scales"][0], q["zero_points"][0]) if len(q["scales"]) else (0, 0)
            tensors.append(tensor(str(len(tensors)), d["shape"], d["shape"], d["dtype"], scale, zero_point))

    def prepare(self, shapes):
        for t, shape in zip(self.inputs, shapes, strict=True):
            if t["shape"] != shape:
                raise ValueError(f"the microcontroller runtime cannot change the input shape {t['shape']} to {shape}")

    def reset(self):
        self.interpreter.reset()

    def invoke(self, arrays):
        for index, array in enumerate(arrays):
            self.interpreter.set_input(array, index)
        self.interpreter.invoke()
        return [self.interpreter.get_output(index) for index in range(len(self.outputs))]


RUNTIMES: dict[str, Any] = {"litert": LiteRT, "compiled": Compiled, "micro": Micro}


def quantised(array, t):
    """Return float values as the tensor `t` holds them; what has its dtype already is left alone."""
    dtype = np.dtype(t["dtype"])
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    if not t["scale"]:
        return np.ascontiguousarray(array.astype(dtype))
    limits = np.iinfo(dtype)
    steps = np.round(array.astype(np.float64) / t["scale"]) + t["zero_point"]
    return np.ascontiguousarray(np.clip(steps, limits.min, limits.max).astype(dtype))


def real(array, t):
    """Return what the tensor `t` holds as float values."""
    if not t["scale"]:
        return np.array(array)
    return ((array.astype(np.float64) - t["zero_point"]) * t["scale"]).astype(np.float32)


def zero(t):
    """Return the tensor `t` filled with what means 0."""
    return np.full(t["shape"], t["zero_point"], t["dtype"])


def run(job: dict, inputs: list) -> tuple[dict, dict]:
    """Feed the rows of `inputs` one invocation after another; return arrays to keep and facts to tell.

    An input in `feedback` is not fed: the output named beside it is handed back at the next invocation.
    """
    runtime = RUNTIMES[job["runtime"]](job["path"], job.get("arena_bytes"))
    feedback = {int(into): out_of for into, out_of in job["feedback"].items()}
    fed = [index for index in range(len(runtime.inputs)) if index not in feedback]
    if len(fed) != len(inputs):
        raise ValueError(f"the file has {len(fed)} inputs to feed, {len(inputs)} were given")
    batch = runtime.inputs[fed[0]]["shape"][0] if fed else 1
    shapes = [t["shape"] for t in runtime.inputs]
    for index, array in zip(fed, inputs, strict=True):
        shapes[index] = [batch, *array.shape[1:]]
    runtime.prepare(shapes)
    rows = len(inputs[0])
    if rows % batch:
        raise ValueError(f"the file takes {batch} rows at a time, {rows} rows were given")
    feeds = [quantised(array, runtime.inputs[index]) for index, array in zip(fed, inputs, strict=True)]
    rows_of: list[list] = [[] for _ in runtime.outputs]
    for count, start in enumerate(range(0, rows, batch)):
        if count == 0 or (job["reset_every"] and count % job["reset_every"] == 0):
            states = {index: zero(runtime.inputs[index]) for index in feedback}
            if count:
                runtime.reset()
        given = {**dict(zip(fed, [feed[start : start + batch] for feed in feeds], strict=True)), **states}
        invocation = [given[index] for index in range(len(given))]
        outputs = [np.array(array) for array in runtime.invoke(invocation)]
        states = {into: outputs[out_of] for into, out_of in feedback.items()}
        for kept, array in zip(rows_of, outputs, strict=True):
            kept.append(array)
    seconds: list[float] = []
    for _ in range(job["timed_invocations"]):
        if sum(seconds) > TIMING_BUDGET:
            break
        begin = time.perf_counter()
        runtime.invoke(invocation)
        seconds.append(time.perf_counter() - begin)
    raw = [np.concatenate(arrays) for arrays in rows_of]
    series = {"fed": feeds, "raw": raw, "output": list(map(real, raw, runtime.outputs))}
    named = {f"{name}_{k}": array for name, values in series.items() for k, array in enumerate(values)}
    return named, {"inputs": runtime.inputs, "outputs": runtime.outputs, "seconds": seconds}


def smallest_arena(job: dict, inputs: list) -> tuple[dict, dict]:
    """Find by bisection the smallest arena with which the first row gives the bytes an ample arena gives.

    Each try is a forked process, since an arena that is too small may end it.
    """
    job = {**job, "reset_every": 0, "timed_invocations": 0}
    right = _last_raw(job, inputs)

    def enough(size: int) -> bool:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            code = 1
            try:
                code = 0 if _last_raw({**job, "arena_bytes": size}, inputs) == right else 1
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    low, high = 0, 1 << 10
    while not enough(high):
        low, high = high, 2 * high
    while high - low > job["step"]:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return {}, {"arena_bytes": high}


def _last_raw(job, inputs):
    arrays, _ = run(job, inputs)
    return [array.tobytes() for name, array in arrays.items() if name.startswith("raw_")]


def limit(job: dict) -> None:
    """Let this process have the memory and time that an honest file needs: a damaged one may ask for any."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = {
        resource.RLIMIT_DATA: min(MEMORY + 16 * os.path.getsize(job["path"]), memory),
        resource.RLIMIT_CPU: int(job["timeout"]) + 1,  # so that it ends though nobody is left to end it
        resource.RLIMIT_CORE: 0,  # a crash is an answer; its image would fill the user's folder
    }
    for kind, value in limits.items():
        _, most = resource.getrlimit(kind)
        resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


TASKS = {"run": run, "smallest_arena": smallest_arena}


def main(request: str, reply: str) -> None:
    """Do the job written in the file `request`, and write what came of it to `reply`."""
    with np.load(request) as loaded:
        job = json.loads(str(loaded["job"]))
        inputs = [loaded[f"input_{k}"] for k in range(len(loaded.files) - 1)]
    try:
        limit(job)
        arrays, facts = TASKS[job["task"]](job, inputs)
    except Exception as error:  # whatever a runtime raises is the answer
        arrays, facts = {}, {"refusal": str(error) or type(error).__name__}
    np.savez(reply, facts=json.dumps(facts), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
