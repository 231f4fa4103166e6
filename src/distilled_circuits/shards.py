"""Shards of a stage's work: computed by jobs of their own, kept below .snakemake/, gathered to the bytes of one job.

How many shards there are is a matter of how the graph is run: it stands in no parameter, no artifact and not in
dvc.lock. A stage's job takes shards only if all are there and say that they are made of exactly what it would itself
be made of; otherwise it computes everything.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from distilled_circuits.artifacts import Provenance, digest, replacing, to_json, write_text
from distilled_circuits.errors import UserError
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.shares import Share

PLACE = Path(".snakemake/shards")
DESCRIPTION = "shard.json"
"""Written last: what the shard is made of and its files' digests. Empty where there was nothing to do."""


class Split(Protocol):
    """The module of a stage that can be split: everything about its pieces but where they are kept."""

    SHARE: str

    def run(self, job: Job) -> None:
        """Compute everything and write the artifact."""

    def provenance(self, job: Job) -> Provenance:
        """Return what the artifact is to say of itself."""

    def compute(self, job: Job, share: Share) -> Any:
        """Return a share's piece of the work."""

    def save(self, piece: Any, description: Provenance, folder: Path) -> None:
        """Write a piece to a folder."""

    def load(self, folder: Path) -> Any:
        """Return a piece from its folder."""

    def gather(self, job: Job, pieces: Sequence[Any]) -> None:
        """Write the artifact of all pieces."""


def run_shard(stage: Split, job: Job, written: str, code: str | None) -> None:
    """Compute the shard `K/N` and leave it for the stage's job; raise UserError where it is written otherwise.

    `code` is the digest of the list of modules that the stage is made of.
    """
    number, of = _parsed(written)
    folder = _folder(job.name, number, of)
    description = _description(stage, job, code)
    piece = stage.compute(job, Share(number, of, agreed_in=folder.parent))
    with replacing(folder) as beside:
        beside.mkdir()
        stage.save(piece, replace(stage.provenance(job), schema=stage.SHARE), beside)
        files = {
            path.relative_to(beside).as_posix(): digest(path) for path in sorted(beside.rglob("*")) if path.is_file()
        }
        write_text(beside / DESCRIPTION, to_json({**description, "share": [number, of], "files": files}))


def run_whole(stage: Split, job: Job, code: str | None) -> None:
    """Write a stage's artifact: of its shards, where all are there and fit, which are then deleted."""
    place = PLACE / job.name
    pieces = _pieces(stage, job, code, place) if place.exists() else None
    if pieces:
        stage.gather(job, pieces)
    else:
        stage.run(job)
    shutil.rmtree(place, ignore_errors=True)


def _pieces(stage: Split, job: Job, code: str | None, place: Path) -> list[Any] | None:
    """Return the pieces of a whole set of shards, or None with a line that says why there is none."""
    found = (re.fullmatch(r"\d+-of-(\d+)", path.name) for path in place.iterdir())
    numbers = sorted({int(name[1]) for name in found if name})
    reasons = []
    for of in numbers:
        description = _description(stage, job, code)
        folders = [_folder(job.name, number, of) for number in range(1, of + 1)]
        wrong = [_wrong(folder, {**description, "share": [n, of]}) for n, folder in enumerate(folders, 1)]
        reason = next(filter(None, wrong), None)
        if reason is None:
            try:
                return [stage.load(folder) for folder in folders]
            except UserError as error:
                reason = str(error)
        reasons.append(reason)
    if reasons:
        sys.stderr.write(f"{job.name}: shards are not used, everything is computed here: {'; '.join(reasons)}\n")
    return None


def _wrong(folder: Path, wanted: dict[str, Any]) -> str | None:
    """Return why a shard cannot be used, None where it can."""
    described = folder / DESCRIPTION
    name = f"shard {folder.name.replace('-of-', '/')}"
    if not described.exists():
        return f"{name} is not there"
    if not described.stat().st_size:
        return f"{name} had nothing to do"
    try:
        content = json.loads(described.read_text(encoding="utf-8"))
        files = content.pop("files")
        different = [key for key in wanted if content[key] != wanted[key]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{name} is damaged ({DESCRIPTION})"
    if different:
        return f"{name} is of other {', '.join(different)}"
    damaged = [path for path, known in files.items() if not (folder / path).exists() or digest(folder / path) != known]
    return f"{name} is damaged ({', '.join(damaged)})" if damaged else None


def _description(stage: Split, job: Job, code: str | None) -> dict[str, Any]:
    """Return what decides a stage's bytes, as JSON has it."""
    return json.loads(to_json({**asdict(stage.provenance(job)), "code": code}))


def _folder(name: str, number: int, of: int) -> Path:
    return PLACE / name / f"{number}-of-{of}"


def _parsed(written: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", written)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"shard={written}: expected K/N with K from 1 to N, for example shard=1/4")
    return int(found[1]), int(found[2])
