"""A model from a file that somebody names in a shell: loaded, or refused with what to do about this kind of file."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

from keras_lstm_custom.array_files import check_memory
from keras_lstm_custom.errors import DataError, LoadError

SAVE_AS_KERAS = "Load it in Python where it was made, and save it there with model.save('model.keras')."
FROM_WEIGHTS = "Build the model in Python, call model.load_weights(...), and save it with model.save('model.keras')."
FINISHED = "Give the Keras model that it was made from: model.save('model.keras')."
IN_PYTHON = "In Python: model = keras_lstm_custom.load.{}; add the layers behind it; model.save('model.keras')."
OF_TORCH = IN_PYTHON.format("torch(torch.load(path, weights_only=True))")
OF_TF1 = IN_PYTHON.format("tf1(path)")

#: What else people have: the end of its name, what it is, what to do.
FOREIGN: tuple[tuple[str, str, str], ...] = (
    (".weights.h5", "the weights of a Keras model without its layers", FROM_WEIGHTS),
    (".safetensors", "weights without a model", IN_PYTHON.format("torch(safetensors.numpy.load_file(path))")),
    (".tflite", "a TFLite file", FINISHED + " A file that is there is compared with it by `keras-lstm-custom verify`."),
    (".pb", "a TensorFlow graph", FINISHED + " Its recurrent layers are loops here and cannot be told any more."),
    (".index", "a checkpoint of TensorFlow: weights without a model", OF_TF1),
    (".meta", "a part of a checkpoint of TensorFlow: its graph", OF_TF1),
    (".data-00000-of-00001", "a checkpoint of TensorFlow: weights without a model", OF_TF1),
    (".json", "a configuration without weights", SAVE_AS_KERAS),
    (".pt", "a file of torch", OF_TORCH),
    (".pth", "a file of torch", OF_TORCH),
    (".ckpt", "a checkpoint: weights without a model", f"Of torch or Lightning: {OF_TORCH} Of TensorFlow: {OF_TF1}"),
    (".pkl", "a pickle, which runs what it holds; it is not opened", SAVE_AS_KERAS),
    (".npz", "arrays without a model", FROM_WEIGHTS),
    (".npy", "an array without a model", FROM_WEIGHTS),
)
KERAS, HDF5 = b"PK\x03\x04", b"\x89HDF"
EXPECTED = "a model saved by model.save('model.keras'), an .h5 file of Keras 2, or an ONNX file"
#: What `load.keras2` tells of training, which nothing here goes on with.
OF_TRAINING = r"(?s).*(optimizer starts anew|not compiled)"


def load_model(path: Path) -> Any:
    """Return the Keras model in a file.

    Raises:
        DataError: there is none in it, or it cannot be loaded here; the message says what to do.
    """
    import keras

    import keras_lstm_custom  # noqa: F401  registers its layers

    path = Path(os.path.expanduser(path))
    check_file(path, "a model saved by model.save('model.keras')")
    _check_kind(path)
    saved_by = _version(path)
    try:
        _check_size(path)
        foreign = _foreign(path)
        return keras.saving.load_model(path, compile=False) if foreign is None else foreign
    except LoadError:
        raise
    except Exception as error:  # Keras, h5py and zipfile raise errors of many classes
        raise _refused(path, f"{type(error).__name__}: {_cause(error)}", _advice(error, saved_by)) from error


def _foreign(path: Path) -> Any:
    """Return the model of a file that was not written by Keras 3, None for one that was."""
    from keras_lstm_custom import load
    from keras_lstm_custom.load.keras2 import is_keras2

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=OF_TRAINING)
        if path.name.lower().endswith(".onnx"):
            return load.onnx(path)
        return load.keras2(path) if not zipfile.is_zipfile(path) and is_keras2(path) else None


def check_file(path: Path, expected: str) -> None:
    """Raise `DataError` unless there is a file that can be opened."""
    try:
        received = "a folder" if path.is_dir() else "nothing of that name" if not path.exists() else ""
        if not received:
            path.open("rb").close()
    except (OSError, ValueError) as error:
        received = f"{type(error).__name__}: {error}"
    if received == "a folder" and (path / "saved_model.pb").exists():
        raise _refused(path, "the folder of a TensorFlow SavedModel", _of_folder(path))
    if received == "nothing of that name" and path.with_name(path.name + ".index").exists():
        raise _refused(path, "a checkpoint of TensorFlow: weights without a model", OF_TF1)
    if received:
        raise DataError(
            f"There is no file {str(path)!r}.", expected=expected, received=received, remedy="Check the path."
        )


def _of_folder(path: Path) -> str:
    if (path / "keras_metadata.pb").exists():  # Keras 2 writes it beside the graph
        return "Load it in Keras 2 and save it there with model.save('model.h5'), which is taken here."
    return FINISHED + " Its layers cannot be told any more."


def _check_kind(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(8)
    if path.name.lower().endswith(".onnx"):
        return
    for end, what, remedy in FOREIGN:
        if path.name.lower().endswith(end) or (end == ".tflite" and start[4:] == b"TFL3"):
            raise _refused(path, what, remedy)
    if start.startswith(KERAS) and _is_of_torch(path):
        raise _refused(path, "a file of torch", OF_TORCH)
    if not start.startswith((KERAS, HDF5)):
        what = "a file of another format" if start else "an empty file"
        raise _refused(path, what, "Check the path; in Python, model.save('model.keras') writes such a file.")


def _is_of_torch(path: Path) -> bool:
    """Say whether an archive is one of torch, which has a pickle in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _version(path: Path) -> str:
    """Return the version of Keras that wrote a .keras file; "" if it does not say."""
    try:
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
    except Exception:  # damaged, or an .h5 file: loading it says more
        return ""


def _check_size(path: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            check_memory(sum(member.file_size for member in archive.infolist()))


def _advice(error: Exception, saved_by: str) -> str:
    import keras

    if _numbers(saved_by) > _numbers(keras.__version__):
        return f"It was saved by Keras {saved_by}, here is {keras.__version__}: pip install --upgrade keras."
    if "ambda" in str(error) and "safe" in str(error):
        return "It holds a Lambda, which runs code of its own. If you trust it, load it in Python and export it there."
    return "If it has layers of your own, export it from Python, where they are registered; else save it again."


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:2] if part.isdigit()]


def _cause(error: Exception) -> str:
    """Return the first line of what went wrong; Keras puts all that is around it before it, each with its config."""
    innermost = str(error).rpartition("Exception encountered: ")[2]
    return next((line.strip() for line in innermost.splitlines() if line.strip()), "")[:300]


def _refused(path: Path, received: str, remedy: str) -> DataError:
    return DataError(
        f"{str(path)!r} cannot be loaded as a Keras model.", expected=EXPECTED, received=received, remedy=remedy
    )
