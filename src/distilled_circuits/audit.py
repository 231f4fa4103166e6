"""What an artifact says of itself, held against the files that are there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from distilled_circuits.artifacts import digest, read_provenance


def audit_artifacts(paths: Sequence[Path], say: Callable[[str], None]) -> int:
    """Say each artifact's provenance and whether its inputs are those it was made from; 1 when any is not."""
    status = 0
    for path in paths:
        provenance = read_provenance(path)
        say(f"{path}: {provenance['schema']}, made by {provenance['stage']}")
        for key in ("params", "seeds", "models", "libraries"):
            say(f"  {key}: {json.dumps(provenance[key], ensure_ascii=False)}")
        say(f"  computed on {provenance['device']} in {provenance['dtype']}")
        for name, recorded in provenance["inputs"].items():
            verdict = _verdict(Path(name), recorded)
            status |= verdict != "as recorded"
            say(f"  input {name}: {verdict}")
    return status


def _verdict(path: Path, recorded: str) -> str:
    if not path.exists():
        return "missing"
    found = digest(path)
    return "as recorded" if found == recorded else f"DIFFERS: recorded {recorded[:12]}, found {found[:12]}"
