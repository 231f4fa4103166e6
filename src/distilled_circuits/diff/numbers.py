"""The numbers and verdicts of a run by their place in comparison.json, and how two runs differ in them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Place = tuple[str, ...]
"""Keys from the top of comparison.json; an entry of a list goes by its name where it has one, else by its index."""

Key = TypeVar("Key", bound=Hashable)

NAMES = ("id", "name", "node", "edge", "mlp", "variant", "candidate", "form", "threshold")
"""What an entry of a list may be known by."""

PRECISION = 1e-6
"""Numbers that differ by less than this share of their size are the same."""

HEADLINES: dict[Place, str] = {
    ("pairs", "*", "tasks", "*", "alignment", "presets", "*", "score"): "alignment, {2}",
    ("pairs", "*", "tasks", "*", "logit_difference", "teacher"): "logit difference, teacher",
    ("pairs", "*", "tasks", "*", "logit_difference", "student"): "logit difference, student",
    ("pairs", "*", "tasks", "*", "robustness", "teacher"): "mean drop, %, teacher",
    ("pairs", "*", "tasks", "*", "robustness", "student"): "mean drop, %, student",
    ("pairs", "*", "tasks", "*", "circuit", "*", "only_circuit", "percent"): "only the circuit, %, {2}",
    ("pairs", "*", "tasks", "*", "circuit", "*", "without_circuit", "percent"): "without the circuit, %, {2}",
    ("pairs", "*", "tasks", "*", "stability", "*", "jaccard"): "stability (Jaccard), {2}",
    ("pairs", "*", "models", "*", "accuracy", "*"): "accuracy on {2}, {1}",
    ("distillation", "*", "models", "*", "full"): "accuracy, {1}",
    ("distillation", "*", "models", "*", "circuit"): "accuracy of the circuit, {1}",
    ("distillation", "*", "contrasts", "*"): "contrast {1}",
}
"""What is shown first, by place: performance, robustness, completeness ("only the circuit") and faithfulness
("without" it) of the first paper, alignment, and the accuracies and contrasts of the second. `{n}` is the n-th star."""


@dataclass(frozen=True)
class Number:
    """A number with its 95 % interval, where it has one."""

    value: float
    interval95: tuple[float, float] | None = None

    def same_as(self, other: Number) -> bool:
        """Whether value and interval are the same up to PRECISION."""
        if (self.interval95 is None) != (other.interval95 is None):
            return False
        mine, others = (self.value, *(self.interval95 or ())), (other.value, *(other.interval95 or ()))
        return all(math.isclose(a, b, rel_tol=PRECISION, abs_tol=1e-9) for a, b in zip(mine, others, strict=True))


@dataclass(frozen=True)
class NumberChange:
    """A number before and after. `apart`: the intervals do not overlap; None where one of them is not known."""

    name: str
    old: Number
    new: Number
    difference: float
    changed: bool
    apart: bool | None

    @classmethod
    def between(cls, name: str, old: Number, new: Number) -> NumberChange:
        """Compare two values of one number."""
        apart = None
        if old.interval95 and new.interval95:
            apart = old.interval95[1] < new.interval95[0] or new.interval95[1] < old.interval95[0]
        return cls(name, old, new, new.value - old.value, not old.same_as(new), apart)


def in_both(old: Mapping[Key, Number], new: Mapping[Key, Number]) -> dict[Key, NumberChange]:
    """Compare what both sides have, changed or not, in the order of `old`."""
    return {
        key: NumberChange.between(".".join(key) if isinstance(key, tuple) else str(key), value, new[key])
        for key, value in old.items()
        if key in new
    }


def headline(place: Place) -> tuple[str, str] | None:
    """Return what a number is of (`mini numerals`, `entity_tracking, small`) and what it is; None for all others."""
    for pattern, title in HEADLINES.items():
        if len(pattern) == len(place) and all(part in ("*", key) for part, key in zip(pattern, place, strict=True)):
            stars = [key for part, key in zip(pattern, place, strict=True) if part == "*"]
            owner = " ".join(stars[:2]) if pattern[2] == "tasks" else stars[0]
            return owner, title.format(*stars)
    return None


def numbers_of(content: Any, place: Place = ()) -> Iterator[tuple[Place, Number]]:
    """Yield every number below a place; `value` with its `interval95` is one, and other intervals are left out."""
    if isinstance(content, dict):
        if _is_number(content.get("value")):
            yield place, Number(float(content["value"]), _interval(content.get("interval95")))
        for key, part in content.items():
            if key not in ("value", "range", "provenance") and not key.startswith("interval95"):
                yield from numbers_of(part, (*place, key))
    elif isinstance(content, list):
        for key, part in named(content):
            yield from numbers_of(part, (*place, key))
    elif _is_number(content):
        yield place, Number(float(content))


def verdicts_of(content: Any) -> dict[str, str]:
    """Return every verdict in words: of circuit distillation, of its claims, and of each row of the two registers."""
    found = {}
    for name, part in named(content["distillation"]):
        found[name] = part["verdict"]["verdict"]
        found |= {f"{name}: {row['claim']['text']}": row["verdict"]["verdict"] for row in part["claims"]}
    for pair, rows in content["register"].items():
        found |= {f"{pair} {row['id']}": row["verdict"] for row in rows}
    return found | {row["id"]: row["verdict"] for row in content["distillation_register"]}


def named(entries: list[Any]) -> list[tuple[str, Any]]:
    """Return the entries of a list with what each goes by: a name that no other has, else its index."""
    names = [_name(entry) for entry in entries]
    return [
        (name if name is not None and names.count(name) == 1 else str(index), entry)
        for index, (name, entry) in enumerate(zip(names, entries, strict=True))
    ]


def _name(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return None
    if isinstance(entry.get("of"), dict):  # a teacher, a student and a task of circuit distillation
        return "-".join(str(part) for part in entry["of"].values())
    return next((str(entry[key]) for key in NAMES if isinstance(entry.get(key), (str, int, float))), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _interval(value: Any) -> tuple[float, float] | None:
    ends = value if isinstance(value, list) else []
    return (float(ends[0]), float(ends[1])) if len(ends) == 2 and all(map(_is_number, ends)) else None
