"""Progress of long loops on standard error, one line at a time, so that parallel jobs and logs stay readable."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 5.0


class _Lines:
    """A stream for tqdm that ends each report with a line feed where tqdm would go back to the line's start."""

    def write(self, text: str) -> None:
        line = text.replace("\r", "").strip("\n ")
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


class Progress:
    """A running count of finished steps; `note` sets what is said beside it."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar

    def advance(self, steps: int = 1) -> None:
        """Count steps as done; a line is printed when the last one is more than five seconds old."""
        self._bar.update(steps)

    def note(self, text: str) -> None:
        """Say `text` beside the count from the next line on."""
        self._bar.set_postfix_str(text, refresh=False)


@contextmanager
def track(total: int, label: str) -> Iterator[Progress]:
    """Report how many of `total` steps are done, and the time left, every five seconds."""
    form = "{desc}: {n:.0f}/{total_fmt} done, {elapsed} elapsed, {remaining} left{postfix}"
    with tqdm(
        total=total,
        desc=label,
        file=_Lines(),
        mininterval=SECONDS_BETWEEN_LINES,
        maxinterval=SECONDS_BETWEEN_LINES,
        bar_format=form,
        delay=SECONDS_BETWEEN_LINES,
        leave=False,
    ) as bar:
        yield Progress(bar)
