"""MD5 (as DVC has it) and SHA-256 (as artifacts have it) of files and folders, each file read once for both."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from distilled_circuits.lockfile import files_of

BLOCK = 2**20
"""Bytes read at a time."""


class Digests:
    """Digests of files as they are now; a file that several artifacts were made from is read once."""

    def __init__(self) -> None:
        self._of_file = cache(_read)

    def md5(self, path: Path) -> str:
        """Return what `lockfile.md5` returns: of a folder that of the list of its files, with `.dir` behind."""
        if not path.is_dir():
            return self._of_file(path)[0]
        listing = [{"md5": self.md5(file), "relpath": file.relative_to(path).as_posix()} for file in files_of(path)]
        listing.sort(key=lambda entry: entry["relpath"])
        return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"

    def sha256(self, path: Path) -> str:
        """Return what `artifacts.digest` returns: of a folder that of the digests and paths of its files."""
        if not path.is_dir():
            return self._of_file(path)[1]
        files = sorted(file for file in path.rglob("*") if file.is_file() and ".tmp-" not in file.name)
        listing = "".join(f"{self.sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in files)
        return hashlib.sha256(listing.encode()).hexdigest()

    def size(self, path: Path) -> tuple[int, int | None]:
        """Return the bytes of a file, or those of a folder's files and their number."""
        if not path.is_dir():
            return path.stat().st_size, None
        files = files_of(path)
        return sum(file.stat().st_size for file in files), len(files)


def _read(path: Path) -> tuple[str, str]:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            md5.update(block)
            sha256.update(block)
    return md5.hexdigest(), sha256.hexdigest()
