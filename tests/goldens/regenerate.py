"""Write the goldens: small saved models of every layer, with input and output. Run from the project's root:

python -m tests.goldens.regenerate [NAME ...]

They are made anew only when the format of saved files changes on purpose.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np

import keras_lstm_custom
from tests.descriptors import BATCH, FEATURES, LAYERS, TIMESTEPS

FOLDER = Path(__file__).parent
SEED = 20240229
COMMAND = "python -m tests.goldens.regenerate"


def options_of(row) -> dict:
    """Return non-default options that have an effect on a prediction of one output."""
    return {**row.options, "dtype": "float32", "use_bias": True, "return_state": False, "stateful": False}


def main() -> None:
    rng = np.random.default_rng(SEED)
    names = sys.argv[1:]
    for row in LAYERS:
        if names and row.name not in names:
            continue
        inputs = keras.Input((TIMESTEPS, FEATURES))
        model = keras.Model(inputs, row.build(**options_of(row))(inputs))
        # a range of numbers: a weight that is exchanged, transposed or packed in another order shows
        model.set_weights([np.linspace(-1, 1, w.size).reshape(w.shape) for w in model.get_weights()])
        x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
        model.save(FOLDER / f"{row.name}.keras")
        np.savez(FOLDER / f"{row.name}.npz", x=x, y=model.predict(x, verbose=0))
        facts = {
            "command": COMMAND,
            "seed": SEED,
            "keras_lstm_custom": keras_lstm_custom.__version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
        }
        (FOLDER / f"{row.name}.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
