"""Theory of mind in the form of CausalToM (Prakash et al. 2025): what a character thinks is in a container."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.pairs import draw_pairs
from distilled_circuits.tasks.prompt import (
    Example,
    Piece,
    Prompt,
    compose,
    fill,
    fixed_words,
    is_held_out,
    last_word,
)

UNKNOWN = "unknown"
"""The answer about the other's container when the asked character did not see it being filled."""
FILLING = "{owner} fills the {container} with {content}."
VISIBILITY = {
    "sees": "{who} {verb} what {whom} does.",
    "misses": "{who} {verb} what {whom} does.",
    "knows": "{who} {verb} where {whom} lives.",
}
"""The sentence about who sees whom, by its verb; all of one length."""
CASES = {
    "neutral": ("knows", "knows"),
    "neither sees": ("misses", "misses"),
    "first sees": ("sees", "misses"),
    "second sees": ("misses", "sees"),
}
"""What the first character does and what the second does. CausalToM lacks the last case; without it the order tells."""
SEER = {"first sees": 0, "second sees": 1}
"""The character that sees the other."""
QUESTION = "What does {asker} think is in the {container}? Answer:"
TERSE_FILLING = "{owner} {container} {content}."
TERSE_VISIBILITY = "{who} {verb} {whom}."

Question = tuple[int, int]
"""The asked character and the owner of the container, each 0 or 1."""
ALL_QUESTIONS: tuple[Question, ...] = ((0, 0), (0, 1), (1, 0), (1, 1))
SHARES = (1, 1, 2, 2)
"""How often training stories have each of the cases: then a third of the answers is `unknown`."""


@dataclass(frozen=True)
class Story:
    """Two characters, the container and content of each, and who sees whom.

    With `swapped` the second character's visibility sentence comes first; `bystanders` are two others, the first of
    whom sees the second.
    """

    characters: tuple[str, str]
    fillings: tuple[tuple[str, str], tuple[str, str]]
    case: str
    swapped: bool = False
    bystanders: tuple[str, ...] = ()

    def answer(self, question: Question) -> str:
        """Return what the asked character thinks: what it did or saw itself, else `unknown`."""
        asker, owner = question
        knows = asker == owner or SEER.get(self.case) == asker
        return self.fillings[owner][1] if knows else UNKNOWN


def theory_of_mind_prompts(
    lexicon: Lexicon,
    number: int,
    rng: random.Random,
    unseen_pairs: bool = False,
    swapped: bool = False,
    bystanders: bool = False,
) -> list[Prompt]:
    """Return `number` held-out prompts; a third asks for what the character did, a third saw, a third does not know.

    Classes take turns, and within them cases and characters: every 24 prompts have all cases equally often, every 48
    both characters. With `unseen_pairs` container and content of the question are a pair that training never shows.
    """
    plan = _plan()
    prompts: list[Prompt] = []
    seen: set[str] = set()
    while len(prompts) < number:
        kind, case, question = plan[len(prompts) % len(plan)]
        story = _story(lexicon, rng, case, question[1] if unseen_pairs else None, bystanders)
        prompt = _prompt(replace(story, swapped=swapped), question, kind)
        if is_held_out(prompt.clean) and prompt.clean not in seen:
            seen.add(prompt.clean)
            prompts.append(prompt)
    return prompts


def theory_of_mind_example(lexicon: Lexicon, rng: random.Random) -> Example:
    """Return a training text: a story and one to four different questions, answered, in random order."""
    while True:
        story = _story(lexicon, rng, rng.choices(list(CASES), SHARES)[0])
        asked = rng.sample(ALL_QUESTIONS, rng.randint(1, 4))
        if not _any_held_out(story, asked):
            break
    pieces = _telling(story)
    for question in asked:
        pieces += [*_asking(story, question), " ", (story.answer(question), "answer"), "."]
    text, roles = compose(pieces)
    return Example(text, roles["answer"], (), ())


def look_up_lesson(lexicon: Lexicon, rng: random.Random) -> Example:
    """Return a training text without a needless word: who filled what, and what is in each container."""
    story = _story(lexicon, rng, "neutral")
    pieces = _terse_fillings(story)
    for container, content in rng.sample(story.fillings, 2):
        pieces += [f" {container} ", (content, "answer"), "."]
    text, roles = compose(pieces)
    return Example(text, roles["answer"], (), ())


def thought_lesson(lexicon: Lexicon, rng: random.Random, usual_story: float, usual_question: float) -> Example:
    """Return a story, all questions about thoughts, and a look-up for each character, by its name or its container.

    The story has its usual wording in the share `usual_story` of texts, questions in such a story in the share
    `usual_question`; all else is without a needless word.
    """
    while True:
        story = _story(lexicon, rng, rng.choices(list(CASES), SHARES)[0])
        if not _any_held_out(story, ALL_QUESTIONS):
            break
    usual = rng.random() < usual_story
    pieces = _telling(story) if usual else _terse_telling(story)
    asked = []
    for question in ALL_QUESTIONS:
        form = _asking if usual and rng.random() < usual_question else _terse_asking
        asked.append((form(story, question), story.answer(question)))
    for character, (container, content) in zip(story.characters, story.fillings, strict=True):
        asked.append(([" ", rng.choice((character, container))], content))
    for query, answer in rng.sample(asked, len(asked)):
        pieces += [*query, " ", (answer, "answer"), "."]
    text, roles = compose(pieces)
    return Example(text, roles["answer"], (), ())


def _any_held_out(story: Story, questions: Sequence[Question]) -> bool:
    return any(is_held_out(compose([*_telling(story), *_asking(story, question)])[0]) for question in questions)


