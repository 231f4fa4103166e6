"""Sides of a comparison from what is there: git for revisions, DVC's cache for their artifacts, the working tree."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from distilled_circuits.diff.differences import Side
from distilled_circuits.diff.stored import read_artifacts
from distilled_circuits.dvc_cache import cache_of
from distilled_circuits.errors import UserError
from distilled_circuits.lockfile import LARGE, LOCK, files_of, lock_stages, md5
from distilled_circuits.yaml_files import parse_yaml

SOURCES = ("src", "data", "dvc.yaml")
"""What results are made of besides params.yaml, as git has it."""


@dataclass(frozen=True)
class Recorded:
    """What a dvc.lock says of stages' outputs: MD5 and stage by path."""

    md5: Mapping[str, str]
    stage: Mapping[str, str]


def side_at(revision: str, root: Path = Path()) -> Side:
    """Return a revision as far as its artifacts are in DVC's cache, or still in the working tree.

    Raises UserError where git, the revision, or its params.yaml or dvc.lock is missing.
    """
    commit = commit_of(revision, root)
    lock, params = (_shown(commit, revision, name, root) for name in (LOCK, "params.yaml"))
    recorded = _recorded(lock, revision)
    cache = cache_of(root)

    def find(path: str) -> Path | None:
        wanted = recorded.md5[path]
        cached = cache.place(wanted)
        if cached.is_file():
            return cached
        here = root / path
        return here if here.is_file() and md5(here) == wanted else None

    title = _git(root, "show", "--no-patch", "--format=%h %s", commit).stdout.strip()
    title = title if title.startswith(revision) else f"{revision} ({title})"
    advice = "`dvc fetch --all-commits {}` brings what was pushed to a remote"
    return _side(revision, title, (params, recorded), find, advice)


def side_here(root: Path = Path()) -> Side:
    """Return the working tree: files as they are, whatever dvc.lock says of them, which is noted where they differ."""
    texts = {}
    for name in (LOCK, "params.yaml"):
        try:
            texts[name] = (root / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise UserError(f"{name}: not there or not readable; `snakemake` makes what is to be compared") from None
    recorded = _recorded(texts[LOCK], "the working tree")
    found = {path: _md5_here(root / path, digest) for path, digest in recorded.md5.items()}
    there = {path: digest for path, digest in found.items() if digest}
    changed = [path for path, digest in there.items() if digest != recorded.md5[path]]
    notes = (f"the working tree: {_list(changed)} not as dvc.lock records, compared as they are",) if changed else ()
    side = _side(
        "the working tree",
        "the working tree",
        (texts["params.yaml"], Recorded(there, {path: recorded.stage[path] for path in there})),
        lambda path: root / path,
    )
    gone = [path for path in recorded.md5 if path not in there]
    if gone:
        notes += (f"the working tree: {_list(gone)} not there; `dvc checkout` or `snakemake` restores it",)
    return replace(side, notes=(*notes, *side.notes))


def sources_changed(old: str, new: str | None, root: Path = Path()) -> tuple[str, ...]:
    """Return the files of code and data that differ between two revisions, or one and the working tree (None)."""
    commits = [commit_of(revision, root) for revision in (old, new) if revision is not None]
    found = _git(root, "diff", "--name-only", "--relative", *commits, "--", *SOURCES).stdout.splitlines()
    if new is None:
        found += _git(root, "ls-files", "--others", "--exclude-standard", "--", *SOURCES).stdout.splitlines()
    return tuple(found)


def commit_of(revision: str, root: Path = Path()) -> str:
    """Return a revision's commit; raise UserError where there is no git, no repository or no such revision."""
    if _git(root, "rev-parse", "--is-inside-work-tree").returncode:
        raise UserError("this folder is in no git repository: revisions are git's, so start in a clone of the project")
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode:
        raise UserError(f"{revision}: no such revision; `git log --oneline` lists them")
    return found.stdout.strip()


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-c", "core.quotePath=false", *arguments]
    try:
        return subprocess.run(  # noqa: S603 - no shell, and a revision is verified to be one
            command, cwd=root, capture_output=True, check=False, encoding="utf-8", errors="replace"
        )
    except FileNotFoundError:
        raise UserError("git is not installed, and revisions are git's") from None


def _shown(commit: str, revision: str, name: str, root: Path) -> str:
    found = _git(root, "show", f"{commit}:./{name}")
    if found.returncode:
        raise UserError(f"{revision}: has no {name}, so no run is recorded there; choose another revision")
    return found.stdout


def _recorded(lock: str, where: str) -> Recorded:
    digests, stages = {}, {}
    for stage, entry in lock_stages(lock).items():
        for out in entry.get("outs") or [] if isinstance(entry, dict) else []:
            path, digest = (str(out.get(key)) if isinstance(out, dict) else "" for key in ("path", "md5"))
            if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", digest):  # part of a path in the cache
                digests[path] = digest
                stages[path] = str(stage).partition("@")[0]
    if not digests:
        raise UserError(f"{where}: its dvc.lock is empty or damaged; choose another revision, or run `snakemake`")
    return Recorded(digests, stages)


def _md5_here(path: Path, recorded: str) -> str | None:
    """Return the MD5 of an output, the recorded one for what is too large to be read for this, or None."""
    if not path.exists():
        return None
    files = files_of(path) if path.is_dir() else [path]
    return recorded if any(file.stat().st_size >= LARGE for file in files) else md5(path)


def _side(
    name: str,
    title: str,
    run: tuple[str, Recorded],
    find: Callable[[str], Path | None],
    advice: str = "",
) -> Side:
    text, recorded = run
    try:
        params = parse_yaml(text)
    except yaml.YAMLError:
        params = None
    if not isinstance(params, dict):
        raise UserError(f"{name}: its params.yaml is not readable as YAML")
    found = read_artifacts(recorded.md5, lambda path: find(path) if path in recorded.md5 else None)
    notes = [f"{name}: {path} not read: {reason}" for path, reason in found.unread.items()]
    if found.missing:
        fetch = advice.format(" ".join(found.missing[:3]) + (" ..." if len(found.missing) > 3 else ""))
        notes.insert(0, f"{name}: {_list(found.missing)} not at hand; {fetch}")
    return Side(
        name=name,
        title=title,
        params=params,
        outputs=recorded.md5,
        made_by=recorded.stage,
        numbers=found.numbers,
        verdicts=found.verdicts,
        circuits=found.circuits,
        figures=found.figures,
        libraries=found.libraries,
        notes=tuple(notes),
    )


def _list(paths: Iterable[str], shown: int = 3) -> str:
    names = list(paths)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more + (" are" if len(names) > 1 else " is")
