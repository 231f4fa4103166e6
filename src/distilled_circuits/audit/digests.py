"""MD5 (as DVC has it) and SHA-256 (as artifacts have it) of files and folders, each file read once for both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from distilled_circuits.lockfile import files_of, folder_md5

BLOCK = 2**20
"""Bytes read at a time."""


class Digests:
    """Digests of files as they are now; a file that several artifacts were made from is read once.

    A context: files are read by a thread of its own, which is stopped at the end.
    """

    def __init__(self) -> None:
        self._reader = ThreadPoolExecutor(max_workers=1)
        self._known: dict[Path, Future[tuple[str, str]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)

    def read_ahead(self, paths: Iterable[Path]) -> None:
        """Begin to read files and folders that will be asked for: digests need no lock of the interpreter."""
        for path in paths:
            for file in files_of(path) if path.is_dir() else [path]:
                self._read(file)

    def md5(self, path: Path) -> str:
        """Return what `lockfile.md5` returns: of a folder that of the list of its files, with `.dir` behind."""
        if not path.is_dir():
            return self._read(path).result()[0]
        return folder_md5({file.relative_to(path).as_posix(): self.md5(file) for file in files_of(path)})

    def sha256(self, path: Path) -> str:
        """Return what `artifacts.digest` returns: of a folder that of the digests and paths of its files."""
        if not path.is_dir():
            return self._read(path).result()[1]
        files = sorted(file for file in path.rglob("*") if file.is_file() and ".tmp-" not in file.name)
        listing = "".join(f"{self.sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in files)
        return hashlib.sha256(listing.encode()).hexdigest()

    def size(self, path: Path) -> tuple[int, int | None]:
        """Return the bytes of a file, or those of a folder's files and their number."""
        if not path.is_dir():
            return path.stat().st_size, None
        files = files_of(path)
        return sum(file.stat().st_size for file in files), len(files)

    def _read(self, path: Path) -> Future[tuple[str, str]]:
        if path not in self._known:
            self._known[path] = self._reader.submit(_digests, path)
        return self._known[path]


def _digests(path: Path) -> tuple[str, str]:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            md5.update(block)
            sha256.update(block)
    return md5.hexdigest(), sha256.hexdigest()
