"""The variants of the alignment score: a choice for each part of it, and the choices that have a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

INFLUENCES = {
    "clamp_max": "the drop clamped at zero, over the largest drop (DC eq. 5)",
    "abs_max": "the absolute change, over the largest absolute change (DC Table 5, max)",
    "abs_l1": "the absolute change, over the sum of all absolute changes (DC Table 5, l1)",
    "abs_l2": "the absolute change, over the root of the sum of squares (DC Table 5, l2)",
    "l2": "the change with its sign, over the root of the sum of squares",
}
WEIGHTINGS = {
    "equal": "every pair counts alike (DC eq. 8)",
    "teacher": "a pair counts as its teacher component's influence: what the task does not need does not count",
}
DIRECTIONS = ("teacher_to_student", "student_to_teacher")
DOUBLED_BELOW = 0.95
"""Heads matched with less similarity than this count twice in the released code."""


@dataclass(frozen=True)
class Variant:
    """A choice for each part of the score; the defaults are the printed metric (DC eq. 5 to 8).

    influence: one of INFLUENCES. over: what its sum or maximum runs over, all `components` of a model or the `pairs`
    (as released: a component that is matched twice counts twice). heads, mlps: kinds of `similarity`. direction: whose
    components are matched to the other's. matching: one of MATCHINGS, with `neighbours` and `temperature` of the soft
    one and `top` of the restricted one. weighting: one of WEIGHTINGS. rescale: MLP similarities moved to the mean and
    spread of the heads' and divided by their largest (released). doubled: heads below DOUBLED_BELOW counted twice
    (released).
    """

    influence: str = "clamp_max"
    over: str = "components"
    heads: str = "output"
    mlps: str = "directions"
    direction: str = "teacher_to_student"
    matching: str = "greedy"
    neighbours: int = 5
    temperature: float = 1.0
    top: int = 5
    weighting: str = "equal"
    rescale: bool = False
    doubled: bool = False


PRINTED = Variant()
RELEASED = Variant(
    influence="abs_l1",
    over="pairs",
    heads="pattern_rows",
    mlps="signed_mean",
    direction="student_to_teacher",
    rescale=True,
    doubled=True,
)
PRESETS = {
    "printed": PRINTED,
    "released": RELEASED,
    "recommended": replace(PRINTED, heads="cka", mlps="cka"),
}
"""The text's equations, the released notebooks (sequences), and our choice (docs/alignment.md)."""
SINGLE_CHANGES = {
    **{f"influence {name}": replace(PRINTED, influence=name) for name in ("abs_max", "abs_l1", "abs_l2", "l2")},
    **{
        f"heads {name}": replace(PRINTED, heads=name)
        for name in ("pattern_rows", "pattern_flat", "cka", "cka_by_position", "cka_last")
    },
    **{
        f"MLPs {name}": replace(PRINTED, mlps=name)
        for name in ("subspace", "signed_mean", "stream", "cka", "cka_by_position", "cka_last")
    },
    "student to teacher": replace(PRINTED, direction="student_to_teacher"),
    **{f"matching {name}": replace(PRINTED, matching=name) for name in ("hungarian", "soft", "top")},
    "weighted by influence": replace(PRINTED, weighting="teacher"),
    "MLPs rescaled": replace(PRINTED, rescale=True),
    "low heads doubled": replace(PRINTED, doubled=True),
}
"""The printed metric with one part changed."""
OTHERS = {
    "released, later script": replace(PRINTED, influence="abs_l1", over="pairs", heads="pattern_flat", mlps="stream"),
    "released, indirect objects": replace(RELEASED, rescale=False, doubled=False),
    "released, no rescaling": replace(RELEASED, rescale=False),
    "released, none doubled": replace(RELEASED, doubled=False),
    **{
        f"{name}{', weighted' if weighting == 'teacher' else ''}": replace(
            PRINTED, heads=kind, mlps=kind, weighting=weighting
        )
        for name, kind in (("CKA", "cka"), ("CKA by position", "cka_by_position"), ("CKA, last token", "cka_last"))
        for weighting in WEIGHTINGS
        if (kind, weighting) != ("cka", "equal")
    },
}
TABLE_5_ONLY = {
    f"influence {influence}, matching {matching}": replace(PRINTED, influence=influence, matching=matching)
    for influence in ("abs_l1", "abs_l2")
    for matching in ("hungarian", "soft")
}
VARIANTS = {**PRESETS, **SINGLE_CHANGES, **TABLE_5_ONLY, **OTHERS}
"""Every variant that a run reports, by name."""

TABLE_5 = {
    (norm, matching): next(
        name for name, known in VARIANTS.items() if known == replace(PRINTED, influence=influence, matching=matching)
    )
    for norm, influence in (("max", "clamp_max"), ("l1", "abs_l1"), ("l2", "abs_l2"))
    for matching in ("greedy", "hungarian", "soft")
}
"""DC Appendix M, normalisation by matching, as names of variants; everything else as printed."""


def known_variants(custom: Mapping[str, Any]) -> dict[str, Variant]:
    """Return every variant with the user's own choice of parts as `custom`."""
    return {**VARIANTS, "custom": Variant(**custom)}
