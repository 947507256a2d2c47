"""A fast engine serves exactly the equations it implements; what a subclass or a patch computes runs as it stands."""

from types import MethodType

import keras
import numpy as np
import pytest
from keras import ops

import keras_lstm_custom as klc
from keras_lstm_custom.cells import LSTMCell, VanillaRNNCell
from keras_lstm_custom.engines import ENGINES
from keras_lstm_custom.engines.native import library
from keras_lstm_custom.errors import EngineError
from tests.engines.harness import FAST

#: Engines with equations of their own, which are not a changed cell's. "derived" has none but the cell's.
OTHERS = [engine for engine in FAST if engine != "derived"]
X = np.random.default_rng(3).normal(size=(4, 6, 3)).astype("float32")
UNITS = 5
KINDS = {"lstm": (klc.LSTM, LSTMCell), "vanilla_rnn": (klc.VanillaRNN, VanillaRNNCell)}
if keras.backend.backend() == "jax":  # where no engine has the vanilla RNN's equations
    del KINDS["vanilla_rnn"]
KIND = pytest.mark.parametrize("kind", KINDS)


def halved_step(self, z_x, state, recurrent_dropout=None, *, original):
    new = original(self, z_x, state, recurrent_dropout)
    return new._replace(h=new.h / 2)


def halved_inputs(self, x, dropout=None, *, original):
    return original(self, x, dropout) / 2


def halved_call(self, inputs, states, training=False, *, original):
    output, new = original(self, inputs, states, training=training)
    return output / 2, new


#: Who runs what stands in a method: a `call` of one's own has no step to derive a loop from.
DERIVED = "reference" if keras.backend.backend() == "jax" else "derived"  # measured: there in training only
SERVED_BY = {"step": DERIVED, "project_inputs": DERIVED, "call": "reference"}
CHANGES = {"step": halved_step, "project_inputs": halved_inputs, "call": halved_call}


def changed(method, original):
    """Return a function in place of a method that halves what the method's effect is."""

    def function(self, *args, **kwargs):
        return CHANGES[method](self, *args, original=original, **kwargs)

    if method == "call":  # Keras looks at the names of its arguments

        def function(self, inputs, states, training=False):
            return halved_call(self, inputs, states, training, original=original)

    return function


def by_subclass(kind, method, **options):
    layer_class, cell_class = KINDS[kind]
    own_cell = type("Own", (cell_class,), {method: changed(method, getattr(cell_class, method))})
    return type("OwnLayer", (layer_class,), {"cell_class": own_cell})(UNITS, **options)


def by_instance(kind, method, **options):
    layer_class, cell_class = KINDS[kind]
    layer = layer_class(UNITS, **options)
    setattr(layer.cell, method, MethodType(changed(method, getattr(cell_class, method)), layer.cell))
    return layer


def by_exchange(kind, method, **options):
    """Another cell put into a layer that was made with the plain one."""
    layer_class, cell_class = KINDS[kind]
    layer = layer_class(UNITS, **options)
    layer.cell = type("Own", (cell_class,), {method: changed(method, getattr(cell_class, method))})(UNITS)
    return layer


def of_steps(layer, x):
    """The truth: the cell itself, called step by step."""
    states = [np.zeros((len(x), UNITS), "float32") for _ in layer.cell.state_type._fields]
    outputs = []
    for t in range(x.shape[1]):
        output, states = layer.cell(ops.convert_to_tensor(x[:, t]), states)
        outputs.append(ops.convert_to_numpy(output))
    return np.stack(outputs, axis=1), [ops.convert_to_numpy(s) for s in states]


