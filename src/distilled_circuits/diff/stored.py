"""What a comparison reads of a run's artifacts, wherever they are: circuits, comparison.json, the report's figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distilled_circuits.artifacts import read_arrays, read_json
from distilled_circuits.circuits.edges import edge_drop
from distilled_circuits.comparison.scores import baseline_problem, retained_percent
from distilled_circuits.diff.circuits import Circuit
from distilled_circuits.diff.numbers import Number, Place, numbers_of, verdicts_of
from distilled_circuits.diff.page_figures import figures_of
from distilled_circuits.errors import UserError

COMPARISON, REPORT = "results/comparison.json", "results/report.html"
CIRCUIT = re.compile(r"results/pairs/([^/]+)/([^/]+)/circuit\.json")


@dataclass
class Artifacts:
    """What was read, and what was not: `missing` paths, and those of a form that this version does not read."""

    find: Callable[[str], Path | None]
    missing: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    numbers: dict[Place, Number] | None = None
    verdicts: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    circuits: dict[str, Circuit] = field(default_factory=dict)
    figures: dict[str, str] | None = None

    def read(self, path: str, reader: Callable[[Path], Any]) -> Any:
        """Return what a reader makes of an artifact, or None after noting why there is nothing."""
        place = self.find(path)
        if place is None:
            self.missing.append(path)
            return None
        try:
            return reader(place)
        except UserError as error:  # its advice is for an artifact of the working tree, not for one in the cache
            self.unread[path] = str(error).removeprefix(f"{place}: ").partition(";")[0]
        except (OSError, LookupError, TypeError, ValueError):
            self.unread[path] = "not of the form that this version reads"
        return None


def read_artifacts(recorded: Iterable[str], find: Callable[[str], Path | None]) -> Artifacts:
    """Read what a comparison needs of the recorded outputs, each where `find` finds it."""
    found = Artifacts(find)
    outputs = set(recorded)
    if COMPARISON in outputs:
        compared = found.read(COMPARISON, _compared)
        if compared:
            found.numbers, found.verdicts, found.libraries = compared
    if REPORT in outputs:
        found.figures = found.read(REPORT, lambda place: figures_of(place.read_text(encoding="utf-8")))
    for match in filter(None, map(CIRCUIT.fullmatch, sorted(outputs))):
        found.circuits |= _circuits(found, *match.groups())
    return found


def _circuits(found: Artifacts, pair: str, task: str) -> dict[str, Circuit]:
    folder = f"results/pairs/{pair}/{task}"
    content = found.read(f"{folder}/circuit.json", _nodes)
    if content is None:
        return {}

    def part(name: str, reader: Callable[[Path, str], dict[str, Number]]) -> dict[str, dict[str, Number]]:
        path = f"{folder}/{name}"
        read = found.read(path, lambda place: {model: reader(place, model) for model in content})
        return read or {model: {} for model in content}

    edges, drops = part("edges.h5", _edges), part("influence.h5", _drops)
    circuits = {}
    for model, nodes in content.items():
        place = ("pairs", pair, "tasks", task, "circuit", model, "minimality")
        kept = {node: (found.numbers or {}).get((*place, node)) for node in nodes}
        circuits[f"{pair} {task} {model}"] = Circuit(kept, edges[model], drops[model])
    return circuits


def _nodes(place: Path) -> dict[str, list[str]]:
    content = read_json(place, "circuit/2")
    return {model: found["nodes"] for model, found in content.items() if model != "provenance"}


def _compared(place: Path) -> tuple[dict[Place, Number], dict[str, str], dict[str, str]]:
    content = read_json(place, "comparison/1")
    return dict(numbers_of(content)), verdicts_of(content), dict(content["provenance"]["libraries"])


def _edges(place: Path, model: str) -> dict[str, Number]:
    """Return the edges that were kept with what patching each costs, in percent of what the circuit keeps."""
    names = [f"{model}/{name}" for name in ("edges", "patched", "circuit", "full", "kept")]
    edges, patched, circuit, full, kept = read_arrays(place, "edges/1", names)
    if not len(edges):
        return {}
    with np.errstate(divide="ignore", invalid="ignore"):  # a circuit that keeps nothing has no shares
        drop = 100 * edge_drop(patched[kept], circuit, full, "circuit")
    return _finite(edges[kept], drop)


def _drops(place: Path, model: str) -> dict[str, Number]:
    """Return what ablating each component of the full model costs, in percent of its logit difference."""
    names = [f"{model}/{name}" for name in ("components", "unablated", "ablated")]
    components, unablated, ablated = read_arrays(place, "influence/2", names)
    if baseline_problem(unablated):
        return {}
    drops = 100 - retained_percent(unablated.astype(float), ablated.astype(float))
    return _finite(components, drops)


def _finite(names: Iterable[str], values: np.ndarray) -> dict[str, Number]:
    return {str(name): Number(float(value)) for name, value in zip(names, values, strict=True) if np.isfinite(value)}
