"""Make the files of this folder by tf_keras: `python -m tests.load.data.make`, from the root of the project.

They let the reader of old files be tested where tf_keras is not installed: real files of its writer, with an input and
the outputs that tf_keras computed from them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


def main() -> None:
    """Write each model as .h5, and its input and outputs as .npz."""
    import tensorflow as tf

    from tests.load import keras2_models

    for make in (keras2_models.translation, keras2_models.tokens, keras2_models.addons):
        model, x = make()
        keras2_models.randomised(model)
        model.save(FOLDER / f"{make.__name__}.h5")
        inputs = x if isinstance(x, list) else [x]
        outputs = tf.nest.flatten(model(x, training=False))
        arrays = {f"x{n}": a for n, a in enumerate(inputs)} | {f"y{n}": np.asarray(a) for n, a in enumerate(outputs)}
        np.savez_compressed(FOLDER / f"{make.__name__}.npz", **arrays)


if __name__ == "__main__":
    main()
