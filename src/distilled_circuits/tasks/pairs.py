"""Pairs of words that a story puts together, and which pairs training never shows."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

CLASSES = 5
"""Words are in so many classes, by their place in their list."""


def unseen_together(first: str, firsts: Sequence[str], second: str, seconds: Sequence[str]) -> bool:
    """Whether a pair is held out: both words are in one class, so about one pair in five."""
    return _class(first, firsts) == _class(second, seconds)


def draw_pairs(
    firsts: Sequence[str], seconds: Sequence[str], number: int, rng: random.Random, unseen: int | None = None
) -> list[tuple[str, str]]:
    """Return `number` pairs of words, all different, as training shows them; the one at index `unseen` is held out.

    No first word shares its class with any second word of the story, its own or another's. If only pairs were kept
    apart, the label of a box would rule out a fifth of the other objects: a table that a model learns by heart before
    it looks anything up, and that costs it twice the steps (measured). Raises ValueError for too few words.
    """
    order = rng.sample(range(CLASSES), CLASSES)
    split = rng.choice(
        [cut for cut in (2, 3) if _fit(firsts, order[:cut], number) and _fit(seconds, order[cut:], number)] or [0]
    )
    if not split:
        raise ValueError(f"too few words for {number} pairs: make fewer pairs or add words to data/lexicon")
    one, other = (
        rng.sample(_of(words, classes), number)
        for words, classes in ((firsts, order[:split]), (seconds, order[split:]))
    )
    if unseen is not None:
        held_out = [
            word for word in firsts if unseen_together(word, firsts, other[unseen], seconds) and word not in one
        ]
        one[unseen] = rng.choice(held_out)
    return list(zip(one, other, strict=True))


def _class(word: str, words: Sequence[str]) -> int:
    return words.index(word) % CLASSES


def _of(words: Sequence[str], classes: Collection[int]) -> list[str]:
    return [word for place, word in enumerate(words) if place % CLASSES in classes]


def _fit(words: Sequence[str], classes: Collection[int], number: int) -> bool:
    return len(_of(words, classes)) >= number
