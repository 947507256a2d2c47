"""One small model in every runtime, for `latency.py`: LSTM and Dense, with the same weights, checked to give the same.

The process of TensorFlow is asked first: it writes the weights, the input, what comes out, and the exported files
into a folder, where the others find them.
"""

from __future__ import annotations

from pathlib import Path

import harness
import layers
import numpy as np

FEATURES, UNITS = 16, 64
RUNTIMES = ["tensorflow", "torch", "onnxruntime", "litert"]
#: Batch and steps of each situation. In "step" one sequence comes in step by step, and the state is kept.
SITUATIONS = {"batch": (256, 100), "sequence": (1, 100), "step": (1, 1)}
TOLERANCE = 1e-4  #: of outputs of size 1, between float32 runtimes; only gross mistakes are to be found here


def tensorflow():
    """Three ways to call a model of Keras, with Keras' layer and with ours, and the same ways with nothing to do."""
    import keras
    import tensorflow as tf

    import keras_lstm_custom as klc

    def network(shape, stateful):
        recurrent = keras.layers.LSTM(UNITS, stateful=stateful)
        size = {"batch_shape": (1, *shape)} if stateful else {"shape": shape}
        return keras.Sequential([keras.Input(**size), recurrent, keras.layers.Dense(1)])

    def candidates(situation, folder):
        batch, steps = SITUATIONS[situation]
        stateful = situation == "step"
        keras.utils.set_random_seed(0)
        x = np.random.default_rng(0).normal(size=(batch, steps, FEATURES)).astype("float32")
        plain = network((steps, FEATURES), stateful)
        ours = klc.from_keras(plain)
        nothing = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Identity()])
        y = np.array(plain(x))
        _write(Path(folder), situation, plain, x, y)
        made = {}
        for name, model, expected in (("keras", plain, y), ("auto", ours, y), ("nothing", nothing, x)):
            for way, call in _ways(tf, model, x).items():
                for layer in model.layers if stateful else []:
                    getattr(layer, "reset_state", lambda: None)()
                _check(f"{name}, {way}", call(), expected)
                made[f"{name}, {way}"] = call
        return made

    return candidates, layers.tensorflow_product(tf)


def torch():
    """`torch.nn.LSTM` in inference mode."""
    import torch

    torch.set_num_threads(harness.THREADS)

    def candidates(situation, folder):
        given = _read(folder, situation)
        kernel, recurrent, bias, dense, offset = (torch.from_numpy(given[f"w{n}"]) for n in range(5))
        layer, head = torch.nn.LSTM(FEATURES, UNITS, batch_first=True), torch.nn.Linear(UNITS, 1)
        with torch.no_grad():  # torch's order of the gates is Keras'
            layer.weight_ih_l0.copy_(kernel.T), layer.weight_hh_l0.copy_(recurrent.T)
            layer.bias_ih_l0.copy_(bias), layer.bias_hh_l0.zero_()
            head.weight.copy_(dense.T), head.bias.copy_(offset)
        x = torch.from_numpy(given["x"])
        kept = [None]  # the state, in the situation "step"

        @torch.inference_mode()
        def call():
            outputs, state = layer(x, kept[0])
            if situation == "step":
                kept[0] = state
            return head(outputs[:, -1])

        _check("torch", call().numpy(), given["y"])
        return {"torch": call}

    return candidates, lambda n: lambda: torch.ones(n, n) @ torch.ones(n, n)


def onnxruntime():
    """The file of `export.onnx`; step by step, its states go in and come out."""
    import onnxruntime

    def candidates(situation, folder):
        given = _read(folder, situation)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = harness.THREADS
        file = str(Path(folder, f"{situation}.onnx"))
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        names = [tensor.name for tensor in session.get_inputs()]
        states = [np.zeros((1, UNITS), "float32") for _ in names[1:]]

        def call():
            outputs, *states[:] = session.run(None, dict(zip(names, [given["x"], *states], strict=True)))
            return outputs

        _check("onnxruntime", call(), given["y"])
        return {"onnxruntime": call}

    return candidates, lambda n: lambda: np.ones((n, n)) @ np.ones((n, n))


def litert():
    """The file of `export.tflite`, one sequence at a time; step by step, the file of `export.streaming`."""
    from ai_edge_litert.interpreter import Interpreter

    def candidates(situation, folder):
        given = _read(folder, situation)
        interpreter = Interpreter(str(Path(folder, f"{situation}.tflite")), num_threads=harness.THREADS)
        interpreter.allocate_tensors()
        into, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        rows = [row[None] for row in given["x"]]

        def call():
            outputs = []
            for row in rows:
                interpreter.set_tensor(into, row)
                interpreter.invoke()
                outputs.append(interpreter.get_tensor(out))
            return np.concatenate(outputs)

        _check("litert", call(), given["y"])
        return {"litert": call}

    return candidates, lambda n: lambda: np.ones((n, n)) @ np.ones((n, n))


def _ways(tf, model, x) -> dict:
    """Return `predict`, a call of a compiled function, and an eager call."""
    tensor = tf.constant(x)
    graph = tf.function(lambda x: model(x, training=False), input_signature=[tf.TensorSpec(x.shape)], autograph=False)
    graph.get_concrete_function()
    return {
        "predict": lambda: model.predict(x, batch_size=len(x), verbose=0),
        "tf.function": lambda: graph(tensor),
        "eager": lambda: model(tensor, training=False),
    }


def _check(name, got, expected) -> None:
    """A runtime that computes something else is not measured."""
    error = np.abs(np.asarray(got) - expected).max()
    if not error <= TOLERANCE:
        raise ValueError(f"{name} does not give what Keras gives: the largest difference is {error:.2g}")


def _write(folder, situation, model, x, y) -> None:
    """Write what the other runtimes need."""
    import keras

    from keras_lstm_custom import export

    np.savez(folder / f"{situation}.npz", x=x, y=y, **{f"w{n}": w for n, w in enumerate(model.get_weights())})
    whole = keras.Sequential([keras.Input((x.shape[1], FEATURES)), keras.layers.LSTM(UNITS), keras.layers.Dense(1)])
    whole.set_weights(model.get_weights())
    if situation != "step":
        export.onnx(whole, folder / f"{situation}.onnx")
        export.tflite(whole, folder / f"{situation}.tflite")
        return
    export.streaming(whole, folder / "step.tflite", runtime="litert")
    inputs = [keras.Input((1, FEATURES)), keras.Input((UNITS,)), keras.Input((UNITS,))]
    h, *states = keras.layers.LSTM(UNITS, return_state=True)(inputs[0], initial_state=inputs[1:])
    stepped = keras.Model(inputs, [keras.layers.Dense(1)(h), *states])
    stepped.set_weights(model.get_weights())
    export.onnx(stepped, folder / "step.onnx")


def _read(folder, situation) -> dict:
    with np.load(Path(folder, f"{situation}.npz")) as file:
        return dict(file)
