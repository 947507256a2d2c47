"""Whole Keras models: walked through, rebuilt with other layers, and brought to the state of their source.

Nothing here knows a cell or a layer by name; who calls says what is replaced by what.
"""
