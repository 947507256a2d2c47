"""Plain C packages: the numbers of the model, whatever it is made of."""

from __future__ import annotations

import pytest

from tests.export.plain_c.building import SANITIZED, failures, float_package, randomised
from tests.export.plain_c.zoo import MODELS

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def floats():
    return {name: float_package(randomised(make()), f"m{k}", 1e-5) for k, (name, make) in enumerate(MODELS.items())}


def test_every_model_gives_its_numbers_without_a_warning_or_a_word_of_the_sanitizers(floats, tmp_path):
    assert failures(floats, tmp_path, "-std=c99", "-O0", *SANITIZED) == []
