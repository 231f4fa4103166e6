"""The only module that opens artifacts: HDF5 and JSON files that say what they are and where they come from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from distilled_circuits.errors import UserError

DAMAGED = (ValueError, KeyError, TypeError, RecursionError)
"""What reading raises where bytes are no text or no JSON, nested too deep, or other than we write."""
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "transformer-lens", "h5py")


@dataclass(frozen=True)
class Provenance:
    """What an artifact says of itself.

    Wall time, host and code revision are left out on purpose: the same inputs give the same bytes on one machine,
    which is what lets DVC stop early. dvc.lock has the digests of the code.
    """

    schema: str
    stage: str
    params: dict[str, Any]
    inputs: dict[str, str]
    device: str
    dtype: str
    seeds: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that numbers depend on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the paths and digests of all files below a directory."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and ".tmp-" not in file.name)
        listing = "".join(f"{digest(file)}  {file.relative_to(path).as_posix()}\n" for file in files)
        return hashlib.sha256(listing.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes its place on success and vanishes on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        yield beside
        if path.is_dir():
            shutil.rmtree(path)
        beside.replace(path)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        else:
            beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, provenance: Provenance, content: Mapping[str, Any]) -> None:
    """Write a self-describing JSON artifact: `provenance` first, then the content; keys keep their order."""
    write_text(path, to_json({"provenance": asdict(provenance), **content}))


def to_json(content: Mapping[str, Any]) -> str:
    """Return JSON with one line a leaf list; NaN and infinities are refused, for readers refuse them."""
    try:
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise UserError(f"a result is not a finite number ({error}): look at the logs of the stages before") from None


def read_json(path: Path, schema: str) -> dict[str, Any]:
    """Read a JSON artifact of a schema; raise UserError when it is missing, broken or of another schema."""
    _require(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["provenance"]["schema"]
    except DAMAGED:
        raise UserError(f"{path}: no artifact of this project; delete it and run again") from None
    _require_schema(path, found, schema)
    return content


class HDF5Writer:
    """An open HDF5 artifact: datasets with named dimensions, written whole or in slices."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    def create(
        self, name: str, shape: Sequence[int], dimensions: Sequence[str], dtype: str = "float32"
    ) -> h5py.Dataset:
        """Make an empty dataset to be filled slice by slice; chunks are one row of its first axis."""
        dataset = self._file.create_dataset(name, tuple(shape), dtype, chunks=(1, *shape[1:]) if shape else None)
        for axis, label in zip(dataset.dims, dimensions, strict=True):
            axis.label = label
        return dataset

    def put(self, name: str, values: Any, dimensions: Sequence[str]) -> None:
        """Write an array at once; strings are stored as UTF-8."""
        array = np.asarray(values)
        dtype = h5py.string_dtype() if array.dtype.kind in "US" else array.dtype
        dataset = self._file.create_dataset(
            name, data=array.astype(dtype) if array.dtype.kind != "U" else array.astype(object), dtype=dtype
        )
        for axis, label in zip(dataset.dims, dimensions, strict=True):
            axis.label = label


@contextmanager
def write_hdf5(path: Path, provenance: Provenance) -> Iterator[HDF5Writer]:
    """Open a new self-describing HDF5 artifact; it appears at `path` only when the block ends without an error."""
    with replacing(path) as beside, h5py.File(beside, "w", track_order=True) as file:
        file.attrs["provenance"] = json.dumps(asdict(provenance), ensure_ascii=False)
        yield HDF5Writer(file)


@contextmanager
def open_hdf5(path: Path, schema: str) -> Iterator[h5py.File]:
    """Open an HDF5 artifact of a schema to read; raise UserError when it is missing, broken or of another schema."""
    _require(path)
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise UserError(f"{path}: not readable as HDF5 (cut short?); delete it and run again") from None
    with file:
        try:
            found = json.loads(file.attrs["provenance"])["schema"]
        except (*DAMAGED, OSError, RuntimeError):
            raise UserError(f"{path}: no artifact of this project; delete it and run again") from None
        _require_schema(path, found, schema)
        yield file


def read_arrays(path: Path, schema: str, names: Sequence[str]) -> list[np.ndarray]:
    """Return whole datasets of an HDF5 artifact; strings come back as `str`."""
    with open_hdf5(path, schema) as file:
        return [_array(file, name, path) for name in names]


def _array(file: h5py.File, name: str, path: Path) -> np.ndarray:
    """Return a dataset that is in the file itself: HDF5 can also name another file to read from."""
    try:
        found = file[name]
        if found.file.filename != file.filename or found.external or found.is_virtual:
            raise UserError(f"{path}: {name} is read from another file, which we never write; delete it and run again")
        return found.asstr()[:] if found.dtype.kind == "O" else found[()]
    except (*DAMAGED, AttributeError, OSError, RuntimeError):
        raise UserError(f"{path}: {name} is missing in it or damaged; delete it and run again") from None


def read_provenance(path: Path) -> dict[str, Any]:
    """Return what an artifact of any schema (a model directory too) says of itself."""
    path = path / "model.json" if path.is_dir() else path
    _require(path)
    try:
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                return dict(json.loads(file.attrs["provenance"]))
        return dict(json.loads(path.read_text(encoding="utf-8"))["provenance"])
    except (*DAMAGED, OSError, RuntimeError):
        raise UserError(f"{path}: no artifact of this project, or damaged: it says nothing of itself") from None


def read_plain_json(path: Path) -> Any:
    """Read a JSON file that is no artifact of ours: a model's config.json, the published numbers."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None


def count_parameters(folder: Path) -> int:
    """Return the number of weights of a model directory, from the headers of its files; tied ones once.

    Raises UserError at a file without such a header.
    """
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(size, path.stat().st_size)))
            total += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
        except (*DAMAGED, AttributeError):
            raise UserError(f"{path}: no safetensors file, or damaged; delete {folder} and run again") from None
    return total


def check_space(folder: Path, size: int, what: str, say: Callable[[str], None]) -> None:
    """Say how many MB `what` will take; raise UserError when the disk has less than that twice and a tenth to spare.

    Twice, because DVC keeps a copy of every output in its cache.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    say(f"{what}: {size / 1e6:.0f} MB to write, {free / 1e6:.0f} MB free")
    if free < 2.1 * size:
        raise UserError(
            f"{folder}: {what} needs {size / 1e6:.0f} MB and as much again for DVC's cache, but the disk has "
            f"{free / 1e6:.0f} MB free: make room, or lower prompts.number or activations.sites in params.yaml"
        )


def _require(path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path}: no such artifact; `snakemake` makes it")


def _require_schema(path: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise UserError(f"{path}: its schema is {found}, this version reads {wanted}; delete it and run again")
