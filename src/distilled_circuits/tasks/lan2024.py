"""The published sequence prompts of Lan et al. (2024): clean ones of three kinds, and a corrupted one for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from distilled_circuits.errors import UserError
from distilled_circuits.tasks.prompt import Prompt, last_word
from distilled_circuits.tasks.safe_pickle import load_plain
from distilled_circuits.tasks.text_files import read_json

KINDS = ("done", "lost", "names")
"""The kinds of prompts in the order of their files, which is also their order in the corrupted file."""
ELEMENTS = ("S1", "S2", "S3", "S4")
FIELDS = (*ELEMENTS, "corr", "incorr", "text")
"""The fields of a row; `corr` and `incorr` begin with a space."""
FORM = re.compile(r"(\w+) (\w+) in (\w+)\. " * 4 + r"(\w+) (\w+) in")
"""`W v in n.` four times and an open clause: subject, verb, element; subject, verb, element; ..."""
WORD = re.compile(r" (\w+)")

Row = dict[str, str]


def read_lan2024(paths: Sequence[Path]) -> list[Prompt]:
    """Return the clean prompts that have a corrupted twin, the kinds in turn: done, lost, names, done, ...

    `paths` are the files of the kinds done, lost, names, and the corrupted prompts; each is a list of objects, as JSON
    or as the published pickle. The corrupted file has rows for as many prompts of each kind, one kind after the other:
    with 1536 rows the first 512 of each file are used. Of a corrupted row only `text` counts, since its other fields
    disagree with it. Roles are those of our own sequences, and `gaps` too. Raises UserError that names file and row,
    counted from 1.
    """
    *clean_paths, corrupted_path = paths
    corrupted = _rows(corrupted_path)
    number, rest = divmod(len(corrupted), len(KINDS))
    if rest or not number:
        raise UserError(f"{corrupted_path}: {len(corrupted)} rows, allowed: 3, 6, 9, ..., as many of each kind")
    kinds = [_rows(path) for path in clean_paths]
    for path, rows in zip(clean_paths, kinds, strict=True):
        if len(rows) < number:
            raise UserError(
                f"{path}: {len(rows)} rows, but {corrupted_path} has corrupted prompts for {number} of each kind: "
                "take files that belong together"
            )
    return [
        _prompt(
            kinds[kind][row],
            f"{clean_paths[kind]}: row {row + 1}",
            corrupted[kind * number + row]["text"],
            f"{corrupted_path}: row {kind * number + row + 1}",
        )
        for row in range(number)
        for kind in range(len(KINDS))
    ]


def _rows(path: Path) -> list[Row]:
    """Return the rows of a file, each with all fields as texts."""
    rows = load_plain(path) if path.suffix == ".pkl" else read_json(path)
    if not isinstance(rows, list):
        raise UserError(f"{path}: found a {type(rows).__name__}, allowed: a list of objects")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise UserError(f"{path}: row {number}: found a {type(row).__name__}, allowed: an object")
        lacking = next((field for field in FIELDS if not isinstance(row.get(field), str)), None)
        if lacking:
            raise UserError(f"{path}: row {number}: {lacking} is no text, but every row needs {', '.join(FIELDS)}")
    return rows


def _prompt(row: Row, source: str, corrupted: str, corrupted_source: str) -> Prompt:
    clean, twin = _match(row["text"], source), _match(corrupted, corrupted_source)
    shown = clean.groups()[2::3]
    if shown != tuple(row[field] for field in ELEMENTS):
        raise UserError(f"{source}: the text shows {', '.join(shown)}, but S1 to S4 say otherwise")
    answer, distractor = (WORD.fullmatch(row[field]) for field in ("corr", "incorr"))
    if not answer or not distractor or distractor[1] != shown[-1] or answer[1] == distractor[1]:
        raise UserError(f"{source}: corr must be a space and a word, incorr a space and {shown[-1]}, the last element")
    if _frame(clean) != _frame(twin):
        raise UserError(
            f"{corrupted_source}: {corrupted!r} differs from {source} in more than its elements: give the files of one "
            "task in the order done, lost, names, corrupted"
        )
    spans = [clean.span(group) for group in range(1, FORM.groups + 1)]
    subjects, verbs, numerals = (tuple(spans[first::3]) for first in range(3))
    roles = {
        "subjects": subjects,
        "subject": subjects[-1:],
        "numerals": numerals,
        "last_numeral": numerals[-1:],
        "last": (last_word(clean.string),),
    }
    gaps = tuple(sorted(start for start, _ in (*subjects, *verbs)))
    return Prompt(clean.string, corrupted, answer[1], distractor[1], roles, gaps, source=source)


def _match(text: str, source: str) -> re.Match[str]:
    match = FORM.fullmatch(text)
    if not match:
        raise UserError(f"{source}: the text {text!r} is not `W v in n. W v in n. W v in n. W v in n. W v in`")
    return match


def _frame(match: re.Match[str]) -> tuple[list[str], bool]:
    """Return all words but the elements, and whether these are numerals: the files of both tasks share their words."""
    words = list(match.groups())
    elements = words[2::3]
    del words[2::3]
    return words, all(element.isdigit() for element in elements)
