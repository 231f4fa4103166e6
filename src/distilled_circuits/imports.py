"""Which modules of the package a stage is made of, read from their import statements and without running any."""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path

from distilled_circuits.errors import UserError


def code_of(stage: str, package: Path) -> list[Path]:
    """Return the module of a stage and all that it imports from the package, directly or not, sorted.

    Imports count wherever they stand, in a function or for types alone; they are absolute (a rule of ruff's), and no
    `__init__.py` has code (a test). `package` is the folder `distilled_circuits`. Raises UserError for a module that is
    missing or cannot be read.
    """
    seen: set[Path] = set()
    to_read = [package / "stages" / f"{stage}.py"]
    while to_read:
        module = to_read.pop()
        if module not in seen:
            seen.add(module)
            to_read += imports_of(module, package)
    return sorted(seen)


def imports_of(module: Path, package: Path) -> set[Path]:
    """Return the modules of the package that a module imports itself; raise UserError where it cannot be read."""
    try:
        names = _names(module.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        raise UserError(f"{module}: {' '.join(str(error).split())}: put it right before anything runs") from None
    inside = [name.split(".")[1:] for name in names if name.startswith(f"{package.name}.")]
    files = {package.joinpath(*parts).with_suffix(".py") for parts in inside}
    return {file for file in files if file.exists()}


@lru_cache(maxsize=1024)
def _names(text: str) -> tuple[str, ...]:
    """Return all names that a text imports; stages share most modules, so each is parsed once."""
    named: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            named += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(named)
