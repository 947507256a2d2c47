"""The package's version; its only home."""

__version__ = "0.1.0"
