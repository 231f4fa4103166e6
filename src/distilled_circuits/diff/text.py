"""Differences as a person reads them: what changed, the strongest first, and no word on what did not."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from distilled_circuits.diff.changes import Change
from distilled_circuits.diff.circuits import LARGE, CircuitDifference, Members, large
from distilled_circuits.diff.differences import Differences, Headline, Missing
from distilled_circuits.diff.numbers import Number, NumberChange

SHOWN = 4
"""So many nodes, edges or files are named in a line, and so many kinds of changed verdicts; the JSON has all."""

MOST = 20
"""So many parameters have lines of their own."""

TIE = "\N{NO-BREAK SPACE}"
"""A space at which no line ends; it is printed as any other."""


def lines_of(found: Differences) -> Iterator[str]:
    """Yield the lines of a comparison."""
    yield from (f"{word}  {title}" for word, title in zip(("from", "to  "), found.titles, strict=True))
    for note in found.notes:
        yield from _wrapped(f"note  {note}", "", "      ")
    if found.none:
        yield ""
        yield "No difference: parameters, code, data and the bytes of all outputs are the same."
        return
    for section in (_settings, _outputs, _circuits, _numbers, _verdicts, _figures):
        if lines := list(section(found)):
            yield from ("", *(line.replace(TIE, " ") for line in lines))
    if _any_apart(found):
        yield ""
        yield "* The two 95 % intervals do not overlap. This is no test, and more cautious than one: numbers whose"
        yield "  intervals overlap may differ as well."


def _settings(found: Differences) -> Iterator[str]:
    kinds = {
        kind: [change for change in found.params if change.kind == kind] for kind in ("changed", "added", "removed")
    }
    counts = [f"{len(some)} {kind}" for kind, some in kinds.items() if some]
    yield _title("Parameters", ", ".join(counts) or "the same")
    width = max((len(change.name) for change in kinds["changed"]), default=0)
    for change in kinds["changed"][:MOST]:
        yield f"  {change.name:<{width}}  {_change(change)}"
    if len(kinds["changed"]) > MOST:
        yield f"  and {len(kinds['changed']) - MOST} more"
    for kind in ("added", "removed"):
        if kinds[kind]:
            yield from _wrapped(f"{kind}: " + "; ".join(_together(kinds[kind])))
    yield from _wrapped(_title("Code and data", _shortened(found.sources) if found.sources else "the same"), "")
    libraries = [f"{change.name} {_change(change)}" for change in found.libraries]
    yield from _wrapped(_title("Libraries", ", ".join(libraries) or "the same"), "")


def _together(some: Sequence[Change]) -> Iterator[str]:
    """Yield parameters that only one side has: with their values if they are few, else how many of which section."""
    if len(some) <= SHOWN:
        yield from (f"{change.name} {_value(change.new if change.kind == 'added' else change.old)}" for change in some)
        return
    for section, count in Counter(".".join(change.name.split(".")[:2]) for change in some).items():
        yield section if count == 1 else f"{section} ({count})"


def _outputs(found: Differences) -> Iterator[str]:
    kinds = {
        kind: {stage.stage: len(paths) for stage in found.outputs if (paths := getattr(stage, kind))}
        for kind in ("changed", "added", "removed")
    }
    same = sum(stage.same for stage in found.outputs)
    yield _title("Outputs", f"{sum(kinds['changed'].values())} with other bytes, {same} with the same")
    for kind, counts in kinds.items():
        if counts:
            yield from _wrapped(f"{kind}: " + ", ".join(f"{stage} {count}" for stage, count in counts.items()))
    if not any(kinds.values()):
        yield "  `distilled-circuits why` says whether there is anything to run"


def _circuits(found: Differences) -> Iterator[str]:
    changed = [circuit for circuit in found.circuits if circuit.changed]
    if not found.circuits:
        yield _title("Circuits", "none is at hand on both sides")
    else:
        yield _title("Circuits", f"{len(changed)} of {len(found.circuits)} changed")
    if changed:
        yield "  Behind a node: points of the full logit difference that go when it leaves the circuit. Behind an edge:"
        yield f"  % of what the circuit keeps that goes when it is patched. Less than {LARGE:g} is in the JSON alone."
    yield from _on_one_side(found, found.circuits_on_one_side, "circuits")
    for circuit in changed:
        yield from _circuit(circuit)


def _circuit(circuit: CircuitDifference) -> Iterator[str]:
    sizes = [
        f"{kind} {members.old} → {members.new}" + ("" if members.same else f" (Jaccard {members.jaccard:.2f})")
        for kind, members in (("nodes", circuit.nodes), ("edges", circuit.edges))
    ]
    yield f"  {circuit.name}: {', '.join(sizes)}"
    for kind, members in (("nodes", circuit.nodes), ("edges", circuit.edges)):
        yield from _members(kind, members)
    if drops := large(circuit.drops):
        yield from _item("ablated alone, %", _shortened(_effect_change(drop) for drop in drops))


def _members(kind: str, members: Members) -> Iterator[str]:
    for label, some in (("lost", members.lost), ("gained", members.gained)):
        if some:
            ordered = sorted(some.items(), key=lambda entry: -abs(entry[1].value if entry[1] else 0))
            yield from _item(f"{kind} {label}", _shortened(_effect(name, effect) for name, effect in ordered))
    if effects := large(members.kept):
        yield from _item(f"{kind} changed", _shortened(_effect_change(effect) for effect in effects))


def _numbers(found: Differences) -> Iterator[str]:
    if found.headlines is None or found.other_numbers is None:
        yield _title("Numbers", "not compared, comparison.json is not at hand on both sides")
        return
    changed = [row for row in found.headlines if row.change.changed]
    alignment = [row for row in found.headlines if row.title.startswith("alignment")]
    moved = sum(row.change.changed for row in alignment)
    yield _title(
        "Numbers",
        f"{len(changed)} of {len(found.headlines)} headline numbers changed"
        + (f"; of {len(alignment)} alignment scores {moved or 'none'}" if alignment else ""),
    )
    yield from _table(changed)
    if found.other_numbers:
        parts = ", ".join(f"{part} {count}" for part, count in _parts(found.other_numbers).most_common())
        yield from _wrapped(f"{len(found.other_numbers)} other numbers changed, all in the JSON: {parts}")
    missing = found.numbers_on_one_side
    for side, names in ((found.old, missing.only_old), (found.new, missing.only_new)):
        if names:
            owners = ", ".join(f"{owner} {count}" for owner, count in Counter(map(_owner, names)).items())
            yield from _wrapped(f"{side} alone has {len(names)} more: {owners}")


def _verdicts(found: Differences) -> Iterator[str]:
    if found.verdicts is None:
        return
    changed = [change for change in found.verdicts if change.kind == "changed"]
    yield _title("Verdicts", f"{len(changed)} changed" if changed else "the same")
    alike: dict[tuple[str, str], list[str]] = {}
    for change in changed:
        alike.setdefault((change.old, change.new), []).append(change.name)
    for (old, new), names in list(alike.items())[:SHOWN]:
        yield from _wrapped(_shortened(names, 3))
        yield from _wrapped(old, "    ")
        yield from _wrapped(f"→ {new}", "    ")
    if len(alike) > SHOWN:
        yield f"  and {sum(map(len, list(alike.values())[SHOWN:]))} more"


def _figures(found: Differences) -> Iterator[str]:
    tables = [path for stage in found.outputs for path in stage.changed if path.startswith("results/plots/")]
    if found.figures is None:
        yield _title("Figures", "not compared, report.html is not at hand on both sides")
        return
    changed = [change.name for change in found.figures if change.kind == "changed"]
    yield _title("Figures of the report", f"{len(changed)} of {found.figures_on_one_side.both} changed")
    for section, names in groupby(changed, key=lambda name: name.partition(": ")[0]):
        yield from _wrapped(f"{section}: " + ", ".join(name.partition(": ")[2] for name in names))
    yield from _on_one_side(found, found.figures_on_one_side, "figures")
    if tables:
        yield _title("Tables for plots", ", ".join(tables))


def _on_one_side(found: Differences, missing: Missing, what: str) -> Iterator[str]:
    for side, names in ((found.old, missing.only_old), (found.new, missing.only_new)):
        if names:
            yield from _wrapped(f"{what} of {side} alone: {_shortened(names, 3)}")


def _owner(name: str) -> str:
    keys = name.split(".")
    return f"{keys[1]} {keys[3]}" if keys[2:3] == ["tasks"] and len(keys) > 3 else keys[0]


def _parts(numbers: Sequence[NumberChange]) -> Counter[str]:
    """Count numbers by part: a task's circuits, roles and so on, by their key, all else by the first."""
    keys = [number.name.split(".") for number in numbers]
    return Counter(key[4] if key[2:3] == ["tasks"] and len(key) > 4 else key[0] for key in keys)


