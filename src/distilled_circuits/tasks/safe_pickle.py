"""Reads pickles of plain data without running anything that they ask for."""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

from distilled_circuits.errors import UserError


def load_plain(path: Path) -> object:
    """Return the lists, dicts, tuples, texts, numbers, bools and None of a pickle.

    A pickle is a program: it can name any function and have it called. Names are refused here, and without one nothing
    can be called or made beyond such plain values. Raises UserError that names the file, and what it asked for, or that
    it is no whole pickle.
    """
    data = path.read_bytes()
    try:
        _check_memo(data)
        return _PlainUnpickler(io.BytesIO(data), path).load()
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - bytes that are no pickle make the unpickler raise nearly anything
        said = " ".join(str(error).split())
        raise UserError(
            f"{path}: not a whole pickle ({type(error).__name__}: {said}): get the file once more (docs/data.md)"
        ) from None


def _check_memo(data: bytes) -> None:
    """Raise ValueError at a number of a remembered value that is larger than the pickle: room is made for so many."""
    for code, number, _ in pickletools.genops(data):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and number > len(data):
            raise ValueError(f"value {number} is to be remembered, of {len(data)} bytes")


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that knows no name, so that it can call nothing."""

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str) -> NoReturn:
        asked = " ".join(f"{module}.{name}".split())
        raise UserError(
            f"{self.path}: the pickle asks for {asked}, and running what a file names is not safe: only lists, "
            "dicts, texts and numbers are read; convert it to JSON where it comes from"
        )
