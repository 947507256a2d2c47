"""Let the reference show a layer or cell as its stub does: with all arguments and the whole docstring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import griffe


class FromStubs(griffe.Extension):
    """Put the docstring and `__init__` of each stub's class in place of what the source says in short."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        root = Path(pkg.filepath).parent
        for path in sorted(root.rglob("*.pyi")):
            names = path.relative_to(root).with_suffix("").parts
            stub = griffe.visit(names[-1], filepath=path, code=path.read_text())
            module = pkg[names]
            for name, shown in stub.classes.items():
                module[name].docstring.value = shown.docstring.value
                module[name].set_member("__init__", shown["__init__"])
