"""Which share of a stage's work a process computes: all of it, or the K-th of N on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """The `number`-th (from 1) of `of` shares; `agreed_in` is a folder that the processes of all shares see."""

    number: int = 1
    of: int = 1
    agreed_in: Path | None = None

    @property
    def label(self) -> str:
        """Return what to say of it beside a job's name: nothing where it is all."""
        return "" if self.of == 1 else f" of share {self.number}/{self.of}"

    def part(self, items: Sequence[T], cost: Callable[[T], float] = lambda _: 1.0) -> list[T]:
        """Return the items of this share: neighbours, so that all shares take about as long, by `cost`.

        Every item is in one share; where there are more shares than items, some are empty.
        """
        total, so_far, chosen = sum(map(cost, items)), 0.0, []
        for item in items:
            middle = (so_far + cost(item) / 2) / total
            so_far += cost(item)
            if int(middle * self.of) == self.number - 1:
                chosen.append(item)
        return chosen

    def agree(self, name: str, measure: Callable[[], int]) -> int:
        """Return a number that all shares must have alike: what the first of them that came here measured."""
        if self.agreed_in is None:
            return measure()
        place = self.agreed_in / name
        if not place.exists():
            own = place.with_name(f"{name}.tmp-{os.getpid()}")
            own.parent.mkdir(parents=True, exist_ok=True)
            own.write_text(str(measure()), encoding="utf-8")
            with suppress(FileExistsError):  # another process was first
                os.link(own, place)
            own.unlink()
        return int(place.read_text(encoding="utf-8"))


WHOLE = Share()
