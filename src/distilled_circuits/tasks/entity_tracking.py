"""Entity tracking in the form of Prakash et al. (2024): which object is in the box that the query names."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

LETTERS = tuple("BCDEFGHJKLMNOPQRSTUVWXYZ")
"""Labels of boxes: without A and I, which are also words."""
BOXES = 7
"""Boxes of a published prompt."""

Box = tuple[str, str]
"""An object and the letter of the box that it is in."""


@dataclass(frozen=True)
class Style:
    """A wording: the clause about a box and the forms of the query; prompts have the first form."""

    clause: str
    queries: tuple[str, ...]


OBJECT_FIRST = Style("the {object} is in Box {letter}", ("Box {letter} contains the", "Box {letter}"))
"""The published wording: the object before its box, so that copying what once followed `Box F` does not help."""
BOX_FIRST = Style("Box {letter} has the {object}", OBJECT_FIRST.queries)
COMPACT = Style("{object} {letter}", ("{letter}",))
STYLES = {"object first": OBJECT_FIRST, "box first": BOX_FIRST, "compact": COMPACT}


@dataclass(frozen=True)
class Aside:
    """A clause that says nothing about boxes: its place among the clauses, its object and its text."""

    place: int
    word: str
    clause: str


FIRST_FORM = 0.5
"""Share of queries in the form that prompts have, in training texts of the last lesson."""
AT_THE_FRONT = 0.5
"""Share of a lesson's texts that have as many boxes as the lesson may have; the others have any number up to that."""
FEWEST = 2
"""Boxes of the first lesson."""
DISTRACTOR_CLAUSE = "the {object} is {look}"
LOOKS = ("big", "new", "old", "red")


def entity_tracking_prompts(
    lexicon: Lexicon,
    number: int,
    rng: random.Random,
    boxes: int = BOXES,
    unseen_pairs: bool = False,
    style: Style = OBJECT_FIRST,
    distractor_clause: bool = False,
) -> list[Prompt]:
    """Return `number` held-out prompts, each about a context of its own; the queried slots take turns.

    With `unseen_pairs` the queried object and letter are a pair that training never shows; with `distractor_clause` a
    clause about an object in no box stands between two others. Raises ValueError when there are too few letters for the
    boxes of both texts of a prompt.
    """
    prompts: list[Prompt] = []
    seen: set[tuple[Box, ...]] = set()
    while len(prompts) < number:
        slot = len(prompts) % boxes
        content = tuple(draw_pairs(lexicon.nouns, LETTERS, boxes, rng, slot if unseen_pairs else None))
        aside = _aside(lexicon, content, rng) if distractor_clause else None
        prompt = _prompt(lexicon, content, slot, style, aside, rng)
        if prompt is not None and content not in seen:
            seen.add(content)
            prompts.append(prompt)
    return prompts


def entity_tracking_example(
    lexicon: Lexicon,
    rng: random.Random,
    boxes: int,
    style: Style,
    queries: int | None = None,
    distractor_clause: bool = False,
    first_form: float = FIRST_FORM,
) -> Example:
    """Return a training text: a context and `queries` answered queries about different boxes (default: about all).

    Queries have the style's first form in the share `first_form`, else one of the others. No pair of object and letter
    is a held-out one. A distractor clause stands between two clauses, so it needs two boxes.
    """
    while True:
        content = draw_pairs(lexicon.nouns, LETTERS, boxes, rng)
        asked = rng.sample(content, boxes if queries is None else queries)
        aside = _aside(lexicon, content, rng) if distractor_clause else None
        context = _context(content, style, aside)
        if not is_held_out(compose([*context, *_query(style.queries[0], asked[0][1])])[0]):
            break
    pieces = context
    for word, letter in asked:
        pieces += [*_query(_form(style, first_form, rng), letter), " ", (word, "answer"), "."]
    text, roles = compose(pieces)
    return Example(text, roles["answer"], (), ())


def _form(style: Style, first_form: float, rng: random.Random) -> str:
    first, *others = style.queries
    return first if not others or rng.random() < first_form else rng.choice(others)


def usual_example(lexicon: Lexicon, rng: random.Random) -> Example:
    """Return a training text in the wording and with the number of boxes that prompts have."""
    return entity_tracking_example(lexicon, rng, BOXES, OBJECT_FIRST)


