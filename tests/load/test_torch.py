"""`load.torch` and `to_torch` against torch itself, and from arrays alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom import load
from keras_lstm_custom.errors import ConversionError, LoadError
from tests.covering import covering

torch = pytest.importorskip("torch")
BATCH, TIMESTEPS, FEATURES, UNITS = 2, 6, 3, 5
TOLERANCE = 2e-6  # float32, outputs below 1

AXES = {
    "kind": ["LSTM", "GRU", "RNN"],
    "num_layers": [1, 3],
    "bidirectional": [False, True],
    "bias": [True, False],
    "return_sequences": [True, False],
    "from_module": [True, False],
}


def numbers(model, x):
    return keras.ops.convert_to_numpy(model(x))


def last_states(module, states):
    """Return what the last layer's directions end with, `(batch, directions * units)`."""
    h = states[0] if isinstance(states, tuple) else states
    return h[-2 if module.bidirectional else -1 :].transpose(0, 1).reshape(BATCH, -1)


@pytest.mark.parametrize("row", covering(AXES), ids=lambda row: "-".join(map(str, row.values())))
def test_a_module_and_back(rng, row):
    options = {name: row[name] for name in ("num_layers", "bidirectional", "bias")}
    module = getattr(torch.nn, row["kind"])(FEATURES, UNITS, batch_first=True, **options)
    source = module if row["from_module"] else {name: w.numpy() for name, w in module.state_dict().items()}
    if row["kind"] == "RNN" and not row["from_module"]:
        with pytest.warns(UserWarning, match="nonlinearity: tanh"):
            model = load.torch(source, return_sequences=row["return_sequences"])
    else:
        model = load.torch(source, return_sequences=row["return_sequences"])
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    with torch.no_grad():
        sequence, states = module(torch.from_numpy(x))
        expected = sequence if row["return_sequences"] else last_states(module, states)
        again, _ = klc.to_torch(model)(torch.from_numpy(x))
    np.testing.assert_allclose(numbers(model, x), expected.numpy(), atol=TOLERANCE)
    np.testing.assert_allclose(again.numpy(), sequence.numpy(), atol=TOLERANCE)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_projection(rng, bidirectional):
    module = torch.nn.LSTM(FEATURES, UNITS, 2, proj_size=2, bidirectional=bidirectional, batch_first=True)
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    model = load.torch(module.state_dict())
    expected = module(torch.from_numpy(x))[0].detach().numpy()
    np.testing.assert_allclose(numbers(model, x), expected, atol=TOLERANCE)
    again = klc.to_torch(model)
    assert again.proj_size == 2
    np.testing.assert_allclose(again(torch.from_numpy(x))[0].detach().numpy(), expected, atol=TOLERANCE)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_cell(rng, kind):
    cell = getattr(torch.nn, f"{kind}Cell")(FEATURES, UNITS)
    model = load.torch(cell, return_sequences=False)
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    for module in (cell, klc.to_torch(model.layers[-1].cell)):
        state = None
        for t in range(TIMESTEPS):
            state = module(torch.from_numpy(x[:, t]), state)
        h = state[0] if kind == "LSTM" else state
        np.testing.assert_allclose(numbers(model, x), h.detach().numpy(), atol=TOLERANCE)


def test_what_a_module_says_beyond_its_weights(rng):
    module = torch.nn.RNN(FEATURES, UNITS, 2, nonlinearity="relu", dropout=0.25, batch_first=True).eval()
    model = load.torch(module)
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    np.testing.assert_allclose(numbers(model, x), module(torch.from_numpy(x))[0].detach().numpy(), atol=TOLERANCE)
    again = klc.to_torch(model)
    assert (again.nonlinearity, again.dropout, again.num_layers) == ("relu", 0.25, 2)


def test_half_precision_is_widened(rng):
    module = torch.nn.GRU(FEATURES, UNITS)
    exact = load.torch(module.bfloat16().state_dict())
    assert exact.dtype_policy.name == "float32"
    expected = module.weight_ih_l0.float().detach().numpy()
    got = klc.to_torch(exact).weight_ih_l0.detach().numpy()
    np.testing.assert_array_equal(got, expected)


