"""What artifacts say of themselves, held against the files that are there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from distilled_circuits.artifacts import digest, read_plain_json, read_provenance
from distilled_circuits.errors import UserError


def audit_artifacts(paths: Sequence[Path], say: Callable[[str], None]) -> int:
    """Say each artifact's provenance and whether its inputs are those it was made from; 1 when anything differs.

    A model directory's files are held against the digests in its model.json; any other folder stands for all artifacts
    below it.
    """
    status = 0
    for path in _artifacts(paths):
        provenance = read_provenance(path)
        say(f"{path}: {provenance['schema']}, made by {provenance['stage']}")
        for key in ("params", "seeds", "models", "libraries"):
            say(f"  {key}: {json.dumps(provenance[key], ensure_ascii=False)}")
        say(f"  computed on {provenance['device']} in {provenance['dtype']}")
        recorded = {("input", name): value for name, value in provenance["inputs"].items()}
        if path.is_dir():
            files = read_plain_json(path / "model.json")["files"]
            recorded |= {("file", str(path / name)): value for name, value in files.items()}
        for (kind, name), value in recorded.items():
            verdict = _verdict(Path(name), value)
            status |= verdict != "as recorded"
            say(f"  {kind} {name}: {verdict}")
    return status


def _artifacts(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir() or (path / "model.json").exists():
            yield path.parent if path.name == "model.json" else path
            continue
        found = [file for file in sorted(path.rglob("*")) if file.suffix == ".h5" or file.name == "model.json"]
        found += [
            file
            for file in sorted(path.rglob("*.json"))
            if not (file.parent / "model.json").exists() and file.name != "model.json"
        ]
        if not found:
            raise UserError(f"{path}: no artifacts in this folder; `snakemake` makes them")
        yield from (file.parent if file.name == "model.json" else file for file in found)


def _verdict(path: Path, recorded: str) -> str:
    if not path.exists():
        return "missing"
    found = digest(path)
    return "as recorded" if found == recorded else f"DIFFERS: recorded {recorded[:12]}, found {found[:12]}"
