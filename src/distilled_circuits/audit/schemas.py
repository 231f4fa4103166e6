"""Every schema that the pipeline writes, with the names its files have and its invariants: registered here alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from distilled_circuits.audit import alignment, circuits, comparison, distillation, models, roles, tasks, verdicts
from distilled_circuits.audit.findings import Wrong
from distilled_circuits.audit.place import Place


@dataclass(frozen=True)
class Schema:
    """The end of the paths that files of a schema have, and what must hold of their content."""

    paths: str
    invariants: Callable[[Place], Iterator[Wrong]]


def nothing(_: Place) -> Iterator[Wrong]:
    """Require nothing: lists of modules have only provenance, which the check of code reads."""
    return iter(())


SCHEMAS = {
    "code/1": Schema("results/code/*.json", nothing),
    "model/1": Schema("*", models.model),
    "distilled/3": Schema("*/runs/*", distillation.distilled),
    "prompts/3": Schema("*/prompts.json", tasks.prompts),
    "questions/1": Schema("*/questions.h5", tasks.questions),
    "activations/1": Schema("*/activations.h5", circuits.activations),
    "influence/2": Schema("*/influence.h5", circuits.influence),
    "circuit/2": Schema("*/circuit.json", circuits.circuit),
    "evaluation/1": Schema("*/evaluation.h5", circuits.evaluation),
    "edges/1": Schema("*/edges.h5", circuits.edges),
    "exchange/1": Schema("*/circuit_*.json", circuits.exchange),
    "stability/1": Schema("*/stability.json", circuits.stability),
    "heads/1": Schema("*/heads.h5", roles.heads),
    "roles_played/1": Schema("*/roles_played.json", roles.roles_played),
    "mlps/2": Schema("*/mlps.h5", roles.mlps),
    "roles/1": Schema("*/roles.h5", roles.roles),
    "shift/1": Schema("*/shift.h5", roles.shift),
    "alignment/2": Schema("*/alignment.json", alignment.alignment),
    "sampling/1": Schema("*/sampling.h5", alignment.sampling),
    "battery/1": Schema("*/battery.h5", alignment.battery),
    "noise/2": Schema("*/noise.h5", alignment.noise),
    "mapping/3": Schema("*/mapping.json", distillation.mapping),
    "untrained/1": Schema("*/untrained.json", distillation.untrained),
    "sweep/2": Schema("*/sweeps/*.json", distillation.sweep),
    "verdicts/2": Schema("*/verdicts.json", verdicts.verdicts),
    "comparison/1": Schema("*/comparison.json", comparison.comparison),
}


def schema_fits(name: str, path: Path) -> bool:
    """Return whether a file's place is one of its schema."""
    return name in SCHEMAS and fnmatch(path.as_posix(), SCHEMAS[name].paths)
