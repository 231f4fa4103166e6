"""The alignment score in every variant, worked out by hand on two heads and an MLP against three heads and two MLPs."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from distilled_circuits.comparison.alignment import alignment_score, match_and_score, rescaled
from distilled_circuits.comparison.matching import MATCHINGS, greedy, hungarian, soft, top
from distilled_circuits.comparison.similarity import HEADS as KINDS_OF_HEADS
from distilled_circuits.comparison.similarity import MLPS as KINDS_OF_MLPS
from distilled_circuits.comparison.variants import (
    DIRECTIONS,
    INFLUENCES,
    PRINTED,
    RELEASED,
    TABLE_5,
    VARIANTS,
    WEIGHTINGS,
    Variant,
    known_variants,
)
from distilled_circuits.param_analysis import CustomVariant

HEADS = np.array([[0.9, 0.2, 0.5], [0.8, 0.3, 0.1]])
"""Similarities of the teacher's heads A, B with the student's a, b, c."""
MLPS = np.array([[0.4, 0.6]])
"""Similarities of the teacher's MLP M with the student's m, n."""
DROPS = np.array([4.0, -2.0, 1.0]), np.array([3.0, 6.0, -1.0, 0.0, 2.0])
"""Mean drops of A, B, M; of a, b, c, m, n."""
IS_HEAD = np.array([True, True, False]), np.array([True, True, True, False, False])


def scored(variant: Variant):
    """Return the alignment of the example."""
    return match_and_score(tuple(drop[None] for drop in DROPS), IS_HEAD, HEADS[None], MLPS[None], variant)


def agreed(variant: Variant, terms: list[tuple[float, float, float]], weights: list[float] | None = None) -> None:
    """Compare with terms (similarity, teacher influence, student influence), whose weighted mean is the score."""
    result = scored(variant)
    weights = weights or [1.0] * len(terms)
    found = zip(result.similarity[0], result.teacher_influence[0], result.student_influence[0], strict=True)
    assert [tuple(term) for term in found] == [pytest.approx(term) for term in terms]
    assert result.weight[0] == pytest.approx(weights)
    total = sum(weights)
    products = [w * s * (1 - abs(t - u)) for w, (s, t, u) in zip(weights, terms, strict=True)]
    assert result.score.score[0] == pytest.approx(sum(products) / total)
    similarities = [w * s for w, (s, _, _) in zip(weights, terms, strict=True)]
    assert result.score.mean_similarity[0] == pytest.approx(sum(similarities) / total)
    agreements = [w * (1 - abs(t - u)) for w, (_, t, u) in zip(weights, terms, strict=True)]
    assert result.score.mean_agreement[0] == pytest.approx(sum(agreements) / total)


def test_printed_by_hand():
    """Equations 5 to 8. Influence: teacher 1, 0, 1/4; student 1/2, 1, 0, 0, 1/3. Matches: A-a, B-a, M-n.

    Terms 0.9 (1 - 1/2), 0.8 (1 - 1/2), 0.6 (1 - 1/12): the score is (0.45 + 0.4 + 0.55) / 3.
    """
    agreed(PRINTED, [(0.9, 1, 0.5), (0.8, 0, 0.5), (0.6, 0.25, 1 / 3)])
    assert scored(PRINTED).score.score[0] == pytest.approx(1.4 / 3)
    assert scored(PRINTED).pairs[0] == 3


def test_student_to_teacher_by_hand():
    """Each student component looks for its partner: a-A, b-B, c-A, m-M, n-M."""
    agreed(
        replace(PRINTED, direction="student_to_teacher"),
        [(0.9, 1, 0.5), (0.3, 0, 1), (0.5, 1, 0), (0.4, 0.25, 0), (0.6, 0.25, 1 / 3)],
    )


@pytest.mark.parametrize(
    ("influence", "teacher", "student"),
    [
        ("abs_max", (1, 0.5, 0.25), (0.5, 0.5, 1 / 3)),
        ("abs_l1", (4 / 7, 2 / 7, 1 / 7), (3 / 12, 3 / 12, 2 / 12)),
        ("abs_l2", tuple(np.array([4, 2, 1]) / 21**0.5), tuple(np.array([3, 3, 2]) / 50**0.5)),
        ("l2", tuple(np.array([4, -2, 1]) / 21**0.5), tuple(np.array([3, 3, 2]) / 50**0.5)),
    ],
)
def test_influences_by_hand(influence, teacher, student):
    """Table 5: other norms of the same drops, over all components of each model."""
    agreed(replace(PRINTED, influence=influence), list(zip((0.9, 0.8, 0.6), teacher, student, strict=True)))


def test_influence_over_pairs_by_hand():
    """As released the sums run over the list of pairs: teacher 4, 2, 1 of 7; student 3, 3, 2 of 8, a counted twice."""
    agreed(
        replace(PRINTED, influence="abs_l1", over="pairs"),
        [(0.9, 4 / 7, 3 / 8), (0.8, 2 / 7, 3 / 8), (0.6, 1 / 7, 2 / 8)],
    )


def test_hungarian_by_hand():
    """One to one the heads are A-c, B-a (0.5 + 0.8 beats 0.9 + 0.3); M-n; b and m are left out."""
    agreed(replace(PRINTED, matching="hungarian"), [(0.5, 1, 0), (0.8, 0, 0.5), (0.6, 0.25, 1 / 3)])


def test_soft_by_hand():
    """With two neighbours at temperature 0.5: A has a and c with weights in proportion e^1.8 and e^1."""
    variant = replace(PRINTED, matching="soft", neighbours=2, temperature=0.5)
    near, other = 1 / (1 + np.exp(-0.8)), 1 / (1 + np.exp(0.8))
    second = 1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(1.0))
    mlp = 1 / (1 + np.exp(-0.4)), 1 / (1 + np.exp(0.4))
    agreed(
        variant,
        [(0.9, 1, 0.5), (0.5, 1, 0), (0.8, 0, 0.5), (0.3, 0, 1), (0.6, 0.25, 1 / 3), (0.4, 0.25, 0)],
        [near, other, *second, *mlp],
    )
    assert scored(variant).pairs[0] == pytest.approx(3)


def test_top_by_hand():
    """The most influential head and MLP of each model: A (4) with b (6), M with n (2)."""
    agreed(replace(PRINTED, matching="top", top=1), [(0.2, 1, 1), (0.6, 0.25, 1 / 3)])


def test_top_does_not_depend_on_where_components_stand_that_cost_nothing():
    """One head costs something; which other is taken with it goes by its drop, not by its place."""
    similarity = np.array([[0.9, 0.1, 0.2], [0.1, 0.8, 0.3], [0.2, 0.3, 0.7]])
    drops, order = np.array([2.0, -1.0, -0.5, 1.0]), [0, 2, 1]
    is_head = np.array([True, True, True, False])
    variant = replace(PRINTED, matching="top", top=2)
    mlp = np.ones((1, 1, 1))
    one = match_and_score((drops[None],) * 2, (is_head,) * 2, similarity[None], mlp, variant)
    moved = drops[[*order, 3]]
    other = match_and_score((drops[None], moved[None]), (is_head,) * 2, similarity[None][:, :, order], mlp, variant)
    assert one.score.score[0] == pytest.approx((0.9 + 0.7 + 1) / 3)
    assert other.score.score[0] == pytest.approx(one.score.score[0])


def test_weighting_by_hand():
    """Weights are the teacher's clamped drops 4, 0, 1: B, which costs nothing, does not count."""
    agreed(replace(PRINTED, weighting="teacher"), [(0.9, 1, 0.5), (0.8, 0, 0.5), (0.6, 0.25, 1 / 3)], [4, 0, 1])
    assert scored(replace(PRINTED, weighting="teacher")).pairs[0] == 3


