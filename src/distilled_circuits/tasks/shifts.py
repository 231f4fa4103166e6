"""The tasks off the distribution that models are trained on: longer, beyond the range, with other words."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from distilled_circuits.tasks.facts import QUESTIONS, facts_prompts
from distilled_circuits.tasks.ioi import FRAMES, Frame, ioi_prompts
from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.prompt import Prompt
from distilled_circuits.tasks.sequences import LENGTH, RANGE, Form, sequence_prompts

LONGER = 6
"""Elements of a longer sequence."""
PADDING = 4
"""Filler words in each gap of a longer prompt; training has one, or one and a decoy."""
OTHER_WORDINGS = {
    "town": ("Which town does {person} live in",),
    "craft": ("Which work does {person} do now",),
}
"""Questions that are never asked in training, of words that are known from others."""


@dataclass(frozen=True)
class Shift:
    """A way in which prompts differ from those of training, in words, and how to make them: `prompts(number, rng)`."""

    title: str
    prompts: Callable[[int, random.Random], list[Prompt]]


def shifts_of(task: str, lexicon: Lexicon) -> dict[str, Shift]:
    """Return the shifts of a task by name; each makes prompts with corrupted twins of its own kind."""
    if task == "ioi":
        return _ioi_shifts(lexicon)
    if task == "facts":
        return _facts_shifts(lexicon)
    return _sequence_shifts(lexicon, task)


def _sequence_shifts(lexicon: Lexicon, task: str) -> dict[str, Shift]:
    elements = lexicon.numerals if task == "numerals" else lexicon.number_words
    swapped = replace(lexicon, names=lexicon.objects, objects=lexicon.names)
    beyond = range(RANGE - LENGTH + 1, len(elements) + 1)

    def shift(title: str, form: Form, words: Lexicon = lexicon) -> Shift:
        return Shift(title, lambda number, rng: sequence_prompts(words, elements, number, rng, form))

    shifts = {
        "longer": shift(
            f"{LONGER} elements instead of {LENGTH}", Form(starts=range(1, RANGE - LONGER + 1), length=LONGER)
        ),
        "other_verbs": shift("adverbs where the verb stands", Form(verbs=lexicon.fillers)),
        "other_names": shift("names for things and things for names", Form(), swapped),
    }
    if len(elements) > RANGE:
        title = f"answers from {RANGE + 1} to {len(elements)}, where training never counts up"
        shifts["larger_numbers"] = shift(
            title, Form(starts=range(beyond[0], len(elements) - LENGTH + 1), elements=beyond)
        )
    return shifts


def _padding(lexicon: Lexicon) -> str:
    return " ".join(lexicon.fillers[:PADDING]) + " "


def _ioi_shifts(lexicon: Lexicon) -> dict[str, Shift]:
    persons = tuple(sorted({fact.person for fact in lexicon.facts}))
    padding = _padding(lexicon)
    longer = [
        (before, between, padding + where, padding + place, what, padding + gave)
        for before, between, where, place, what, gave in FRAMES
    ]
    verbs = [(*frame[:4], f" {word} ", frame[5]) for frame in FRAMES for word in lexicon.fillers]

    def shift(title: str, frames: Sequence[Frame], words: Lexicon = lexicon) -> Shift:
        return Shift(title, lambda number, rng: ioi_prompts(words, number, rng, frames))

    return {
        "longer": shift(f"{PADDING} words more in each of three gaps; training has 2 at most", longer),
        "other_verbs": shift("adverbs where the verb stands", verbs),
        "other_names": shift("persons of the questions as names", FRAMES, replace(lexicon, names=persons)),
    }


def _facts_shifts(lexicon: Lexicon) -> dict[str, Shift]:
    padding = _padding(lexicon)
    longer = {relation: tuple(padding + wording for wording in wordings) for relation, wordings in QUESTIONS.items()}

    def shift(title: str, wordings: dict[str, tuple[str, ...]]) -> Shift:
        def prompts(number: int, rng: random.Random) -> list[Prompt]:
            available = sum(len(wordings[fact.relation]) for fact in lexicon.facts)
            return facts_prompts(lexicon, min(number, available), rng, wordings)

        return Shift(title, prompts)

    return {
        "longer": shift(f"{PADDING} words more before the question; training has 2 at most", longer),
        "other_verbs": shift("wordings that are never asked in training", OTHER_WORDINGS),
    }