@KIND
@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize("make", [by_subclass, by_instance, by_exchange])
def test_what_the_cell_computes_runs(kind, method, make):
    layer = make(kind, method, return_sequences=True, return_state=True)
    layer.build(X.shape)
    outputs, *state = (ops.convert_to_numpy(t) for t in layer(X))
    expected, expected_state = of_steps(layer, X)
    np.testing.assert_allclose(outputs, expected, atol=2e-6)
    for got, wanted in zip(state, expected_state, strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-6)
    plain = KINDS[kind][0](UNITS, return_sequences=True)
    plain.build(X.shape)
    plain.set_weights(layer.get_weights())
    assert np.abs(ops.convert_to_numpy(plain(X)) - outputs).max() > 1e-2, "the change must act"
    assert layer.last_engine == SERVED_BY[method]


@KIND
@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize("make", [by_subclass, by_instance])
def test_every_other_engine_refuses_and_says_why(kind, method, make):
    explanation = make(kind, method).explain_engine(X.shape)
    assert explanation.chosen == SERVED_BY[method]
    for name in OTHERS:
        ok, reason = explanation.answers[name]
        assert not ok
        assert f"its own {method}" in reason
    with pytest.raises(EngineError, match=f"its own {method}"):
        make(kind, method, engine=OTHERS[-1])(X)


@KIND
def test_a_method_assigned_to_the_class_is_not_the_equations_either(kind, monkeypatch):
    layer_class, cell_class = KINDS[kind]
    monkeypatch.setattr(cell_class, "step", changed("step", cell_class.step))
    layer = layer_class(UNITS, return_sequences=True)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(X)), of_steps(layer, X)[0], atol=2e-6)
    assert layer.last_engine == DERIVED


@KIND
def test_a_subclass_that_computes_the_same_stays_fast(kind):
    layer_class, cell_class = KINDS[kind]

    class Documented(cell_class):
        """The same cell."""

        def build(self, *shapes):
            super().build(*shapes)
            self.note = "more attributes"

        def get_config(self):
            return {**super().get_config()}

    layer = type("Named", (layer_class,), {"cell_class": Documented, "__doc__": "The same layer."})(UNITS)
    chosen = layer.explain_engine(X.shape, training=True).chosen
    assert chosen == layer_class(UNITS).explain_engine(X.shape, training=True).chosen
    assert chosen in OTHERS
    layer(X)
    assert layer.last_engine in OTHERS


@KIND
def test_weights_that_a_subclass_computes_are_read_by_every_engine(kind):
    """The step of the equations over a recurrent kernel that is a function of another weight."""
    layer_class, cell_class = KINDS[kind]

    class Scaled(cell_class):
        @property
        def recurrent_kernel(self):
            return self.recurrent_weights * 0.5

        @recurrent_kernel.setter
        def recurrent_kernel(self, value):
            self.recurrent_weights = value

    for engine in ("reference", *FAST):
        layer = type("Named", (layer_class,), {"cell_class": Scaled})(UNITS, return_sequences=True, engine=engine)
        layer.build(X.shape)
        rng = np.random.default_rng(0)
        layer.set_weights([rng.normal(size=w.shape).astype("float32") for w in layer.get_weights()])
        if layer.explain_engine(X.shape).chosen:
            np.testing.assert_allclose(ops.convert_to_numpy(layer(X)), of_steps(layer, X)[0], atol=3e-6)


