"""The cuDNN engine as far as a machine without a GPU can tell: what it refuses, and what it hands to the call.

The call itself is replaced: under JAX by JAX's own reference of it, under TensorFlow by the documented
meaning of `CudnnRNNV3`; the graph of the real operation and of its gradient is built, but not run.
"""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import ops

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES, cudnn, gpu_place
from keras_lstm_custom.equations.weight_layout import to_cudnn
from keras_lstm_custom.errors import EngineError
from tests.engines.harness import Case, arrays, assert_same, layer_of, request_of, run

BACKEND = keras.backend.backend()
PLAIN = Case()


def support(case: Case = PLAIN, **options):
    data = arrays(case)
    layer = layer_of(case, data["weights"])
    for name, value in options.items():
        setattr(layer.cell if name.endswith("activation") else layer, name, value)
    return ENGINES["cudnn"].supports(request_of(case, layer, data))


@pytest.fixture
def no_gpu_needed(monkeypatch):
    """Pretend that there is a GPU."""
    if BACKEND not in cudnn.BINDINGS:
        pytest.skip("torch calls cuDNN itself")
    monkeypatch.setitem(gpu_place.PLACES, BACKEND, lambda request: None)


@pytest.fixture
def replaced(no_gpu_needed, monkeypatch):
    """The same, with the call of cuDNN replaced; gives the list of calls."""
    calls = []
    if BACKEND == "jax":
        from jax.experimental import rnn

        def lstm(x, h, c, weights, lengths, **layout):
            calls.append(dict(layout))
            layout.pop("precision", None)  # the reference has none
            sizes = [layout[name] for name in ("input_size", "hidden_size", "num_layers", "bidirectional")]
            return rnn.lstm_ref(x, h, c, *rnn.unpack_lstm_weights(weights, *sizes), lengths, **layout)

        monkeypatch.setattr(rnn, "lstm", lstm)
    else:
        import tensorflow as tf

        def operation(**arguments):
            calls.append(arguments)
            return meaning_of_the_operation(**arguments)

        monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", operation)
    return calls


def meaning_of_the_operation(*, input, input_h, input_c, params, sequence_lengths, rnn_mode, is_training, time_major):
    """One layer, one direction, by the documentation: batch-major states are `(batch, layers, units)`."""
    assert (rnn_mode, is_training, time_major) == ("lstm", True, False)
    (features, units), h, c = (input.shape[2], input_h.shape[2]), input_h[:, 0], input_c[:, 0]
    import tensorflow as tf

    tf.debugging.assert_equal(sequence_lengths, tf.fill(tf.shape(input)[:1], input.shape[1]))
    ends = np.cumsum([4 * units * features, 4 * units * units, 4 * units])
    w, u, b_w, b_u = ops.split(params, ends.tolist())
    w, u = ops.reshape(w, (4 * units, features)), ops.reshape(u, (4 * units, units))
    outputs = []
    for t in range(input.shape[1]):
        z = input[:, t] @ ops.transpose(w) + b_w + h @ ops.transpose(u) + b_u
        i, f, g, o = ops.split(z, 4, axis=1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        outputs.append(h)
    return ops.stack(outputs, axis=1), h[:, None], c[:, None], None, None


def test_weights_are_packed_as_cudnn_reads_them(rng):
    """Gate by gate: transposed matrices one after the other, then the bias, then zeros."""
    kernel, recurrent_kernel, bias = rng.normal(size=(3, 20)), rng.normal(size=(5, 20)), rng.normal(size=20)
    packed = ops.convert_to_numpy(
        to_cudnn(*(ops.convert_to_tensor(w, "float32") for w in (kernel, recurrent_kernel, bias)))
    )
    expected = [gate.T.ravel() for w in (kernel, recurrent_kernel) for gate in np.split(w, 4, axis=1)]
    np.testing.assert_array_equal(packed, np.concatenate([*expected, bias, np.zeros(20)]).astype("float32"))


@pytest.mark.skipif(BACKEND not in cudnn.BINDINGS, reason="torch calls cuDNN itself")
def test_without_a_gpu_it_says_so_and_auto_takes_another():
    answer = support()
    assert not answer.ok
    assert "needs a GPU" in answer.reason
    layer = klc.LSTM(4)
    layer(np.zeros((2, 3, 5), "float32"))
    assert layer.last_engine != "cudnn"


@pytest.mark.skipif(BACKEND != "torch", reason="the other backends have it")
def test_torch_has_its_own_way():
    assert "'torch' is active" in support().reason


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"recurrent_dropout": 0.2}, "recurrent dropout"),
        ({"dropout": 0.2, "implementation": 1}, "not one for each"),
        ({"activation": "relu"}, "activation='tanh' only"),
        ({"recurrent_activation": "hard_sigmoid"}, "recurrent_activation='sigmoid' only"),
        ({"unroll": True}, "unroll=True"),
        ({"peepholes": True}, "without peepholes"),
        ({"layer_normalization": "gate"}, "without layer_normalization"),
    ],
)
def test_where_it_is_asked_for_and_cannot_serve_the_reason_is_said(monkeypatch, options, reason):
    """On every backend, `use_cudnn=True` raises; without a GPU it is that which is said."""
    x = np.zeros((2, 9, 3), "float32")
    with pytest.raises(EngineError, match="needs a GPU"):
        klc.LSTM(4, use_cudnn=True)(x, training=True)
    monkeypatch.setitem(gpu_place.PLACES, BACKEND, lambda request: None)
    with pytest.raises(EngineError, match=rf"(?s)cuDNN cannot serve this call.*{reason}.*What to do"):
        klc.LSTM(4, use_cudnn=True, **options)(x, training=True)


