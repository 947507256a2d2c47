"""Builds the native engine into the package where there is a C++ compiler; every other setting is in pyproject.toml.

The library is no Python extension but operations of TensorFlow on its C API, so one wheel serves every Python 3 of
a platform. Without a compiler the wheel is pure Python, and `explain_engine` says that the engine is not built.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

PACKAGE = "keras_lstm_custom"
FOLDER = Path(PACKAGE, "engines", "native")


def native_build() -> ModuleType:
    """Return `engines/native/build.py`, loaded alone: the package itself needs Keras, which is not here yet."""
    package = sys.modules[PACKAGE] = ModuleType(PACKAGE)
    package.__path__ = [PACKAGE]  # so that the errors can be imported, and nothing else runs
    spec = importlib.util.spec_from_file_location("native_build", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildNative(Command):
    """Compile the library: into the source tree for an editable installation, else among what goes into the wheel."""

    description = "build the native engine"
    user_options = []
    editable_mode = False  # set by setuptools

    def initialize_options(self):
        self.build_lib = None

    def finalize_options(self):
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self):
        native = native_build()
        self.library = Path("." if self.editable_mode else self.build_lib, FOLDER, native.LIBRARY.name)
        if not self.editable_mode:
            self.library.unlink(missing_ok=True)  # an earlier build's
        try:
            native.build(self.library)
        except native.EngineError as error:
            self.warn(f"{error}\n\nGoing on without the native engine; {native.REMEDY} adds it later.")

    def built(self) -> bool:
        return self.library.exists()

    def get_source_files(self):
        return []  # they are data of the package

    def get_outputs(self):
        return []  # all that is in `build_lib` goes into the wheel

    def get_output_mapping(self):
        return {}


class Build(build):
    """All that setuptools builds, then the library."""

    sub_commands = [*build.sub_commands, ("build_native", None)]


class Wheel(bdist_wheel):
    """A wheel for any Python 3, of one platform if it holds the library."""

    def run(self):
        self.run_command("build")
        built = self.get_finalized_command("build_native").built()
        self.distribution.has_ext_modules = lambda: built
        self.root_is_pure = not built
        super().run()

    def get_tag(self):
        python, abi, platform = super().get_tag()
        if not self.root_is_pure:
            native_build().check_target(platform)
        return (python, abi, platform) if self.root_is_pure else ("py3", "none", platform)


LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?://|#|mailto:)(?P<path>[^)\s]+)\)")


def readme_for_the_index(text: str, source: str | None) -> str:
    """Return README.md as a package index can show it, which has none of the files that it links to.

    Links and pictures lead into the repository at `source`; where that is not known, only their text is left.
    """

    def there(link: re.Match[str]) -> str:
        if source is None:
            return f"*{link['text']}*" if link["picture"] else link["text"]
        kind = "raw" if link["picture"] else "blob"
        return f"{link['picture']}[{link['text']}]({source.rstrip('/')}/{kind}/HEAD/{link['path']})"

    parts = text.split("```")  # every other one is code
    return "```".join(part if number % 2 else LINK.sub(there, part) for number, part in enumerate(parts))


def long_description() -> str:
    """Return the readme with the address in `[project.urls]`."""
    urls = tomllib.loads(Path("pyproject.toml").read_text())["project"]["urls"]
    return readme_for_the_index(Path("README.md").read_text(), urls.get("Source"))


setup(
    cmdclass={"build": Build, "build_native": BuildNative, "bdist_wheel": Wheel},
    long_description=long_description(),
    long_description_content_type="text/markdown",
)
