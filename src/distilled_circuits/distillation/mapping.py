"""Which student head is aligned with which teacher head: by ablation impact (CD eq. 3-5), or at random."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from distilled_circuits.lens.components import Component


@dataclass(frozen=True)
class HeadImpact:
    """A head with what its mean ablation leaves: accuracy, and mean log probability of the answer."""

    head: Component
    relative_depth: float
    accuracy: float
    log_probability: float


@dataclass(frozen=True)
class ModelImpacts:
    """All heads of one model, and the model's own accuracy and mean log probability of the answer."""

    accuracy: float
    log_probability: float
    heads: tuple[HeadImpact, ...]


@dataclass(frozen=True)
class Mapping:
    """Pairs (student head, teacher head); `tied` counts student heads for which accuracy alone left a choice."""

    pairs: tuple[tuple[Component, Component], ...]
    tied: int


def circuit_heads(impacts: ModelImpacts, share: float) -> tuple[HeadImpact, ...]:
    """Return the `share` of heads whose single ablation costs most, in their own order (CD 2.2 for both models).

    Ranked by accuracy, then by log probability, because many ablations cost no accuracy at all.
    """
    number = max(1, math.ceil(share * len(impacts.heads)))
    ranked = sorted(impacts.heads, key=lambda impact: (impact.accuracy, impact.log_probability, impact.head))
    return tuple(sorted(ranked[:number], key=lambda impact: impact.head))


def map_by_impact(
    student: ModelImpacts,
    student_circuit: Sequence[HeadImpact],
    teacher_circuit: Sequence[HeadImpact],
    teacher_baseline: float,
) -> Mapping:
    """Give each student head the teacher head of the most similar impact; several may share one (CD eq. 5).

    The student's impact is the *difference* P_base - P_ablated: the ratio printed in eq. 3 exceeds every teacher
    impact, so that it would pair all heads with one. The teacher's is `teacher_baseline` - P_ablated: the student's
    accuracy as printed in eq. 4, or the teacher's ("own" baselines).
    Ties in accuracy are broken by log probability, then by relative depth, then by index.
    """
    pairs = []
    tied = 0
    for own in student_circuit:
        distances = [
            (
                round(abs((student.accuracy - own.accuracy) - (teacher_baseline - other.accuracy)), 9),
                abs(own.log_probability - other.log_probability),
                abs(own.relative_depth - other.relative_depth),
                other.head,
            )
            for other in teacher_circuit
        ]
        best = min(distances)
        tied += sum(distance[0] == best[0] for distance in distances) > 1
        pairs.append((own.head, best[-1]))
    return Mapping(tuple(pairs), tied)


def map_at_random(aligned: Mapping, rng: random.Random) -> Mapping:
    """Return the control: the same student heads and the same multiset of teacher heads, no pair as in `aligned`.

    Where that cannot be (one teacher head serves more than half of the student heads) as few as possible are kept.
    """
    students = [student for student, _ in aligned.pairs]
    teachers = [teacher for _, teacher in aligned.pairs]
    best, fewest = teachers, len(teachers) + 1
    for _ in range(1000):
        shuffled = rng.sample(teachers, len(teachers))
        kept = sum(a == b for a, b in zip(shuffled, teachers, strict=True))
        if kept < fewest:
            best, fewest = shuffled, kept
        if fewest == 0:
            break
    return Mapping(tuple(zip(students, best, strict=True)), aligned.tied)
