"""What probes are asked to read: labels and places by task, from prompts' token ids and named positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.integer]


@dataclass(frozen=True)
class Target:
    """One question to an activation.

    `places` and `labels` are (prompt, place); `runs` says for each place whether the clean or the corrupted prompt is
    read there. A `joint` target is right for a prompt when all its places are, each with a probe of its own. Places of
    a group in `groups` are compared with each other in the AUROC of a yes-or-no target, others never are: where in
    the prompt a token stands must not answer the question. `of_heads`: heads' values are asked too (DC J.4).
    Prompts of one unit in `units` (prompt,) ask for the same thing, and are never on both sides of a split; without it
    each prompt is a unit.
    """

    title: str
    runs: tuple[str, ...]
    places: Indices
    labels: Indices
    yes_or_no: bool = False
    joint: bool = False
    of_heads: bool = False
    pooled: bool = False
    units: Indices | None = None

    @property
    def groups(self) -> list[list[int]]:
        """Columns whose labels may be exchanged with each other: each its own, or all of them."""
        columns = range(self.labels.shape[1])
        return [list(columns)] if self.pooled else [[column] for column in columns]

    @property
    def chance(self) -> float:
        """What guessing gives: one over the number of classes, for every place of a joint target; 0.5 for AUROC."""
        if self.yes_or_no:
            return 0.5
        columns = self.labels.T if self.joint else [self.labels]
        return float(np.prod([1 / len(np.unique(column)) for column in columns]))

    def permuted(self, rng: np.random.Generator) -> Indices:
        """Return the labels dealt out again among prompts (and places of a group): nothing is left to be read.

        With units a unit's prompts are given the label of one other unit.
        """
        labels = self.labels.copy()
        if self.units is not None:
            _, first, unit = np.unique(self.units, return_index=True, return_inverse=True)
            return labels[rng.permutation(first)][unit]
        for group in self.groups:
            labels[:, group] = rng.permutation(labels[:, group].ravel()).reshape(-1, len(group))
        return labels


def targets_of(
    clean: Indices,
    corrupted: Indices,
    answers: Indices,
    distractors: Indices,
    positions: Mapping[str, Indices],
) -> dict[str, Target]:
    """Return what prompts (prompt, pos) of a task can be asked for, by the positions that they name.

    The elements of a clean sequence determine each other, so what is asked about single elements is asked of corrupted
    prompts, whose elements are independent; only the next one needs a sequence that goes on.
    """
    if "numerals" in positions and positions["numerals"].shape[1] > 1:
        return _sequence_targets(corrupted, answers, positions)
    last = positions["last"]
    # Several wordings ask about one fact: a probe that has seen one of them would know the person.
    units = None
    if {"relation", "subject"} <= positions.keys():
        subjects = np.take_along_axis(clean, positions["subject"], axis=1)[:, 0]
        units = subjects if len(np.unique(subjects)) > 1 else None
    targets = {"answer": Target("the answer, where it is read", ("clean",), last, answers[:, None], units=units)}
    if "s2" in positions:
        third = np.concatenate([positions["s2"], positions["s2"]], axis=1)
        repeated = np.tile([1, 0], (len(third), 1))
        targets["subject"] = Target(
            "the repeated name, where the answer is read", ("clean",), last, distractors[:, None]
        )
        targets["prior_occurrence"] = Target(
            "whether the third name stood there before (clean against corrupted prompts)", ("clean", "corrupted"),
            third, repeated, yes_or_no=True, of_heads=True, pooled=True,
        )  # fmt: skip
    return targets


def _sequence_targets(corrupted: Indices, answers: Indices, positions: Mapping[str, Indices]) -> dict[str, Target]:
    numerals, last = positions["numerals"], positions["last"]
    elements = np.take_along_axis(corrupted, numerals, axis=1)
    number = elements.shape[1]
    same = elements[:, :, None] == elements[:, None, :]
    seen = (same & np.tri(number, k=-1, dtype=bool)).any(-1).astype(int)
    single = {
        f"element_{index + 1}": Target(
            f"element {index + 1} of the sequence, where the answer is read", ("corrupted",), last, elements[:, [index]]
        )
        for index in range(number)
    }
    behind = {"runs": ("corrupted",) * (number - 1), "places": numerals[:, 1:], "of_heads": True}
    return {
        **single,
        "all_elements": Target(
            "all elements of the sequence, where the answer is read", ("corrupted",) * number,
            np.repeat(last, number, axis=1), elements, joint=True,
        ),
        "next_element": Target("the next element, where the answer is read", ("clean",), last, answers[:, None]),
        "previous_element": Target("the element before, at each element", labels=elements[:, :-1], **behind),
        "prior_occurrence": Target(
            "whether the element stood there before, at each element", labels=seen[:, 1:], yes_or_no=True, **behind
        ),
    }  # fmt: skip
