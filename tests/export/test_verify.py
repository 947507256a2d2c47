"""The verifier against interpreters opened here, and what it must not let pass."""

import json
import sys

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import keras_lstm_custom as klc
from keras_lstm_custom import export
from keras_lstm_custom.errors import ArgumentError, ExportError, InputError
from keras_lstm_custom.export.model.samples import arrays_of
from keras_lstm_custom.export.running import runtimes
from keras_lstm_custom.export.running.report import ExportReport, OutputError, RuntimeCheck
from keras_lstm_custom.export.running.verify import check, contents, output_error
from tests.export.conftest import exported

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    made = exported("theirs")
    path = tmp_path_factory.mktemp("verify") / "fused.tflite"
    path.write_bytes(made.content)
    return path, made


@pytest.fixture(scope="module")
def report(fused):
    path, made = fused
    return export.verify(path, made.model, made.inputs)


def test_errors_are_those_of_an_interpreter_opened_here(fused, report):
    path, made = fused
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    got = []
    for row in made.inputs[0]:
        interpreter.set_tensor(source["index"], row[None])
        interpreter.invoke()
        got.append(interpreter.get_tensor(target["index"])[0])
    difference = np.asarray(got, np.float64) - made.outputs[0]
    (error,) = report.check("litert").outputs
    assert error.max_error == pytest.approx(np.abs(difference).max(), rel=1e-6)
    assert error.rmse == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-6)
    assert error.relative_to_signal == pytest.approx(error.rmse / made.outputs[0].std(), rel=1e-4)


def test_the_report(fused, report):
    path, _ = fused
    assert report.ok
    assert report.quantize is None
    assert report.bytes == path.stat().st_size
    assert report.ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    assert set(report.runtimes) == {"litert", "micro"}  # those that run it
    assert not report.check("compiled").ran
    text = str(report)
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM x2" in text
    assert "not for it" in text
    assert json.loads(report.to_json())["checks"][0]["runtime"] == "litert"


@pytest.mark.parametrize("stateful", [False, True])
def test_a_file_that_leaks_its_state_is_wrong_unless_that_is_asked_for(fused, tmp_path, stateful):
    from keras_lstm_custom.export.model.prepare import prepare
    from tests.export.files import float_file

    _, made = fused
    path = tmp_path / "stateful.tflite"
    path.write_bytes(float_file(prepare(made.model), stateful=True))
    report = export.verify(path, made.model, made.inputs, stateful=stateful)
    assert report.ok is stateful
    assert report.check("litert").ok is stateful
    assert report.check("micro").ok is stateful


def test_several_inputs_and_outputs(tmp_path):
    made = exported("several")
    path = tmp_path / "several.tflite"
    path.write_bytes(made.content)
    by_name = {tensor.name: array for tensor, array in zip(made.model.inputs, made.inputs, strict=True)}
    report = export.verify(path, made.model, by_name, runtimes=["litert"])
    assert report.ok, str(report)
    assert len(report.check("litert").outputs) == len(made.outputs)


def test_another_models_file_is_wrong(fused, tmp_path):
    path, made = fused
    other = made.model.__class__.from_config(made.model.get_config())
    report = export.verify(path, other, made.inputs, runtimes=["litert"])
    assert not report.ok
    assert "of the signal" in str(report)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_never_right(value):
    reference = np.ones((2, 3), "float32") * [1, 2, 3]
    run = runtimes.Run("litert", ok=True, outputs=(np.full((2, 3), value),))
    assert not check(run, [reference], ["y"], bound=np.inf if np.isnan(value) else 1e6).ok


def test_an_output_of_another_shape_is_wrong():
    run = runtimes.Run("litert", ok=True, outputs=(np.zeros((2, 4)),))
    result = check(run, [np.zeros((2, 3))], ["y"], 1.0)
    assert not result.ok
    assert "(2, 4)" in result.message


