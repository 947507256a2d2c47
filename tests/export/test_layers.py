"""What people build around recurrent layers: each layer of the tables runs on both runtimes, or the error names it."""

import keras
import numpy as np
import pytest

from keras_lstm_custom import export
from keras_lstm_custom.errors import ExportError
from tests.export import models
from tests.export.interpreters import RUNTIMES, run

pytestmark = pytest.mark.tensorflow

layers = keras.layers
T, F, U = 6, 4, 5  #: timesteps, features, units


def lstm(h):
    return layers.LSTM(3)(h)


def activated(name):
    return lambda x, h: layers.Dense(3, activation=name)(h)


def alone(layer, *arguments, **options):
    return lambda x, h: layer(*arguments, **options)(h)


def both(layer, **options):
    return lambda x, h: layer(**options)([layers.Dense(U)(x), h])


def softmax_over_time(x, h):
    weights = layers.Softmax(axis=1)(layers.Dense(1)(h))
    return layers.Dot(axes=1)([weights, h])


def repeated_weights(x, h):
    weights = layers.Softmax()(layers.Flatten()(layers.Dense(1, activation="tanh")(h)))
    return layers.Multiply()([h, layers.Permute((2, 1))(layers.RepeatVector(U)(weights))])


def decoded(encoder, decoder):
    def build(x, h):
        code = layers.RepeatVector(T)(encoder()(x))
        return layers.TimeDistributed(layers.Dense(F))(decoder()(code))

    return build


def distributed(layer):
    return lambda x, h: layers.TimeDistributed(layer())(h)


#: By kind: each entry makes a tensor of x (batch, T, F) and h (batch, T, U), the outputs of an LSTM. All of a kind are
#: in one file.
TABLES = {
    "activations": {
        name: activated(name)
        for name in (
            *("elu", "selu", "celu", "gelu", "silu", "mish", "hard_sigmoid", "hard_silu", "hard_tanh", "softplus"),
            *(
                "relu6",
                "softsign",
                "exponential",
                "leaky_relu",
                "log_softmax",
                "log_sigmoid",
                "tanh_shrink",
                "soft_shrink",
            ),
        )
    },
    "activation layers": {
        "PReLU": alone(layers.PReLU, "normal"),
        "PReLU, one for all steps": alone(layers.PReLU, "normal", shared_axes=[1]),
        "LeakyReLU": alone(layers.LeakyReLU),
        "ELU": alone(layers.ELU),
        "ReLU": alone(layers.ReLU, 1.0, negative_slope=0.1, threshold=0.05),
        "Softmax over time": alone(layers.Softmax, axis=1),
        "Rescaling": alone(layers.Rescaling, 0.3, 0.5),
        "SpatialDropout1D": alone(layers.SpatialDropout1D, 0.2),
        "GaussianNoise": alone(layers.GaussianNoise, 0.2),
        "ActivityRegularization": alone(layers.ActivityRegularization, 0.1),
    },
    "convolutions": {
        "causal": alone(layers.Conv1D, 3, 3, padding="causal", dilation_rate=2),
        "same": alone(layers.Conv1D, 3, 3, padding="same", dilation_rate=2),
        "strided": alone(layers.Conv1D, 3, 3, padding="same", strides=2),
        "SeparableConv1D": alone(layers.SeparableConv1D, 3, 3),
        "DepthwiseConv1D": alone(layers.DepthwiseConv1D, 3),
        "Conv1DTranspose": alone(layers.Conv1DTranspose, 3, 3, strides=2),
        "MaxPooling1D": alone(layers.MaxPooling1D, 4, padding="same"),
        "AveragePooling1D": alone(layers.AveragePooling1D, 2),
        "GlobalAveragePooling1D": alone(layers.GlobalAveragePooling1D),
        "GlobalMaxPooling1D": alone(layers.GlobalMaxPooling1D),
    },
    "shapes": {
        "Permute": alone(layers.Permute, (2, 1)),
        "Reshape": alone(layers.Reshape, (3, 2 * U)),
        "Flatten": alone(layers.Flatten),
        "UpSampling1D": alone(layers.UpSampling1D, 2),
        "ZeroPadding1D": alone(layers.ZeroPadding1D, 2),
        "Cropping1D": alone(layers.Cropping1D, (1, 2)),
        "differences": lambda x, h: h[:, 1:] - h[:, :-1],
    },
    "normalisations": {
        "BatchNormalization": alone(layers.BatchNormalization),
        "LayerNormalization": alone(layers.LayerNormalization),
        "UnitNormalization": alone(layers.UnitNormalization),
        "GroupNormalization": alone(layers.GroupNormalization, 1),
        "RMSNormalization": alone(layers.RMSNormalization),
    },
    "merges": {
        **{
            layer.__name__: both(layer)
            for layer in (layers.Add, layers.Multiply, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum)
        },
        "Concatenate": both(layers.Concatenate),
        "Dot": both(layers.Dot, axes=2),
        "of twelve": lambda x, h: layers.Concatenate()([layers.Dense(k + 1)(h) for k in range(12)]),
    },
    "attention": {
        "Softmax over time": softmax_over_time,
        "RepeatVector": repeated_weights,
        "Attention": lambda x, h: layers.Attention()([h, h]),
        "AdditiveAttention": lambda x, h: layers.AdditiveAttention()([h, h]),
        "MultiHeadAttention": lambda x, h: layers.MultiHeadAttention(2, 3)(h, h),
    },
    "autoencoders": {
        "LSTM": decoded(lambda: layers.LSTM(U), lambda: layers.LSTM(U, return_sequences=True)),
        "Bidirectional": decoded(
            lambda: layers.Bidirectional(layers.LSTM(3)),
            lambda: layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        ),
        "SimpleRNN": decoded(lambda: layers.SimpleRNN(U), lambda: layers.SimpleRNN(U, return_sequences=True)),
    },
    "TimeDistributed": {
        "Dense": distributed(lambda: layers.Dense(3)),
        "LayerNormalization": distributed(layers.LayerNormalization),
        "a model": distributed(lambda: keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(3)])),
        "Lambda": distributed(lambda: layers.Lambda(lambda rows: 2 * rows)),
    },
}


