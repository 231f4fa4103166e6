"""dvc.yaml as data: every stage with its items, inputs, parameters, outputs and command, resolved as DVC does.

DVC remains the judge of what must run. The command line reads this to hand each stage exactly what dvc.yaml declares,
the Snakemake rules to know the files; a test compares it with DVC's own resolution. DVC takes a second to import.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distilled_circuits.errors import UserError
from distilled_circuits.imports import code_of
from distilled_circuits.lockfile import md5, recorded_outputs
from distilled_circuits.messages import shown
from distilled_circuits.yaml_files import read_yaml

AXIS_VALUE = re.compile(r"\w[\w-]*")
"""What an item may be called: it becomes a part of paths and of stages' names."""
PACKAGE = Path("src/distilled_circuits")
CODE = "results/code"
"""Where stage `code` notes the modules of each other stage: one small file stands for all of them in dvc.lock."""


@dataclass(frozen=True)
class Instance:
    """One stage for one item of its matrix; paths are as written, relative to the project's folder."""

    name: str
    item: dict[str, Any]
    command: str
    inputs: tuple[str, ...]
    params: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """A stage as declared, with its matrix's axes resolved and `${item.*}` still in place."""

    name: str
    description: str
    axes: dict[str, list[Any]]
    command: str
    inputs: tuple[str, ...]
    params: tuple[str, ...]
    outputs: tuple[str, ...]

    def wildcard_name(self) -> str:
        """Return the name of an instance with `{axis}` for each value."""
        return self.name + ("@" + "-".join(f"{{{axis}}}" for axis in self.axes) if self.axes else "")

    def wildcard_outputs(self) -> list[str]:
        """Return the outputs with `{axis}` for each value."""
        return [as_wildcards(path) for path in self.outputs]

    def instances(self) -> Iterator[Instance]:
        """Yield the stage for each combination of its axes; once for a stage without a matrix."""
        for values in itertools.product(*self.axes.values()):
            yield self.instance(dict(zip(self.axes, values, strict=True)))

    def instance(self, item: Mapping[str, Any]) -> Instance:
        """Return the stage for one item; raise UserError when the matrix does not have it."""
        chosen = {}
        for axis, values in self.axes.items():
            known = {str(value): value for value in values}
            found = str(item.get(axis, ""))
            if found not in known:
                raise UserError(f"{self.name}: {axis}={found}, allowed: {', '.join(known)} (see params.yaml)")
            chosen[axis] = known[found]
        extra = set(item) - set(self.axes)
        if extra:
            raise UserError(f"{self.name}: unknown {', '.join(sorted(extra))}, allowed: {', '.join(self.axes)}")
        suffix = "@" + "-".join(str(value) for value in chosen.values()) if chosen else ""

        def fill(text: str) -> str:
            return re.sub(r"\$\{item\.(\w+)\}", lambda match: str(chosen[match.group(1)]), text)

        return Instance(
            name=self.name + suffix,
            item=chosen,
            command=fill(self.command),
            inputs=tuple(map(fill, self.inputs)),
            params=tuple(map(fill, self.params)),
            outputs=tuple(map(fill, self.outputs)),
        )


@dataclass(frozen=True)
class Graph:
    """All stages, and the raw content of params.yaml that their parameters point into."""

    stages: dict[str, Stage]
    content: dict[str, Any]

    @cached_property
    def items(self) -> tuple[Instance, ...]:
        """Every stage for every item, made once: a run of several families has thousands."""
        return tuple(item for stage in self.stages.values() for item in stage.instances())

    @cached_property
    def outputs(self) -> dict[str, Instance]:
        """Return the outputs of all items, in order and quick to look up, each with the item that makes it."""
        return {out: item for item in self.items for out in item.outputs}

    @cached_property
    def _known(self) -> dict[Path, str | None]:
        """Digests of files by now: every stage is made of much of the same code."""
        return {}

    @cached_property
    def _made_of(self) -> dict[str, tuple[str, ...]]:
        """Modules of stages by now, the same for all items of one."""
        return {}

    def made(self, declared: str) -> list[str]:
        """Return the outputs of stages that a declared input stands for, with `{axis}` for the matrix's values.

        That is the input itself, all outputs below it where it is a folder that several stages write into, and nothing
        where it is a file of the repository.
        """
        path = as_wildcards(declared)
        if "{" not in path and path in self.outputs:
            return [path]
        outputs = [out for out in self.outputs if out.split("/")[0] == path.split("/")[0]]
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))
        if any(re.fullmatch(pattern, out) for out in outputs):
            return [path]
        below = (re.fullmatch(f"{pattern}(/.+)", out) for out in outputs)
        return list(dict.fromkeys(path + found.group(1) for found in below if found))

    def abandoned(self, lock: str) -> list[str]:
        """Return outputs in a dvc.lock's text that no stage makes any more, of a pair, task or seed not run now.

        They are removed: what a lock file from elsewhere says of places outside of `results` counts for nothing.
        """
        recorded = recorded_outputs(lock).keys() - self.outputs.keys()
        return sorted(path for path in recorded if path.startswith("results/") and path == os.path.normpath(path))

    def key(self, instance: Instance, root: Path = Path()) -> str:
        """Return everything but stages' outputs that decides whether an instance must run: its plan and its modules."""
        plan = self.plan(instance, root)
        stage = instance.name.partition("@")[0]
        if f"{CODE}/{stage}.json" in instance.inputs:
            plan["files"] |= {path: self._digest(root / path) for path in self._modules(stage, root)}
        return json.dumps(plan, sort_keys=True, indent=1)

    def plan(self, instance: Instance, root: Path = Path()) -> dict[str, Any]:
        """Return the same without the modules that an instance is made of, as JSON has it.

        That is its command, inputs, parameters and outputs as declared, the parameters' values, and the MD5 of the
        repository's files that it reads, such as word lists; each is read once for all instances.
        """
        declared = {"command": instance.command, "inputs": instance.inputs, "outputs": instance.outputs}
        params = {name: look_up(self.content, name) for name in instance.params}
        files = {path: self._digest(root / path) for path in instance.inputs if path not in self.outputs}
        return as_json({**declared, "params": params, "files": files})

    def _modules(self, stage: str, root: Path) -> tuple[str, ...]:
        if stage not in self._made_of:
            self._made_of[stage] = tuple(path.relative_to(root).as_posix() for path in code_of(stage, root / PACKAGE))
        return self._made_of[stage]

    def _digest(self, path: Path) -> str | None:
        """Return the MD5 of a file or a folder's files, as DVC takes it; None for what is not there (outputs)."""
        if path not in self._known:
            is_there = path.exists() and not (path.is_dir() and path.parts[:1] == ("results",))
            self._known[path] = md5(path) if is_there else None
        return self._known[path]


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file, without `artifacts`: it imports numpy, which must wait until threads are set."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def as_json(content: Any) -> Any:
    """Return plain data as it comes back from JSON: tuples as lists, keys as texts."""
    return json.loads(json.dumps(content))