def test_error_of_an_output_that_does_not_vary():
    error = output_error("y", np.full((4, 1), 2.0), np.full((4, 1), 2.1))
    assert error.relative_to_signal == pytest.approx(0.05)
    assert output_error("y", np.zeros(3), np.full(3, 0.5)).relative_to_signal == pytest.approx(0.5)


def test_a_report_is_ok_only_if_something_it_is_made_for_ran():
    good = RuntimeCheck("litert", True, (OutputError("y", 0.0, 0.0, 0.0),))
    bad = RuntimeCheck("micro", False, message="no")
    facts = {"path": "x", "quantize": None, "bytes": 1, "ops": {}}
    assert ExportReport(**facts, runtimes=("litert",), checks=(good, bad)).ok
    assert not ExportReport(**facts, runtimes=("litert", "micro"), checks=(good, bad)).ok
    assert not ExportReport(**facts, runtimes=("compiled",), checks=(good,)).ok
    assert not ExportReport(**facts).ok


def test_json_has_no_nan():
    check = RuntimeCheck("litert", False, (OutputError("y", np.nan, np.inf, 1.0),))
    text = ExportReport("x", None, 1, {}, checks=(check,)).to_json()
    assert json.loads(text)["checks"][0]["outputs"][0]["max_error"] is None
    assert "NaN" not in text


@pytest.mark.parametrize("content", [None, b"", b"no model", bytes(100)])
def test_not_a_tflite_file(tmp_path, content):
    path = tmp_path / "x.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExportError, match="not a TFLite file"):
        contents(path)


def test_samples_that_do_not_fit():
    model = exported("theirs").model
    good = np.zeros((2, *model.input_shape[1:]), "float32")
    for bad in (good[:, :, :2], good[0], [good, good], {"nobody": good}):
        with pytest.raises(InputError, match=r"do not fit|names of the samples"):
            arrays_of(model, bad)
    bad = good.copy()
    bad[1, 2, 0] = np.nan
    with pytest.raises(InputError, match=r"1 that are not, of"):
        arrays_of(model, bad)


def test_a_package_that_is_missing_is_named_and_the_file_not_blamed(fused, monkeypatch):
    path, _ = fused
    monkeypatch.delitem(sys.modules, "keras_lstm_custom.export.file.flatbuffer")
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(ExportError, match=r"(?s)package that TFLite files .* is not installed.*ai-edge-litert.*pip"):
        contents(path)


@pytest.mark.parametrize("bound", [float("nan"), -1e-3, "0.1", True])
def test_a_bound_that_is_none_is_refused_before_anything_is_done(bound, tmp_path):
    model = keras.Sequential([keras.Input((3, 2)), klc.LSTM(2)])
    calls = {
        "tflite": lambda: export.tflite(model, tmp_path / "m.tflite", bound=bound),
        "streaming": lambda: export.streaming(model, tmp_path / "s.tflite", bound=bound),
        "micro": lambda: export.micro(model, tmp_path / "micro", bound=bound),
        "verify": lambda: export.verify(tmp_path / "none.tflite", model, np.zeros((1, 3, 2)), bound=bound),
    }
    for call in calls.values():
        with pytest.raises(ArgumentError, match=r"(?s)`bound` is.*Expected: a number from 0 on.*Received.*What to do"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(value, tmp_path):
    model = keras.Sequential([keras.Input((3, 2)), klc.LSTM(2, name="own")])
    kernel, *others = model.get_weights()
    kernel[0, 0] = value
    model.set_weights([kernel, *others])
    calls = {
        "tflite": lambda: export.tflite(model, tmp_path / "m.tflite"),
        "streaming": lambda: export.streaming(model, tmp_path / "s.tflite"),
        "micro": lambda: export.micro(model, tmp_path / "micro"),
        "c": lambda: export.c(model, tmp_path / "c"),
    }
    for call in calls.values():
        with pytest.raises(
            ExportError, match=r"(?s)not all numbers.*in 1 of the 16 numbers of '.*own/.*kernel'.*What to"
        ):
            call()
    assert not list(tmp_path.iterdir())
