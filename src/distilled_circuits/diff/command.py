"""The verb `diff`: both sides read, compared and printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from distilled_circuits.artifacts import to_json
from distilled_circuits.diff.differences import compare
from distilled_circuits.diff.sides import side_at, side_here, sources_changed
from distilled_circuits.diff.text import lines_of
from distilled_circuits.errors import UserError


def print_diff(revisions: Sequence[str], as_json: bool) -> None:
    """Print how a revision differs from the working tree, or from a second revision.

    Raises UserError for revisions or runs that are not there.
    """
    text = "\n".join(diff(revisions, as_json)) + "\n"
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has read enough, as `| head` has; Python would complain once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def diff(revisions: Sequence[str], as_json: bool) -> Iterator[str]:
    """Yield the lines of a comparison, or its JSON."""
    if len(revisions) > 2:
        raise UserError(f"{revisions[2]}: one revision is compared with the working tree, two with each other")
    first, second = revisions[0], revisions[1] if len(revisions) > 1 else None
    sources = sources_changed(first, second)
    found = compare(side_at(first), side_here() if second is None else side_at(second), sources)
    yield from [to_json(found.as_json()).rstrip("\n")] if as_json else lines_of(found)
