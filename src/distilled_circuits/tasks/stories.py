"""The tasks that circuit distillation is tried on and the other texts of its training, by name, as data."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
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
from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.prompt import Prompt
from distilled_circuits.tasks.registry import Lesson, Task, Words, vocabulary


@dataclass(frozen=True)
class Story(Task):
    """A task that tells a story and asks about it: a model learns it by `lessons`, one after the other.

    `variants` are prompts that are unlike the usual ones, by the name of what is different.
    """

    lessons: tuple[Lesson, ...]
    variants: Mapping[str, Callable[[Lexicon, int, random.Random], list[Prompt]]]


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

WORDS: dict[str, Words] = {
    **{name: story.words for name, story in STORIES.items()},
    "copying": copying_words,
    "arithmetic": arithmetic_words,
    "instructions": instruction_words,
}
"""The words and marks of each story task and of the other texts."""


def story_vocabulary(lexicon: Lexicon, names: Iterable[str] = tuple(WORDS)) -> list[str]:
    """Return every word and mark that story tasks and other texts can write, all by default, and the fillers."""
    return vocabulary(lexicon, [WORDS[name] for name in names])
