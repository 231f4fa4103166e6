"""Where a pair's model comes from that somebody else has trained: the hub or a directory, its cost, its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilled_circuits.artifacts import check_space, digest
from distilled_circuits.errors import UserError
from distilled_circuits.models.checkpoint_files import weight_files
from distilled_circuits.models.hub import Cost, fetch, hub_cost, labelled, local_cost
from distilled_circuits.param_models import Hub


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine: its folder, what it costs, `hub` or `local`, and what names it for good."""

    folder: Path
    cost: Cost
    origin: str
    source: dict[str, str]


def source_cost(source: Any) -> tuple[str, Cost]:
    """Return the name and the cost of a `models.*` section that names a checkpoint; nothing is fetched."""
    if isinstance(source, Hub):
        return labelled(source.hub, source.revision), hub_cost(source.hub, source.revision, source.dtype)
    return source.local, local_cost(_folder(source), source.dtype)


def find_checkpoint(source: Any, label: str, target: Path, say: Callable[[str], None]) -> Checkpoint:
    """Return the checkpoint of a `models.*` section, fetched where it is on the hub, after saying what that costs.

    `target` is the folder that it will be written into: too little room there is said before anything is fetched.
    Raises UserError for all that can be wrong with it, a digest that is not the one in params.yaml included.
    """
    name, cost = source_cost(source)
    say(f"{label}: {cost.describe(name)}")
    check_space(target, cost.written, f"{label}: the model directory", say)
    if isinstance(source, Hub):
        snapshot = fetch(source.hub, source.revision)
        return Checkpoint(snapshot.folder, cost, "hub", {"hub": source.hub, "revision": snapshot.revision})
    folder = _folder(source)
    found = weights_digest(folder)
    if source.sha256 is None:
        say(f"{label}: no sha256 in params.yaml, so a change of {folder} will not be noticed; it is {found}")
    elif found != source.sha256:
        raise UserError(
            f"{folder}: the weights have the SHA-256 {found}, but params.yaml says {source.sha256}: they are others "
            "than those that were meant; put this one there to use them"
        )
    return Checkpoint(folder, cost, "local", {"local": source.local, "sha256": found})


def _folder(source: Any) -> Path:
    try:
        return Path(source.local).expanduser()
    except RuntimeError:
        raise UserError(f"{source.local}: no such user: mend `local` in params.yaml") from None


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 of a directory's weights; of several files that of their digests, one a line in order."""
    names = sorted(weight_files([path.name for path in folder.iterdir()]))
    digests = [digest(folder / name) for name in names]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(f"{each}\n" for each in digests).encode()).hexdigest()
