"""How often an export does what takes long: reading and packing a file, calibrating, copying the model."""

import sys
from collections import Counter

import keras
import numpy as np
import pytest

from keras_lstm_custom import export
from tests.export import models

pytestmark = pytest.mark.tensorflow

layers = keras.layers


def lstms():
    return models.randomised(models.open_length())


def gru():
    return models.randomised(keras.Sequential([keras.Input((models.T, models.F)), layers.GRU(4), layers.Dense(3)]))


@pytest.fixture
def counts(monkeypatch):
    """Count calls by the name of what is called."""
    from keras_lstm_custom.export import convert, streamed_files  # noqa: F401 (what is patched must be there)
    from keras_lstm_custom.export.file import flatbuffer
    from keras_lstm_custom.export.quantization.ranges import calibrate
    from keras_lstm_custom.models.live import copied

    found = Counter()

    def counted(name, function):
        return lambda *args, **options: found.update([name]) or function(*args, **options)

    ours = [module for name, module in sys.modules.items() if name.startswith("keras_lstm_custom")]
    for function in (flatbuffer.packed, calibrate, convert.converted, copied, convert.quantized):
        name = function.__name__
        for module, attribute in [(m, a) for m in ours for a, value in list(vars(m).items()) if value is function]:
            monkeypatch.setattr(module, attribute, counted(name, function))
    reading = flatbuffer.schema.ModelT.InitFromPackedBuf
    monkeypatch.setattr(flatbuffer.schema.ModelT, "InitFromPackedBuf", staticmethod(counted("read", reading)))
    return found


def trained(build):
    """Return a model whose optimizer has a state, and samples."""
    model = build()
    (x,) = models.inputs_for(model, 16)
    model.compile(keras.optimizers.Adam(1e-9), "mse")
    model.fit(x, np.zeros_like(model(x)), verbose=0)
    return model, x


@pytest.mark.parametrize(("build", "files"), [(lstms, 1), (gru, 2)])
@pytest.mark.parametrize("quantize", ["int8", "float16", None])
def test_one_pass_over_one_graph(build, files, quantize, counts, tmp_path):
    """A GRU's step is a file of its own, read once as well, and a loop is calibrated by its own body, packed once."""
    model, x = trained(build)
    export.tflite(model, tmp_path / "a.tflite", quantize, calibration=x)
    in_integers = quantize == "int8"
    assert counts["converted"] == counts["read"] == files
    assert counts["quantize"] == counts["calibrate"] == in_integers
    assert counts["packed"] == (1 + files if in_integers else 1)
    assert counts["copied"] == 1


@pytest.mark.parametrize("state", [None, "kept", "explicit"])
def test_a_package_reads_its_file_once(state, counts, tmp_path):
    model, x = trained(gru if state is None else lstms)
    export.micro(model, tmp_path / "p", calibration=x, state=state)
    assert counts["read"] == counts["converted"]
    assert counts["calibrate"] == counts["quantize"] == 1
    if state is None:
        assert counts["copied"] == 1


def test_each_candidate_is_packed_once_and_only_equalised_files_are_calibrated_twice(counts, tmp_path):
    model, x = trained(models.hardly_moving)
    export.tflite(model, tmp_path / "a.tflite", "int8", calibration=x)
    assert counts["read"] == 1
    assert counts["quantize"] > 1  # the output in int16 was tried
    assert counts["packed"] == 1 + counts["quantize"]
    counts.clear()
    model, x = trained(lambda: models.randomised(models.skip_concatenate(), 0.01))
    export.tflite(model, tmp_path / "a.tflite", "int8", calibration=8 * x)
    assert counts["read"] == 1
    assert counts["calibrate"] == 2
    assert counts["packed"] == 2 + counts["quantize"]


def test_the_optimizer_is_not_copied(monkeypatch, tmp_path):
    model, x = trained(lstms)
    made = []
    init = keras.Variable.__init__
    monkeypatch.setattr(keras.Variable, "__init__", lambda self, *a, **o: made.append(self) or init(self, *a, **o))
    export.micro(model, tmp_path / "p", calibration=x)
    assert len(made) <= len(model.variables) + 2  # the layers' own, and seeds
    assert len(model.optimizer.variables) > len(model.variables)
