"""What a rule finds of a claim, and how an interval decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HOLDS = "holds here"
FAILS = "does not hold here"
UNDECIDED = "not decided"
UNMEASURED = "not measured"
VERDICTS = (HOLDS, FAILS, UNDECIDED, UNMEASURED)
Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """What was measured for one claim: of what, the value with the interval that decides, on how many prompts."""

    what: str
    verdict: str
    value: float | None = None
    interval95: tuple[float, float] | None = None
    prompts: int | None = None
    reason: str = ""


def side_of(interval: Sequence[float], bound: float = 0.0) -> str:
    """Return HOLDS for an interval above a bound, FAILS for one below it, UNDECIDED for one that spans it."""
    low, high = interval
    return HOLDS if low > bound else FAILS if high < bound else UNDECIDED


def opposite(verdict: str) -> str:
    """Return the verdict on a claim that something is below its bound."""
    return {HOLDS: FAILS, FAILS: HOLDS}.get(verdict, verdict)


def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return an interval for first less second from those of each: wider than one of their paired difference."""
    return first[0] - second[1], first[1] - second[0]


def hull(*intervals: Sequence[float]) -> tuple[float, float]:
    """Return the smallest interval that holds all given ones."""
    return min(low for low, _ in intervals), max(high for _, high in intervals)
