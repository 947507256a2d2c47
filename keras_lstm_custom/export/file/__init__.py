"""The TFLite side: a file opened as a graph, and the fused LSTM op in it."""
