"""Which student head is aligned with which teacher head: by ablation impact (CD eq. 3-5), or by one of its rivals."""

from __future__ import annotations

from collections.abc import Mapping as Table
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component

Array = NDArray[np.floating]
Metric = Literal["accuracy", "log_probability"]

MAPPINGS = {
    "impact": "the teacher head of the nearest impact, both counted from the student's accuracy (CD eq. 3-5)",
    "impact_own": "the same, with each model's impacts counted from its own accuracy",
    "ratio": "the same, with the student's impact as the ratio that CD eq. 3 prints: all heads meet one",
    "hungarian": "one to one, for the least sum of differences in impact, geometry (1 - CKA) and depth",
    "random": "the teacher heads of another mapping, dealt out anew so that no pair stays",
    "identity": "the first head of one circuit with the first of the other, and so on, layers upwards",
}
"""Ways to pair heads, by name."""


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

    @cached_property
    def _by_head(self) -> dict[Component, HeadImpact]:
        return {impact.head: impact for impact in self.heads}

    def left(self, circuit: Sequence[Component], metric: Metric) -> Array:
        """Return what is left of a metric (head,) with each head of a circuit ablated alone."""
        return np.array([getattr(self._by_head[head], metric) for head in circuit], dtype=float)

    def depths(self, circuit: Sequence[Component]) -> Array:
        """Return the relative depths (head,) of a circuit's heads, from 0 in the first layer to 1 in the last."""
        return np.array([self._by_head[head].relative_depth for head in circuit])

    def normalised(self, circuit: Sequence[Component], metric: Metric) -> Array:
        """Return impacts (head,) divided by the largest of the whole model; all 0 where no ablation costs anything."""
        base = getattr(self, metric)
        largest = max(base - getattr(impact, metric) for impact in self.heads)
        return (base - self.left(circuit, metric)) / largest if largest > 0 else np.zeros(len(circuit))


@dataclass(frozen=True)
class Mapping:
    """Pairs (student head, teacher head) with the distance that each was chosen for.

    `tied` counts student heads for which that distance left a choice. `distances` is empty where pairs were not chosen
    by distance.
    """

    pairs: tuple[tuple[Component, Component], ...]
    distances: tuple[float, ...] = ()
    tied: int = 0

    @property
    def distinct_teachers(self) -> int:
        """How many teacher heads take part: one may be the partner of several student heads."""
        return len({other for _, other in self.pairs})


def map_by_impact(
    student: ModelImpacts,
    teacher: ModelImpacts,
    student_circuit: Sequence[Component],
    teacher_circuit: Sequence[Component],
    kind: Literal["impact", "impact_own", "ratio"] = "impact",
    metric: Metric = "accuracy",
) -> Mapping:
    """Give each student head the teacher head of the nearest impact; several may share one (CD eq. 5).

    Impacts are differences P_base - P_ablated. For `impact` both are counted from the student's baseline, as CD eq. 4
    prints it for the teacher; for `impact_own` each from its model's own. `ratio` is eq. 3 as printed, for the record:
    P_base / P_ablated is at least 1 for any harmful ablation and teacher impacts are less, so all heads meet one.
    Ties are broken by the other metric, then by relative depth, then by index.
    """
    if kind == "ratio" and metric != "accuracy":
        raise ValueError("the ratio of CD eq. 3 is one of accuracies")
    circuits = (student_circuit, teacher_circuit)
    first = _impact_distances(student, teacher, circuits, kind, metric)
    second = _impact_distances(student, teacher, circuits, "impact" if kind == "ratio" else kind, _second(metric))
    depth = np.abs(student.depths(student_circuit)[:, None] - teacher.depths(teacher_circuit))
    columns = range(len(teacher_circuit))
    chosen = [
        min(columns, key=lambda n, row=row: (first[row, n], second[row, n], depth[row, n], teacher_circuit[n]))
        for row in range(len(student_circuit))
    ]
    return _mapping(*circuits, first, list(enumerate(chosen)))


def map_by_assignment(
    student: ModelImpacts,
    teacher: ModelImpacts,
    student_circuit: Sequence[Component],
    teacher_circuit: Sequence[Component],
    similarity: Array,
    impact_weight: float,
    depth_weight: float,
    student_groups: Table[Component, str] | None = None,
    teacher_groups: Table[Component, str] | None = None,
    metric: Metric = "accuracy",
) -> Mapping:
    """Pair heads one to one for the least total cost (the Hungarian method), as many as the smaller circuit has.

    Cost is α |difference of impacts, each over its model's largest| + (1 - α) (1 - `similarity`) + β |difference of
    relative depths|, with α = `impact_weight`, β = `depth_weight` and the debiased CKA (student head, teacher head).
    Heads of two different groups are never paired, heads without a group with any: a head whose group has too few
    partners stays unpaired. Raises UserError when the groups allow no pair at all.
    """
    impact = 1 - agreement(student, teacher, student_circuit, teacher_circuit, metric)
    depth = np.abs(student.depths(student_circuit)[:, None] - teacher.depths(teacher_circuit))
    cost = (impact_weight * impact + (1 - impact_weight) * (1 - similarity) + depth_weight * depth).round(9)
    own, other = student_groups or {}, teacher_groups or {}
    forbidden = np.array(
        [[a in own and b in other and own[a] != other[b] for b in teacher_circuit] for a in student_circuit]
    )
    # So dear that no saving elsewhere pays for a forbidden pair: first as few of them as can be, then the least cost.
    rows, columns = linear_sum_assignment(np.where(forbidden, 1 + np.abs(cost).sum(), cost))
    places = [place for place in zip(rows.tolist(), columns.tolist(), strict=True) if not forbidden[place]]
    if not places:
        raise UserError("hungarian mapping: the circuits have no group of heads in common: choose another mapping")
    return _mapping(student_circuit, teacher_circuit, np.where(forbidden, np.inf, cost), places)


