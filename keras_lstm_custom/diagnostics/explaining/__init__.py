"""Which part of the input made a prediction, and through which memory it came."""
