"""An audit from beginning to end: which artifacts, all checks in the order of the graph, and what is said."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distilled_circuits.audit.code import Revision, check_code, revision
from distilled_circuits.audit.digests import Digests
from distilled_circuits.audit.expect import finite
from distilled_circuits.audit.findings import CHECKS, DAMAGED, Finding, Wrong, as_wrong, damage, shown
from distilled_circuits.audit.inputs import check_inputs
from distilled_circuits.audit.outputs import check_bytes, unmade
from distilled_circuits.audit.parameters import check_parameters
from distilled_circuits.audit.place import Place
from distilled_circuits.audit.project import Project, says_what_it_is
from distilled_circuits.audit.schemas import SCHEMAS, schema_fits
from distilled_circuits.audit.store import Store
from distilled_circuits.errors import UserError
from distilled_circuits.graph import CODE, PACKAGE, Instance
from distilled_circuits.lockfile import LOCK
from distilled_circuits.progress import track

RESULTS = Path("results")
STAGE_CHECKS = (check_bytes, check_parameters, check_inputs, check_code)


@dataclass(frozen=True)
class Audited:
    """An artifact that was looked at, with its stage, its schema (None for tables and the page) and its digests."""

    path: str
    stage: str
    schema: str | None
    md5: str | None
    sha256: str | None


@dataclass(frozen=True)
class Audit:
    """All that an audit found: findings with the first cause first, what was audited, and the commit."""

    findings: tuple[Finding, ...]
    artifacts: tuple[Audited, ...]
    revision: Revision | None

    @property
    def counts(self) -> dict[str, int]:
        """Mismatches by check."""
        return {check: sum(finding.check == check for finding in self.findings) for check in CHECKS}


def run_audit(paths: Sequence[Path], say: Callable[[str], None], *, as_json: bool = False) -> int:
    """Audit artifacts (all by default) and say what was found; return 1 where anything is wrong, else 0.

    Raises UserError for a path that does not exist.
    """
    start = time.monotonic()
    with Digests() as digests, Store() as store:
        project = Project.here(digests, store)
        wanted = chosen(project, paths)
        digests.read_ahead(Path(path) for path in wanted)
        folders = [_relative(path) for path in paths if path.is_dir()] if paths else [RESULTS]
        found = audit(project, wanted, folders)
        if as_json:
            say(as_text_of_json(found))
        else:
            for path in wanted if len(wanted) <= len(paths) else []:  # of all below a folder nobody reads it
                say_provenance(project, path, say)
            for finding in found.findings:
                say(str(finding))
            say(summary(found, time.monotonic() - start))
    return int(bool(found.findings))


def audit(project: Project, wanted: Sequence[str], folders: Sequence[Path]) -> Audit:
    """Run all checks on outputs of stages, in the order of the graph, and look for files that no stage makes."""
    makers = dict.fromkeys(project.makers[path].name for path in wanted)
    items = {item.name: item for item in project.graph.items if item.name in makers}
    found = list(project.record.findings)
    for folder in folders:  # first, because they change the digest of the folder that they are in
        found += unmade(project, folder)
    with track(len(wanted), "audited") as progress:
        for item in items.values():
            found += [finding for finding in of_stage(project, item) if finding.artifact in (*wanted, LOCK)]
            own = [path for path in item.outputs if path in wanted]
            for path in own:
                found += check_invariants(project, item, path)
            progress.advance(len(own))
    audited = tuple(audited_artifact(project, path) for path in wanted)
    return Audit(tuple(dict.fromkeys(found)), audited, revision())


def of_stage(project: Project, item: Instance) -> Iterator[Finding]:
    """Run the checks that need no schema on one stage's artifacts."""
    for check in STAGE_CHECKS:
        name = check.__name__.removeprefix("check_")
        try:
            yield from check(project, item)
        except DAMAGED as error:
            remedy = f"delete it and run `snakemake`; {LOCK} may be damaged too"
            yield Finding(item.outputs[0], name, "content", "what the stage writes", damage(error), remedy)


