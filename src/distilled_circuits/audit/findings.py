"""A finding of the audit: which artifact is wrong, by which check, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from distilled_circuits.errors import UserError
from distilled_circuits.messages import printable

CHECKS = ("bytes", "parameters", "inputs", "code", "invariants")
LONGEST = 160
"""Characters of a value that a line shows."""
DAMAGED = (
    UserError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What reading a file of another form than its schema's may raise."""


@dataclass(frozen=True)
class Wrong:
    """What is wrong at one place of an artifact (a dataset, a key, a file), without saying which artifact."""

    place: str
    expected: str
    found: str


@dataclass(frozen=True)
class Finding:
    """One mismatch: the artifact, the check that saw it, where, what was expected and found, and what to do."""

    artifact: str
    check: str
    place: str
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        """Return the line that a person reads."""
        return (
            f"{self.artifact}: {self.check}: {self.place}: expected {self.expected}, found {self.found}; {self.remedy}"
        )


def shown(value: Any) -> str:
    """Return a value on one line, cut where it is long: it may come from a damaged file."""
    text = printable(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def damage(error: BaseException) -> str:
    """Return on one line what reading a damaged file raised."""
    return shown(error if isinstance(error, UserError) else f"{type(error).__name__}: {error}")


@contextmanager
def as_wrong(place: str, expected: str, into: list[Wrong]) -> Iterator[None]:
    """Turn what reading a damaged file raises inside the block into a `Wrong`."""
    try:
        yield
    except DAMAGED as error:
        into.append(Wrong(place, expected, damage(error)))
