"""What a prompt is: its text, its corrupted twin, answer, distractor, and where its roles stand."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

Span = tuple[int, int]
Piece = str | tuple[str, str]

FIELD = re.compile(r"\{(\w+)\}")

HELD_OUT_SHARE = 5
"""One text in this many is held out: training never sees it, prompts are made of nothing else."""


@dataclass(frozen=True)
class Prompt:
    """One contrastive prompt.

    `roles` maps a role's name (`last_numeral`, `subject`, ...) to the character spans in `clean` that play it, so
    that any tokenizer can turn it into token positions. `gaps` are character positions in `clean` where other words may
    be put in without a change of meaning. `choices` are the words that a multiple choice chooses among, the answer
    included, and `kind` is the class of the question: accuracies are reported for each. `source` is where a prompt was
    read (`data/tasks/mine.jsonl:12`), empty for one that was made; messages begin with it.
    """

    clean: str
    corrupted: str
    answer: str
    distractor: str
    roles: dict[str, tuple[Span, ...]]
    gaps: tuple[int, ...] = ()
    choices: tuple[str, ...] = ()
    kind: str = ""
    source: str = ""


@dataclass(frozen=True)
class Example:
    """A training text and the character spans of the words that the text before them determines.

    `gaps` are the character positions where other words may be put in without a change of meaning; `decoys` are words
    that look like what the task is about.
    """

    text: str
    answers: tuple[Span, ...]
    gaps: tuple[int, ...]
    decoys: tuple[str, ...]


def compose(pieces: Sequence[Piece]) -> tuple[str, dict[str, tuple[Span, ...]]]:
    """Join pieces of text; a piece `(text, "role other_role")` is remembered as a span of each of its roles."""
    text = ""
    roles: dict[str, tuple[Span, ...]] = {}
    for piece in pieces:
        words, names = (piece, "") if isinstance(piece, str) else piece
        span = (len(text), len(text) + len(words))
        text += words
        for name in names.split():
            roles[name] = (*roles.get(name, ()), span)
    return text, roles


def is_held_out(text: str) -> bool:
    """Whether a text belongs to the held-out fifth: decided by its bytes alone, so it needs no list of seen texts."""
    return zlib.crc32(text.encode()) % HELD_OUT_SHARE == 0


def fill(template: str, values: Mapping[str, Piece]) -> list[Piece]:
    """Return the pieces of a template such as `Box {letter}`, each field replaced by its value."""
    return [values[part] if n % 2 else part for n, part in enumerate(FIELD.split(template))]


def fixed_words(*templates: str) -> list[str]:
    """Return the words and marks that templates have outside their fields."""
    return re.findall(r"\w+|[^\w\s]", FIELD.sub(" ", " ".join(templates)))


def last_word(text: str) -> Span:
    """Return the span of the last word or punctuation mark: the place where the answer is predicted."""
    *_, match = re.finditer(r"\w+|[^\w\s]", text)
    return match.span()


def scatter(example: Example, fillers: Sequence[str], rate: float, rng: random.Random) -> Example:
    """Put a filler word, half of the time with a decoy behind it, into each gap with probability `rate`.

    Without this a model finds all it needs at fixed places and one layer does the whole task. Fillers move the places,
    decoys make it tell a sequence's numeral from any other numeral: that takes heads that build on each other.
    """
    text, taken, shifts = "", 0, []
    for gap in sorted(example.gaps):
        if rng.random() < rate:
            words = rng.choice(fillers) + (f" {rng.choice(example.decoys)}" if rng.random() < 0.5 else "")
            text += example.text[taken:gap] + words + " "
            taken = gap
            shifts.append((gap, len(words) + 1))
    text += example.text[taken:]
    moved = [sum(length for gap, length in shifts if gap <= start) for start, _ in example.answers]
    answers = [(start + by, end + by) for (start, end), by in zip(example.answers, moved, strict=True)]
    return Example(text, tuple(answers), (), ())


def spread(prompt: Prompt, fillers: Sequence[str], number: int, rng: random.Random) -> Prompt:
    """Return the prompt with `number` filler words, each in front of it or in a random gap; its roles move along.

    Prompts of one length stay of one length, but what plays a role no longer stands at one place. There is no corrupted
    twin of it: the prompt itself stands in.
    """
    places = sorted(rng.choice((0, *prompt.gaps)) for _ in range(number))
    text, taken, moves = "", 0, []
    for place in places:
        word = rng.choice(fillers) + " "
        text += prompt.clean[taken:place] + word
        taken = place
        moves.append((place, len(word)))
    text += prompt.clean[taken:]

    def moved(span: Span) -> Span:
        by = sum(length for place, length in moves if place <= span[0])
        return span[0] + by, span[1] + by

    roles = {role: tuple(map(moved, spans)) for role, spans in prompt.roles.items()}
    return replace(prompt, clean=text, corrupted=text, roles=roles, gaps=())