def as_wildcards(path: str) -> str:
    """Return a declared path with Snakemake's `{axis}` in place of DVC's `${item.axis}`."""
    return re.sub(r"\$\{item\.(\w+)\}", r"{\1}", path)


def places_of(path: str) -> list[str]:
    """Return the files that stand for an output: itself, or record and weights of a model directory."""
    return [path] if Path(path).suffix else [f"{path}/model.json", f"{path}/model.safetensors"]


def load_graph(root: Path = Path()) -> Graph:
    """Read dvc.yaml and params.yaml in `root`; raise UserError when either is missing."""
    return graph_of(read_yaml(root / "params.yaml"), root)


def graph_of(content: dict[str, Any], root: Path = Path()) -> Graph:
    """Read dvc.yaml in `root` with what was read of params.yaml; raise UserError when it is missing."""
    declared = read_yaml(root / "dvc.yaml")
    name = "stages"
    try:
        stages = {}
        for name, entry in declared["stages"].items():
            stages[name] = _stage(name, entry, content)
    except (AttributeError, KeyError, TypeError, StopIteration):
        raise UserError(f"dvc.yaml: {name}: not as it must be; `git diff dvc.yaml` shows what was there") from None
    return Graph(stages, content)


def _stage(name: str, entry: dict[str, Any], content: dict[str, Any]) -> Stage:
    axes = {}
    for axis, values in entry.get("matrix", {}).items():
        axes[axis] = look_up(content, values[2:-1]) if isinstance(values, str) else values
        if not isinstance(axes[axis], list) or not all(AXIS_VALUE.fullmatch(str(value)) for value in axes[axis]):
            raise UserError(f"{name}: {axis} is {shown(axes[axis])}, allowed: a list of names or numbers (params.yaml)")

    def fill(paths: list[str]) -> tuple[str, ...]:
        """Fill in `${key}` of params.yaml; `${item.axis}` stays."""
        return tuple(
            re.sub(r"\$\{(?!item\.)([\w.]+)\}", lambda match: str(look_up(content, match.group(1))), path)
            for path in paths
        )

    outputs = []
    for kind in ("outs", "metrics", "plots"):
        # DVC writes an output with options as a mapping of its path to them.
        outputs += [next(iter(out)) if isinstance(out, dict) else out for out in entry.get(kind, [])]
    return Stage(
        name=name,
        description=entry.get("desc", ""),
        axes=axes,
        command=" ".join(entry["cmd"].split()),
        inputs=fill(entry.get("deps", [])),
        params=fill(entry.get("params", [])),
        outputs=fill(outputs),
    )


def look_up(content: Any, dotted: str) -> Any:
    """Return what params.yaml has at a dotted name, as written; raise UserError where it has nothing."""
    for part in dotted.split("."):
        try:
            content = content[part]
        except (KeyError, TypeError):
            raise UserError(f"params.yaml: {dotted}: missing, but dvc.yaml declares it") from None
    return content


def differing(name: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted names at which two values of a parameter differ, with both values there, None for none."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [key for key in before | after if before.get(key) != after.get(key)]
        for key in keys:
            yield from differing(f"{name}.{key}", before.get(key), after.get(key))
        if keys:
            return
    if before != after:
        yield name, before, after


def modules_in(note: str) -> dict[str, str] | None:
    """Return the SHA-256 of the modules that a note of stage `code` lists; None for what is no such note."""
    try:
        return dict(json.loads(note)["provenance"]["inputs"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
