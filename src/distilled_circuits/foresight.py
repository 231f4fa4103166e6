"""The MD5s of a project's files: as they are now, and as a run will leave them as far as that is known before it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from distilled_circuits.dvc_cache import Cache, cache_of
from distilled_circuits.graph import PACKAGE, Graph, Instance
from distilled_circuits.lockfile import LARGE, files_of, folder_md5, lock_stages, md5, mended, read_lock
from distilled_circuits.stages.code import noted


class Files:
    """A project's dvc.lock, cache and files, each read once; `after` is told what each step of a run will leave."""

    def __init__(self, graph: Graph, root: Path) -> None:
        self._lock = mended(read_lock(root))
        self._graph, self._root = graph, root
        self._digests: dict[str, str | None] = {}
        self._notes: dict[str, str] = {}
        self._makers: dict[str, dict[str, Instance]] = {}
        self.cache: Cache = cache_of(root)
        self.recorded: dict[str, Any] = lock_stages(self._lock)
        """What dvc.lock has of each item."""
        self.after: dict[str, str | None] = {}
        """MD5s of outputs after the steps so far; None where only the run itself will tell."""

    @cached_property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """What dvc.lock has of each output: `md5`, `size`."""
        return {out["path"]: out for entry in self.recorded.values() for out in entry.get("outs", [])}

    @cached_property
    def abandoned(self) -> list[str]:
        """Outputs in dvc.lock that no item makes any more; snakemake removes them before it starts a job."""
        return self._graph.abandoned(self._lock)

    def makers(self, path: str) -> dict[str, Instance]:
        """Return the outputs that a path is or has below it, each with the item that makes it."""
        if path not in self._makers:
            made = self._graph.outputs
            below = f"{path}/"
            self._makers[path] = (
                {path: made[path]} if path in made else {out: made[out] for out in made if out.startswith(below)}
            )
        return self._makers[path]

    def now(self, path: str) -> str | None:
        """Return the MD5 of a file or folder as it is; None where it is not there.

        A large output of the size that dvc.lock records is taken for the recorded one, for reading it takes too long.
        """
        if path not in self._digests:
            place, known = self._root / path, self.outputs.get(path, {})
            size = _size(place) if place.exists() else 0
            as_recorded = size >= LARGE and size == known.get("size")
            found = known.get("md5") if as_recorded else md5(place) if place.exists() else None
            self._digests[path] = found
        return self._digests[path]

    def then(self, path: str) -> str | None:
        """Return the MD5 of an input once all that makes it is done; None where only the run itself will tell."""
        makers = self.makers(path)
        if path in makers:
            return self.after[path]
        if not makers:
            return self.now(path)
        if any(self.after[out] is None for out in makers):
            return None
        folder = self._root / path
        names = (file.relative_to(self._root).as_posix() for file in files_of(folder))
        gone = (*makers, *self.abandoned)
        left = [name for name in names if not any(f"{name}/".startswith(f"{out}/") for out in gone)]
        files = {name: md5(self._root / name) for name in left}
        for out in makers:
            files |= self._files_of(out, self.after[out] or "")
        return folder_md5({name.removeprefix(f"{path}/"): digest for name, digest in files.items()})

    def _files_of(self, out: str, digest: str) -> dict[str, str]:
        """Return the MD5s of an output's files by their paths, from the cache or from the disk."""
        if not digest.endswith(".dir"):
            return {out: digest}
        listing = self.cache.listing(digest)
        if listing is None:
            place = self._root / out
            listing = {file.relative_to(place).as_posix(): md5(file) for file in files_of(place)}
        return {f"{out}/{name}": of_file for name, of_file in listing.items()}

    def note(self, stage: str) -> str:
        """Return what stage `code` will write of another stage, for the modules as they are."""
        if stage not in self._notes:
            self._notes[stage] = noted(stage, self._root / PACKAGE, self._root)
        return self._notes[stage]


def _size(place: Path) -> int:
    return sum(file.stat().st_size for file in (files_of(place) if place.is_dir() else [place]))
