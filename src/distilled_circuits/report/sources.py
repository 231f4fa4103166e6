"""Where every part of the page comes from: its artifacts, their digests, and the command that remakes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from distilled_circuits.artifacts import digest, read_provenance

COMPARISON = "comparison"
"""Stands for the artifact of that stage, whatever its path; tables and some figures take their numbers from it."""
TASK = {
    "histograms": "influence.h5",
    "grid": "influence.h5 circuit.json",
    "robustness": "comparison influence.h5",
    "circuit": "comparison circuit.json evaluation.h5",
    "drawing": "circuit.json edges.h5",
    "edges": "comparison edges.h5",
    "minimality": "comparison circuit.json evaluation.h5",
    "sizes": "comparison circuit.json evaluation.h5",
    "thresholds": "comparison circuit.json evaluation.h5",
    "stability": "comparison stability.json",
    "roles": "comparison roles_played.json",
    "role_scores": "heads.h5 roles_played.json",
    "attention": "heads.h5 roles_played.json prompts.json",
    "blocks": "comparison roles.h5 prompts.json",
    "heads": "comparison roles.h5",
    "blocks_within_layer": "comparison roles.h5 prompts.json",
    "heads_within_layer": "comparison roles.h5",
    "patching": "comparison roles.h5",
    "output_scores": "comparison roles.h5",
    "probes": "comparison roles.h5",
    "shift": "comparison shift.h5 circuit.json",
    "shift_roles": "comparison shift.h5 circuit.json roles_played.json",
    "heat_map": "mlps.h5",
    "scatter": "comparison mlps.h5",
    "mlp_pairs": "comparison mlps.h5",
    "mlp_groups": "comparison mlps.h5",
    "attribution": "comparison mlps.h5 prompts.json",
    "logit_lens": "comparison mlps.h5",
    "alignment": "comparison alignment.json sampling.h5",
    "matches": "alignment.json",
    "noise": "comparison noise.h5",
    "survey": "comparison noise.h5",
}
"""Parts of the page on one pair and task, by the files of that task."""
PAIR = {
    "models": "comparison teacher/model.json student/model.json",
    "training": "teacher/model.json student/model.json",
    "glance": "comparison */influence.h5 */alignment.json */sampling.h5",
    "across": "comparison */influence.h5 */alignment.json */sampling.h5",
    "sizes": "comparison */alignment.json */sampling.h5",
    "sensitivity": "comparison */alignment.json */sampling.h5 */battery.h5",
    "battery": "comparison */battery.h5",
    "gaps": "comparison */battery.h5",
    "register": "comparison",
}
"""Parts on one pair, by the files of the pair; `*` is each of its tasks."""
DISTILLATION = {
    "models": (
        "comparison {teacher}/tuned/{task}/pretrained/model.json {teacher}/tuned/{task}/teacher/model.json "
        "{teacher}/{student}/{task}/base/model.json"
    ),
    "verdicts": "comparison {teacher}/{student}/{task}/verdicts.json",
    "accuracies": "comparison {teacher}/{student}/{task}/verdicts.json {teacher}/{student}/{task}/mapping.json",
    "losses": "{teacher}/{student}/{task}/verdicts.json",
    "mapping": "{teacher}/{student}/{task}/mapping.json",
    "sweeps": "{teacher}/{student}/{task}/sweeps/*.json",
}
"""Parts on one student and story task, by the files of all families."""
RUN = {"claims": "comparison", "distillation_register": "comparison"}
"""Parts on everything that was run."""


@dataclass(frozen=True)
class Artifact:
    """A file that describes itself: who made it, its SHA-256 and its size in bytes."""

    path: str
    stage: str
    sha256: str
    size: int


def artifacts_of(paths: Iterable[Path]) -> list[Artifact]:
    """Return all artifacts among files and below folders, by path; each is read once for its digest.

    Of a model directory its `model.json` stands for the rest, whose digests it has.
    """
    found = sorted({file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])})
    return [
        Artifact(file.as_posix(), read_provenance(file)["stage"], digest(file), file.stat().st_size)
        for file in found
        if file.suffix == ".h5"
        or file.name == "model.json"
        or (file.suffix == ".json" and not (file.parent / "model.json").exists())
    ]


def sources_of(
    parts: Mapping[str, str], folder: Path, artifacts: Sequence[Artifact], **names: object
) -> dict[str, list[Artifact]]:
    """Return the artifacts of each part in the order in which they are declared; what was not run has none."""
    return {
        part: [
            each
            for pattern in declared.split()
            for each in artifacts
            if (each.stage == pattern == COMPARISON)
            or fnmatchcase(each.path, f"{folder.as_posix()}/{pattern.format(**names)}")
        ]
        for part, declared in parts.items()
    }
