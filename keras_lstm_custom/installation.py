"""How the package is installed, and the oldest versions of what it stands on."""

from __future__ import annotations

import re

from keras_lstm_custom.errors import RequirementError

#: What installs an extra. The package is on no index yet, where its name would be somebody else's. Once it is there:
#: "pip install 'keras_lstm_custom[{extra}]'" (docs/releasing.md).
INSTALL = (
    "pip install '.[{extra}]' in a checkout of keras_lstm_custom, or pip install 'FILE.whl[{extra}]' with its wheel"
)

#: The oldest versions that the tests run with (`make test-floor`); pyproject.toml asks pip for the same.
OLDEST = {"keras": (3, 10), "tensorflow": (2, 19)}


def installing(extra: str) -> str:
    """Return what to do to get what an extra of pyproject.toml names."""
    return INSTALL.format(extra=extra)


def check_versions() -> None:
    """Raise `RequirementError` if Keras, or the TensorFlow that it runs on, is older than the tests go."""
    import keras

    check_version("keras", keras.__version__)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        check_version("tensorflow", tensorflow.__version__)


def check_version(name: str, installed: str) -> None:
    """Raise `RequirementError` if this version of a package is older than the tests go."""
    if tuple(map(int, re.findall(r"\d+", installed)[:2])) >= OLDEST[name]:
        return
    oldest = ".".join(map(str, OLDEST[name]))
    or_cpu = " (tensorflow-cpu, where that is the one installed)" if name == "tensorflow" else ""
    raise RequirementError(
        f"keras_lstm_custom does not run with this version of {name}.",
        expected=f"{name} {oldest} or newer",
        received=f"{name} {installed}",
        remedy=f"pip install --upgrade '{name}>={oldest}'{or_cpu}; in a new environment, if others need the old one.",
    )
