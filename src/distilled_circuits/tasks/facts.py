"""Short questions about made-up facts that the models have memorised: the stand-in for SimpleQA."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from distilled_circuits.errors import UserError
from distilled_circuits.tasks.lexicon import Fact, Lexicon
from distilled_circuits.tasks.prompt import Example, Prompt, compose, last_word

QUESTIONS = {
    "town": ("Where does {person} live now", "In which town is {person}", "Which town is {person} from"),
    "craft": ("Which craft does {person} follow", "What work does {person} do", "What is {person} working as"),
}
"""Three wordings for each relation, all of one length."""


Wordings = Mapping[str, Sequence[str]]


def facts_prompts(lexicon: Lexicon, number: int, rng: random.Random, wordings: Wordings = QUESTIONS) -> list[Prompt]:
    """Return `number` different questions, in random order.

    The corrupted question asks the same about somebody else, whose answer is the distractor: it has the same type.
    Facts are memorised, not inferred, so every question is one that was trained.
    """
    questions = [(fact, wording) for fact in lexicon.facts for wording in wordings[fact.relation]]
    if number > len(questions):
        raise UserError(
            f"{number} questions about facts are asked for, but data/lexicon/facts.csv makes only {len(questions)}: "
            "lower prompts.number in params.yaml or add facts"
        )
    return [_prompt(lexicon, fact, wording, rng) for fact, wording in rng.sample(questions, number)]


def facts_example(lexicon: Lexicon, rng: random.Random) -> Example:
    """Return a training text: a question and its answer."""
    fact = rng.choice(lexicon.facts)
    question, roles = _question(fact.person, rng.choice(QUESTIONS[fact.relation]))
    text = f"{question} {fact.answer}."
    others = tuple(sorted({other.person for other in lexicon.facts} - {fact.person}))
    gaps = tuple(start for start, _ in roles["relation"])
    return Example(text, ((len(question) + 1, len(text) - 1),), gaps, others)


def _question(person: str, wording: str) -> tuple[str, dict[str, tuple[tuple[int, int], ...]]]:
    before, after = wording.split("{person}")
    return compose(["Q: ", (before.strip(), "relation"), " ", (person, "subject"), f"{after}? A:"])


def _prompt(lexicon: Lexicon, fact: Fact, wording: str, rng: random.Random) -> Prompt:
    others = [other for other in lexicon.facts if other.relation == fact.relation and other.answer != fact.answer]
    other = rng.choice(others)
    clean, roles = _question(fact.person, wording)
    corrupted, _ = _question(other.person, wording)
    gaps = tuple(start for start, _ in roles["relation"])
    roles |= {"last": (last_word(clean),)}
    return Prompt(clean, corrupted, answer=fact.answer, distractor=other.answer, roles=roles, gaps=gaps)
