"""YAML as this project reads it: params.yaml, dvc.yaml and dvc.lock, plain data only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from distilled_circuits.errors import UserError
from distilled_circuits.messages import one_line, shown

DEEPEST = 40
"""Levels of nesting; the parser in C takes some ten thousand, and then the process dies."""
MOST = 200_000
"""Values in a file, those behind an alias counted wherever it stands: a few lines of aliases can stand for billions."""
LARGEST = 2**31 - 1
"""Whole numbers up to here fit all that takes one: seeds, sizes of arrays, threads."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Makes plain data and nothing else; refuses deep nesting, and keys that stand twice as DVC does."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.depth = 0
        self.looked_at: set[int] = set()

    def descend_resolver(self, node: Any, index: Any) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"more than {DEEPEST} levels of nesting")
        super().descend_resolver(node, index)

    def ascend_resolver(self) -> None:
        self.depth -= 1
        super().ascend_resolver()

    def flatten_mapping(self, node: Any) -> None:
        if id(node) not in self.looked_at:  # once it is flattened, a node may repeat a key of what `<<` stands for
            self.looked_at.add(id(node))
            _refuse_repeated_keys(node)
        super().flatten_mapping(node)
        if len(node.value) > MOST:
            raise yaml.YAMLError(f"more than {MOST} values behind `<<`")


def _refuse_repeated_keys(node: Any) -> None:
    keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    if len(set(keys)) < len(keys):
        twice = next(key for key, times in Counter(keys).items() if times > 1)
        raise yaml.constructor.ConstructorError(None, None, f"the key {shown(twice)} stands twice", node.start_mark)


def parse_yaml(text: str) -> Any:
    """Return what a text says, read by the parser in C where there is one, six times as fast; raise yaml.YAMLError."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe one
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # a month 13, `!!bool maybe`, `!!timestamp soon`
        raise yaml.YAMLError(f"a value that is not what it is marked or looks like: {error}") from None


def read_yaml(path: Path) -> Any:
    """Return what a file of the project's folder says, with texts as keys; raise UserError where that cannot be."""
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; start in the project's folder") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = str(error).replace('in "<unicode string>", ', "at ")
        raise UserError(one_line(f"{path}: not readable as YAML: {said}")) from None
    problem = _problem(content)
    if problem:
        raise UserError(one_line(f"{path}: {problem}"))
    return content


def _problem(content: Any) -> str | None:
    """Name the first key that is no text or number that is too large, or say that there are too many values."""
    to_read: list[tuple[tuple[str, ...], Any]] = [((), content)]
    for _ in range(MOST):
        if not to_read:
            return None
        place, value = to_read.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, str):
                    return f"{'.'.join((*place, shown(key)))}: found a key that is no text, allowed: texts; quote it"
                to_read.append(((*place, key), inner))
        elif isinstance(value, (list, tuple, set)):
            to_read += [(place, inner) for inner in value]
        elif isinstance(value, int) and abs(value) > LARGEST:
            return f"{'.'.join(place)}: found {shown(value)}, allowed: whole numbers up to {LARGEST}"
    return f"more than {MOST} values; does an alias (*name) stand for what it stands in, or for many aliases?"