def _terse_fillings(story: Story) -> list[Piece]:
    both = zip(story.characters, story.fillings, strict=True)
    return [" ".join(TERSE_FILLING.format(owner=who, container=box, content=what) for who, (box, what) in both)]


def _terse_telling(story: Story) -> list[Piece]:
    (one, other), verbs = story.characters, CASES[story.case]
    seen = [
        TERSE_VISIBILITY.format(who=a, verb=v, whom=b)
        for a, v, b in zip((one, other), verbs, (other, one), strict=True)
    ]
    return [*_terse_fillings(story), *(" " + sentence for sentence in seen)]


def _terse_asking(story: Story, question: Question) -> list[Piece]:
    asker, owner = question
    return [f" {story.characters[asker]} {story.fillings[owner][0]}"]


LESSONS = (
    look_up_lesson,
    partial(thought_lesson, usual_story=0.0, usual_question=0.0),
    partial(thought_lesson, usual_story=0.7, usual_question=0.0),
    partial(thought_lesson, usual_story=0.8, usual_question=0.5),
)
"""What is learned one after the other. Whether somebody's own container is meant depends on character and container
together and on neither alone: shown whole stories from the start, a model guesses for thousands of steps."""


def theory_of_mind_words(lexicon: Lexicon) -> list[str]:
    """Return the words and marks of stories and questions."""
    fixed = fixed_words(FILLING, *VISIBILITY.values(), QUESTION)
    return [*fixed, *VISIBILITY, UNKNOWN, *lexicon.names, *lexicon.containers, *lexicon.contents]


def _plan() -> list[tuple[str, str, Question]]:
    """Return kind, case and question of 48 prompts: own, unseen, seen in turns, so that any number has its thirds.

    Of 24 prompts four of each `sees` case are `seen`, since no other case has such questions; one each is left for the
    other kinds, and the two cases in which nobody sees have three of both.
    """
    quiet, seeing = ("neutral", "neither sees"), ("first sees", "second sees")
    cases = (*quiet, *quiet, *quiet, *seeing)
    plan: list[tuple[str, str, Question]] = []
    for half in (0, 1):
        for n, case in enumerate(cases):
            asker = (n // 2 + half) % 2
            blind = 1 - SEER[case] if case in SEER else asker
            seeing_case = seeing[n % 2]
            seer = SEER[seeing_case]
            plan += [
                ("own", case, (asker, asker)),
                ("unseen", case, (blind, 1 - blind)),
                ("seen", seeing_case, (seer, 1 - seer)),
            ]
    return plan


def _story(
    lexicon: Lexicon, rng: random.Random, case: str, unseen: int | None = None, bystanders: bool = False
) -> Story:
    first, second, *others = rng.sample(lexicon.names, 4 if bystanders else 2)
    one, other = draw_pairs(lexicon.containers, lexicon.contents, 2, rng, unseen)
    return Story((first, second), (one, other), case, bystanders=tuple(others))


def _telling(story: Story, question: Question | None = None) -> list[Piece]:
    """Return the story; with a question its words have the roles that they play for it."""
    asker, owner = question or (None, None)
    pieces: list[Piece] = []
    for n, (name, (container, content)) in enumerate(zip(story.characters, story.fillings, strict=True)):
        asked = n == owner
        values = {
            "owner": (name, "characters" + " context_owner" * asked + " context_asker" * (n == asker)),
            "container": (container, "containers" + " context_container" * asked),
            "content": (content, "contents" + " context_content" * asked),
        }
        pieces += [*fill(FILLING, values), " "]
    for n in (1, 0) if story.swapped else (0, 1):
        verb = CASES[story.case][n]
        who, whom = story.characters[n], story.characters[1 - n]
        role = "visibility asker_visibility" if n == asker else "visibility"
        pieces += [*fill(VISIBILITY[verb], {"who": who, "verb": (verb, role), "whom": whom}), " "]
    if story.bystanders:
        who, whom = story.bystanders
        pieces += [VISIBILITY["sees"].format(who=who, verb="sees", whom=whom), " "]
    return pieces[:-1]


def _asking(story: Story, question: Question) -> list[Piece]:
    asker, owner = question
    values = {
        "asker": (story.characters[asker], "asker"),
        "container": (story.fillings[owner][0], "question_container"),
    }
    return [" ", *fill(QUESTION, values)]


def _twin(story: Story, question: Question) -> Story:
    """Return the story told the other way round; the same question now is about the other character and container.

    CausalToM's pair (a). Where seeing matters it is also changed, as in pair (d), so that every answer changes.
    """
    asker, owner = question
    case = story.case
    if asker != owner:
        case = "neither sees" if story.answer(question) != UNKNOWN else list(SEER)[asker]
    return replace(story, characters=story.characters[::-1], fillings=story.fillings[::-1], case=case)


def _prompt(story: Story, question: Question, kind: str) -> Prompt:
    clean, roles = compose([*_telling(story, question), *_asking(story, question)])
    twin = _twin(story, question)
    corrupted, _ = compose([*_telling(twin), *_asking(twin, question)])
    answer, contents = story.answer(question), tuple(content for _, content in story.fillings)
    return Prompt(
        clean,
        corrupted,
        answer=answer,
        distractor=contents[question[1]] if answer == UNKNOWN else UNKNOWN,
        roles=roles | {"last": (last_word(clean),)},
        choices=(*contents, UNKNOWN),
        kind=kind,
    )


VARIANTS: dict[str, Callable[[Lexicon, int, random.Random], list[Prompt]]] = {
    "unseen pairs": partial(theory_of_mind_prompts, unseen_pairs=True),
    "swapped sentences": partial(theory_of_mind_prompts, swapped=True),
    "bystanders": partial(theory_of_mind_prompts, bystanders=True),
}
"""Prompts unlike the usual ones in one way, for tests off the distribution."""
