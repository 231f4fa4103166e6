"""The check of bytes: outputs against dvc.lock, and files that no stage makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from distilled_circuits.audit.findings import Finding
from distilled_circuits.audit.project import Project
from distilled_circuits.audit.record import FROM_HISTORY, File
from distilled_circuits.graph import Instance
from distilled_circuits.lockfile import LOCK, files_of

CHECK = "bytes"
TRACKED = ("README.md", ".gitignore")
"""What git keeps below results/, beside what stages make."""


def check_bytes(project: Project, item: Instance) -> Iterator[Finding]:
    """Hold a stage's outputs against its entry in dvc.lock."""
    entry = project.entry(item)
    if item.name not in project.record.entries:
        yield Finding(LOCK, CHECK, item.name, "an entry", "none", FROM_HISTORY)
    elif entry.cmd != item.command:
        yield Finding(LOCK, CHECK, f"{item.name}.cmd", item.command, entry.cmd, FROM_HISTORY)
    for path in item.outputs:
        recorded = entry.outputs.get(path)
        if recorded is None and item.name in project.record.entries:
            yield Finding(path, CHECK, LOCK, "a record of it", "none", FROM_HISTORY)
        if not Path(path).exists():
            yield Finding(path, CHECK, "file", "one", "nothing", _restore(path))
        elif recorded is not None:
            yield from _compare(project, path, recorded)
    for path in sorted(set(entry.outputs) - set(item.outputs)):
        yield Finding(LOCK, CHECK, f"{item.name}.outs", "what dvc.yaml declares", path, FROM_HISTORY)


def _compare(project: Project, path: str, recorded: File) -> Iterator[Finding]:
    md5 = project.digests.md5(Path(path))
    if md5 != recorded.md5:
        yield Finding(path, CHECK, "md5", f"{recorded.md5} (dvc.lock)", md5, _restore(path))
    elif (size := project.digests.size(Path(path))) != (recorded.size, recorded.nfiles):
        expected = f"{_counted(*size)}, as the file of this MD5 has"
        yield Finding(LOCK, CHECK, f"{path}, size", expected, _counted(recorded.size, recorded.nfiles), FROM_HISTORY)


def unmade(project: Project, folder: Path) -> Iterator[Finding]:
    """Name files below a folder of results that no stage makes: left over, or put there."""
    known = project.graph.outputs.keys() | project.record.outputs.keys()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name in TRACKED or _is_known(path, known):
            continue
        yield Finding(
            str(path), CHECK, "file", "one that a stage makes", "one that none makes", "look at it, delete it"
        )


def _is_known(path: Path, known: Sequence[str]) -> bool:
    """Return whether a file is an output or part of one (what DVC leaves out of a folder is not)."""
    if str(path) in known:
        return True
    return any(str(parent) in known and path in files_of(parent) for parent in path.parents)


def _counted(size: int, number: int | None) -> str:
    return f"{size} bytes" if number is None else f"{size} bytes in {number} files"


def _restore(path: str) -> str:
    return (
        f"`dvc checkout --force {path}` brings the recorded bytes back; without a cache, delete it and run `snakemake`"
    )
