"""How long each stage took the last time that it ran here: logs beside the results, and no part of them."""

from __future__ import annotations

import csv
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

SECONDS = Path("logs/seconds")
BENCHMARKS = Path("logs/benchmarks")
RESTORING = 8.0
"""Seconds of a Snakemake job below which it may have restored results from DVC's cache, and not run its stage."""


def record(name: str, seconds: float, threads: int) -> None:
    """Note the seconds of a stage that has ended well; a log that cannot be written costs nobody the results."""
    from distilled_circuits.artifacts import to_json, write_text  # numpy, which must wait until threads are set

    noted = {"seconds": round(seconds, 2), "threads": threads, "cores": os.cpu_count()}
    with suppress(OSError):
        write_text(SECONDS / f"{name}.json", to_json(noted | {"when": datetime.now(UTC).isoformat(timespec="seconds")}))


def last_seconds(name: str, root: Path = Path()) -> float | None:
    """Return the seconds that a stage took for an item when it last ran here, or None where nobody measured it.

    Without a note of the stage's own that is what Snakemake noted of its job, DVC's few seconds included.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads((root / SECONDS / f"{name}.json").read_text(encoding="utf-8"))["seconds"])
    with suppress(OSError, ValueError, KeyError, TypeError, StopIteration):
        lines = (root / BENCHMARKS / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
        seconds = float(next(csv.DictReader(lines, delimiter="\t"))["s"])
        return seconds if seconds > RESTORING else None
    return None


def in_words(seconds: float) -> str:
    """Return a duration as a person says it: `45 s`, `2 min 10 s`, `1 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