def check_invariants(project: Project, item: Instance, path: str) -> Iterator[Finding]:
    """Hold an artifact's content against its schema."""
    if not says_what_it_is(path) or not Path(path).exists():
        return
    wrong: list[Wrong] = []
    with as_wrong("content", "what its schema has", wrong):
        schema = project.store.provenance(Path(path))["schema"]
        if not schema_fits(schema, Path(path)):
            wrong.append(Wrong("schema", "that of such a file", shown(schema)))
        else:
            if Path(path).suffix != ".h5":
                wrong += finite(project.store.json(Path(path)))
            stems = {Path(part).stem: Path(part) for part in item.inputs if not _is_code(part)}
            wrong += SCHEMAS[schema].invariants(Place(Path(path), project.store, stems, item.item))
    remedy = f"delete {path} and run `snakemake`"
    yield from (Finding(path, "invariants", each.place, each.expected, each.found, remedy) for each in wrong)


def chosen(project: Project, paths: Sequence[Path]) -> list[str]:
    """Return the outputs that paths stand for, in the order of the graph; all without any.

    A folder stands for everything below it, a file of a model directory for the directory. Raises UserError for a path
    that does not exist, or that no stage has made.
    """
    if not paths:
        if not project.record.entries and not project.record.findings:
            raise UserError(
                f"{LOCK}: records nothing yet; `snakemake` runs the pipeline, PATHS audits single artifacts"
            )
        return list(project.makers)
    wanted: set[str] = set()
    for path in paths:
        name = _relative(path).as_posix()
        found = {
            out for out in project.makers if out == name or out.startswith(f"{name}/") or name.startswith(f"{out}/")
        }
        if not found and not path.exists():
            raise UserError(f"{path}: no such file, and no stage makes it")
        if not found:
            raise UserError(f"{path}: no artifact of a stage that params.yaml runs now, and no folder of any")
        wanted |= found
    return [out for out in project.makers if out in wanted]


def audited_artifact(project: Project, path: str) -> Audited:
    """Return what is said of an artifact in JSON."""
    place, said = Path(path), project.provenance(path)
    there = place.exists()
    return Audited(
        path=path,
        stage=project.makers[path].name,
        schema=said["schema"] if said else None,
        md5=project.digests.md5(place) if there else None,
        sha256=project.digests.sha256(place) if there else None,
    )


def say_provenance(project: Project, path: str, say: Callable[[str], None]) -> None:
    """Say what an artifact says of itself, for a person to read."""
    said = project.provenance(path)
    if said is None:
        say(f"{path}: says nothing of itself; made by {project.makers[path].name}")
        return
    say(f"{path}: {shown(said['schema'])}, made by {shown(said.get('stage'))}")
    for key in ("params", "seeds", "models", "libraries"):
        say(f"  {key}: {json.dumps(said.get(key), ensure_ascii=False)}")
    say(f"  computed on {shown(said.get('device'))} in {shown(said.get('dtype'))}")


def summary(found: Audit, seconds: float) -> str:
    """Return the last line: how much was audited, mismatches by check, the commit, and the time it took."""
    counts = ", ".join(f"{check} {count}" for check, count in found.counts.items())
    commit = f"commit {found.revision}" if found.revision else "no git commit"
    stages = len({artifact.stage for artifact in found.artifacts})
    audited = f"{_number(len(found.artifacts), 'artifact')} of {_number(stages, 'stage')}"
    return f"{audited}, mismatches: {counts}; {commit}; {seconds:.1f} s"


def as_text_of_json(found: Audit) -> str:
    """Return findings, counts and artifacts as JSON; the same files give the same bytes."""
    content: dict[str, Any] = {
        "clean": not found.findings,
        "commit": asdict(found.revision) if found.revision else None,
        "mismatches": found.counts,
        "findings": [asdict(finding) for finding in found.findings],
        "artifacts": [asdict(artifact) for artifact in found.artifacts],
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _relative(path: Path) -> Path:
    """Return a path as the graph has it: from the project's folder, which is the working directory."""
    return Path(os.path.relpath(path))


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _is_code(path: str) -> bool:
    return path == str(PACKAGE) or path.startswith((f"{CODE}/", f"{PACKAGE}/"))
