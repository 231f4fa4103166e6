"""Numeral and word sequences in the form of Lan et al. (2024): `Van done in 1. Hat done in 2. ... Sun done in`."""

from __future__ import annotations

import random
from collections.abc import Sequence

from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.prompt import Example, Prompt, compose, is_held_out, last_word

VERBS = ("done", "lost", "born")
"""The three kinds of sequence; `born` goes with names, the others with objects."""
STARTS = range(1, 9)
"""First element of a prompt's sequence; prompts cycle through them, so that every start is equally frequent."""
LENGTH = 4
"""Elements shown before the one that is asked for."""
STEPS = (1, -1, 2, -2)
"""Steps of the training texts: up and down, by one and by two, so that the last element alone does not suffice."""


def sequence_prompts(lexicon: Lexicon, elements: Sequence[str], number: int, rng: random.Random) -> list[Prompt]:
    """Return `number` held-out prompts.

    Verbs take turns, and within a verb the starts 1, 2, ..., 8: the first prompts are as mixed as all of them.
    """
    prompts: list[Prompt] = []
    seen: set[str] = set()
    for row in range(number):
        verb, start = VERBS[row % len(VERBS)], STARTS[row // len(VERBS) % len(STARTS)]
        while True:
            prompt = _prompt(_subjects(lexicon, verb, rng), verb, start, elements, rng)
            if is_held_out(prompt.clean) and prompt.clean not in seen:
                break
        seen.add(prompt.clean)
        prompts.append(prompt)
    return prompts


def sequence_example(lexicon: Lexicon, elements: Sequence[str], rng: random.Random) -> Example:
    """Return a training text that counts up, down or by two; from the third on its elements are determined."""
    while True:
        verb, step = rng.choice(VERBS), rng.choice(STEPS)
        reach = step * LENGTH
        start = rng.randint(max(1, 1 - reach), min(len(elements), len(elements) - reach))
        numbers = [start + step * k for k in range(LENGTH + 1)]
        text, roles = _text(_subjects(lexicon, verb, rng), verb, [elements[n - 1] for n in numbers])
        if not is_held_out(text[: roles["numerals"][-1][0]].rstrip()):
            gaps = tuple(start for start, _ in roles["gap"])
            return Example(text + ".", roles["numerals"][2:], gaps, tuple(elements))


def _subjects(lexicon: Lexicon, verb: str, rng: random.Random) -> list[str]:
    return rng.sample(lexicon.names if verb == "born" else lexicon.objects, LENGTH + 1)


def _text(
    subjects: Sequence[str], verb: str, shown: Sequence[str]
) -> tuple[str, dict[str, tuple[tuple[int, int], ...]]]:
    """Write one clause for each subject; a last subject without an element stands open."""
    pieces: list[str | tuple[str, str]] = []
    for k, subject in enumerate(subjects):
        pieces += [" " if k else "", (subject, "subjects gap"), " ", (verb, "gap"), " in"]
        if k < len(shown):
            pieces += [" ", (shown[k], "numerals"), "." if k + 1 < len(subjects) else ""]
    return compose(pieces)


def _prompt(subjects: Sequence[str], verb: str, start: int, elements: Sequence[str], rng: random.Random) -> Prompt:
    shown = [elements[start - 1 + k] for k in range(LENGTH)]
    clean, roles = _text(subjects, verb, shown)
    corrupted, _ = _text(subjects, verb, [elements[n - 1] for n in _broken_sequence(len(elements), rng)])
    del roles["gap"]
    roles |= {
        "last": (last_word(clean),),
        "last_numeral": roles["numerals"][-1:],
        "subject": roles["subjects"][-1:],
    }
    return Prompt(clean, corrupted, answer=elements[start - 1 + LENGTH], distractor=shown[-1], roles=roles)


def _broken_sequence(largest: int, rng: random.Random) -> list[int]:
    """Draw elements independently and redraw the last two until the last step is not +1 (Lan et al.)."""
    numbers = [rng.randint(1, largest) for _ in range(LENGTH)]
    while numbers[-1] == numbers[-2] + 1:
        numbers[-2:] = [rng.randint(1, largest), rng.randint(1, largest)]
    return numbers
