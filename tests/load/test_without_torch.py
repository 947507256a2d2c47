"""A dict of arrays needs no torch."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def test_torch_is_not_imported():
    code = """
    import sys
    sys.modules["torch"] = None  # importing it is an ImportError
    import numpy as np
    from keras_lstm_custom import load, to_torch
    from keras_lstm_custom.errors import LoadError

    rng = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "bias_ih_l0": (20,), "bias_hh_l0": (20,)}
    weights = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    model = load.torch(weights)
    assert np.array_equal(model.layers[-1].get_weights()[0], weights["weight_ih_l0"].T)
    try:
        to_torch(model)
    except LoadError as error:
        assert "pip install torch" in str(error)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)