def of_kind(kind):
    x = keras.Input((T, F))
    h = layers.LSTM(U, return_sequences=True)(x)
    return models.randomised(keras.Model(x, [build(x, h) for build in TABLES[kind].values()]))


def convert(model, **options):
    from keras_lstm_custom.export.model.prepare import prepare
    from tests.export.files import float_file

    return float_file(prepare(model, **options))


def check(model, names=(), **options):
    """Convert a model and compare each output on each runtime; return the file's ops."""
    from tests.export.files import op_counts

    inputs = models.inputs_for(model, rows=2)
    expected = [np.asarray(y) for y in keras.tree.flatten(model(inputs if len(inputs) > 1 else inputs[0]))]
    content = convert(model, **options)
    for runtime in RUNTIMES:
        results = run(content, inputs, runtime)
        for number, (got, wanted) in enumerate(zip(results, expected, strict=True)):
            told = f"{names[number] if names else number} on {runtime}"
            scale = max(1.0, float(np.abs(wanted).max()))
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * scale, err_msg=told)
    return op_counts(content)


@pytest.mark.parametrize("kind", TABLES)
def test_layers_run_on_both_runtimes(kind):
    check(of_kind(kind), list(TABLES[kind]))


def images(*body):
    return models.randomised(keras.Sequential([keras.Input((4, 6, 6, 2)), *body, layers.LSTM(4), layers.Dense(2)]))


def test_convolutions_over_time_are_one_op():
    body = [layers.Conv2D(3, 3), layers.MaxPooling2D(2), layers.Flatten()]
    ops = check(images(*map(layers.TimeDistributed, body)))
    assert ops["CONV_2D"] == ops["MAX_POOL_2D"] == 1


def test_a_model_over_time_is_run_once():
    body = [layers.Conv2D(3, 3), layers.BatchNormalization(), layers.Flatten()]
    inner = keras.Sequential([keras.Input((6, 6, 2)), *body])
    assert check(images(layers.TimeDistributed(inner)))["CONV_2D"] == 1


@keras.saving.register_keras_serializable(package="tests.export")
class Centred(keras.layers.Layer):
    """Looks at the whole batch, so that its steps cannot be rows of one."""

    def compute_output_shape(self, input_shape):
        return input_shape

    def call(self, inputs):
        return inputs - keras.ops.mean(inputs, axis=0, keepdims=True) + keras.ops.max(inputs)