def lesson(lexicon: Lexicon, rng: random.Random, boxes: int, first_form: float) -> Example:
    """Return a training text of up to so many boxes: half of the texts have `boxes`, the others any number from two."""
    number = boxes if rng.random() < AT_THE_FRONT else rng.randint(FEWEST, boxes)
    return entity_tracking_example(lexicon, rng, number, OBJECT_FIRST, first_form=first_form)


LESSONS = (
    *(partial(lesson, boxes=boxes, first_form=0.0) for boxes in range(FEWEST, BOXES + 1)),
    partial(lesson, boxes=FEWEST + 1, first_form=FIRST_FORM),
    partial(lesson, boxes=BOXES, first_form=FIRST_FORM),
)
"""What is learned one after the other: look-ups of two steps (`Box F apple`), then those of three. Shown seven boxes at
once a model stays at chance; asked for the long form from the start it needs twice the steps, since that form can only
be learned when the look-up is there."""


def entity_tracking_words(lexicon: Lexicon) -> list[str]:
    """Return the words and marks of all styles."""
    templates = [*(style.clause for style in STYLES.values()), *(form for s in STYLES.values() for form in s.queries)]
    return [*fixed_words(*templates, DISTRACTOR_CLAUSE, "The , ."), *LOOKS, *LETTERS, *lexicon.nouns]


def _aside(lexicon: Lexicon, content: Sequence[Box], rng: random.Random) -> Aside:
    """Return a clause between two others about an object that is in no box."""
    word = rng.choice([word for word in lexicon.nouns if word not in dict(content)])
    clause = DISTRACTOR_CLAUSE.format(object=word, look=rng.choice(LOOKS))
    return Aside(rng.randrange(1, len(content)), word, clause)


def _context(content: Sequence[Box], style: Style, aside: Aside | None, slot: int | None = None) -> list[Piece]:
    """Return the clauses, the first with a capital; the words of the clause in `slot` have roles of their own."""
    first = style.clause[0].upper() + style.clause[1:]
    clauses = []
    for n, (word, letter) in enumerate(content):
        queried = n == slot
        values = {
            "object": (word, "objects context_object" if queried else "objects"),
            "letter": (letter, "labels context_label" if queried else "labels"),
        }
        clauses.append(fill(style.clause if n else first, values))
    if aside is not None:
        clauses.insert(aside.place, [aside.clause])
    return [*clauses[0], *(piece for clause in clauses[1:] for piece in (", ", *clause)), "."]


def _query(form: str, letter: str) -> list[Piece]:
    return [" ", *fill(form, {"letter": (letter, "query_label")})]


def _prompt(
    lexicon: Lexicon,
    content: Sequence[Box],
    slot: int,
    style: Style,
    aside: Aside | None,
    rng: random.Random,
) -> Prompt | None:
    """Return the prompt that asks for the box in `slot`, or None when training may show it.

    The corrupted twin has other objects and letters and asks for a letter in neither text. (In the cyclic shift of
    Prakash et al. it asks for the next slot; without that slot's letter nothing in the text depends on the slot.)
    """
    form = style.queries[0]
    clean, roles = compose([*_context(content, style, aside, slot), *_query(form, content[slot][1])])
    if not is_held_out(clean):
        return None
    taken = {word for box in content for word in box} | ({aside.word} if aside else set())
    objects, letters = ([word for word in words if word not in taken] for words in (lexicon.nouns, LETTERS))
    if min(len(objects), len(letters)) <= len(content):
        raise ValueError(f"too few words for {len(content)} boxes and as many in the corrupted text")
    *letters, absent = rng.sample(letters, len(content) + 1)
    others = tuple(zip(rng.sample(objects, len(content)), letters, strict=True))
    corrupted, _ = compose([*_context(others, style, aside), *_query(form, absent)])
    asked = tuple(word for word, _ in content)
    return Prompt(
        clean,
        corrupted,
        answer=asked[slot],
        distractor=asked[(slot + 1) % len(asked)],
        roles=roles | {"last": (last_word(clean),)},
        choices=asked,
        kind=f"slot {slot + 1}",
    )


VARIANTS: dict[str, Callable[[Lexicon, int, random.Random], list[Prompt]]] = {
    "unseen pairs": partial(entity_tracking_prompts, unseen_pairs=True),
    "box first": partial(entity_tracking_prompts, style=BOX_FIRST),
    "distractor clause": partial(entity_tracking_prompts, distractor_clause=True),
    "5 boxes": partial(entity_tracking_prompts, boxes=5),
    "9 boxes": partial(entity_tracking_prompts, boxes=9),
}
"""Prompts unlike the usual ones in one way, for tests off the distribution."""
