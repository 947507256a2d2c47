"""The numbers that the file of a page holds."""

import json
import re

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, VanillaRNN, report
from keras_lstm_custom.diagnostics.report_data import encode
from tests.diagnostics.report.pages import FEATURES, STEPS, UNITS, evaluate, go, randomise


def test_page_holds_the_traced_numbers(page, case):
    for number, (name, layer) in enumerate(case.traces.items()):
        assert evaluate(page, "PAGE.layers[arguments[0]].name", number) == name
        for symbol in ("x", *layer.symbols):
            expected = getattr(layer, symbol)
            spread = np.nanmax(expected, axis=(0, 1)) - np.nanmin(expected, axis=(0, 1))
            for sequence in (0, 3):
                go(page, layer=number, sequence=sequence)
                shown = np.array(evaluate(page, "allRows(arguments[0])", symbol), float).T
                # 16 bits over the range of each unit, rounded to the nearest: half of 1 / 65534 of it.
                bound = spread / 65534 / 2 + 1e-7 * np.abs(expected[sequence])
                assert (np.isnan(shown) == np.isnan(expected[sequence])).all()
                assert (np.nan_to_num(np.abs(shown - expected[sequence])) <= np.nan_to_num(bound)).all(), (name, symbol)


def test_the_output_of_a_layer_that_is_the_next_ones_input_is_stored_once(tmp_path, rng):
    layers = [LSTM(UNITS, return_sequences=True), VanillaRNN(2)]
    model = randomise(keras.Sequential([keras.Input((STEPS, FEATURES)), *layers]))
    path = report(model, rng.normal(size=(2, STEPS, FEATURES)), None, tmp_path / "page.html")
    data = re.search(r'id="page-data">(.*?)</script>', path.read_text(), re.DOTALL).group(1)
    first, second = json.loads(data)["layers"]
    assert second["arrays"]["x"]["blob"] == first["arrays"]["h"]["blob"]


@pytest.mark.parametrize("bits", [8, 16])
def test_encoded_numbers_are_off_by_at_most_half_a_unit(bits, rng):
    values = rng.normal(size=(3, 7, 5)) * [1e-6, 1, 1e6, 0, 1]
    values[0, 2], values[:, :, 4] = np.nan, np.nan
    codes, low, unit = encode(values, bits)
    assert codes.dtype.itemsize * 8 == bits
    found = np.where(codes == 0, np.nan, low[:, None] + (codes.astype(float) - 1) * unit[:, None])
    found = np.moveaxis(found, 1, 2)
    assert (np.isnan(found) == np.isnan(values)).all()
    assert (np.nan_to_num(np.abs(found - values)) <= unit * 0.5000001).all()
    # The whole range of codes is in use, or precision would be given away.
    assert codes[:, 0].max() == 2**bits - 1
    assert codes[:, 0][codes[:, 0] > 0].min() == 1