def test_prefixes():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.LSTM(FEATURES, UNITS)
            self.decoder = torch.nn.GRU(FEATURES, UNITS)
            self.head = torch.nn.Linear(UNITS, 1)

    net = Net()
    wrapped = {f"module.{name}": w for name, w in net.encoder.state_dict().items()}
    assert isinstance(load.torch(wrapped).layers[-1], klc.LSTM)
    assert isinstance(load.torch(net, prefix="decoder").layers[-1], klc.GRU)
    with pytest.raises(LoadError, match=r"(?s)prefix.*'encoder\.', 'decoder\.'.*head\.weight \(1, 5\)"):
        load.torch(net)
    with pytest.raises(LoadError, match=r"nothing under the prefix 'head\.'"):
        load.torch(net, prefix="head")
    with pytest.raises(LoadError, match=r"prefix='lstm\.'"):
        load.torch({f"lstm.{n}": w for n, w in net.encoder.state_dict().items()} | {"fc.weight": net.head.weight})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda w: w.update(weight_hh_l0=w["weight_hh_l0"][:-1]), r"weight_hh_l0 \(19, 5\)"),
        (lambda w: w.update(bias_ih_l0=w["bias_ih_l0"][:-1]), r"bias_ih_l0 \(19,\)"),
        (lambda w: w.pop("weight_ih_l0"), r"weight_hh_l0 \(20, 5\)"),
        (lambda w: w.pop("bias_hh_l0"), r"bias_ih_l0 \(20,\)"),
        (lambda w: [w.pop(name) for name in list(w) if name.endswith("l0")], "the layers _l1"),
        (lambda w: w.update(weight_ih_l1=w["weight_ih_l1"][:, :-1]), "do not fit one another"),
        (lambda w: w.clear(), "no arrays"),
    ],
)
def test_a_state_dict_that_fits_no_layer(change, expected):
    weights = {name: w.numpy() for name, w in torch.nn.LSTM(FEATURES, UNITS, 2).state_dict().items()}
    change(weights)
    with pytest.raises(LoadError, match=expected):
        load.torch(weights)


def test_what_is_no_state_dict():
    with pytest.raises(LoadError, match=r"weights_only=True"):
        load.torch("model.pt")
    linear = torch.nn.Linear(3, 4)
    with pytest.raises(LoadError, match=r"weight \(4, 3\)"):
        load.torch(linear.state_dict())


def built(layer):
    layer.build((None, TIMESTEPS, FEATURES))
    return layer


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: built(klc.LSTM(4, peepholes=True)), "peepholes=True"),
        (lambda: built(klc.LSTM(4, recurrent_activation="hard_sigmoid")), "hard_sigmoid"),
        (lambda: built(klc.GRU(4, reset_after=False)), "reset_after=False"),
        (lambda: built(klc.LSTM(4, go_backwards=True)), "go_backwards=True"),
        (lambda: built(klc.SLSTM(4)), "SLSTM"),
        (lambda: built(keras.layers.Bidirectional(klc.LSTM(4), merge_mode="sum")), "merge_mode='sum'"),
        (lambda: built(keras.Sequential([klc.LSTM(4, return_sequences=True), klc.LSTM(5)])), "'hidden_size': 5"),
        (lambda: built(keras.Sequential([klc.LSTM(4), keras.layers.Dense(1)])), "LSTM without return_sequences"),
        (lambda: built(keras.layers.Dense(4)), "Dense"),
        (lambda: klc.LSTM(4), "not built"),
    ],
)
def test_what_torch_does_not_have(make, expected):
    with pytest.raises(ConversionError, match=expected):
        klc.to_torch(make())


def test_a_layer_of_keras_goes_to_torch(rng):
    layer = built(keras.layers.LSTM(UNITS, return_sequences=True))
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    got = klc.to_torch(layer)(torch.from_numpy(x))[0].detach().numpy()
    np.testing.assert_allclose(got, numbers(layer, x), atol=TOLERANCE)
