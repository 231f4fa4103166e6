"""The tasks by name, as data: how each makes its prompts and its training texts."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from distilled_circuits.tasks.facts import QUESTIONS, facts_example, facts_prompts
from distilled_circuits.tasks.ioi import FRAMES, ioi_example, ioi_prompts
from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.prompt import Example, Prompt
from distilled_circuits.tasks.sequences import VERBS, sequence_example, sequence_prompts


@dataclass(frozen=True)
class Task:
    """A task: `prompts(lexicon, number, rng)` and `example(lexicon, rng)`."""

    name: str
    title: str
    prompts: Callable[[Lexicon, int, random.Random], list[Prompt]]
    example: Callable[[Lexicon, random.Random], Example]


TASKS = {
    task.name: task
    for task in (
        Task(
            "numerals",
            "Numeral sequence completion",
            lambda lexicon, number, rng: sequence_prompts(lexicon, lexicon.numerals, number, rng),
            lambda lexicon, rng: sequence_example(lexicon, lexicon.numerals, rng),
        ),
        Task(
            "words",
            "Word sequence completion",
            lambda lexicon, number, rng: sequence_prompts(lexicon, lexicon.number_words, number, rng),
            lambda lexicon, rng: sequence_example(lexicon, lexicon.number_words, rng),
        ),
        Task("ioi", "Indirect object identification", ioi_prompts, ioi_example),
        Task("facts", "Short question answering", facts_prompts, facts_example),
    )
}


def vocabulary(lexicon: Lexicon) -> list[str]:
    """Return every word and mark that the tasks can write, sorted."""
    frames = " ".join([*VERBS, "in . Q: ? A:", *("".join(frame) for frame in FRAMES)])
    questions = " ".join(wording for wordings in QUESTIONS.values() for wording in wordings)
    fixed = re.findall(r"\w+|[^\w\s]", re.sub(r"\{\w+\}", " ", f"{frames} {questions}"))
    listed = (
        *(lexicon.objects, lexicon.names, lexicon.places, lexicon.gifts, lexicon.fillers),
        *(lexicon.numerals, lexicon.number_words),
    )
    facts = {word for fact in lexicon.facts for word in (fact.person, fact.answer)}
    return sorted({*fixed, *facts, *(word for words in listed for word in words)})
