"""What a run would do to each stage, and why: dvc.lock held against the files that are there. Nothing is executed.

`python -m distilled_circuits.plan STAGE@ITEM` prints one word, `nothing`, `restore` or `run`: what DVC does if it is
asked for that stage now. DVC is not imported; tests hold this against what it does.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from distilled_circuits.errors import UserError
from distilled_circuits.foresight import Files
from distilled_circuits.graph import CODE, Graph, Instance, differing, load_graph, look_up, modules_in
from distilled_circuits.messages import one_line

Action = Literal["nothing", "restore", "run"]
Outputs = Mapping[str, Mapping[str, Any]]
"""What is recorded of outputs by their paths: `md5`, `size`."""


@dataclass(frozen=True)
class Reason:
    """Why a stage is not as dvc.lock records it.

    `kind` is `never run`, `command`, `parameter`, `code`, `input` (a file of the repository, or a stage whose results
    will be others), `upstream` (a stage that runs: whether its results will be others only the run will tell),
    `missing` or `damaged` (an output), `no input` (a file that is not there). `what` names it; `before` and `after` are
    a parameter's values, None where it has none.
    """

    kind: str
    what: str = ""
    before: Any = None
    after: Any = None


@dataclass(frozen=True)
class Step:
    """What a run does to one stage for one item."""

    instance: Instance
    action: Action
    reasons: tuple[Reason, ...]
    outputs: Mapping[str, str | None]
    """MD5s after the run; None where only the run itself will tell."""
    size: int | None
    """Bytes to write: of what is restored, or of what the stage wrote last time; None if nobody knows."""
    only_if_changed: bool
    """Whether it runs only if a stage before it gives other bytes than before: DVC stops early."""
    cached: bool
    """Whether DVC's cache has all outputs as they are recorded."""

    @property
    def asked(self) -> Action:
        """What DVC does when it is asked for this stage: it makes again what its cache does not have."""
        return "run" if self.action == "nothing" and not self.cached else self.action


def plan(graph: Graph, root: Path = Path(), targets: Iterable[Instance] | None = None) -> list[Step]:
    """Return what a run does to every item of `targets` (default: all) and to what they read, first to last.

    Reads dvc.lock, what stages read and have written, and DVC's cache; writes nothing. Raises UserError for a module
    that cannot be parsed.
    """
    files = Files(graph, root)
    steps = []
    for item in _in_order(graph.items if targets is None else targets, files):
        steps.append(_step(item, graph, files))
        files.after |= steps[-1].outputs
    return steps


