"""What the active backend computes on."""

from __future__ import annotations

import warnings

import keras

BACKEND = keras.backend.backend()
WITHOUT_GPU = {
    "jax": "install jax[cuda13] (or [cuda12]) and a driver for it, and see that JAX_PLATFORMS is not cpu.",
    "torch": "install a torch built with CUDA and a driver for it, and see that CUDA_VISIBLE_DEVICES is not empty.",
    "tensorflow": "install tensorflow[and-cuda] and a driver for it.",
}  #: what to do, where a framework itself says nothing


def device() -> str:
    """What the backend computes on; a CPU is always called "cpu"."""
    if BACKEND == "jax":
        import jax

        return jax.devices()[0].device_kind
    if BACKEND == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "cpu"


def no_gpu() -> str | None:
    """Return why the backend computes on the CPU, as far as it says, or None."""
    with warnings.catch_warnings(record=True) as said:  # torch warns of a driver that is too old, and goes on
        warnings.simplefilter("always")
        try:
            if device() != "cpu":
                return None
        except Exception as error:  # JAX raises if it has been told to take a GPU
            return f"{type(error).__name__}: {error}."
    return " ".join([str(w.message) for w in said] or [WITHOUT_GPU[BACKEND]])
