"""Numeral and word sequences in the form of Lan et al. (2024): `Van done in 1. Hat done in 2. ... Sun done in`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.prompt import Example, Prompt, compose, is_held_out, last_word

VERBS = ("done", "lost", "born")
"""The three kinds of sequence; `born` goes with names, the others with objects."""
STARTS = range(1, 9)
"""First element of a prompt's sequence; prompts cycle through them, so that every start is equally frequent."""
LENGTH = 4
"""Elements shown before the one that is asked for."""
RANGE = 12
"""Largest element of prompts, and of training texts that count up by one. The others go on to the end of the list, so
models know larger elements but have never counted up there."""
STEPS = (1, -1, 2, -2)
"""Steps of the training texts: up and down, by one and by two, so that the last element alone does not suffice."""


@dataclass(frozen=True)
class Form:
    """What sequences are made of: verbs, first elements, how many are shown, and the range of broken sequences."""

    verbs: tuple[str, ...] = VERBS
    starts: range = STARTS
    length: int = LENGTH
    elements: range = range(1, RANGE + 1)


USUAL = Form()
"""The form of the training texts and of the published prompts."""


def sequence_prompts(
    lexicon: Lexicon, elements: Sequence[str], number: int, rng: random.Random, form: Form = USUAL
) -> list[Prompt]:
    """Return `number` held-out prompts.

    Verbs take turns, and within a verb the starts 1, 2, ..., 8: the first prompts are as mixed as all of them.
    """
    prompts: list[Prompt] = []
    seen: set[str] = set()
    for row in range(number):
        verb, start = form.verbs[row % len(form.verbs)], form.starts[row // len(form.verbs) % len(form.starts)]
        while True:
            prompt = _prompt(_subjects(lexicon, verb, form.length, rng), verb, start, elements, form, rng)
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
        largest = RANGE if step == 1 else len(elements)
        start = rng.randint(max(1, 1 - reach), min(largest, largest - reach))
        numbers = [start + step * k for k in range(LENGTH + 1)]
        text, roles = _text(_subjects(lexicon, verb, LENGTH, rng), verb, [elements[n - 1] for n in numbers])
        if not is_held_out(text[: roles["numerals"][-1][0]].rstrip()):
            gaps = tuple(start for start, _ in roles["gap"])
            return Example(text + ".", roles["numerals"][2:], gaps, tuple(elements))


def _subjects(lexicon: Lexicon, verb: str, length: int, rng: random.Random) -> list[str]:
    return rng.sample(lexicon.names if verb == "born" else lexicon.objects, length + 1)


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


def _prompt(
    subjects: Sequence[str], verb: str, start: int, elements: Sequence[str], form: Form, rng: random.Random
) -> Prompt:
    shown = [elements[start - 1 + k] for k in range(form.length)]
    clean, roles = _text(subjects, verb, shown)
    corrupted, _ = _text(subjects, verb, [elements[n - 1] for n in _broken_sequence(form, rng)])
    gaps = tuple(start for start, _ in roles.pop("gap"))
    roles |= {
        "last": (last_word(clean),),
        "last_numeral": roles["numerals"][-1:],
        "subject": roles["subjects"][-1:],
    }
    return Prompt(
        clean, corrupted, answer=elements[start - 1 + form.length], distractor=shown[-1], roles=roles, gaps=gaps
    )


def _broken_sequence(form: Form, rng: random.Random) -> list[int]:
    """Draw elements independently and redraw the last two until the last step is not +1 (Lan et al.)."""
    numbers = [rng.choice(form.elements) for _ in range(form.length)]
    while numbers[-1] == numbers[-2] + 1:
        numbers[-2:] = [rng.choice(form.elements), rng.choice(form.elements)]
    return numbers