def _any_apart(found: Differences) -> bool:
    shown = [row.change for row in found.headlines or ()]
    for circuit in found.circuits:
        shown += large((*circuit.nodes.kept, *circuit.edges.kept, *circuit.drops))
    return any(change.apart for change in shown)


def _table(rows: Sequence[Headline]) -> Iterator[str]:
    """Yield aligned lines of numbers, below what they are of."""
    cells = [(row.title, *_cells(row.change)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for owner, some in groupby(zip(rows, cells, strict=True), key=lambda entry: entry[0].owner):
        yield f"  {owner}"
        for row, (title, old, new, difference) in some:
            line = f"    {title:<{widths[0]}}  {old:<{widths[1]}}  → {new:<{widths[2]}}  {difference:>{widths[3]}}"
            yield line + (" *" if row.change.apart else "")


def _cells(change: NumberChange) -> tuple[str, str, str]:
    digits = _digits(change.old, change.new)
    return _number(change.old, digits), _number(change.new, digits), f"{change.difference:+.{digits}f}"


def _digits(*numbers: Number) -> int:
    size = max(abs(number.value) for number in numbers)
    return 1 if size >= 10 else 2 if size >= 1 else 3


def _number(number: Number, digits: int) -> str:
    text = f"{number.value:.{digits}f}"
    ends = number.interval95
    return text if ends is None else f"{text} [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"


def _effect(name: str, effect: Number | None) -> str:
    return name if effect is None else f"{name}{TIE}{effect.value:.1f}"


def _effect_change(change: NumberChange) -> str:
    text = f"{change.name} {change.old.value:.1f} → {change.new.value:.1f}{' *' if change.apart else ''}"
    return text.replace(" ", TIE)


def _change(change: Change) -> str:
    if change.kind != "changed":
        return f"{change.kind}: {_value(change.new if change.kind == 'added' else change.old)}"
    if isinstance(change.old, list) and isinstance(change.new, list) and len(change.old) + len(change.new) > 2 * SHOWN:
        gone = [_value(part) for part in change.old if part not in change.new]
        come = [_value(part) for part in change.new if part not in change.old]
        signed = [f"- {part}" for part in gone] + [f"+ {part}" for part in come]
        return "a list: " + (_shortened(signed) or "in another order")
    return f"{_value(change.old)} → {_value(change.new)}"


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shortened(parts: Iterable[str], shown: int = SHOWN) -> str:
    names = list(parts)
    return ", ".join(names[:shown]) + (f" and{TIE}{len(names) - shown}{TIE}more" if len(names) > shown else "")


def _title(name: str, text: str) -> str:
    return f"{name}: {text}"


def _item(label: str, text: str) -> list[str]:
    return _wrapped(f"{label:<14} {text}", "    ", " " * 19)


def _wrapped(text: str, indent: str = "  ", further: str | None = None) -> list[str]:
    """Return lines that fit a wide terminal, those after the first further in; no name is parted from its numbers."""
    further = f"{indent}  " if further is None else further
    return textwrap.wrap(
        text, 116, initial_indent=indent, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )
