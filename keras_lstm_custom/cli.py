"""The entry point of `keras-lstm-custom`: the command itself, or what to install for it."""

from __future__ import annotations

import sys
from typing import Any

from keras_lstm_custom.errors import message
from keras_lstm_custom.installation import installing

app: Any = None
missing: ModuleNotFoundError | None = None
try:
    from keras_lstm_custom.commands import app
except ModuleNotFoundError as error:  # this module must be importable everywhere; `main` tells
    missing = error


def main() -> None:
    """Run the command; the entry point of the package's script."""
    if missing is not None:
        text = message(
            "The command needs a package that is not installed.",
            expected="typer and rich, which show its options and its reports",
            received=f"no {missing.name}",
            remedy=installing("export"),
        )
        sys.exit(text)
    app()


if __name__ == "__main__":
    main()
