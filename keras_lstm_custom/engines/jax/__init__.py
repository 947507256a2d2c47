"""The recurrences in JAX. Loaded on first use, since they import it; tensors are `(timesteps, batch, ...)`."""