def map_by_order(student_circuit: Sequence[Component], teacher_circuit: Sequence[Component]) -> Mapping:
    """Pair the i-th student head with the i-th teacher head, layers upwards; a circuit with itself: the identity.

    A teacher circuit of another size is stretched, first to first and last to last, so that every student head has a
    partner.
    """
    own, other = sorted(student_circuit), sorted(teacher_circuit)
    stretch = (len(other) - 1) / max(1, len(own) - 1)
    return Mapping(tuple((head, other[round(n * stretch)]) for n, head in enumerate(own)))


def map_at_random(aligned: Mapping, teacher_circuit: Sequence[Component], rng: np.random.Generator) -> Mapping:
    """Return the control: the same student heads and the same multiset of teacher heads, no pair as in `aligned`.

    Where that cannot be (one teacher head serves more than half of the student heads) as few pairs as possible would
    stay: these get another head of the teacher's circuit instead, for a control that is the aligned mapping is none.
    """
    teachers = [other for _, other in aligned.pairs]
    same = np.array([[one == other for other in teachers] for one in teachers])
    # A pair that stays costs more than all random costs together.
    _, dealt = linear_sum_assignment(len(teachers) * same + rng.random(same.shape))
    pairs = []
    for (own, partner), n in zip(aligned.pairs, dealt.tolist(), strict=True):
        others = [head for head in teacher_circuit if head != partner]
        stays = teachers[n] == partner and others
        pairs.append((own, others[rng.integers(len(others))] if stays else teachers[n]))
    return Mapping(tuple(pairs))


def random_mappings(
    aligned: Mapping, teacher_circuit: Sequence[Component], number: int, rng: np.random.Generator
) -> tuple[Mapping, ...]:
    """Return `number` different controls of `map_at_random`, fewer where no more were found in 100 draws for each."""
    found: dict[Mapping, None] = {}
    for _ in range(100 * number):
        if len(found) == number:
            break
        found[map_at_random(aligned, teacher_circuit, rng)] = None
    return tuple(found)


def baseline_offset(student: ModelImpacts, teacher: ModelImpacts, metric: Metric = "accuracy") -> float:
    """Return g = P_teacher - P_student: what CD eq. 4 takes from every teacher impact by the student's baseline."""
    return getattr(teacher, metric) - getattr(student, metric)


def agreement(
    student: ModelImpacts,
    teacher: ModelImpacts,
    student_circuit: Sequence[Component],
    teacher_circuit: Sequence[Component],
    metric: Metric = "accuracy",
) -> Array:
    """Return 1 - |I_s - I_t| (student head, teacher head) of impacts over each model's largest (DC eq. 8)."""
    own, other = student.normalised(student_circuit, metric), teacher.normalised(teacher_circuit, metric)
    return 1 - np.abs(own[:, None] - other)


def share_of_changed_pairs(one: Mapping, other: Mapping) -> float:
    """Return the share of student heads of `one` that have another partner, or none, in `other`."""
    return 1 - len(set(one.pairs) & set(other.pairs)) / len(one.pairs)


def _second(metric: Metric) -> Metric:
    return "log_probability" if metric == "accuracy" else "accuracy"


def _impact_distances(
    student: ModelImpacts,
    teacher: ModelImpacts,
    circuits: tuple[Sequence[Component], Sequence[Component]],
    kind: str,
    metric: Metric,
) -> Array:
    """Return |difference of impacts| (student head, teacher head) (CD eq. 5), rounded so that equal ones tie."""
    base = getattr(student, metric)
    left = student.left(circuits[0], metric)
    own = base / np.maximum(left, 1e-6) if kind == "ratio" else base - left
    reference = getattr(teacher, metric) if kind == "impact_own" else base
    other = reference - teacher.left(circuits[1], metric)
    return np.abs(own[:, None] - other).round(9)


def _mapping(
    student_circuit: Sequence[Component],
    teacher_circuit: Sequence[Component],
    distances: Array,
    places: Sequence[tuple[int, int]],
) -> Mapping:
    """Return the pairs at places (row, column) of a table of distances; those tie that another column equals."""
    return Mapping(
        pairs=tuple((student_circuit[row], teacher_circuit[column]) for row, column in places),
        distances=tuple(float(distances[place]) for place in places),
        tied=sum(int((distances[row] == distances[row, column]).sum() > 1) for row, column in places),
    )
