"""Whether what a job was planned with still holds, and whether dvc.lock records just that.

DVC reads parameters and inputs once more when a command has ended, so that an edit meanwhile would be recorded for what
was made before it. The command line and the jobs of Snakemake ask here before and after.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distilled_circuits.errors import UserError
from distilled_circuits.graph import CODE, PACKAGE, as_json, differing, load_graph, look_up, modules_in, sha256
from distilled_circuits.lockfile import md5
from distilled_circuits.yaml_files import parse_yaml, read_yaml

KEYS = Path(".snakemake/keys")
AGAIN = "not recorded"
"""Set in a key whose outputs are there but not as dvc.lock says: the job is asked for though nothing changed."""
LENGTH = 32
"""Letters of an MD5."""
Plan = Mapping[str, Any]
"""What `Graph.key` says of a stage: its command, inputs, outputs, params with values, and digests of files."""


def key_text(plan: Plan, before: str, *, lost: bool, now: float) -> str:
    """Return what a stage's key file shall hold: what was planned, and when dvc.lock last had no record of it.

    `lost` says that outputs are there without a record, though the plan is what it was: the lock was deleted, or taken
    from another revision. The key then gets the time, which is a change that Snakemake sees.
    """
    try:
        known = json.loads(before)
    except json.JSONDecodeError:  # not there, or cut short when a run was killed
        known = {}
    again = known.pop(AGAIN, None)
    if lost and known == plan:
        again = now
    return json.dumps({**plan, **({} if again is None else {AGAIN: again})}, sort_keys=True, indent=1)


def change_since(name: str, plan: Plan, root: Path = Path()) -> str | None:
    """Return what is no longer as it was planned: the first parameter, file or declaration that changed."""
    content = read_yaml(root / "params.yaml")
    for parameter, value in plan["params"].items():
        try:
            found = look_up(content, parameter)
        except UserError:
            found = None
        if as_json(found) != value:
            place, *_ = next(differing(parameter, value, as_json(found)))
            return f"params.yaml: {place}"
    for path, digest in plan["files"].items():
        is_module = Path(path).is_relative_to(PACKAGE)  # they are held against what stage `code` noted
        if digest is not None and not is_module and (not (root / path).exists() or md5(root / path) != digest):
            return path
    stage = load_graph(root).stages.get(name.partition("@")[0])
    declared = next((item for item in stage.instances() if item.name == name), None) if stage else None
    if declared is None:
        return f"what dvc.yaml and params.yaml say of {name}"
    parts = {"command": declared.command, "inputs": list(declared.inputs), "outputs": list(declared.outputs)}
    return next((f"dvc.yaml: {part} of {name}" for part, value in parts.items() if value != plan[part]), None)


def module_since(stage: str, root: Path = Path()) -> str | None:
    """Return the first module of a stage that is no longer as stage `code` noted it; None if it noted nothing.

    A new import is an edit of a module that is noted already.
    """
    noted = root / CODE / f"{stage}.json"
    if not noted.exists():  # of stage `code` itself, and of a stage that is run by hand
        return None
    modules = modules_in(noted.read_text(encoding="utf-8", errors="replace"))
    if modules is None:
        raise UserError(f"{noted}: damaged; delete it and start snakemake again")
    for module, digest in modules.items():
        if not (root / module).exists() or sha256(root / module) != digest:
            return module
    return None


def is_recorded(plan: Plan, entry: Mapping[str, Any] | None) -> bool:
    """Whether an entry of dvc.lock is of this plan: its command, parameters' values, files, and all its outputs."""
    if not entry or entry.get("cmd") != plan["command"]:
        return False
    values = {name: value for params in (entry.get("params") or {}).values() for name, value in params.items()}
    inputs = {dep["path"]: dep.get("md5") for dep in entry.get("deps") or []}
    outputs = {out["path"]: str(out.get("md5")).removesuffix(".dir") for out in entry.get("outs") or []}
    return (
        _same(as_json(values), plan["params"])
        and all(inputs[path] == digest for path, digest in plan["files"].items() if digest and path in inputs)
        and all(len(outputs.get(path, "")) == LENGTH for path in plan["outputs"])  # less where it was cut short
    )


def _same(recorded: Any, planned: Any) -> bool:
    """Whether two values are one: DVC writes YAML 1.2 and reads `1e-5` as a number, we as a text."""
    if isinstance(recorded, dict) and isinstance(planned, dict):
        return recorded.keys() == planned.keys() and all(_same(recorded[key], planned[key]) for key in planned)
    if isinstance(recorded, list) and isinstance(planned, list):
        return len(recorded) == len(planned) and all(map(_same, recorded, planned))
    if isinstance(recorded, str) != isinstance(planned, str):
        try:
            return float(recorded) == float(planned)
        except (TypeError, ValueError):
            return parse_yaml(str(recorded)) == parse_yaml(str(planned))
    return recorded == planned
