"""What is asked for is in one place, what is too old is refused, and what an error tells to install is this package."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from keras_lstm_custom.errors import RequirementError
from keras_lstm_custom.installation import INSTALL, OLDEST, check_version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
#: pip's own word for the package, by a bare name, with or without extras.
BY_NAME = re.compile(r"""pip install (?:-\S+ )*['"]?keras[_-]lstm[_-]custom(?=[\['"\s=<>]|$)""")


@pytest.mark.parametrize(("name", "oldest"), OLDEST.items())
def test_pip_is_asked_for_the_versions_that_are_checked(name, oldest):
    asked = {r.partition(";")[0].strip() for r in REQUIREMENTS if re.match(rf"{name}(-cpu)?[>=]", r)}
    assert {r.partition(">=")[2] for r in asked} == {".".join(map(str, oldest))}
    assert (
        f"{name.capitalize().replace('flow', 'Flow')} {'.'.join(map(str, oldest))}" in (ROOT / "README.md").read_text()
    )


@pytest.mark.parametrize("version", ["3.9.2", "2.15.0", "3.9"])
def test_an_old_version_is_refused(version):
    with pytest.raises(RequirementError, match=rf"keras 3\.10 or newer\n.*keras {re.escape(version)}\n.*pip install"):
        check_version("keras", version)


@pytest.mark.parametrize("version", ["3.10.0", "3.15.1", "3.16.0.dev202611260301", "4.0"])
def test_a_later_version_is_not(version):
    check_version("keras", version)


def test_importing_the_package_checks_before_it_looks_for_what_is_new():
    code = "import keras; keras.__version__ = '3.3.0'; del keras.remat; import keras_lstm_custom"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RequirementError: keras_lstm_custom does not run with this version of keras." in done.stderr
    assert "Received: keras 3.3.0" in done.stderr


def test_no_command_installs_the_package_by_its_name():
    """It is on no index, so that name would be somebody else's package."""
    texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.rglob("examples/*.md")]
    texts += [path for path in (ROOT / "keras_lstm_custom").rglob("*.py") if path.name != "installation.py"]
    found = [f"{path.relative_to(ROOT)}: {hit}" for path in texts for hit in BY_NAME.findall(path.read_text())]
    assert not found, f"Use `installation.installing`, in docs a path: {found}"
    assert BY_NAME.search("pip install 'keras_lstm_custom[export]'")
    assert not BY_NAME.search(INSTALL)
