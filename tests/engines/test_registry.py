"""The choice of an engine: "auto", a forced engine, names, and the explanation."""

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM
from keras_lstm_custom.engines import ENGINES, Engine, Result, Support, choose, explain, registry, run
from keras_lstm_custom.errors import EngineError
from tests.descriptors import LAYERS, UNITS

ROWS = pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)
X = np.ones((3, 4, 2), "float32")


@pytest.fixture
def picky(monkeypatch):
    """An engine that runs nothing but sequences of two steps, asked before the others."""
    served = []

    def supports(request):
        timesteps = request.sequences.shape[1]
        return Support(timesteps == 2, f"runs two steps, not {timesteps}")

    def serve(request):
        served.append(request)
        return ENGINES["reference"].run(request)._replace(engine="picky")

    engine = Engine("picky", "for tests", supports, serve)
    monkeypatch.setattr(registry, "ENGINES", ENGINES)
    before = dict(ENGINES)
    ENGINES.clear()
    ENGINES.update({"picky": engine, **before})
    yield served
    ENGINES.clear()
    ENGINES.update(before)


def request_for(layer, timesteps):
    state = [keras.KerasTensor((3, UNITS))] * 2
    return layer.request(keras.KerasTensor((3, timesteps, 2)), state)


def test_every_engine_goes_by_its_own_name_and_the_last_one_serves_all():
    assert all(name == engine.name and engine.summary for name, engine in ENGINES.items())
    assert list(ENGINES)[-1] == "reference"


def test_auto_takes_the_first_that_can(picky):
    layer = LSTM(UNITS)
    assert choose("auto", request_for(layer, 2)).name == "picky"
    assert choose("auto", request_for(layer, 3)).name != "picky"


def test_the_layer_runs_on_the_engine_it_says(picky):
    layer = LSTM(UNITS)
    layer(X[:, :2])
    assert (len(picky), layer.last_engine) == (1, "picky")
    layer(X)
    assert len(picky) == 1
    assert layer.last_engine != "picky"


def test_a_forced_engine_that_cannot_serve_raises_with_its_reason(picky):
    layer = LSTM(UNITS, engine="picky")
    layer(X[:, :2])
    with pytest.raises(EngineError) as caught:
        layer(X)
    for words in ("'picky'", "runs two steps, not 4", "Expected:", "Received:", "What to do:", "explain_engine"):
        assert words in str(caught.value)


def test_the_explanation_has_every_answer(picky):
    for engine, timesteps, chosen in (("auto", 2, "picky"), ("picky", 2, "picky"), ("picky", 3, None)):
        explanation = LSTM(UNITS, engine=engine).explain_engine((3, timesteps, 2))
        assert explanation.chosen == chosen
        assert list(explanation.answers) == list(ENGINES)
        table = str(explanation).splitlines()
        assert [line.split()[0] == "->" for line in table] == [name == chosen for name in ENGINES]
        assert f"runs two steps, not {timesteps}" in table[0]


def test_explain_is_for_requests_too(picky):
    assert explain("auto", request_for(LSTM(UNITS), 2)).chosen == "picky"


def test_unknown_names_list_the_known_ones():
    with pytest.raises(EngineError) as caught:
        choose("warp", request_for(LSTM(UNITS), 2))
    assert all(repr(name) in str(caught.value) for name in ("auto", "warp", *ENGINES))


@ROWS
def test_the_reference_engine_serves_every_shape(row):
    for shape in ((3, 4, 2), (None, None, 2), (None, 4, 2)):
        for masked in (False, True):
            explanation = row.build(engine="reference").explain_engine(shape, masked=masked, training=True)
            assert explanation.chosen == "reference"


