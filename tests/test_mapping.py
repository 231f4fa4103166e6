"""Hand-made impacts give the mappings that the specification of circuit distillation demands, ties and all."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from distilled_circuits.distillation.mapping import (
    HeadImpact,
    Mapping,
    ModelImpacts,
    agreement,
    baseline_offset,
    map_at_random,
    map_by_assignment,
    map_by_impact,
    map_by_order,
    random_mappings,
    share_of_changed_pairs,
)
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component

STUDENT = (Component(0, 0), Component(1, 1))


def impact(layer: int, head: int, accuracy: float, log_probability: float = -1.0) -> HeadImpact:
    """Return a head's impact in a model of five layers."""
    return HeadImpact(Component(layer, head), layer / 4, accuracy, log_probability)


def model(accuracy: float, *heads: HeadImpact, log_probability: float = -1.0) -> ModelImpacts:
    """Return the impacts of a model whose heads are all given."""
    return ModelImpacts(accuracy, log_probability, heads)


def names(impacts: ModelImpacts) -> tuple[Component, ...]:
    """Return all heads of a model."""
    return tuple(one.head for one in impacts.heads)


def partners(mapping: Mapping) -> list[str]:
    """Return the names of the teacher heads, in the order of student heads."""
    return [str(other) for _, other in mapping.pairs]


def all_by_impact(student: ModelImpacts, teacher: ModelImpacts, **options) -> Mapping:
    """Map all heads of one model to all of another."""
    return map_by_impact(student, teacher, names(student), names(teacher), **options)


def test_mapping_of_hand_made_impacts():
    """Drops 0.10 and 0.02 of the student meet teacher drops 0.08, 0.03 and -0.30: nearest are the first and second."""
    student = model(0.60, impact(0, 0, 0.50), impact(1, 1, 0.58))
    teacher = model(0.95, impact(2, 0, 0.52), impact(3, 1, 0.57), impact(4, 0, 0.90))
    mapping = all_by_impact(student, teacher)
    assert mapping.pairs == ((Component(0, 0), Component(2, 0)), (Component(1, 1), Component(3, 1)))
    assert mapping.distances == pytest.approx((0.02, 0.01))
    assert (mapping.tied, mapping.distinct_teachers) == (0, 2)


def test_the_students_baseline_collapses_the_mapping_where_the_teacher_is_far_ahead():
    """Equation 4 as printed: with a teacher at 0.95 all its drops count from 0.60, so one head wins always.

    With the teacher's own baseline the drops 0.01 and 0.25 meet 0.02 and 0.30; one pair of two changes (A2).
    """
    student = model(0.60, impact(0, 0, 0.59), impact(1, 1, 0.35))
    teacher = model(0.95, impact(2, 0, 0.93), impact(3, 1, 0.65))
    printed, own = (all_by_impact(student, teacher, kind=kind) for kind in ("impact", "impact_own"))
    assert partners(printed) == ["L3H1", "L3H1"]
    assert partners(own) == ["L2H0", "L3H1"]
    assert printed.distinct_teachers == 1
    assert share_of_changed_pairs(printed, own) == 0.5
    assert baseline_offset(student, teacher) == pytest.approx(0.35)
    assert baseline_offset(student, teacher, "log_probability") == 0


def test_the_printed_ratio_sends_all_heads_to_one():
    """Equation 3 as printed: P_base / P_ablated is at least 1, so all meet the largest impact, even at no accuracy."""
    student = model(0.6, *(impact(0, n, accuracy) for n, accuracy in enumerate([0.5, 0.55, 0.59, 0.0])))
    teacher = model(0.9, impact(2, 0, 0.52), impact(2, 1, 0.40), impact(2, 2, 0.58))
    ratio = all_by_impact(student, teacher, kind="ratio")
    assert partners(ratio) == ["L2H1"] * 4
    assert ratio.distances[0] == pytest.approx(0.6 / 0.5 - (0.6 - 0.40))
    assert all_by_impact(student, teacher).distinct_teachers > 1
    with pytest.raises(ValueError, match="one of accuracies"):
        all_by_impact(student, teacher, kind="ratio", metric="log_probability")


def test_ties_are_counted_and_broken_by_log_probability_then_depth_then_index():
    """All teacher heads cost the same accuracy as the student's first head, none that of its second."""
    student = model(0.6, impact(1, 0, 0.5, -2.0), impact(2, 0, 0.3, -9.0))
    by_probability = model(0.6, impact(2, 0, 0.5, -9.0), impact(3, 1, 0.5, -2.1), impact(4, 0, 0.31))
    found = all_by_impact(student, by_probability)
    assert (partners(found), found.tied) == (["L3H1", "L4H0"], 1)
    by_depth = model(0.6, impact(3, 0, 0.5), impact(2, 1, 0.5), impact(2, 0, 0.5))
    found = map_by_impact(student, by_depth, names(student)[:1], names(by_depth))
    assert (partners(found), found.tied) == (["L2H0"], 1)


