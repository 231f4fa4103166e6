"""What was added, removed and changed between two mappings of names to values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """A name whose value is another one; `kind` is changed, added or removed, for None can be a value."""

    name: str
    kind: str
    old: Any
    new: Any


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the changes in the order of `old`, then what is new in the order of `new`."""
    found = []
    for name, value in old.items():
        if name not in new:
            found.append(Change(name, "removed", value, None))
        elif new[name] != value:
            found.append(Change(name, "changed", value, new[name]))
    return (*found, *(Change(name, "added", None, value) for name, value in new.items() if name not in old))


def flattened(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of nested mappings by their dotted names; a list is one value, and so is an empty mapping."""
    return dict(_leaves(content, ""))


def _leaves(content: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.loads(json.dumps(value, default=str))  # YAML has dates, JSON has none
