"""The forms of prompt files by name, as data: what each file is, how they are read, what prompts must be like."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distilled_circuits.artifacts import digest
from distilled_circuits.errors import UserError
from distilled_circuits.tasks.causal_tom import read_causal_tom
from distilled_circuits.tasks.ioi_text import read_ioi
from distilled_circuits.tasks.lan2024 import read_lan2024
from distilled_circuits.tasks.own import read_own
from distilled_circuits.tasks.prompt import Prompt
from distilled_circuits.tasks.simpleqa import read_simpleqa


@dataclass(frozen=True)
class Format:
    """A form of prompt files.

    `files` says what each file is, in the order in which they are given. With `one_length` a prompt of another number
    of tokens is a mistake; without it the prompts of the most frequent length are kept. With `first_token` the first
    token of answer and distractor counts; without it both must be one token.
    """

    name: str
    title: str
    files: tuple[str, ...]
    read: Callable[[Sequence[Path], random.Random], list[Prompt]]
    one_length: bool
    first_token: bool


FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format(
            "jsonl",
            "own task",
            ("one JSON object a line",),
            lambda paths, _: read_own(paths[0]),
            one_length=True,
            first_token=False,
        ),
        Format(
            "lan2024",
            "sequences of Lan et al. (2024)",
            ("done", "lost", "names", "corrupted"),
            lambda paths, _: read_lan2024(paths),
            one_length=False,
            first_token=False,
        ),
        Format(
            "simpleqa",
            "SimpleQA",
            ("CSV with problem, answer, metadata",),
            lambda paths, rng: read_simpleqa(paths[0], rng),
            one_length=False,
            first_token=True,
        ),
        Format(
            "ioi",
            "sentences about indirect objects",
            ("one sentence a line",),
            lambda paths, rng: read_ioi(paths[0], rng),
            one_length=False,
            first_token=False,
        ),
        Format(
            "causal_tom",
            "CausalToM",
            ("templates", "characters", "containers", "contents"),
            read_causal_tom,
            one_length=False,
            first_token=False,
        ),
    )
}


def read_prompts(format_name: str, paths: Sequence[Path], digests: Sequence[str], rng: random.Random) -> list[Prompt]:
    """Return the prompts of files that are there and are those that were meant.

    `digests` are the SHA-256 of the files in the same order, as hexadecimal digits; none at all leaves them unchecked.
    `rng` draws what a format leaves to chance (distractors, corrupted prompts). Raises UserError for an unknown format,
    a wrong number of files or digests, a missing file, another digest, and what the format's reader finds.
    """
    form = FORMATS.get(format_name)
    if form is None:
        raise UserError(f"params.yaml: sources: unknown format {format_name!r}, allowed: {', '.join(FORMATS)}")
    if len(paths) != len(form.files):
        raise UserError(
            f"params.yaml: sources: {len(paths)} files for the format {format_name}, allowed: {len(form.files)} "
            f"({', '.join(form.files)})"
        )
    if digests and len(digests) != len(paths):
        raise UserError(
            f"params.yaml: sources: {len(digests)} digests in sha256 for {len(paths)} files, allowed: one for each, or "
            "none"
        )
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such file; docs/data.md says where to get it")
    for path, expected in zip(paths, digests, strict=bool(digests)):
        _check_digest(path, expected)
    return form.read(paths, rng)


def _check_digest(path: Path, expected: str) -> None:
    found = digest(path)
    if found != expected.lower():
        raise UserError(
            f"{path}: SHA-256 {found}, expected {expected}: the file differs from the one that params.yaml was written "
            "for; get that one (docs/data.md), or change sources in params.yaml if this one is meant"
        )