@pytest.mark.parametrize("layer", [klc.VanillaRNN, klc.SLSTM])
def test_a_layer_that_has_no_such_option_does_not_swallow_it(layer):
    """As `keras.layers.SimpleRNN`."""
    with pytest.raises(ValueError, match="use_cudnn"):
        layer(4, use_cudnn=True)


def test_why_there_is_no_gpu(monkeypatch):
    """No build for one, or a driver that is too old: the frameworks tell them apart, as far as they say."""
    request = klc.LSTM(4).request(keras.KerasTensor((2, 9, 3)), [keras.KerasTensor((2, 4))] * 2)
    if BACKEND == "jax":
        assert re.search(r"JAX runs on 'cpu'.*jax\[cuda13\].*driver", gpu_place.refusal(request))
        return

    def build_for(version):
        if BACKEND == "torch":
            import torch

            monkeypatch.setattr(torch.version, "cuda", version)
        else:
            import tensorflow as tf

            monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: {"cuda_version": version} if version else {})

    build_for(None)
    assert "built without CUDA: install" in gpu_place.refusal(request)
    build_for("13.0")
    assert re.search(r"it is built for CUDA 1.*driver new enough", gpu_place.refusal(request))


@pytest.mark.parametrize(
    ("case", "options", "reason"),
    [
        (Case("vanilla_rnn"), {}, "lstm_step written out"),
        (Case(recurrent_dropout=1), {}, "recurrent dropout"),
        (Case(inputs_dropout=4), {}, "not one for each"),
        (Case(dtype="float64"), {}, "not in float64"),
        (PLAIN, {"use_cudnn": False}, "use_cudnn=False"),
        (PLAIN, {"unroll": True}, "unroll"),
        (PLAIN, {"activation": keras.activations.relu}, "activation"),
        (PLAIN, {"recurrent_activation": keras.activations.hard_sigmoid}, "recurrent_activation"),
    ],
)
def test_what_it_cannot_do_it_says(no_gpu_needed, case, options, reason):
    assert support().ok
    answer = support(case, **options)
    assert not answer.ok
    assert reason in answer.reason


@pytest.mark.parametrize(
    "case",
    [
        Case(return_sequences=True),
        Case(return_sequences=True, go_backwards=True, inputs_dropout=1),
        Case(return_sequences=False, go_backwards=True),
        Case(return_sequences=False, use_bias=False, inputs_dropout=1),
        # Rows without a step, too: 19 of them hold every shape of mask there is.
        Case(mask="all of these", batch=19, inputs_dropout=1),
        Case(mask="all of these", batch=19, return_sequences=False, go_backwards=True, use_bias=False),
        Case(mask="scattered", go_backwards=True, zero_output_for_mask=True, features=8),
    ],
    ids=str,
)
def test_agrees_with_the_reference(replaced, case):
    """Above all backwards, with all outputs: Keras' JAX path returns those in the opposite order."""
    assert_same(run("cudnn", case), run("reference", case), 5e-6)  # rounding, as in the parity matrix
    assert replaced