@KIND
@pytest.mark.parametrize("options", [{}, {"go_backwards": True}, {"zero_output_for_mask": True}], ids=str)
def test_an_own_call_keeps_its_masks(kind, options):
    layer = by_subclass(kind, "call", return_sequences=True, return_state=True, **options)
    layer.build(X.shape)
    mask = np.array([[0, 0, 1, 1, 0, 1], [1, 1, 1, 0, 0, 0], [1] * 6, [0] * 6], bool)
    twin = keras.layers.RNN(layer.cell, return_sequences=True, return_state=True, **options)
    got, *state = (ops.convert_to_numpy(t) for t in layer(X, mask=ops.convert_to_tensor(mask)))
    read = mask[:, ::-1] if options.get("go_backwards") else mask
    kept = read if options.get("zero_output_for_mask") else np.cumsum(read, axis=1) > 0
    expected, *expected_state = (ops.convert_to_numpy(t) for t in twin(X, mask=ops.convert_to_tensor(mask)))
    np.testing.assert_allclose(got, np.where(kept[..., None], expected, 0), atol=2e-6)
    for a, b in zip(state, expected_state, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.tensorflow
@pytest.mark.skipif(not library.LIBRARY.exists(), reason=library.REMEDY)
def test_native_is_among_those_that_refuse():
    answers = by_subclass("lstm", "step").explain_engine(X.shape).answers
    assert "its own step" in answers["native"].reason
    assert set(OTHERS) < set(ENGINES)


def model_of(layer):
    model = keras.Sequential([keras.Input(X.shape[1:]), layer])
    return model, ops.convert_to_numpy(model(X))


@KIND
def test_a_trace_shows_what_an_own_step_computed(kind):
    model, outputs = model_of(by_subclass(kind, "step", return_sequences=True, name="own"))
    np.testing.assert_allclose(klc.trace(model, X, verbose=0)["own"].h, outputs, atol=2e-6)
    flow = klc.gradient_flow(model, X, np.zeros_like(outputs), lambda y, p: ops.sum(p[:, -1]))["own"]
    # dL/dh of the last step is 1 for each unit, whatever the step.
    np.testing.assert_allclose(flow.h[:, -1], np.sqrt(UNITS), rtol=1e-5)


@KIND
def test_what_stands_in_an_own_call_is_not_looked_into_and_the_user_is_told(kind):
    model, _ = model_of(by_subclass(kind, "call"))
    with pytest.raises(klc.errors.ArgumentError, match="no recurrent layer to look into"):
        klc.trace(model, X, verbose=0)
    both = keras.Sequential([*model.layers, keras.layers.RepeatVector(3), klc.LSTM(4, name="plain")])
    both.build(X.shape)
    with pytest.warns(UserWarning, match="Not looked into.*OwnLayer"):
        steps = klc.trace(both, X, verbose=0)
    assert list(steps) == ["plain"]


@KIND
@pytest.mark.parametrize("make", [by_instance, by_exchange])
def test_a_conversion_does_not_lose_what_was_changed(kind, make):
    model, _ = model_of(make(kind, "step"))
    for convert in (klc.to_keras, klc.from_keras):
        with pytest.raises(klc.errors.ConversionError, match=r"own (step|cell)"):
            convert(model)


@KIND
def test_a_conversion_keeps_a_registered_subclass_and_a_patched_layer_of_keras_is_refused(kind):
    twin = KINDS[kind][0].keras_class

    @keras.saving.register_keras_serializable("test_own_equations", f"Own{kind}")
    class Doubled(twin):
        def call(self, sequences, initial_state=None, mask=None, training=False):
            return 2 * super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    model, outputs = model_of(Doubled(UNITS))
    np.testing.assert_allclose(ops.convert_to_numpy(klc.from_keras(model)(X)), outputs, atol=1e-6)
    patched, _ = model_of(twin(UNITS))
    patched.layers[-1].cell.call = lambda inputs, states, training=False: (inputs, states)
    with pytest.raises(klc.errors.ConversionError, match="own call"):
        klc.from_keras(patched)


@pytest.mark.tensorflow
@KIND
def test_an_export_runs_an_own_step(kind, tmp_path):
    layer_class, cell_class = KINDS[kind]
    own_cell = type("Own", (cell_class,), {"step": changed("step", cell_class.step)})
    own = type(f"Stepping{kind}", (layer_class,), {"cell_class": own_cell})
    keras.saving.register_keras_serializable("test_own_equations")(own)
    model, _ = model_of(own(UNITS, return_sequences=True))
    written = klc.export.tflite(model, tmp_path / "loop.tflite")  # it compares with the model
    assert "WHILE" in written.ops
    klc.export.tflite(model, tmp_path / "unrolled.tflite", fused=False)  # it compares with the model
    klc.export.saved_model(model, tmp_path / "served", x=X)
