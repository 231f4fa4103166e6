"""Indirect object identification as in Wang et al. (2023): who receives what the repeated name gives away."""

from __future__ import annotations

import random
from collections.abc import Sequence

from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.prompt import Example, Prompt, compose, is_held_out, last_word

FRAMES = (
    ("When ", " and ", "went to ", "the {place}, ", " gave ", "a {gift} to"),
    ("While ", " and ", "sat in ", "the {place}, ", " gave ", "a {gift} to"),
    ("After ", " and ", "left for ", "the {place}, ", " gave ", "a {gift} to"),
    ("Then ", " and ", "met at ", "the {place}, ", " handed ", "a {gift} to"),
)
"""Text around the three names; all of one length, so that positions agree."""


Frame = tuple[str, ...]


def ioi_prompts(lexicon: Lexicon, number: int, rng: random.Random, frames: Sequence[Frame] = FRAMES) -> list[Prompt]:
    """Return `number` held-out prompts, ABBA and BABA in turn (the indirect object first, then second)."""
    prompts: list[Prompt] = []
    seen: set[str] = set()
    while len(prompts) < number:
        frame, place, gift = _scene(lexicon, frames, rng)
        receiver, giver, other_receiver, other_giver, third = rng.sample(lexicon.names, 5)
        receiver_first = len(prompts) % 2 == 0
        clean, roles = _text(frame, place, gift, (receiver, giver, giver), receiver_first)
        if not is_held_out(clean) or clean in seen:
            continue
        seen.add(clean)
        # Three different names: nothing is repeated, so nobody is the indirect object (Wang et al.'s ABC).
        corrupted, _ = _text(frame, place, gift, (other_receiver, other_giver, third), receiver_first)
        gaps = tuple(start for start, _ in roles.pop("gap"))
        roles |= {"last": (last_word(clean),), "subject": roles["s2"]}
        prompts.append(Prompt(clean, corrupted, answer=receiver, distractor=giver, roles=roles, gaps=gaps))
    return prompts


def ioi_example(lexicon: Lexicon, rng: random.Random) -> Example:
    """Return a training text with its receiver, the one determined word, at the end."""
    while True:
        frame, place, gift = _scene(lexicon, FRAMES, rng)
        receiver, giver = rng.sample(lexicon.names, 2)
        text, roles = _text(frame, place, gift, (receiver, giver, giver), rng.random() < 0.5)
        if not is_held_out(text):
            full = f"{text} {receiver}."
            gaps = tuple(start for start, _ in roles["gap"])
            decoys = tuple(name for name in lexicon.names if name not in (receiver, giver))
            return Example(full, ((len(text) + 1, len(full) - 1),), gaps, decoys)


def _scene(lexicon: Lexicon, frames: Sequence[Frame], rng: random.Random) -> tuple[Frame, str, str]:
    return rng.choice(frames), rng.choice(lexicon.places), rng.choice(lexicon.gifts)


def _text(
    frame: Frame, place: str, gift: str, names: tuple[str, str, str], receiver_first: bool
) -> tuple[str, dict[str, tuple[tuple[int, int], ...]]]:
    receiver, giver, repeated = names
    before, between, where, at_place, what, gave = (part.format(place=place, gift=gift) for part in frame)
    pair = [(receiver, "io"), (giver, "s1")]
    first, second = pair if receiver_first else pair[::-1]
    opening = [before, first, between, second, " ", (where, "gap"), (at_place, "gap")]
    return compose([*opening, (repeated, "s2"), what, (gave, "gap")])
