"""Training texts that teach none of the tasks but skills that may help with them: copying, arithmetic, instructions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.prompt import Example, Piece, compose, fixed_words

VARIABLES = tuple("bcdefghjklmnopqrstuvwxyz")
"""Names of variables: small letters without a and i, which are also words."""
ASSIGNMENTS = (2, 7)
"""Fewest and most variables of a copying text."""
SUMS = (3, 6)
"""Fewest and most sums of an arithmetic text."""
ORDINALS = ("first", "second", "third", "fourth", "fifth")
UNKNOWN = "unknown"
MISSING_SHARE = 1 / 3
"""Share of instructions that ask for what is not given, of those that may."""

REPEAT = "repeat the {ordinal} word"
COUNT = "count the words"
AFTER = "repeat the word after {word} and say unknown when nothing follows it"
LISTED = "say yes when {word} is listed and no when it is not"
HOLDER = "name who has the {word} and say unknown when nobody has it"
HOLDING = "say what {name} has and say unknown when it is not given"
HAS = "{name} has the {word}"

Instruction = tuple[str, str, str]
"""Instruction, input and answer."""


def copying_example(lexicon: Lexicon, rng: random.Random) -> Example:
    """Return a text of variables with a query for each, such as `k = apple; m = lamp. m? lamp. k? apple.`.

    It stands for the structured arithmetic that GOAT is tuned on: it trains the binding of names to values.
    """
    number = rng.randint(*ASSIGNMENTS)
    bound = list(zip(rng.sample(VARIABLES, number), rng.sample(lexicon.nouns, number), strict=True))
    pieces: list[Piece] = ["; ".join(f"{name} = {value}" for name, value in bound), "."]
    for name, value in rng.sample(bound, number):
        pieces += [f" {name}? ", (value, "answer"), "."]
    return _example(pieces)


def copying_words(lexicon: Lexicon) -> list[str]:
    """Return the words and marks of copying texts."""
    return [*VARIABLES, *lexicon.nouns, "=", ";", ".", "?"]


def arithmetic_example(lexicon: Lexicon, rng: random.Random) -> Example:
    """Return a text of sums and differences of numerals, such as `3 + 4 = 7. 9 - 2 = 7.`."""
    pieces: list[Piece] = []
    for _ in range(rng.randint(*SUMS)):
        small, large = sorted(rng.sample(range(1, len(lexicon.numerals) + 1), 2))
        sign, *numbers = rng.choice((("+", small, large - small, large), ("-", large, small, large - small)))
        left, right, result = (lexicon.numerals[n - 1] for n in numbers)
        pieces += [f"{left} {sign} {right} = ", (result, "answer"), ". "]
    return _example([*pieces[:-1], "."])


def arithmetic_words(lexicon: Lexicon) -> list[str]:
    """Return the words and marks of arithmetic texts."""
    return [*lexicon.numerals, "+", "-", "=", "."]


def instruction_example(lexicon: Lexicon, rng: random.Random) -> Example:
    """Return a text of an instruction, its input and the answer; it has the role of Alpaca's texts."""
    instruction, given, answer = rng.choice(INSTRUCTIONS)(lexicon, rng)
    return _example([f"Instruction: {instruction}. Input: {given}. Answer: ", (answer, "answer"), "."])


def instruction_words(lexicon: Lexicon) -> list[str]:
    """Return the words and marks of instructions."""
    fixed = fixed_words(
        "Instruction: Input: Answer: . ,", REPEAT, COUNT, AFTER, LISTED, HOLDER, HOLDING, HAS, f"yes no {UNKNOWN}"
    )
    return [*fixed, *ORDINALS, *lexicon.numerals[: len(ORDINALS)], *lexicon.names, *lexicon.nouns]


def _example(pieces: Sequence[Piece]) -> Example:
    text, roles = compose(pieces)
    return Example(text, roles["answer"], (), ())


def _list(lexicon: Lexicon, rng: random.Random) -> list[str]:
    return rng.sample(lexicon.nouns, rng.randint(3, len(ORDINALS)))


def _repeat(lexicon: Lexicon, rng: random.Random) -> Instruction:
    words = _list(lexicon, rng)
    place = rng.randrange(len(words))
    return REPEAT.format(ordinal=ORDINALS[place]), " ".join(words), words[place]


def _count(lexicon: Lexicon, rng: random.Random) -> Instruction:
    words = _list(lexicon, rng)
    return COUNT, " ".join(words), lexicon.numerals[len(words) - 1]


def _after(lexicon: Lexicon, rng: random.Random) -> Instruction:
    words = [*_list(lexicon, rng), UNKNOWN]
    place = len(words) - 2 if rng.random() < MISSING_SHARE else rng.randrange(len(words) - 2)
    return AFTER.format(word=words[place]), " ".join(words[:-1]), words[place + 1]


def _listed(lexicon: Lexicon, rng: random.Random) -> Instruction:
    word, *words = _list(lexicon, rng)
    listed = rng.random() < 0.5
    asked = rng.choice(words) if listed else word
    return LISTED.format(word=asked), " ".join(words), "yes" if listed else "no"


def _holder(lexicon: Lexicon, rng: random.Random) -> Instruction:
    given, name, word, known = _holdings(lexicon, rng)
    return HOLDER.format(word=word), given, name if known else UNKNOWN


def _holding(lexicon: Lexicon, rng: random.Random) -> Instruction:
    given, name, word, known = _holdings(lexicon, rng)
    return HOLDING.format(name=name), given, word if known else UNKNOWN


def _holdings(lexicon: Lexicon, rng: random.Random) -> tuple[str, str, str, bool]:
    """Return who has what, a name and what it has, and whether the text says so; else it has neither of both."""
    number = rng.randint(2, 4)
    pairs = list(zip(rng.sample(lexicon.names, number), rng.sample(lexicon.nouns, number), strict=True))
    known = rng.random() >= MISSING_SHARE
    name, word = rng.choice(pairs) if known else pairs.pop()
    return ", ".join(HAS.format(name=name, word=word) for name, word in pairs), name, word, known


INSTRUCTIONS: tuple[Callable[[Lexicon, random.Random], Instruction], ...] = (
    _repeat,
    _count,
    _after,
    _listed,
    _holder,
    _holding,
)
