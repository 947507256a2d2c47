"""The recurrences in TensorFlow. Loaded on first use, since they import it; tensors are `(timesteps, batch, ...)`."""
