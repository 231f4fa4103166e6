"""The tasks by name, as data: how each makes its prompts and its training texts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from distilled_circuits.tasks import entity_tracking, theory_of_mind
from distilled_circuits.tasks.drills import (
    arithmetic_example,
    arithmetic_words,
    copying_example,
    copying_words,
    instruction_example,
    instruction_words,
)
from distilled_circuits.tasks.facts import QUESTIONS, facts_example, facts_prompts
from distilled_circuits.tasks.ioi import FRAMES, ioi_example, ioi_prompts
from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.prompt import Example, Prompt, fixed_words
from distilled_circuits.tasks.sequences import VERBS, sequence_example, sequence_prompts

Lesson = Callable[[Lexicon, random.Random], Example]
"""Makes a training text."""


@dataclass(frozen=True)
class Task:
    """A task: `prompts(lexicon, number, rng)`, `example(lexicon, rng)`, and the words and marks of both."""

    name: str
    title: str
    prompts: Callable[[Lexicon, int, random.Random], list[Prompt]]
    example: Lesson
    words: Callable[[Lexicon], Iterable[str]]


@dataclass(frozen=True)
class Story(Task):
    """A task that tells a story and asks about it: a model learns it by `lessons`, one after the other.

    `variants` are prompts that are unlike the usual ones, by the name of what is different.
    """

    lessons: tuple[Lesson, ...]
    variants: Mapping[str, Callable[[Lexicon, int, random.Random], list[Prompt]]]


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


STORIES = {
    task.name: task
    for task in (
        Story(
            "entity_tracking",
            "Entity tracking",
            entity_tracking.entity_tracking_prompts,
            entity_tracking.usual_example,
            entity_tracking.entity_tracking_words,
            entity_tracking.LESSONS,
            entity_tracking.VARIANTS,
        ),
        Story(
            "theory_of_mind",
            "Theory of mind",
            theory_of_mind.theory_of_mind_prompts,
            theory_of_mind.theory_of_mind_example,
            theory_of_mind.theory_of_mind_words,
            theory_of_mind.LESSONS,
            theory_of_mind.VARIANTS,
        ),
    )
}
"""The tasks that circuit distillation is tried on."""

TEXTS: dict[str, Lesson] = {
    "copying": copying_example,
    "arithmetic": arithmetic_example,
    "instructions": instruction_example,
}
"""Training texts beside those of the tasks."""

WORDS: dict[str, Callable[[Lexicon], Iterable[str]]] = {
    **{name: task.words for name, task in (TASKS | STORIES).items()},
    "copying": copying_words,
    "arithmetic": arithmetic_words,
    "instructions": instruction_words,
}
"""The words and marks of each task and of the other training texts."""


def vocabulary(lexicon: Lexicon, tasks: Iterable[str] = tuple(TASKS)) -> list[str]:
    """Return every word and mark that the named tasks and training texts can write, and the fillers, sorted."""
    return sorted({*lexicon.fillers, *(word for name in tasks for word in WORDS[name](lexicon))})
