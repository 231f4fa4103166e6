"""What `distilled-circuits why` says: what would run, for what reason and at what cost, and what would be restored."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from distilled_circuits.durations import in_words, last_seconds
from distilled_circuits.errors import UserError
from distilled_circuits.graph import PACKAGE, Graph, Instance, load_graph
from distilled_circuits.lockfile import read_lock
from distilled_circuits.params import Params
from distilled_circuits.plan import Reason, Step, plan

NAMED = 3
"""Stages, modules and files that are named before the others are counted."""
WORDS = {"nothing": "as recorded", "restore": "restore", "run": "run", "maybe": "run if need be"}
SUMMARY = (
    ("run", "to run", ""),
    ("maybe", "to run if what they read changes", " at most"),
    ("restore", "to restore from DVC's cache", ""),
    ("nothing", "as recorded", ""),
)


@dataclass(frozen=True)
class Account:
    """What a run would do: its steps, outputs that it would remove, and a line for each model that it would make."""

    steps: Sequence[Step]
    removed: Sequence[str]
    models: Sequence[str]


def account(params: Params, target: str | None = None) -> Account:
    """Return what a run would do to `target` and to all that it reads: a stage, `STAGE@ITEM` or an output's path.

    Without a target it is what `snakemake` would do. Nothing is executed or written; the hub is asked for sizes if a
    model is to be fetched. Raises UserError for an unknown target and for what is wrong with a model's source.
    """
    graph = load_graph()
    order = {item.name: place for place, item in enumerate(graph.items)}
    steps = plan(graph, targets=None if target is None else targets(graph, target))
    steps.sort(key=lambda step: order[step.instance.name])
    removed = graph.abandoned(read_lock()) if target is None else []
    sides = {
        (step.instance.item["pair"], step.instance.name.partition("@")[0])
        for step in steps
        if step.action == "run" and step.instance.name.startswith(("teacher@", "student@"))
    }
    models: list[str] = []
    if sides:
        from distilled_circuits.why_models import models_of  # transformers' hub

        models = list(models_of(params, sides))
    return Account(steps, removed, models)


def targets(graph: Graph, target: str) -> list[Instance]:
    """Return the items that a stage's name, an item's name or an output's path stands for; raise UserError for none."""
    if target in graph.stages:
        return list(graph.stages[target].instances())
    path = target.rstrip("/")
    found = [item for item in graph.items if item.name == target]
    found += [item for out, item in graph.outputs.items() if f"{path}/".startswith(f"{out}/")]
    found += [item for out, item in graph.outputs.items() if out.startswith(f"{path}/")]
    if found:
        return list({item.name: item for item in found}.values())
    known = [*graph.stages, *(item.name for item in graph.items), *graph.outputs]
    near = get_close_matches(target, known) or list(graph.stages)
    raise UserError(f"{target}: no stage, item or output of that name; near it: {', '.join(near)}")


def as_text(found: Account) -> Iterator[str]:
    """Yield a line on all steps, a line for each group of steps with the same reasons, what is removed, models."""
    yield _summary(found.steps)
    shown = [step for step in found.steps if step.action != "nothing"]
    for (stage, word, _), group in _grouped(shown):
        reasons = "; ".join(_said(group[0].reasons))
        yield f"  {WORDS[word]}: {_names(stage, [step.instance for step in group])}: {reasons} ({_cost(group)})"
    uncached = sum(not step.cached for step in found.steps if step.action == "nothing")
    if uncached:
        yield f"of {uncached} jobs whose results are as recorded DVC's cache lacks some: once deleted they run again"
    if found.removed:
        yield f"removed from here, kept in DVC's cache: {_listed(found.removed)}: params.yaml runs them no more"
    yield from found.models


