"""Why cuDNN cannot run here, by backend: what is missing, and what to install or switch on."""

from __future__ import annotations

from collections.abc import Callable

import keras

from keras_lstm_custom.engines.contract import Request

NOT_NVIDIA = "needs an NVIDIA GPU: MIOpen has the gates in another order"


def refusal(request: Request) -> str | None:
    """Return why cuDNN cannot serve this request here, or None."""
    return PLACES[keras.backend.backend()](request)


def _tensorflow(request: Request) -> str | None:
    import tensorflow as tf

    from keras_lstm_custom.engines.native.xla_context import inside_xla

    build = tf.sysconfig.get_build_info()
    if not tf.config.list_logical_devices("GPU"):
        return f"needs a GPU, and TensorFlow {_found(build.get('cuda_version'), 'install tensorflow[and-cuda]')}"
    if build.get("is_rocm_build"):
        return NOT_NVIDIA
    if inside_xla():
        return "is an operation of its own, which XLA does not know (jit_compile=True)"
    return None


def _jax(request: Request) -> str | None:
    import jax

    if jax.default_backend() != "gpu":
        needs = "jax[cuda13] or jax[cuda12], a driver new enough for it, and JAX_PLATFORMS to allow it"
        return f"needs a GPU, and JAX runs on {jax.default_backend()!r} (for an NVIDIA GPU JAX needs {needs})"
    if "rocm" in jax.devices()[0].client.platform_version.lower():
        return NOT_NVIDIA
    return None


def _torch(request: Request) -> str | None:
    import torch

    x = request.sequences
    if not torch.cuda.is_available():  # it warns of a driver that is too old
        return f"needs a GPU, and torch {_found(torch.version.cuda, 'install a build with CUDA')}"
    if isinstance(x, torch.Tensor) and not x.is_cuda:
        return f"needs tensors on the GPU, and they are on {str(x.device)!r}"
    if not (torch.backends.cudnn.is_available() and torch.backends.cudnn.enabled):
        return "needs cuDNN, and torch.backends.cudnn is not available or not enabled"
    return None


def _found(version: str | None, otherwise: str) -> str:
    if version is None:
        return f"is built without CUDA: {otherwise}"
    return f"finds none (it is built for CUDA {version}: is the driver new enough, and CUDA_VISIBLE_DEVICES not empty?)"


PLACES: dict[str, Callable[[Request], str | None]] = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
