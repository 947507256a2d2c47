"""`load.onnx` against onnxruntime."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest

from keras_lstm_custom import load
from keras_lstm_custom.errors import LoadError
from tests.covering import covering

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper

BATCH, STEPS, FEATURES, UNITS = 2, 5, 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TOLERANCE = 3e-6


def random(rng, *shape):
    return rng.normal(scale=0.6, size=shape).astype("float32")


def model_of(path, nodes, arrays, inputs, outputs, opset=17):
    """Write a model; inputs by name with their shapes, `None` for an open size. Those of one axis are whole numbers."""
    graph = helper.make_graph(
        nodes,
        "test",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT if len(shape) > 1 else TensorProto.INT32, shape)
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, str(path))
    return path


def run(path, *inputs):
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: array for i, array in zip(session.get_inputs(), inputs, strict=True)})


def loaded(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the batch is first
        return load.onnx(path)


def weights(rng, op, directions, **options):
    gates = GATES[op]
    found = {
        "W": random(rng, directions, gates * UNITS, FEATURES),
        "R": random(rng, directions, gates * UNITS, UNITS),
        "B": random(rng, directions, 2 * gates * UNITS),
    }
    return found | ({"P": random(rng, directions, 3 * UNITS)} if options.get("peepholes") else {})


def numbers(outputs):
    return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(outputs)]


AXES = {
    "op": ["LSTM", "GRU", "RNN"],
    "direction": ["forward", "reverse", "bidirectional"],
    "outputs": [("Y",), ("Y_h",), ("Y", "Y_h")],
    "option": [False, True],
    "lengths": [False, True],
    "states": [False, True],
}


@pytest.mark.parametrize("row", covering(AXES), ids=lambda row: "-".join(map(str, row.values())))
def test_a_node(tmp_path, rng, row):
    """`option` is what each kind has: peepholes, linear_before_reset, another function."""
    op, outputs = row["op"], row["outputs"]
    directions = 1 + (row["direction"] == "bidirectional")
    attributes = {"direction": row["direction"], "hidden_size": UNITS}
    names = ["h0", "c0"][: 1 + (op == "LSTM")] if row["states"] else []
    given = {"x": random(rng, STEPS, BATCH, FEATURES)}
    given |= {"lengths": np.array([2, STEPS, 1, STEPS - 1], "int32")[:BATCH]} if row["lengths"] else {}
    given |= {name: random(rng, directions, BATCH, UNITS) for name in names}
    inputs = ["x", "W", "R", "B", "lengths" if row["lengths"] else "", *(names or [""])]
    arrays = weights(rng, op, directions, peepholes=op == "LSTM" and row["option"])
    if "P" in arrays:
        inputs += [*([""] * (7 - len(inputs))), "P"]
    if op == "GRU":
        attributes["linear_before_reset"] = int(row["option"])
    if op == "RNN" and row["option"]:
        attributes["activations"] = ["Relu"] * directions
    names = ["Y" if "Y" in outputs else "", "Y_h" if "Y_h" in outputs else ""]
    node = helper.make_node(op, inputs, names, **attributes)
    shapes = {"x": [None, None, FEATURES], "lengths": [None]}
    shapes = {name: shapes.get(name, [directions, None, UNITS]) for name in given}
    path = model_of(tmp_path / "m.onnx", [node], arrays, shapes, outputs)
    with pytest.warns(UserWarning, match="'x' \\(timesteps, batch, features\\)"):
        model = load.onnx(path)
    batch_first = {name: array if name == "lengths" else array.swapaxes(0, 1) for name, array in given.items()}
    joined = [array if name in ("x", "lengths") else array.reshape(BATCH, -1) for name, array in batch_first.items()]
    results = numbers(model(joined if len(joined) > 1 else joined[0]))
    for name, got, expected in zip(outputs, results, run(path, *given.values()), strict=True):
        ours = expected.transpose(2, 0, 1, 3) if name == "Y" else expected.transpose(1, 0, 2)
        np.testing.assert_allclose(got, ours.reshape(got.shape), atol=TOLERANCE)


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_the_layout_with_the_batch_first(tmp_path, rng, op):
    """onnxruntime does not run it; the numbers are those of the other layout."""
    arrays, x = weights(rng, op, 2), random(rng, BATCH, STEPS, FEATURES)
    found = []
    for layout in (0, 1):
        options = {"hidden_size": UNITS, "direction": "bidirectional", "layout": layout}
        node = helper.make_node(op, ["x", "W", "R", "B"], ["Y", "Y_h"], **options)
        path = model_of(tmp_path / f"{layout}.onnx", [node], arrays, {"x": [None, None, FEATURES]}, ["Y", "Y_h"])
        found.append(numbers(loaded(path)(x)))
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("peepholes", [False, True])
def test_coupled_gates_and_the_old_hard_sigmoid(tmp_path, rng, peepholes):
    """f = 1 - i. onnxruntime computes it, too."""
    arrays = weights(rng, "LSTM", 1, peepholes=peepholes)
    attributes = {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [0.2], "activation_beta": [0.5]}
    inputs = ["x", "W", "R", "B", *(["", "", "", "P"] if peepholes else [])]
    node = helper.make_node("LSTM", inputs, ["Y", "Y_h", "Y_c"], hidden_size=UNITS, input_forget=1, **attributes)
    path = model_of(tmp_path / "m.onnx", [node], arrays, {"x": [None, None, FEATURES]}, ["Y_h", "Y_c"])
    x = random(rng, STEPS, BATCH, FEATURES)
    for got, expected in zip(numbers(loaded(path)(x.swapaxes(0, 1))), run(path, x), strict=True):
        np.testing.assert_allclose(got, expected[0], atol=TOLERANCE)


def test_a_whole_model_with_the_batch_first(tmp_path, rng):
    """Transposes, two directions joined by a Reshape, the last step, Dense layers in both spellings, activations."""
    arrays = weights(rng, "LSTM", 2) | {
        "joined": np.array([0, 0, -1], "int64"),
        "kernel": random(rng, 2 * UNITS, 3),
        "bias": random(rng, 3),
        "scale": random(rng, FEATURES),
        "head": random(rng, 2, 3),
        "head_bias": random(rng, 2),
        "last": np.array(-1, "int64"),
    }
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["by_time"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["by_time", "W", "R", "B"], ["Y"], hidden_size=UNITS, direction="bidirectional"),
        helper.make_node("Transpose", ["Y"], ["Y2"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["Y2", "joined"], ["Y3"]),
        helper.make_node("Transpose", ["Y3"], ["by_batch"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["by_batch", "kernel"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["dense"]),
        helper.make_node("LeakyRelu", ["dense"], ["active"], alpha=0.2),
        helper.make_node("Gather", ["active", "last"], ["end"], axis=1),
        helper.make_node("Gemm", ["end", "head", "head_bias"], ["logits"], transB=1, alpha=0.5),
        helper.make_node("Softmax", ["logits"], ["y"], axis=-1),
    ]
    path = model_of(tmp_path / "m.onnx", nodes, arrays, {"x": [None, STEPS, FEATURES]}, ["y"])
    x = random(rng, BATCH, STEPS, FEATURES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is otherwise than in the file
        model = load.onnx(path)
    assert model.input_shape == (None, STEPS, FEATURES)
    np.testing.assert_allclose(numbers(model(x))[0], run(path, x)[0], atol=TOLERANCE)
    assert sum(isinstance(layer, keras.layers.Dense) for layer in model.layers) == 2
    model.save(tmp_path / "m.keras")
    np.testing.assert_allclose(
        numbers(keras.saving.load_model(tmp_path / "m.keras")(x))[0], run(path, x)[0], atol=TOLERANCE
    )


@pytest.mark.tensorflow
def test_what_this_package_writes_comes_back(tmp_path, rng):
    pytest.importorskip("tf2onnx")
    import keras_lstm_custom as klc

    layers = [klc.LSTM(UNITS, return_sequences=True), klc.LSTM(UNITS), keras.layers.Dense(2, activation="relu")]
    source = keras.Sequential([keras.Input((STEPS, FEATURES)), *layers])
    klc.export.onnx(source, tmp_path / "m.onnx")
    x = random(rng, BATCH, STEPS, FEATURES)
    np.testing.assert_allclose(numbers(loaded(tmp_path / "m.onnx")(x))[0], numbers(source(x))[0], atol=TOLERANCE)


def test_what_torch_writes(tmp_path, rng):
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.LSTM(FEATURES, UNITS, 2, batch_first=True, bidirectional=True)
            self.head = torch.nn.Linear(2 * UNITS, 1)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    net, x = Net().eval(), random(rng, BATCH, STEPS, FEATURES)
    torch.onnx.export(net, (torch.from_numpy(x),), str(tmp_path / "m.onnx"), dynamo=False)
    expected = net(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(numbers(loaded(tmp_path / "m.onnx")(x))[0], expected, atol=TOLERANCE)


def test_states_that_torch_hands_through(tmp_path, rng):
    """Both layers take their part of one input, and what they end with is joined again."""
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.LSTM(FEATURES, UNITS, 2, batch_first=True, bidirectional=True)

        def forward(self, x, h, c):
            y, (h, c) = self.rnn(x, (h, c))
            return y, h, c

    net, x = Net().eval(), random(rng, BATCH, STEPS, FEATURES)
    states = [random(rng, 4, BATCH, UNITS) for _ in range(2)]
    given = tuple(map(torch.from_numpy, (x, *states)))
    torch.onnx.export(net, given, str(tmp_path / "m.onnx"), input_names=["x", "h", "c"], dynamo=False)
    y, *after = (each.detach().numpy() for each in net(*given))
    of_rows = [state.swapaxes(0, 1).reshape(BATCH, -1) for state in (*states, *after)]
    found = numbers(loaded(tmp_path / "m.onnx")([x, *of_rows[:2]]))
    for got, expected in zip(found, (y, *of_rows[2:]), strict=True):
        np.testing.assert_allclose(got, expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"clip": 3.0}, r"clip=3: a bound"),
        ({"activations": ["Sigmoid", "Tanh", "Relu"]}, "another one for the candidate"),
        ({"activations": ["ScaledTanh", "Tanh", "Tanh"]}, "ScaledTanh"),
        ({"inputs": ["x", "W", "R", "B", "lengths"]}, "sequence_lens"),
        ({"inputs": ["x", "W", "R", "B", "", "start"]}, "initial state"),
        ({"inputs": ["x", "W", "W", "B"]}, "do not fit one another"),
        ({"op": "GRU"}, "do not fit one another"),
    ],
)
def test_what_cannot_be_carried_over_is_named(tmp_path, rng, change, expected):
    change = dict(change)
    inputs, op = change.pop("inputs", ["x", "W", "R", "B"]), change.pop("op", "LSTM")
    arrays = weights(rng, "LSTM", 1) | {
        "lengths": np.array([3, 2], "int32"),
        "start": np.ones((1, BATCH, UNITS), "float32"),
    }
    node = helper.make_node(op, inputs, ["Y"], name="the_node", hidden_size=UNITS, **change)
    path = model_of(tmp_path / "m.onnx", [node], arrays, {"x": [None, BATCH, FEATURES]}, ["Y"])
    with pytest.raises(LoadError, match=rf"(?s)'the_node' \({op}\).*{expected}"):
        load.onnx(path)


def test_other_nodes_are_named(tmp_path, rng):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first"),
        helper.make_node("Einsum", ["c"], ["y"], equation="abc->ab"),
    ]
    path = model_of(tmp_path / "m.onnx", nodes, {"w": random(rng, 2, 2, 2)}, {"x": [None, 2, 3]}, ["y"])
    with pytest.raises(LoadError, match=r"no counterpart: Conv \(first\), Einsum \(y\)"):
        load.onnx(path)


def test_files_that_are_none(tmp_path):
    for name, content in {"a.onnx": b"", "b.onnx": b"no protobuf at all", "c.onnx": b"\x08\x08"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LoadError, match="Check the path"):
            load.onnx(tmp_path / name)
    with pytest.raises(LoadError, match="Check the path"):
        load.onnx(tmp_path / "none.onnx")
