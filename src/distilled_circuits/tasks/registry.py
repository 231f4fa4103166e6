"""The tasks by name, as data: how each makes its prompts and its training texts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from distilled_circuits.tasks.facts import QUESTIONS, facts_example, facts_prompts
from distilled_circuits.tasks.ioi import FRAMES, ioi_example, ioi_prompts
from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.prompt import Example, Prompt, fixed_words
from distilled_circuits.tasks.sequences import VERBS, sequence_example, sequence_prompts

Lesson = Callable[[Lexicon, random.Random], Example]
"""Makes a training text."""
Words = Callable[[Lexicon], Iterable[str]]
"""Returns the words and marks that a kind of text can have."""


@dataclass(frozen=True)
class Task:
    """A task: `prompts(lexicon, number, rng)`, `example(lexicon, rng)`, and the words and marks of both."""

    name: str
    title: str
    prompts: Callable[[Lexicon, int, random.Random], list[Prompt]]
    example: Lesson
    words: Words


def _sequence_words(lexicon: Lexicon, elements: Sequence[str]) -> list[str]:
    return [*VERBS, "in", ".", *lexicon.objects, *lexicon.names, *elements]


def _ioi_words(lexicon: Lexicon) -> list[str]:
    return [*fixed_words(*("".join(frame) for frame in FRAMES), "."), *lexicon.names, *lexicon.places, *lexicon.gifts]


def _facts_words(lexicon: Lexicon) -> list[str]:
    wordings = (wording for wordings in QUESTIONS.values() for wording in wordings)
    return [*fixed_words("Q: ? A: .", *wordings), *(word for f in lexicon.facts for word in (f.person, f.answer))]


TASKS = {
    task.name: task
    for task in (
        Task(
            "numerals",
            "Numeral sequence completion",
            lambda lexicon, number, rng: sequence_prompts(lexicon, lexicon.numerals, number, rng),
            lambda lexicon, rng: sequence_example(lexicon, lexicon.numerals, rng),
            lambda lexicon: _sequence_words(lexicon, lexicon.numerals),
        ),
        Task(
            "words",
            "Word sequence completion",
            lambda lexicon, number, rng: sequence_prompts(lexicon, lexicon.number_words, number, rng),
            lambda lexicon, rng: sequence_example(lexicon, lexicon.number_words, rng),
            lambda lexicon: _sequence_words(lexicon, lexicon.number_words),
        ),
        Task("ioi", "Indirect object identification", ioi_prompts, ioi_example, _ioi_words),
        Task("facts", "Short question answering", facts_prompts, facts_example, _facts_words),
    )
}


def vocabulary(lexicon: Lexicon, words: Iterable[Words] = tuple(task.words for task in TASKS.values())) -> list[str]:
    """Return every word and mark that tasks can write, those above by default, and the fillers, sorted."""
    return sorted({*lexicon.fillers, *(word for of_one in words for word in of_one(lexicon))})