@pytest.mark.skipif(BACKEND != "jax", reason="TensorFlow's call knows float16, no call knows bfloat16")
@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 1e-1), ("mixed_float16", 2e-2)])
def test_half_precision_on_jax_is_computed_in_float32(replaced, monkeypatch, dtype, tolerance):
    from jax.experimental import rnn

    seen, call = [], rnn.lstm

    def lstm(*tensors, **layout):
        seen.extend(t.dtype for t in tensors[:4])
        return call(*tensors, **layout)

    monkeypatch.setattr(rnn, "lstm", lstm)
    case = Case(mask="scattered", dtype=dtype)
    assert_same(run("cudnn", case), run("reference", case), tolerance)
    assert {str(d) for d in seen} == {"float32"}
    assert "computed in float32" in support(case).reason


@pytest.mark.skipif(BACKEND != "jax", reason="an option of JAX")
@pytest.mark.parametrize(
    ("asked", "given"), [(None, None), ("highest", None), ("default", "high"), ("bfloat16", "high")]
)
def test_a_precision_that_jaxs_call_does_not_have(replaced, asked, given):
    """It raises NotImplementedError for products in bfloat16; TF32 is the nearest that is no worse."""
    import jax

    with jax.default_matmul_precision(asked):
        run("cudnn", PLAIN)
    assert {layout.get("precision") for layout in replaced} == {given}


def test_fit_runs_on_it(replaced):
    """In both directions, and learns the same weights."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(6, 7, 3)).astype("float32"), rng.normal(size=(6, 7, 1)).astype("float32")
    trained = []
    for engine, use_cudnn in (("auto", True), ("reference", "auto")):
        keras.utils.set_random_seed(1)
        both = keras.layers.Bidirectional(klc.LSTM(4, return_sequences=True, engine=engine, use_cudnn=use_cudnn))
        model = keras.Sequential([keras.Input((7, 3)), both, keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(x, y, epochs=2, batch_size=3, shuffle=False, verbose=0)
        trained.append(model.get_weights())
        expected = "cudnn" if engine == "auto" else engine
        assert [layer.last_engine for layer in (both.forward_layer, both.backward_layer)] == [expected] * 2
    for ours, reference in zip(*trained, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-5)


@pytest.mark.parametrize(("use_cudnn", "backends"), [("auto", {"tensorflow"}), (True, {"tensorflow", "jax"})])
def test_auto_takes_it_where_it_is_measured_faster_or_asked_for(no_gpu_needed, use_cudnn, backends):
    """On JAX the scan is faster, but a layer may insist."""
    explained = klc.LSTM(4, use_cudnn=use_cudnn).explain_engine((2, 9, 3), training=True)
    assert (explained.chosen == "cudnn") is (BACKEND in backends)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("options", "compiles"),
    [({}, False), ({"recurrent_dropout": 0.2}, True), ({"use_cudnn": False}, True), ({"engine": "portable"}, True)],
)
def test_xla_is_left_out_where_it_would_forbid_cudnn(no_gpu_needed, options, compiles):
    """On a GPU, `compile` takes XLA by itself unless a layer says that it does not support it."""
    layer = klc.LSTM(4, **options)
    layer.build((None, 7, 3))
    assert layer.supports_jit is compiles


@pytest.mark.tensorflow
def test_inside_xla_it_refuses(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["a GPU"])
    data = arrays(PLAIN)
    request = request_of(PLAIN, layer_of(PLAIN, data["weights"]), data)
    answers = []

    @tf.function(jit_compile=True, autograph=False)
    def compiled():
        answers.append(ENGINES["cudnn"].supports(request))
        return 0

    assert ENGINES["cudnn"].supports(request).ok
    compiled.get_concrete_function()
    assert "jit_compile=True" in answers[0].reason


@pytest.mark.tensorflow
@pytest.mark.parametrize("batch", [4, None])
def test_the_graph_of_the_real_operation(batch):
    """TensorFlow's own check of the shapes that the operation and its gradient are given."""
    import tensorflow as tf

    def call(x, h, c, weights):
        results = cudnn.BINDINGS["tensorflow"].lstm(x, h, c, weights, 5)
        return results, tf.gradients(results, [x, h, c, weights])

    shapes = [(batch, 6, 3), (batch, 5), (batch, 5), (4 * 5 * (3 + 5 + 2),)]
    graph = tf.function(call, autograph=False).get_concrete_function(*map(tf.TensorSpec, shapes))
    outputs, gradients = graph.structured_outputs
    assert [tuple(o.shape) for o in outputs] == [(batch, 6, 5), (batch, 5), (batch, 5)]
    assert [tuple(g.shape) for g in gradients] == shapes
    kinds = {operation.type for operation in graph.graph.get_operations()}
    assert {"CudnnRNNV3", "CudnnRNNBackpropV3"} <= kinds
