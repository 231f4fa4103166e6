"""Sentences about indirect objects as text (Wang et al. 2023): one a line, with the indirect object at its end."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distilled_circuits.errors import UserError
from distilled_circuits.tasks.prompt import Piece, Prompt, Span, compose, last_word
from distilled_circuits.tasks.text_files import read_lines

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
"""A word or name, `O'Neil` and `Anne-Marie` too."""
ENDING = re.compile(rf"(?P<prompt>.*\S)\s+(?P<name>{WORD.pattern})\.?")
PARTS = ("io", "s1", "s2")


@dataclass(frozen=True)
class Sentence:
    """A sentence without its last name, that name, the repeated name, and where they stand: io, s1, s2."""

    text: str
    receiver: str
    giver: str
    spans: tuple[Span, Span, Span]
    source: str


def read_ioi(path: Path, rng: random.Random) -> list[Prompt]:
    """Return a prompt for each line, such as `Then, Mary and John went out. John gave a drink to Mary`.

    The answer is the name at the end, which must stand once before; the distractor is the one capitalised word that
    stands there twice. A full stop at the end may be there or not; blank lines are skipped. In the corrupted prompt
    three other names of the file, all different, stand for the three, so that no name is repeated (the paper's ABC).
    Roles are those of our own task. Raises UserError that names file and line.
    """
    sentences = [_sentence(line.strip(), f"{path}:{number}") for number, line in read_lines(path)]
    names = sorted({name for sentence in sentences for name in (sentence.receiver, sentence.giver)})
    return [_prompt(sentence, names, rng) for sentence in sentences]


def _sentence(line: str, source: str) -> Sentence:
    ending = ENDING.fullmatch(line)
    if not ending or not ending["name"][0].isupper():
        raise UserError(f"{source}: {line!r} does not end with a name: the indirect object must be its last word")
    text, receiver = ending["prompt"], ending["name"]
    places: dict[str, list[Span]] = {}
    for match in WORD.finditer(text):
        places.setdefault(match[0], []).append(match.span())
    if len(places.get(receiver, ())) != 1:
        found = len(places.get(receiver, ()))
        raise UserError(f"{source}: {receiver!r} stands {found} times before the end, allowed: once")
    repeated = [word for word, spans in places.items() if len(spans) == 2 and word[0].isupper()]
    if len(repeated) != 1:
        found = ", ".join(map(repr, repeated)) or "none"
        raise UserError(f"{source}: capitalised words that stand there twice: {found}; allowed: one, who gives")
    spans = (*places[receiver], *places[repeated[0]])
    return Sentence(text, receiver, repeated[0], spans, source)


def _prompt(sentence: Sentence, names: Sequence[str], rng: random.Random) -> Prompt:
    there = set(WORD.findall(sentence.text))
    others = [name for name in names if name not in there]
    if len(others) < len(PARTS):
        raise UserError(
            f"{sentence.source}: the corrupted prompt needs three names that are not in the sentence, but the file has "
            f"only {len(others)}: add sentences with other names"
        )
    clean, roles = _named(sentence, (sentence.receiver, sentence.giver, sentence.giver))
    corrupted, _ = _named(sentence, rng.sample(others, len(PARTS)))
    roles |= {"last": (last_word(clean),), "subject": roles["s2"]}
    return Prompt(clean, corrupted, sentence.receiver, sentence.giver, roles, source=sentence.source)


def _named(sentence: Sentence, names: Sequence[str]) -> tuple[str, dict[str, tuple[Span, ...]]]:
    """Write a sentence with these names as io, s1 and s2."""
    pieces: list[Piece] = []
    taken = 0
    for (start, end), name, role in sorted(zip(sentence.spans, names, PARTS, strict=True)):
        pieces += [sentence.text[taken:start], (name, role)]
        taken = end
    return compose([*pieces, sentence.text[taken:]])
