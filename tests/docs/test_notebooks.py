"""The notebooks run from top to bottom, and hold the output that they had when they were last written."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import keras
import pytest

nbformat = pytest.importorskip("nbformat")
NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
pytestmark = pytest.mark.tensorflow


def cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path, monkeypatch):
    """As plain Python, in one process with the other tests: a kernel of its own would only start TensorFlow again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    keras.utils.clear_session()
    namespace, told = {"__name__": "__notebook__"}, []
    for number, cell in enumerate(cells(path)):
        with redirect_stdout(io.StringIO()) as out:
            exec(compile(cell.source, f"{path.name}[{number}]", "exec"), namespace)
        told.append(out.getvalue())
    wrote = [bool(printed(cell)) for cell in cells(path)]
    assert [bool(text.strip()) for text in told] == wrote


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_holds_its_output(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert any(output.output_type == "stream" for cell in cells(path) for output in cell.outputs)
    assert not [output for cell in cells(path) for output in cell.outputs if output.output_type == "error"]
    assert "/tmp" not in path.read_text()
    assert path.stat().st_size < 300_000