def _in_order(targets: Iterable[Instance], files: Files) -> list[Instance]:
    """Return items and all that they read, each after what it reads."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    known = {item.name: item for item in targets}
    to_add = list(known)
    while to_add:
        item = known[to_add.pop()]
        before = {maker.name: maker for path in item.inputs for maker in files.makers(path).values()}
        sorter.add(item.name, *before)
        to_add += before.keys() - known.keys()
        known |= before
    return [known[name] for name in sorter.static_order()]


def _step(item: Instance, graph: Graph, files: Files) -> Step:
    """Return what happens to an item, after the steps of all that it reads."""
    entry = files.recorded.get(item.name, {})
    recorded = {out["path"]: out for out in entry.get("outs", []) if out["path"] in item.outputs}
    inputs = {path: files.then(path) for path in sorted(item.inputs)}
    changed = tuple(_changes(item, entry, inputs, graph, files)) if entry else (Reason("never run"),)
    certain = any(reason.kind != "upstream" for reason in changed)
    broken = () if certain else tuple(_broken(item, recorded, files))
    outs: Outputs = recorded
    if changed or (broken and not _in_cache(item, recorded, files)):  # then DVC looks for a run that it made before
        outs = {} if None in inputs.values() else _of_earlier_run(item, inputs, graph, files)
    action: Action = "nothing"
    if changed or broken:
        action = "restore" if _in_cache(item, outs, files) else "run"
    size = sum(out.get("size", 0) for path, out in outs.items() if files.now(path) != out.get("md5"))
    if action == "run":
        size = sum(out.get("size", 0) for out in recorded.values()) or None
    return Step(
        instance=item,
        action=action,
        reasons=changed + broken,
        outputs=_made(item, files) if action == "run" else {path: out["md5"] for path, out in outs.items()},
        size=size,
        only_if_changed=bool(changed) and not certain,
        cached=_in_cache(item, recorded, files),
    )


def _changes(
    item: Instance, entry: Mapping[str, Any], inputs: Mapping[str, str | None], graph: Graph, files: Files
) -> Iterator[Reason]:
    """Yield what is not as in dvc.lock, outputs apart. What is recorded and no longer declared does not count."""
    if entry.get("cmd") != item.command:
        yield Reason("command", item.command)
    values = entry.get("params", {}).get("params.yaml", {})
    for name in sorted(item.params):
        before, after = values.get(name), look_up(graph.content, name)
        if name not in values or before != after:
            places = tuple(differing(name, before, after)) or ((name, before, after),)  # or one that is new and null
            yield from (Reason("parameter", *place) for place in places)
    known = {dep["path"]: dep.get("md5") for dep in entry.get("deps", [])}
    other = [path for path, digest in inputs.items() if digest is None or digest != known.get(path)]
    yield from dict.fromkeys(reason for path in other for reason in _of_input(path, known.get(path), files))


def _of_input(path: str, before: str | None, files: Files) -> Iterator[Reason]:
    """Yield why an input is not what it was: modules, stages that make it, or the file itself."""
    makers = files.makers(path)
    if not makers:
        yield Reason("input" if files.now(path) else "no input", path)
        return
    if path.startswith(f"{CODE}/"):
        yield from _of_modules(path, before, files)
        return
    moved = [out for out in makers if files.after[out] is None or files.after[out] != _recorded(out, files)]
    for out in moved or (makers if path in makers else ()):
        one_more = path not in makers and _recorded(out, files) is None  # in a folder
        kind = "input" if files.after[out] or one_more else "upstream"
        yield Reason(kind, makers[out].name.partition("@")[0])
    if not moved and path not in makers:
        yield Reason("input", path)


def _recorded(out: str, files: Files) -> str | None:
    return files.outputs.get(out, {}).get("md5")


def _of_modules(path: str, before: str | None, files: Files) -> Iterator[Reason]:
    """Yield the modules by which a stage's code is not what was recorded; the note itself if the old one is gone."""
    now = modules_in(files.note(Path(path).stem)) or {}
    was = modules_in(files.cache.text(before) or "") or {} if before else {}
    different = [name for name in sorted({**was, **now}) if was.get(name) != now.get(name)]
    for name in different if was else [path]:
        yield Reason("code", name)


def _broken(item: Instance, recorded: Outputs, files: Files) -> Iterator[Reason]:
    for path in item.outputs:
        if files.now(path) is None:
            yield Reason("missing", Path(path).name)
        elif path not in recorded or files.now(path) != recorded[path].get("md5"):
            yield Reason("damaged", Path(path).name)


def _of_earlier_run(item: Instance, inputs: Mapping[str, str | None], graph: Graph, files: Files) -> Outputs:
    """Return what a run wrote that had the same command, inputs and parameters; nothing where none had."""
    made_of: dict[str, Any] = {"cmd": item.command, "outs": sorted(item.outputs)}
    if inputs:
        made_of["deps"] = [{"path": path, "hash": "md5", "md5": digest} for path, digest in inputs.items()]
    if item.params:
        made_of["params"] = {"params.yaml": {name: look_up(graph.content, name) for name in sorted(item.params)}}
    return {out["path"]: out for out in files.cache.earlier_run(made_of) or []}


def _in_cache(item: Instance, outs: Outputs, files: Files) -> bool:
    """Return whether every output of an item is recorded and can be brought back."""
    digests = [outs.get(path, {}).get("md5") for path in item.outputs]
    return all(digest is not None and files.cache.has(digest) for digest in digests)


def _made(item: Instance, files: Files) -> dict[str, str | None]:
    """Return what a stage that runs will have written: nobody knows, but for the notes of stage `code`."""
    if item.name != "code":
        return dict.fromkeys(item.outputs)
    notes = {path: files.note(Path(path).stem) for path in item.outputs}
    return {path: hashlib.md5(note.encode(), usedforsecurity=False).hexdigest() for path, note in notes.items()}


def named(graph: Graph, name: str) -> Instance:
    """Return the item of that name, `STAGE@ITEM`; raise UserError when there is none."""
    for item in graph.items:
        if item.name == name:
            return item
    raise UserError(f"{name}: no such stage and item; `distilled-circuits why STAGE` shows those of a stage")


def main(name: str) -> int:
    """Print what DVC does if it is asked for one item now; return 0, or 2 after a mistake."""
    try:
        graph = load_graph()
        print(plan(graph, targets=[named(graph, name)])[-1].asked)  # noqa: T201 - what the command is for
    except UserError as error:
        sys.stderr.write(f"distilled-circuits: {one_line(error)}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
