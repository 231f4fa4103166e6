"""dvc.lock as plain YAML: what it records of each stage, read without DVC and without trusting its form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from distilled_circuits.audit.findings import Finding, shown
from distilled_circuits.lockfile import LOCK
from distilled_circuits.yaml_files import parse_yaml

FROM_HISTORY = "take dvc.lock from git's history (`git log -p dvc.lock`), or run `snakemake`"


class File(BaseModel, strict=True, frozen=True):
    """What is recorded of a file or folder; `nfiles` is None for a file."""

    path: str
    md5: str
    size: int
    nfiles: int | None = None


class Entry(BaseModel, strict=True, frozen=True):
    """What is recorded of one stage for one item."""

    cmd: str
    deps: list[File] = []
    params: dict[str, dict[str, Any]] = {}
    outs: list[File] = []

    @property
    def values(self) -> dict[str, Any]:
        """Parameters by dotted name, as they stood in params.yaml."""
        return self.params.get("params.yaml", {})

    @property
    def inputs(self) -> dict[str, File]:
        """Inputs by path."""
        return {file.path: file for file in self.deps}

    @property
    def outputs(self) -> dict[str, File]:
        """Outputs by path."""
        return {file.path: file for file in self.outs}


@dataclass(frozen=True)
class Record:
    """All entries of dvc.lock by stage, and what is wrong with its form."""

    entries: Mapping[str, Entry]
    findings: tuple[Finding, ...]

    @property
    def outputs(self) -> dict[str, File]:
        """Everything that is recorded as made, by path."""
        return {path: file for entry in self.entries.values() for path, file in entry.outputs.items()}


def read_record(text: str) -> Record:
    """Return what a dvc.lock's text records; entries of another form are findings and left out."""
    entries, findings = {}, []
    for name, content in _stages(text, findings).items():
        try:
            entries[str(name)] = Entry.model_validate(content)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in (name, *problem["loc"]))
            findings.append(_malformed(place, "an entry as DVC writes it", problem["msg"]))
    return Record(entries, tuple(findings))


def _stages(text: str, findings: list[Finding]) -> dict[Any, Any]:
    try:
        content = parse_yaml(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        findings.append(_malformed("stages", "YAML", error))
        return {}
    stages = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(stages, dict):
        findings.append(_malformed("stages", "an entry for each stage", type(stages).__name__))
        return {}
    return stages


def _malformed(place: str, expected: str, found: object) -> Finding:
    return Finding(LOCK, "bytes", place, expected, shown(found), FROM_HISTORY)
