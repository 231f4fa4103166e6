"""Artifacts opened to be audited: each once, and nothing in them is trusted or run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np

from distilled_circuits.artifacts import open_hdf5, read_json, read_plain_json, read_provenance
from distilled_circuits.errors import UserError

ROWS = 64
"""Rows of a large dataset that are in memory at a time."""


class Arrays(Mapping[str, np.ndarray]):
    """The datasets of an HDF5 artifact by path, read when they are asked for; strings come as `str`.

    Links to other files, storage elsewhere and filters (which HDF5 may load code for) are refused: no stage writes
    them. So is a dataset that says that it has more bytes than its file.
    """

    def __init__(self, file: Any, size: int) -> None:
        self._file, self._size = file, size
        self._names = dict.fromkeys(_datasets(file, ""))
        self._safe: dict[str, Any] = {}
        self._known: dict[str, np.ndarray] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a whole dataset."""
        if name not in self._known:
            dataset = self.dataset(name)
            self._known[name] = dataset.asstr()[()] if dataset.dtype.kind == "O" else dataset[()]
        return self._known[name]

    def dataset(self, name: str) -> Any:
        """Return a dataset that is safe to read; raise UserError where it is missing or not."""
        if name in self._safe:
            return self._safe[name]
        if name not in self._names:
            raise UserError(f"{name} is missing")
        dataset = self._file[name]
        properties = dataset.id.get_create_plist()
        if dataset.is_virtual or dataset.external or properties.get_nfilters():
            raise UserError(f"{name} is stored elsewhere or through a filter")
        if dataset.nbytes > self._size:
            raise UserError(f"{name} says that it has {dataset.nbytes} bytes, more than its file")
        self._safe[name] = dataset
        return dataset

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        """Yield a large dataset in blocks of rows."""
        dataset = self.dataset(name)
        for start in range(0, len(dataset), ROWS):
            yield dataset[start : start + ROWS]

    def labels(self, name: str) -> str:
        """Return the names of a dataset's axes with blanks between them."""
        return " ".join(axis.label for axis in self.dataset(name).dims)


class Store:
    """Opened artifacts by path; a context, which closes them."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._arrays: dict[Path, Arrays] = {}
        self._json: dict[Path, Any] = {}
        self._said: dict[Path, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def provenance(self, path: Path) -> dict[str, Any]:
        """Return what an artifact says of itself; raise UserError where it says nothing."""
        if path not in self._said:
            said = read_provenance(path)
            if not isinstance(said, dict) or not isinstance(said.get("schema"), str):
                raise UserError(f"{path}: no artifact of this project: it does not say its schema")
            self._said[path] = said
        return self._said[path]

    def arrays(self, path: Path) -> Arrays:
        """Return the datasets of an HDF5 artifact."""
        if path not in self._arrays:
            file = self._open.enter_context(open_hdf5(path, self.provenance(path)["schema"]))
            self._arrays[path] = Arrays(file, path.stat().st_size)
        return self._arrays[path]

    def json(self, path: Path) -> dict[str, Any]:
        """Return a JSON artifact, of a model directory its model.json."""
        if path not in self._json:
            self._json[path] = read_json(
                path / "model.json" if path.is_dir() else path, self.provenance(path)["schema"]
            )
        return self._json[path]

    def config(self, model: Path) -> dict[str, Any]:
        """Return config.json of a model directory."""
        path = model / "config.json"
        if path not in self._json:
            self._json[path] = read_plain_json(path)
        return self._json[path]


def _datasets(group: Any, prefix: str) -> Iterator[str]:
    """Yield the paths of all datasets below a group; raise UserError for a link that leaves the file."""
    for name in group:
        if group.get(name, getclass=True, getlink=True).__name__ != "HardLink":
            raise UserError(f"{prefix}{name} is a link to another place")
        item = group[name]
        if hasattr(item, "shape"):
            yield f"{prefix}{name}"
        else:
            yield from _datasets(item, f"{prefix}{name}/")
