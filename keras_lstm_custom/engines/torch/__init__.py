"""The recurrences in torch. Loaded on first use, since they import it; tensors are `(timesteps, batch, ...)`."""
