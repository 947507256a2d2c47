"""What a model computes, as a graph of values: made, simplified, run in NumPy, put in order, given its memory."""
