"""Seeds that one job trains, as params.yaml writes them: `3`, or `0-2` for 0, 1 and 2."""

from __future__ import annotations

import re


def seeds_of(written: int | str) -> range:
    """Return the seeds of one entry of `distillation.seeds`; raise ValueError where it is neither `3` nor `0-2`."""
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", str(written))
    if found is None:
        raise ValueError(f"{written} is no seed, allowed: a number such as 3, or a range such as 0-2")
    first = int(found[1])
    last = first if found[2] is None else int(found[2])
    if last < first:
        raise ValueError(f"{written} has no seed in it, allowed: the smaller number first")
    return range(first, last + 1)
