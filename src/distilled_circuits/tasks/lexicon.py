"""The words that tasks are made of, read once from the lists in `data/`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from distilled_circuits.errors import UserError


@dataclass(frozen=True)
class Fact:
    """One made-up fact: the `answer` to the question about a person's `relation` (`town` or `craft`)."""

    person: str
    relation: str
    answer: str


@dataclass(frozen=True)
class Lexicon:
    """Word lists and facts; `numerals` and `number_words` run in parallel from one upwards."""

    objects: tuple[str, ...]
    names: tuple[str, ...]
    places: tuple[str, ...]
    gifts: tuple[str, ...]
    fillers: tuple[str, ...]
    containers: tuple[str, ...]
    contents: tuple[str, ...]
    numerals: tuple[str, ...]
    number_words: tuple[str, ...]
    facts: tuple[Fact, ...]

    @cached_property
    def nouns(self) -> tuple[str, ...]:
        """The objects in small letters, as they stand inside a sentence."""
        return tuple(word.lower() for word in self.objects)


def load_lexicon(folder: Path) -> Lexicon:
    """Read the word lists; raise UserError that names the file when one is missing, repeats a word or lacks a value."""
    numbers = _rows(folder / "numerals.csv", ["numeral", "word"])
    return Lexicon(
        objects=_words(folder / "objects.txt"),
        names=_words(folder / "names.txt"),
        places=_words(folder / "places.txt"),
        gifts=_words(folder / "gifts.txt"),
        fillers=_words(folder / "fillers.txt"),
        containers=_words(folder / "containers.txt"),
        contents=_words(folder / "contents.txt"),
        numerals=tuple(row["numeral"] for row in numbers),
        number_words=tuple(row["word"] for row in numbers),
        facts=tuple(Fact(**row) for row in _rows(folder / "facts.csv", ["person", "relation", "answer"])),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such word list; restore it with `git checkout {path}`") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from None


def _words(path: Path) -> tuple[str, ...]:
    words = tuple(_read(path).split())
    repeated = {word for word in words if words.count(word) > 1}
    if repeated:
        raise UserError(f"{path}: {', '.join(sorted(repeated))} stands there twice; list every word once")
    return words


def _rows(path: Path, columns: list[str]) -> list[dict[str, str]]:
    reader = csv.DictReader(_read(path).splitlines())
    rows = []
    for row in reader:
        if list(row) != columns or None in row.values():
            raise UserError(f"{path}:{reader.line_num}: allowed: a value for each of {', '.join(columns)}")
        rows.append(row)
    return rows