def test_log_probabilities_tie_less_and_are_counted_from_the_same_baselines():
    """By log probability drops 1 and 3 of the student meet 1.2 and 2 of the teacher, who is ahead by 0.8."""
    student = model(0.6, impact(0, 0, 0.5, -2.0), impact(0, 1, 0.5, -4.0), log_probability=-1.0)
    teacher = model(0.9, impact(2, 0, 0.5, -1.4), impact(2, 1, 0.5, -2.2), log_probability=-0.2)
    own, printed = (
        all_by_impact(student, teacher, kind=kind, metric="log_probability") for kind in ("impact_own", "impact")
    )
    assert (partners(own), own.tied, own.distances) == (["L2H0", "L2H1"], 0, pytest.approx((0.2, 1)))
    assert (partners(printed), printed.distances) == (["L2H1", "L2H1"], pytest.approx((0.2, 1.8)))
    # All accuracies are equal: by accuracy every head is tied, and the same numbers decide.
    for kind, mapping in (("impact_own", own), ("impact", printed)):
        found = all_by_impact(student, teacher, kind=kind)
        assert (found.pairs, found.tied) == (mapping.pairs, 2)


def assignment_example(seed: int, students: int, teachers: int) -> tuple[ModelImpacts, ModelImpacts, np.ndarray]:
    """Return two models of random impacts, one with heads that help when gone, and random similarities."""
    rng = np.random.default_rng(seed)
    own, other = (
        model(0.7, *(impact(n % 5, n, 0.75 - 0.5 * value) for n, value in enumerate(rng.random(number))))
        for number in (students, teachers)
    )
    return own, other, rng.uniform(-0.2, 1, (students, teachers))


@pytest.mark.parametrize(("students", "teachers"), [(4, 4), (3, 5), (5, 3)])
def test_assignment_is_the_cheapest_of_all(students, teachers):
    """The sum of costs, worked out from the formula, is the least over all one-to-one maps, also rectangular ones."""
    own, other, similarity = assignment_example(students, students, teachers)
    found = map_by_assignment(own, other, names(own), names(other), similarity, impact_weight=0.6, depth_weight=0.3)
    cost = np.empty((students, teachers))
    for s, a in enumerate(own.heads):
        for t, b in enumerate(other.heads):
            drops = [
                (0.7 - one.accuracy) / max(0.7 - each.accuracy for each in whole.heads)
                for one, whole in ((a, own), (b, other))
            ]
            cost[s, t] = 0.6 * abs(drops[0] - drops[1]) + 0.4 * (1 - similarity[s, t])
            cost[s, t] += 0.3 * abs(a.relative_depth - b.relative_depth)
    if students > teachers:
        every = [sum(cost[s, t] for t, s in enumerate(map_)) for map_ in permutations(range(students), teachers)]
    else:
        every = [sum(cost[s, t] for s, t in enumerate(map_)) for map_ in permutations(range(teachers), students)]
    assert sum(found.distances) == pytest.approx(min(every))
    assert len(found.pairs) == found.distinct_teachers == min(students, teachers)
    for (a, b), distance in zip(found.pairs, found.distances, strict=True):
        assert distance == pytest.approx(cost[names(own).index(a), names(other).index(b)])


def test_agreement_compares_shares_of_the_largest_impact():
    """Drops 0.1 and 0.2 of at most 0.4 meet drops 0.3 and -0.15 of at most 0.3, whatever the baselines."""
    student = model(0.6, impact(0, 0, 0.5), impact(1, 1, 0.4), impact(2, 0, 0.2))
    teacher = model(0.9, impact(2, 0, 0.6), impact(3, 1, 1.05))
    found = agreement(student, teacher, STUDENT, names(teacher))
    assert found == pytest.approx(np.array([[1 - 0.75, 1 - 0.75], [1 - 0.5, 1 - 1]]))