def test_without_any_influence_weights_are_equal():
    """A model in which nothing costs anything still has a score: all pairs count alike."""
    zero = (np.zeros((1, 3)), np.zeros((1, 5)))
    result = match_and_score(zero, IS_HEAD, HEADS[None], MLPS[None], replace(PRINTED, weighting="teacher"))
    assert result.score.score[0] == pytest.approx((0.9 + 0.8 + 0.6) / 3)


def test_rescaling_by_hand():
    """Mean 0.5, spread 0.1 of the MLPs; mean 7/15 of the heads, with their spread s over one less than their number.

    0.4 and 0.6 become 7/15 -+ s, over the larger of the two.
    """
    mean, spread = HEADS.mean(), HEADS.std(ddof=1)
    expected = np.array([mean - spread, mean + spread]) / (mean + spread)
    assert rescaled(MLPS[None], HEADS[None])[0, 0] == pytest.approx(expected)
    agreed(replace(PRINTED, rescale=True), [(0.9, 1, 0.5), (0.8, 0, 0.5), (1, 0.25, 1 / 3)])


def test_rescaling_makes_the_best_mlps_perfect_whatever_they_are_like():
    """MLPs that are hardly alike at all get similarity 1, which is why no value of it can be trusted."""
    assert rescaled(MLPS[None] / 100, HEADS[None]).max() == pytest.approx(1)
    assert rescaled(np.zeros((1, 1, 2)), HEADS[None]).tolist() == [[[0, 0]]]


def test_doubling_by_hand():
    """Both heads are below 0.95 and stand twice in the released sum; MLPs never do."""
    variant = replace(PRINTED, doubled=True)
    agreed(variant, [(0.9, 1, 0.5), (0.8, 0, 0.5), (0.6, 0.25, 1 / 3)], [2, 2, 1])
    assert scored(variant).pairs[0] == 5


def test_released_by_hand():
    """All parts together: a-A, b-B, c-A, m-M, n-M; heads twice; l1 over that list; MLPs rescaled.

    Teacher: 2 (4 + 2 + 4) + 1 + 1 = 22; student: 2 (3 + 6 + 1) + 0 + 2 = 22.
    """
    mean, spread = HEADS.mean(), HEADS.std(ddof=1)
    low = (mean - spread) / (mean + spread)
    agreed(
        RELEASED,
        [
            (0.9, 4 / 22, 3 / 22),
            (0.3, 2 / 22, 6 / 22),
            (0.5, 4 / 22, 1 / 22),
            (low, 1 / 22, 0),
            (1, 1 / 22, 2 / 22),
        ],
        [2, 2, 2, 1, 1],
    )
    assert scored(RELEASED).pairs[0] == 8


