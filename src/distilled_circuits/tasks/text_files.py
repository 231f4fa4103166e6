"""How a text file that a person gives is read: as UTF-8, and every mistake as one line that names the place."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from distilled_circuits.errors import UserError


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file without its byte order mark; raise UserError that names line and byte.

    Bytes are counted from 1 in their line, behind a byte order mark.
    """
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = error.start - data.rfind(b"\n", 0, error.start)
        raise UserError(
            f"{path}:{line}: byte {byte} of the line (0x{data[error.start]:02x}) is not UTF-8: save the file as UTF-8"
        ) from None


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return number and text of each line that is not blank; raise UserError where there is none.

    Lines end at line feeds alone: JSON texts may contain the other separators that `str.splitlines` knows.
    """
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    if not lines:
        raise UserError(f"{path}:1: the file is empty: it needs at least one line (docs/data.md has the form)")
    return lines


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; raise UserError that names the line where it is not JSON.

    Half of a surrogate pair, which JSON can spell and no file can hold, is refused too.
    """
    try:
        found = json.loads(read_text(path))
        json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets; half a pair
        raise UserError(f"{path}:1: not JSON that can be read: {error}") from None
    return found