def test_assignment_keeps_groups_apart():
    """Heads of different groups are never paired, however alike; what has no partner left stays unpaired."""
    own, other, similarity = assignment_example(0, 4, 4)
    student, teacher = names(own), names(other)
    # The last teacher head has no group: the student's C head can have that one alone, which its second B head wants.
    groups = dict(zip(student, "ABBC", strict=True)), dict(zip(teacher[:3], "ABB", strict=True))
    similarity[:] = 0
    similarity[0, 1] = similarity[1, 0] = similarity[2, 3] = 1
    similarity[1, 2] = 0.5
    found = map_by_assignment(own, other, student, teacher, similarity, 0.0, 0.0, *groups)
    assert found.pairs == tuple(zip(student, (teacher[n] for n in (0, 2, 1, 3)), strict=True))
    assert found.distances == (1, 0.5, 1, 1)
    without = map_by_assignment(own, other, student, teacher[:3], similarity[:, :3], 0.0, 0.0, *groups)
    assert without.pairs == found.pairs[:3]
    with pytest.raises(UserError, match="no group of heads in common"):
        map_by_assignment(own, other, student[3:], teacher[:3], similarity[3:, :3], 0.0, 0.0, *groups)


def test_assignment_where_no_ablation_costs_anything():
    """Without any impact to compare, geometry decides, and equal costs are counted as ties."""
    flat = model(0.5, impact(0, 0, 0.5), impact(0, 1, 0.6))
    similarity = np.array([[0.1, 0.9], [0.4, 0.4]])
    found = map_by_assignment(flat, flat, names(flat), names(flat), similarity, 0.5, 1.0)
    assert partners(found) == ["L0H1", "L0H0"]
    assert found.distances == pytest.approx((0.05, 0.3))
    assert found.tied == 1


def test_identity_goes_by_order():
    """A circuit with itself gives the identity; other sizes are stretched, first to first and last to last."""
    heads = [Component(2, 1), Component(0, 3), Component(1, 0)]
    assert map_by_order(heads, heads).pairs == tuple((head, head) for head in sorted(heads))
    longer = [Component(n, 0) for n in range(5)]
    assert partners(map_by_order(heads, longer)) == ["L0H0", "L2H0", "L4H0"]
    assert map_by_order(longer, heads[:2]).distinct_teachers == 2
    assert partners(map_by_order(heads[:1], longer)) == ["L0H0"]


TEACHERS = [Component(1, n) for n in range(8)]
"""A teacher's circuit."""


def test_random_control_keeps_heads_and_shares_no_pair():
    """Same student heads, same multiset of teacher heads, no pair of the aligned mapping; three of them differ."""
    pairs = tuple((Component(0, n), Component(1, n % 4)) for n in range(8))
    for seed in range(20):
        controls = random_mappings(Mapping(pairs), TEACHERS, 3, np.random.default_rng(seed))
        assert len({control.pairs for control in controls}) == 3
        for control in controls:
            assert [own for own, _ in control.pairs] == [own for own, _ in pairs]
            assert sorted(other for _, other in control.pairs) == sorted(other for _, other in pairs)
            assert share_of_changed_pairs(Mapping(pairs), control) == 1
        assert random_mappings(Mapping(pairs), TEACHERS, 3, np.random.default_rng(seed)) == controls


def test_random_control_reaches_every_map():
    """Of four heads there are nine maps without a pair in common; all are drawn, none much more often."""
    aligned = Mapping(tuple((Component(0, n), Component(1, n)) for n in range(4)))
    rng = np.random.default_rng(0)
    drawn = [map_at_random(aligned, TEACHERS, rng).pairs for _ in range(900)]
    counts = [drawn.count(pairs) for pairs in set(drawn)]
    assert len(counts) == 9
    assert min(counts) > 50
    assert len(random_mappings(aligned, TEACHERS, 20, rng)) == 9


def test_random_control_of_a_collapsed_mapping_has_other_heads_of_the_circuit():
    """Five of eight student heads share one teacher head: two of them cannot have another of the multiset."""
    pairs = tuple((Component(0, n), Component(1, max(0, n - 4))) for n in range(8))
    for seed in range(5):
        control = map_at_random(Mapping(pairs), TEACHERS, np.random.default_rng(seed))
        assert share_of_changed_pairs(Mapping(pairs), control) == 1
        kept = Counter(other for _, other in pairs) & Counter(other for _, other in control.pairs)
        assert kept.total() == 6
    collapsed = Mapping(tuple((Component(0, n), Component(1, 0)) for n in range(3)))
    controls = random_mappings(collapsed, TEACHERS, 3, np.random.default_rng(0))
    assert len(controls) == 3
    assert all(share_of_changed_pairs(collapsed, control) == 1 for control in controls)
    assert random_mappings(collapsed, TEACHERS[:1], 3, np.random.default_rng(0)) == (collapsed,)
