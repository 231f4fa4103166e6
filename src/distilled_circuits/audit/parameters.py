"""The check of parameters: what an artifact says it was made with, what dvc.lock records, and params.yaml as it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from distilled_circuits.artifacts import to_json
from distilled_circuits.audit.findings import DAMAGED, Finding, shown
from distilled_circuits.audit.project import Project
from distilled_circuits.audit.record import FROM_HISTORY, Entry
from distilled_circuits.graph import Instance
from distilled_circuits.lockfile import LOCK
from distilled_circuits.params import Params
from distilled_circuits.running import select
from distilled_circuits.seed_ranges import seeds_of

CHECK = "parameters"
AS_JSON: TypeAdapter[Any] = TypeAdapter(Any)
NOTHING = "nothing"
APART = 100
"""Seeds of replicas and of families are so many above those of params.yaml, times their number."""


def check_parameters(project: Project, item: Instance) -> Iterator[Finding]:
    """Hold a stage's parameters in its artifacts, in dvc.lock and in params.yaml against each other."""
    entry = project.entry(item)
    now = {name: plain(project.params, name) for name in item.params}
    recorded = recorded_values(project, entry, now)
    if item.name in project.record.entries:
        for place, made, value in differences(recorded, now):
            remedy = "run `snakemake`, or set it back; if params.yaml was not edited, dvc.lock was: see git's history"
            yield Finding(item.outputs[0], CHECK, f"{place} in params.yaml", f"{made} (dvc.lock)", value, remedy)
    for path in item.outputs:
        said = project.provenance(path)
        if said is None:
            continue
        if said.get("stage") != item.name:
            yield Finding(path, CHECK, "stage", item.name, shown(said.get("stage")), _again(path))
        expected = recorded if item.name in project.record.entries else now
        for place, made, value in differences(expected, said.get("params")):
            yield Finding(path, CHECK, f"{place} in the artifact", f"{made} ({LOCK})", value, _again(path))
        yield from check_seeds(path, item, said)


def recorded_values(project: Project, entry: Entry, now: Mapping[str, Any]) -> dict[str, Any]:
    """Return dvc.lock's values as they are after validation, which fills in defaults; as they are where that fails."""
    values = entry.values
    changed = {name for name, value in values.items() if _text(_at(project.graph.content, name)) != _text(value)}
    as_now = {name: now.get(name, value) for name, value in values.items()}
    if not changed:
        return as_now
    content = copy.deepcopy(project.graph.content)
    try:
        for name, value in values.items():
            parent, _, last = name.rpartition(".")
            (_at(content, parent) if parent else content)[last] = value
        params = Params.model_validate(content)
        return {name: plain(params, name) for name in values}
    except (ValidationError, *DAMAGED):
        return {name: values[name] if name in changed else as_now[name] for name in values}


def _at(content: Any, dotted: str) -> Any:
    """Return what stands at a dotted name; nothing where there is no such name."""
    for part in dotted.split("."):
        content = content.get(part, NOTHING) if isinstance(content, Mapping) else NOTHING
    return content


def plain(params: Params, dotted: str) -> Any:
    """Return a validated value as JSON holds it, as artifacts do."""
    return AS_JSON.dump_python(select(params, dotted), mode="json")


def differences(expected: Any, found: Any, place: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield where two values differ, at the deepest key, with what was expected and found."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key in dict.fromkeys((*expected, *found)):
            below = f"{place}.{key}" if place else str(key)
            yield from differences(expected.get(key, NOTHING), found.get(key, NOTHING), below)
    elif _text(expected) != _text(found):
        yield place or "params", shown(expected), shown(found)


def check_seeds(path: str, item: Instance, said: Mapping[str, Any]) -> Iterator[Finding]:
    """Hold the seeds that an artifact says it was made with against those of its parameters and item."""
    known = {seed for seed in _seeds(said.get("params")) if isinstance(seed, int)}
    if "seeds" in item.item:
        known |= set(seeds_of(item.item["seeds"]))
    # A replica's seeds are hundreds above the pair's, a family's above the first one's; tuning adds one.
    number = item.item.get("replica", item.item.get("teacher", 0))
    known |= {seed + APART * number + one for seed in known for one in (0, 1)} if isinstance(number, int) else set()
    seeds = said.get("seeds")
    for name, value in seeds.items() if isinstance(seeds, Mapping) else ():
        for seed in value if isinstance(value, list) else [value]:
            if seed not in known:
                yield Finding(path, CHECK, f"seeds.{name}", "a seed of its parameters", shown(seed), _again(path))


def _seeds(content: Any) -> Iterator[Any]:
    """Yield all seeds anywhere in parameters."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if str(key).rpartition(".")[2] in ("seed", "seeds"):
                yield from value if isinstance(value, list) else [value]
            else:
                yield from _seeds(value)


def _text(value: Any) -> str:
    """Return a value with its type: 1 and 1.0 are not the same parameter, nor are 1 and true."""
    try:
        return to_json({"value": value})
    except DAMAGED:
        return repr(value)


def _again(path: str) -> str:
    return f"delete {path} and run `snakemake`; if it was not edited, {FROM_HISTORY}"