def test_the_released_influence_term_is_worth_at_most_two_over_the_number_of_pairs():
    """With l1 over pairs both lists sum to one, so the score is the mean similarity but for 2 / |M|."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        drops = rng.normal(size=(1, 12)), rng.normal(size=(1, 6))
        is_head = np.arange(12) % 4 < 3, np.arange(6) % 3 < 2
        sizes = [(mask.sum(), (~mask).sum()) for mask in is_head]
        heads, mlps = (rng.uniform(size=(1, a, b)) for a, b in zip(*sizes, strict=True))
        result = match_and_score(drops, is_head, heads, mlps, RELEASED)
        moved = result.score.mean_similarity[0] - result.score.score[0]
        assert 0 <= moved <= 2 / result.pairs[0]


def test_scores_need_no_model():
    """Lists of influences and similarities are enough: 0.9 (1 - 0.5), 0.8 (1 - 0.5) and 0.6 (1 - 1/12)."""
    result = alignment_score([0.5, 0.5, 1 / 3], [1, 0, 0.25], [0.9, 0.8, 0.6])
    assert result.score == pytest.approx(1.4 / 3)
    assert result.mean_similarity == pytest.approx(2.3 / 3)
    assert result.mean_agreement == pytest.approx((0.5 + 0.5 + 11 / 12) / 3)
    twice = alignment_score([0.5, 1 / 3], [1, 0.25], [0.9, 0.6], weight=[2, 1])
    assert twice.score == pytest.approx((2 * 0.45 + 0.55) / 3)


def test_table_5_has_nine_variants_that_differ_in_two_parts():
    """Normalisation and matching change; everything else is as printed."""
    assert len({VARIANTS[name] for name in TABLE_5.values()}) == 9
    for name in TABLE_5.values():
        assert replace(VARIANTS[name], influence="clamp_max", matching="greedy") == PRINTED
    assert TABLE_5["max", "greedy"] == "printed"


def test_every_variant_is_another_one():
    """No two names mean the same choice, and a custom choice joins them."""
    assert len(set(VARIANTS.values())) == len(VARIANTS)
    assert known_variants({"heads": "cka"})["custom"] == replace(PRINTED, heads="cka")


def test_the_settings_know_every_part_of_a_variant():
    """What params.yaml allows for `alignment.custom` is what there is, name by name."""
    allowed = {name: set(get_args(field.annotation)) for name, field in CustomVariant.model_fields.items()}
    known = {
        "influence": INFLUENCES,
        "over": ("components", "pairs"),
        "heads": KINDS_OF_HEADS,
        "mlps": KINDS_OF_MLPS,
        "direction": DIRECTIONS,
        "matching": MATCHINGS,
        "weighting": WEIGHTINGS,
    }
    assert {name: allowed[name] for name in known} == {name: set(values) for name, values in known.items()}
    assert set(allowed) == set(vars(PRINTED))


SIMILARITIES = arrays(float, (2, 4, 3), elements=st.floats(0, 1))


@given(SIMILARITIES)
def test_matching_equals_a_slow_search(similarity):
    """Greedy and soft by sorting each row, one-to-one by trying all assignments."""
    from itertools import permutations

    for index, matrix in enumerate(similarity):
        assert greedy(similarity).similarity[index] == pytest.approx([max(row) for row in matrix])
        best = max(sum(matrix[t, s] for s, t in enumerate(order)) for order in permutations(range(4), 3))
        assert hungarian(similarity).similarity[index].sum() == pytest.approx(best)
        ranked = [sorted(row, reverse=True)[:2] for row in matrix]
        assert soft(similarity, 2, 1.0).similarity[index] == pytest.approx(np.ravel(ranked))


@given(SIMILARITIES)
def test_one_to_one_uses_no_component_twice(similarity):
    """As many pairs as the smaller side has components, on both sides different ones."""
    pairs = hungarian(similarity)
    for side in (pairs.teacher, pairs.student):
        assert all(len(set(row)) == 3 for row in side.tolist())


def test_soft_weights_of_a_component_sum_to_one_and_all_are_used_where_there_are_few():
    """Five neighbours of three components are these three."""
    pairs = soft(np.random.default_rng(0).uniform(size=(1, 4, 3)), 5, 1.0)
    assert pairs.weight.reshape(4, 3).sum(1) == pytest.approx(1)


def test_top_ranks_each_model_on_its_own():
    """Of two and two: the rows and columns with the largest sizes, and the best among them."""
    similarity = np.array([[[0.1, 0.9, 0.2], [0.3, 0.8, 0.4], [0.5, 0.7, 0.6]]])
    pairs = top(similarity, np.array([[1.0, 3, 2]]), np.array([[2.0, 0, 1]]), 2)
    assert pairs.teacher.tolist() == [[1, 2]]
    assert pairs.student.tolist() == [[2, 2]]
    assert pairs.similarity.tolist() == [[0.4, 0.6]]