def as_json(found: Account) -> str:
    """Return the same for a program: every step with its reasons, seconds and bytes."""
    steps = [
        {
            "name": step.instance.name,
            "action": step.action,
            "only_if_changed": step.only_if_changed,
            "reasons": [asdict(reason) for reason in step.reasons],
            "seconds": last_seconds(step.instance.name) if step.action == "run" else 0,
            "bytes": step.size,
            "outputs": dict(step.outputs),
            "cached": step.cached,
        }
        for step in found.steps
    ]
    content: dict[str, Any] = {"steps": steps, "removed": found.removed, "models": found.models}
    return json.dumps(content, indent=1, ensure_ascii=False)


def _word(step: Step) -> str:
    return "maybe" if step.only_if_changed else step.action


def _summary(steps: Sequence[Step]) -> str:
    by_word = {word: [step for step in steps if _word(step) == word] for word in WORDS}
    if len(by_word["nothing"]) == len(steps):
        return f"nothing runs: all {len(steps)} jobs are as dvc.lock records them"
    parts = [
        f"{len(found)} {said}" + (f" ({_cost(found)}{at_most})" if word != "nothing" else "")
        for word, said, at_most in SUMMARY
        if (found := by_word[word])
    ]
    return f"of {len(steps)} jobs: {', '.join(parts)}"


def _cost(steps: Sequence[Step]) -> str:
    """Return the time that steps took the last time, one after the other, and the bytes that they will write."""
    size = sum(step.size or 0 for step in steps)
    written = f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    if steps[0].action == "restore":
        return written
    seconds = [last_seconds(step.instance.name) for step in steps]
    measured = [value for value in seconds if value is not None]
    missing = len(seconds) - len(measured)
    if not measured:
        return "not measured here yet" + (f", {written}" if size else "")
    more = f" and {missing} not measured" if missing else ""
    return f"{in_words(sum(measured))} of work{more}, {written}"


def _grouped(steps: Iterable[Step]) -> list[tuple[tuple[str, str, tuple[str, ...]], list[Step]]]:
    """Return steps by stage, word and reasons, in the order in which each group begins."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[Step]] = {}
    for step in steps:
        stage = step.instance.name.partition("@")[0]
        groups.setdefault((stage, _word(step), tuple(_said(step.reasons))), []).append(step)
    return list(groups.items())


def _names(stage: str, items: Sequence[Instance]) -> str:
    """Return items of one stage as a shell would write them, `circuit@mini-{words,ioi}`, or their number."""
    axes = [list(dict.fromkeys(str(item.item[axis]) for item in items)) for axis in items[0].item]
    names = {"-".join(values) for values in itertools.product(*axes)}
    if names != {item.name.partition("@")[2] for item in items}:
        return f"{stage} ({len(items)} items)"
    return stage + ("@" if axes else "") + "-".join(v[0] if len(v) == 1 else f"{{{','.join(v)}}}" for v in axes)


def _said(reasons: Sequence[Reason]) -> list[str]:
    """Return reasons in words, those of a kind together."""
    kinds: dict[str, list[Reason]] = {}
    for reason in reasons:
        kinds.setdefault(reason.kind, []).append(reason)
    return [_of_kind(kind, found) for kind, found in kinds.items()]


def _of_kind(kind: str, reasons: Sequence[Reason]) -> str:
    names = _listed(sorted(reason.what.removeprefix(f"{PACKAGE}/") for reason in reasons))
    values = [f"{reason.what} {_value(reason.before)} -> {_value(reason.after)}" for reason in reasons]
    return {
        "never run": "not in dvc.lock",
        "command": "its command is another",
        "parameter": f"parameter {_listed(values)}",
        "code": f"code: {names} edited",
        "input": f"input: {names} changed",
        "no input": f"{names}: not there",
        "upstream": f"if other bytes come from {names}",
        "missing": f"{names} missing",
        "damaged": f"{names} not as recorded",
    }[kind]


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return "none" if value is None else text if len(text) <= 60 else f"{text[:57]}..."


def _listed(names: Sequence[str]) -> str:
    if len(names) <= NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