@ROWS
@pytest.mark.parametrize("return_sequences", [True, False])
def test_a_result_keeps_the_contract(row, return_sequences, rng):
    """For every engine that says it serves: shapes, names, and all steps if asked for."""
    layer = row.build(return_sequences=return_sequences)
    layer.build(X.shape)
    states = [keras.ops.convert_to_tensor(s) for s in row.random_states(rng)]
    for keep_steps in (False, True):
        request = layer.request(keras.ops.convert_to_tensor(X), states, keep_steps=keep_steps)
        for name, engine in ENGINES.items():
            if not engine.supports(request).ok:
                continue
            result = run(name, request)
            assert isinstance(result, Result)
            assert result.engine == name
            assert tuple(result.last_output.shape) == (3, UNITS)
            assert [tuple(s.shape) for s in result.state] == [(3, UNITS)] * row.states
            if return_sequences:
                assert tuple(result.outputs.shape) == (3, 4, UNITS)
            if keep_steps:
                assert type(result.steps) is layer.cell.step_type
                assert all(tuple(field.shape) == (3, 4, UNITS) for field in result.steps)
                last = keras.ops.convert_to_numpy(result.steps.h)[:, -1]
                np.testing.assert_array_equal(last, keras.ops.convert_to_numpy(result.last_output))
            else:
                assert result.steps is None


@ROWS
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("return_sequences", [True, False])
def test_engines_return_the_h_that_is_kept_and_the_registry_masks_it(row, return_sequences, go_backwards, rng):
    """Raw `h` at masked steps, the initial one at the start; zeros there only in what the layer gives out."""
    layer = row.build(return_sequences=return_sequences, go_backwards=go_backwards)
    layer.build(X.shape)
    states = row.random_states(rng)
    mask = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    request = layer.request(
        keras.ops.convert_to_tensor(X),
        [keras.ops.convert_to_tensor(s) for s in states],
        keras.ops.convert_to_tensor(mask),
    )
    bias = keras.ops.convert_to_numpy(layer.cell.bias)
    kernels = [keras.ops.convert_to_numpy(w) for w in (layer.cell.kernel, layer.cell.recurrent_kernel)]
    order = slice(None, None, -1 if go_backwards else 1)
    oracle = row.oracle(X[:, order], *kernels, bias, *states, mask=mask[:, order])
    wanted = slice(None) if return_sequences else slice(-1, None)
    for engine in ENGINES.values():
        if engine.supports(request).ok:
            raw, masked = engine.run(request), run(engine.name, request)
            for result, name in ((raw, "h"), (masked, "y")):
                got = keras.ops.convert_to_numpy(result.outputs)
                np.testing.assert_allclose(got, oracle[name][:, wanted], atol=2e-6, err_msg=f"{engine.name} {name}")


@pytest.mark.tensorflow
def test_the_explanation_counts_dropout_masks():
    """What serves in training is what was said before: with recurrent dropout Keras draws four input masks, too."""
    layer = LSTM(UNITS, dropout=0.5, recurrent_dropout=0.5)
    chosen = layer.explain_engine(X.shape, training=True).chosen
    layer(X, training=True)
    assert layer.last_engine == chosen


def test_use_cudnn_true_is_served_by_cudnn_or_raises():
    """As in Keras, but ours says why, and does not run on torch's CPU in silence; an engine may be forced."""
    options = {"use_cudnn": True, "recurrent_dropout": 0.2}
    layer, x = LSTM(4, **options), np.zeros((2, 3, 5), "float32")
    explained = layer.explain_engine(x.shape, training=True)
    assert explained.chosen is None
    assert "use_cudnn=True" in explained.answers["reference"].reason
    with pytest.raises(EngineError, match=r"(?s)use_cudnn=True.*(recurrent dropout|needs a GPU)"):
        layer(x, training=True)
    with pytest.raises(ValueError, match="use_cudnn"):
        keras.layers.LSTM(4, **options)(x, training=True)
    assert LSTM(4, use_cudnn=True).explain_engine(x.shape).chosen is None
    with pytest.raises(EngineError, match="needs a GPU"):
        LSTM(4, use_cudnn=True)(x)
    assert LSTM(4, engine="reference", **options).explain_engine(x.shape).chosen == "reference"
