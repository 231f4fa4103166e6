"""Reads pickles of plain data without running anything that they ask for."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NoReturn

from distilled_circuits.errors import UserError


def load_plain(path: Path) -> object:
    """Return the lists, dicts, tuples, texts, numbers, bools and None of a pickle.

    A pickle is a program: it can name any function and have it called. Names are refused here, and without one nothing
    can be called or made beyond such plain values. Raises UserError that names the file, and what it asked for, or that
    it is no whole pickle.
    """
    with path.open("rb") as file:
        try:
            return _PlainUnpickler(file, path).load()
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - bytes that are no pickle make the unpickler raise nearly anything
            said = " ".join(str(error).split())
            raise UserError(
                f"{path}: not a whole pickle ({type(error).__name__}: {said}): get the file once more (docs/data.md)"
            ) from None


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that knows no name, so that it can call nothing."""

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str) -> NoReturn:
        raise UserError(
            f"{self.path}: the pickle asks for {module}.{name}, and running what a file names is not safe: only lists, "
            "dicts, texts and numbers are read; convert it to JSON where it comes from"
        )
