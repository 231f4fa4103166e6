"""What dvc.lock records of files, and whether they still are as recorded: plain YAML and MD5, without starting DVC."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from distilled_circuits.yaml_files import parse_yaml

LOCK = "dvc.lock"
LARGE = 2**30
"""Bytes from which on a file is not read to see whether it changed: DVC remembers digests by time and size."""
ENTRY = r"^(?=  \S)"
"""Where the entry of a stage begins in a dvc.lock's text."""


def read_lock(root: Path = Path()) -> str:
    """Return the text of a project's dvc.lock, bytes that are no text replaced; nothing where it is not there."""
    lock = root / LOCK
    return lock.read_text(encoding="utf-8", errors="replace") if lock.exists() else ""


def lock_stages(text: str) -> dict[str, Any]:
    """Return what a dvc.lock's text has of each stage; nothing for one that is empty, cut short or no lock file."""
    try:
        content = parse_yaml(text)
    except yaml.YAMLError:
        return {}
    stages = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(stages, dict):
        return {}
    return {str(name): entry for name, entry in stages.items() if isinstance(entry, dict)}


def entry_of(text: str, stage: str) -> dict[str, Any] | None:
    """Return what a dvc.lock's text has of one stage, without reading the rest of it."""
    _, *entries = re.split(ENTRY, text, flags=re.MULTILINE)
    own = next((entry for entry in entries if entry.startswith(f"  {stage}:")), "")
    return lock_stages(f"stages:\n{own}").get(stage)


def recorded_outputs(text: str) -> dict[str, str]:
    """Return the MD5 of every output that a dvc.lock's text records, by path; empty where it has none."""
    outputs = (stage.get("outs") for stage in lock_stages(text).values())
    entries = [entry for listed in outputs if isinstance(listed, list) for entry in listed if isinstance(entry, dict)]
    found = ((entry.get("path"), entry.get("md5")) for entry in entries)
    return {path: md5 for path, md5 in found if isinstance(path, str) and isinstance(md5, str)}


def problem_of(text: str) -> str | None:
    """Return why DVC could not read a dvc.lock's text: `conflict` of a merge, or `cut short` by a killed run."""
    if re.search(r"^(<<<<<<<|=======|>>>>>>>)", text, flags=re.MULTILINE):
        return "conflict"
    try:
        content = parse_yaml(text)
    except yaml.YAMLError:
        content = None
    entries = content.get("stages") if isinstance(content, dict) and "schema" in content else None
    is_whole = isinstance(entries, dict) and text.endswith("\n") and all(map(_is_whole, entries.values()))
    return None if is_whole else "cut short"


def whole_entries(text: str) -> str:
    """Return what is whole of a dvc.lock's text that was cut short: all but its last entry; nothing if that is all."""
    head, *entries = re.split(ENTRY, text, flags=re.MULTILINE)
    return head + "".join(entries[:-1]) if entries[1:] else ""


def mended(text: str) -> str:
    """Return a dvc.lock's text as a run leaves it before its first job: without an entry that was cut short."""
    return whole_entries(text) if problem_of(text) == "cut short" else text


def without(text: str, stage: str) -> str:
    """Return a dvc.lock's text without the entry of a stage; nothing if that was all."""
    head, *entries = re.split(ENTRY, text, flags=re.MULTILINE)
    kept = [entry for entry in entries if not entry.startswith(f"  {stage}:")]
    return head + "".join(kept) if kept else ""


def _is_whole(entry: Any) -> bool:
    if not isinstance(entry, dict) or "cmd" not in entry:
        return False
    return all(isinstance(entry.get(part, []), list) for part in ("deps", "outs"))


def sorted_lock(text: str) -> str:
    """Return dvc.lock's text with its stages in the order of their names, every entry as DVC wrote it.

    DVC appends entries as stages finish, so parallel runs of one pipeline would differ in nothing but their order.
    """
    head, *entries = re.split(ENTRY, text, flags=re.MULTILINE)
    return head + "".join(sorted(entries))


def files_of(folder: Path) -> list[Path]:
    """Return the files below a folder that count, which are those that .dvcignore leaves."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if ".tmp-" not in path.name and "__pycache__" not in path.parts]


def md5(path: Path) -> str:
    """Return the MD5 of a file, or of a folder as DVC has it: of the list of its files, with `.dir` behind."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    return folder_md5({file.relative_to(path).as_posix(): md5(file) for file in files_of(path)})


def folder_md5(files: Mapping[str, str]) -> str:
    """Return the MD5 of a folder whose files, by path below it, have these MD5s."""
    listing = [{"md5": files[path], "relpath": path} for path in sorted(files)]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def is_readable(path: Path) -> bool:
    """Whether an output is there and small enough to be read to see whether it changed."""
    files = files_of(path) if path.is_dir() else [path] if path.exists() else []
    return bool(files) and all(file.stat().st_size < LARGE for file in files)


def first_difference(paths: Sequence[str], root: Path = Path()) -> str | None:
    """Return why DVC has to look at outputs, or None if each is there and as `root`'s dvc.lock records it."""
    recorded = recorded_outputs(read_lock(root))
    for path in paths:
        place = root / path
        if path not in recorded:
            return f"{path}: dvc.lock has no record of it"
        if not place.exists():
            return f"{path}: not there"
        if not is_readable(place):
            return f"{path}: too large to be read for this"
        if md5(place) != recorded[path]:
            return f"{path}: not what dvc.lock records"
    return None
