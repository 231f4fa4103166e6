"""The check of code: the modules of each stage, as noted in results/code/, against those that are there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from distilled_circuits.audit.findings import Finding, shown
from distilled_circuits.audit.project import Project
from distilled_circuits.graph import CODE, PACKAGE, Instance
from distilled_circuits.imports import code_of

CHECK = "code"
RERUN = "run `snakemake`, or take the module from the commit that made the results"


@dataclass(frozen=True)
class Revision:
    """The git commit that is checked out, and whether the package differs from it."""

    commit: str
    edited: bool

    def __str__(self) -> str:
        """Return it for a line of text."""
        return f"{self.commit[:12]}{', src edited since' if self.edited else ''}"


def check_code(project: Project, item: Instance) -> Iterator[Finding]:
    """Hold the list of a stage's modules against dvc.lock, and stage `code`'s lists against the modules."""
    noted = f"{CODE}/{item.name.partition('@')[0]}.json"
    recorded = project.entry(item).inputs.get(noted)
    if recorded is not None and Path(noted).exists():
        now = project.digests.md5(Path(noted))
        if now != recorded.md5:
            remedy = "run `snakemake`: the stage was recorded with other modules than are noted now"
            yield Finding(item.outputs[0], CHECK, noted, f"{recorded.md5} (dvc.lock)", now, remedy)
    if item.name == "code":
        for path in item.outputs:
            yield from modules(project, path)


def modules(project: Project, noted: str) -> Iterator[Finding]:
    """Require that all modules of one stage are noted, with the SHA-256 that they have."""
    said = project.provenance(noted)
    listed = said.get("inputs") if said else None
    if said is None or not isinstance(listed, Mapping):
        return
    needed = {path.as_posix() for path in code_of(Path(noted).stem, PACKAGE)}
    for module in sorted(needed ^ set(listed)):
        expected, found = ("noted", "not noted") if module in needed else ("not noted", "noted")
        yield Finding(noted, CHECK, shown(module), expected, found, RERUN)
    for module in sorted(needed & set(listed)):
        now = project.digests.sha256(Path(module))
        if now != listed[module]:
            yield Finding(noted, CHECK, module, f"SHA-256 {shown(listed[module])} (as run)", now, RERUN)


def revision() -> Revision | None:
    """Return the git commit of the working directory; None without git, or outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD").strip()
        return Revision(commit, bool(_git("status", "--porcelain", "--", "src").strip()))
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", *arguments]  # as the user's own shell finds it
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)  # noqa: S603
    return done.stdout
