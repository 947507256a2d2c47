"""From a Keras model to values: its layers and operations, row by row."""