def test_a_layer_of_the_users_own_is_called_for_each_step():
    """Of one row, the largest value at each step; of all steps as rows, the largest of all."""
    body = [layers.TimeDistributed(Centred()), layers.LSTM(2)]
    model = models.randomised(keras.Sequential([keras.Input((3, F)), *body]))
    x = models.inputs_for(model, rows=2)
    expected = np.concatenate([np.asarray(model(x[0][k : k + 1])) for k in range(2)])
    for runtime in RUNTIMES:
        np.testing.assert_allclose(run(convert(model), x, runtime)[0], expected, rtol=0, atol=2e-6)


def test_a_convolution_then_both_directions():
    """A text reader: columns of an image as time steps."""
    body = [layers.Conv2D(3, 3, padding="same", activation="relu"), layers.MaxPooling2D((1, 2)), layers.Reshape((8, 9))]
    last = [layers.Bidirectional(layers.LSTM(4, return_sequences=True)), layers.Dense(3, activation="softmax")]
    check(models.randomised(keras.Sequential([keras.Input((8, 6, 1)), *body, *last])))


@pytest.mark.parametrize("layer", [layers.GRU, layers.SimpleRNN])
def test_other_cells_unrolled(layer):
    model = keras.Sequential([keras.Input((T, F)), layer(U, return_sequences=True), layer(3)])
    check(models.randomised(model), fused=False)


def test_convolutional_cells_unrolled():
    model = keras.Sequential([keras.Input((3, 5, 5, 2)), layers.ConvLSTM2D(2, 2), layers.Flatten(), layers.Dense(2)])
    check(models.randomised(model), fused=False)


def test_categories_and_bins():
    tokens, values = keras.Input((T,), dtype="int32"), keras.Input((T,))
    bins = layers.Discretization(bin_boundaries=[-0.5, 0.0, 0.7])(values)
    h = [layers.CategoryEncoding(11, output_mode="one_hot")(tokens), layers.Embedding(4, 3)(bins)]
    check(models.randomised(keras.Model([tokens, values], layers.LSTM(4)(layers.Concatenate()(h)))))


def test_integers_of_an_autoencoder_and_of_convolutions_over_time(tmp_path):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    decoder = [layers.RepeatVector(T), layers.LSTM(U, return_sequences=True), layers.TimeDistributed(layers.Dense(F))]
    autoencoder = models.randomised(keras.Sequential([keras.Input((T, F)), layers.LSTM(U), *decoder]))
    reader = images(layers.TimeDistributed(layers.Conv2D(3, 3)), layers.TimeDistributed(layers.Flatten()))
    for model in (autoencoder, reader):
        x = rng.standard_normal((48, *model.inputs[0].shape[1:])).astype("float32")
        report = export.tflite(model, tmp_path / "a.tflite", "int8", calibration=x, runtime="both")
        assert {check.runtime for check in report.checks if check.ok} >= {"litert", "micro"}


# What a runtime does not have


def largest(x, h):
    return layers.Dense(3, activation="sparsemax", name="sparse")(h)


def test_an_error_names_the_op_the_layer_and_the_runtime_that_has_it(tmp_path):
    x = keras.Input((T, F))
    model = keras.Model(x, largest(x, layers.LSTM(U)(x)))
    with pytest.raises(ExportError, match=r"(?s)micro: .*TOPK_V2 is of the layer 'sparse' \(Dense\).*runtime='litert'"):
        export.tflite(model, tmp_path / "a.tflite", runtime="micro")
    assert not list(tmp_path.iterdir())
    assert export.tflite(model, tmp_path / "a.tflite", runtime="litert").ok  # as the error says


def test_an_error_names_what_tflite_does_not_have(tmp_path):
    odd = layers.Lambda(keras.ops.erf, name="odd", output_shape=(U,))
    model = keras.Sequential([keras.Input((T, F)), layers.LSTM(U), odd])
    with pytest.raises(ExportError, match=r"Erf of the layer 'odd' \(Lambda\)"):
        export.tflite(model, tmp_path / "a.tflite")


def test_the_runtimes_own_reason_is_told(tmp_path):
    """The microcontroller runtime says more on its log than in what it raises."""
    from keras_lstm_custom.export.running.runtimes import _causes

    log = "tensorflow/lite/micro/kernels/strided_slice_common.cc input dim should not exceed 4\nNode STRIDED_SLICE "
    log += "(number 1) failed to prepare with status 1\nI0000 00:00 port.cc:153] nothing to say\n"
    told = _causes("TFLM failed to allocate tensors", log)
    reasons = ["input dim should not exceed 4", "Node STRIDED_SLICE (number 1) failed to prepare with status 1"]
    assert told[1:] == reasons
