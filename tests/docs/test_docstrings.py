"""Every public name says what it is, with shapes where it takes or gives tensors; the code in it runs."""

import inspect
import re
import types

import keras
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom import equations

#: Public names about whole models, files or data frames: no tensor shapes to state.
WITHOUT_SHAPES = {"GateMonitor", "from_keras", "to_keras", "report"}
#: Called by Keras, and gives nothing back.
CALLBACKS = {"GateMonitor"}

PUBLIC = {
    name: value
    for name, value in [
        *((name, getattr(klc, name)) for name in dir(klc)),
        *((name, getattr(equations, name)) for name in equations.__all__),
    ]
    if callable(value)
}
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_has_arguments_and_results(name):
    text = inspect.getdoc(PUBLIC[name])
    assert text
    assert "Args:" in text
    assert "Returns:" in text or name in CALLBACKS


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - WITHOUT_SHAPES))
def test_docstring_states_shapes(name):
    assert re.search(r"\((batch|\.\.\.|units|features)", inspect.getdoc(PUBLIC[name])), "no shape is stated"


@pytest.mark.parametrize("name", [name for name in PUBLIC if CODE.search(inspect.getdoc(PUBLIC[name]) or "")])
@pytest.mark.tensorflow
def test_code_in_docstrings_runs(name, rng, tmp_path, monkeypatch):
    """With the names that the examples take for granted: a trained model, and data for it."""
    monkeypatch.chdir(tmp_path)
    x, y = rng.normal(size=(32, 20, 8)).astype("float32"), rng.normal(size=(32, 1)).astype("float32")
    model = keras.Sequential([keras.Input(x.shape[1:]), klc.LSTM(4, name="encoder"), keras.layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=False)
    data = {"model": model, "x": x, "y": y, "x_test": x, "y_test": y, "x_val": x, "y_val": y}
    for block in CODE.findall(inspect.getdoc(PUBLIC[name])):
        exec(block, {**PUBLIC, **data})


@pytest.mark.parametrize("name", [name for name in dir(klc) if isinstance(getattr(klc, name), types.ModuleType)])
def test_public_modules_say_what_they_are_for(name):
    module = getattr(klc, name)
    assert inspect.getdoc(module)
    for public in getattr(module, "__all__", []):
        value = getattr(module, public)
        assert not callable(value) or inspect.getdoc(value), f"{name}.{public}"
