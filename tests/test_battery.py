"""The battery, its chance levels, and what is said of curves under noise, against planted answers."""

from dataclasses import replace

import numpy as np
import pytest

from distilled_circuits.comparison.alignment import aligned, alignment_score, rescaled
from distilled_circuits.comparison.alignment_summary import alignment_summary, noise_summary
from distilled_circuits.comparison.battery import CANDIDATES, EXPECTED, battery_scores, in_order, null_scores
from distilled_circuits.comparison.battery_summary import battery_overview, battery_summary, rank_agreement
from distilled_circuits.comparison.curves import fits, largest_rise, plateau
from distilled_circuits.comparison.nulls import other_signs, shuffled_influence, shuffled_matching
from distilled_circuits.comparison.representations import ModelRecord, Summary
from distilled_circuits.comparison.similarity import Similarities
from distilled_circuits.comparison.variants import PRESETS, PRINTED, RELEASED, VARIANTS
from distilled_circuits.statistics import interval_of_mean

LEVEL = np.linspace(0, 2, 41)
RNG = np.random.default_rng(0)


def random_record(seed: int, layers: int = 3, heads: int = 4, width: int = 12) -> ModelRecord:
    """Return a record of random numbers in the right shapes: 10 prompts of 5 tokens."""
    rng = np.random.default_rng(seed)
    components = layers * (heads + 1)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return ModelRecord(
        unablated=draw(10) + 3,
        ablated=draw(components, 10),
        z=draw(10, layers, 5, heads, 3),
        output_weights=draw(layers, heads, 3, width),
        mlp_out=draw(10, layers, 5, width),
        pattern=np.abs(draw(10, layers, heads, 5, 5)),
        stream=draw(10, layers, width),
    )


def between(one: int, other: int, rows: int = 1) -> Similarities:
    """Return the similarities of two random records, for so many weightings of the prompts."""
    weights = np.full((rows, 10), 0.1, dtype=np.float32)
    return Similarities(*(Summary(random_record(seed, layers), weights, 2) for seed, layers in ((one, 3), (other, 2))))


@pytest.mark.parametrize("variant", [PRINTED, RELEASED, PRESETS["recommended"]], ids=["printed", "released", "ours"])
def test_shuffled_partners_are_of_the_same_kind_with_their_own_similarity(variant):
    """Every shuffled score is a mean over pairs of known similarity; with one draw it is recomputed pair by pair."""
    found = between(0, 1)
    result = aligned(found, variant)
    (score,) = shuffled_matching(found, result, variant, 1, np.random.default_rng(5))
    # The same draw, by hand: heads change places with heads, then MLPs with MLPs.
    rng = np.random.default_rng(5)
    is_head = found.teacher.record.is_head[result.teacher[0]]
    order = np.arange(len(is_head))
    for kind in (is_head, ~is_head):
        order[kind] = rng.permuted(order[None, kind], axis=1)[0]
    heads, mlps = found.heads(variant.heads), found.mlps(variant.mlps)
    mlps = rescaled(mlps, heads) if variant.rescale else mlps
    similarity = []
    for own, other in zip(result.teacher[0], result.student[0][order], strict=True):
        (layer, place), (layer_2, place_2) = divmod(own, 5), divmod(other, 5)
        assert (place == 4) == (place_2 == 4)
        value = mlps[0, layer, layer_2] if place == 4 else heads[0, 4 * layer + place, 4 * layer_2 + place_2]
        similarity.append(value)
    expected = alignment_score(
        result.student_influence[0][order], result.teacher_influence[0], similarity, result.weight[0]
    )
    assert score == pytest.approx(expected.score)


def test_shuffled_influence_keeps_pairs_and_similarity():
    """The mean over many draws is that of independent influences: S times one less the mean distance within a kind."""
    found = between(0, 1)
    result = aligned(found, PRINTED)
    scores = shuffled_influence(found, result, 4000, np.random.default_rng(0))
    is_head = found.teacher.record.is_head[result.teacher[0]]
    expected = 0.0
    for kind in (is_head, ~is_head):
        distance = np.abs(result.teacher_influence[0][kind][:, None] - result.student_influence[0][kind])
        expected += (result.similarity[0][kind] * (1 - distance.mean(1))).sum()
    assert scores.mean() == pytest.approx(expected / len(is_head), abs=0.002)


def test_other_signs_change_the_released_score_and_one_draw_is_the_score_itself():
    """The arbitrary signs spread the score of one and the same pair; the stored signs are among the possible ones."""
    found = between(0, 1)
    variant = replace(RELEASED, rescale=False)
    scores = other_signs(found, variant, 8000, np.random.default_rng(0))
    assert np.ptp(scores) > 0.01
    assert np.abs(scores - aligned(found, variant).score.score[0]).min() < 1e-9


def test_the_battery_scores_every_candidate_by_every_variant():
    """The same numbers as one by one; a variant that does not apply is NaN, not an error."""
    found = {"one": between(0, 1, rows=2), "narrow": between(0, 2, rows=2)}
    scores = battery_scores(found, VARIANTS)
    assert scores.shape == (3, 2, len(VARIANTS), 2)
    for index, variant in enumerate(VARIANTS.values()):
        result = aligned(found["one"], variant).score
        assert scores[0, 0, index] == pytest.approx(result.score)
        assert scores[1, 0, index] == pytest.approx(result.mean_similarity)
        assert scores[2, 0, index] == pytest.approx(result.mean_agreement)
    weights = np.full((2, 10), 0.1, dtype=np.float32)
    narrow = Summary(random_record(2, width=9), weights, 2)
    apart = Similarities(found["one"].teacher, narrow)
    names = list(VARIANTS)
    for values in (battery_scores({"narrow": apart}, VARIANTS)[0, 0], null_scores(apart, VARIANTS, 3, RNG)[0]):
        assert np.isnan(values[names.index("printed")]).all()
        assert not np.isnan(values[names.index("recommended")]).any()
    matching, influence = null_scores(found["one"], PRESETS, 7, np.random.default_rng(0))
    assert matching.shape == influence.shape == (3, 7)


def test_order_is_strict():
    """Distilled above alone above untrained; a tie is no order."""
    names = ["itself", "distilled", "alone", "untrained"]
    scores = np.array([[1.0, 1, 1], [0.9, 0.5, 0.7], [0.5, 0.9, 0.5], [0.1, 0.1, 0.5]])
    assert in_order(scores, names).tolist() == [True, False, False]


def battery(untrained: float = 0.1) -> dict[str, np.ndarray]:
    """Return a battery of two teachers in which `released` puts the untrained model first on the second one.

    The mean similarity orders every case; resamples are 0.05 above the scores, as repeated prompts make them.
    """
    names = list(CANDIDATES)
    point = np.array([1, 1, 0.1, 0.8, 0.3, 0.5, 0.6, untrained, 0.2])
    score = np.repeat(point[None, :, None, None], 2, 0).repeat(3, 2).repeat(4, 3)
    score[1, names.index("untrained"), 1] = 0.95
    score[..., 1:] += 0.05
    return {
        "judged": np.array([2, 0]),
        "candidates": np.array(names),
        "variants": np.array(list(PRESETS)),
        "score": score,
        "mean_similarity": np.broadcast_to(np.linspace(1, 0.2, 9)[None, :, None, None], score.shape),
        "mean_agreement": np.full(score.shape, 0.9),
        "shuffled_matching": np.full((2, 3, 5), 0.25),
        "shuffled_influence": np.full((2, 3, 5), 0.75),
        "logit_difference": np.arange(18.0).reshape(2, 9),
        "mean_drop": np.where(np.arange(18).reshape(2, 9) == 16, np.nan, 5.0),
    }


def test_the_battery_of_a_task_is_summed_up_by_hand():
    """Candidates of the pair's own teacher, the second one judged, ranked by the recommended score."""
    found = battery_summary(battery())
    assert found["variants"]["released"]["untrained"] == [0.1, 0.95]
    assert [row["candidate"] for row in found["ranking"]][:4] == ["itself", "permuted", "distilled", "alone"]
    untrained = next(row for row in found["ranking"] if row["candidate"] == "untrained")
    assert untrained["logit_difference"] == 16
    assert untrained["mean_drop"] is None
    released = untrained["scores"]["released"]
    assert released["value"] == 0.95
    assert released["interval95"] == pytest.approx([0.95, 0.95])
    assert released["mean_agreement"] == pytest.approx(0.9)
    assert found["gap"][1] == [-float(place) for place in range(9)]


def test_the_battery_is_summed_up_over_tasks_by_hand():
    """Two tasks with two teachers: in the second task the untrained student has 0.7, above alone with 0.6."""
    rows = {row["variant"]: row for row in battery_overview([battery(), battery(0.7)])}
    printed, released = rows["printed"], rows["released"]
    assert (printed["ordered"], printed["of"]) == (2, 4)
    assert printed["ordered_similarity"] == 4
    assert printed["ordered_resamples"] == 0.5
    assert released["ordered"] == 1
    untrained = printed["candidates"]["untrained"]
    assert untrained["value"] == pytest.approx(0.4)
    assert untrained["interval95"] == pytest.approx([0.4, 0.4])
    assert untrained["range"] == [0.1, 0.7]
    assert untrained["mean_similarity"] == pytest.approx(np.linspace(1, 0.2, 9)[7])
    assert printed["reach"] == pytest.approx((0.7 + 0.7 + 0.1 + 0.1) / 4)
    assert printed["margin"] == pytest.approx(-0.1)
    assert dict(zip(EXPECTED, printed["expected"], strict=True)) == {
        ("distilled", "other"): 4,
        ("distilled", "alone"): 4,
        ("distilled", "copied"): 4,
        ("distilled", "untrained"): 4,
        ("alone", "copied"): 4,
        ("alone", "untrained"): 2,
    }
    assert dict(zip(EXPECTED, released["expected"], strict=True))["distilled", "untrained"] == 2
    assert printed["same_function"] == pytest.approx(0.1)
    assert printed["rank_agreement"] == 1
    # Of six students the untrained one moves from the last place to the first in one case, and in another from second.
    assert released["rank_agreement"] == pytest.approx(np.mean([1, 1 - 6 * 30 / 210, 1, 1 - 6 * 2 / 210]))
    assert printed["chance"] == {"matching": 0.25, "influence": 0.75}


def test_a_variant_that_does_not_apply_has_no_numbers():
    """Scores that are missing stay missing through the tables."""
    missing = battery()
    missing["score"][:, -1, 0] = np.nan
    found = battery_summary(missing)
    assert found["variants"]["printed"]["mismatched"] == [None, None]
    row = next(row for row in found["ranking"] if row["candidate"] == "mismatched")
    assert row["scores"]["printed"] is None
    row = battery_overview([missing])[0]
    assert row["candidates"]["mismatched"] is None
    assert row["rank_agreement"] is None


def test_rank_agreement_is_spearmans():
    """Equal orders give 1, opposite ones -1, one exchange of neighbours among three 0.5; without an order None."""
    assert rank_agreement(np.array([1.0, 2, 3]), np.array([10.0, 20, 40])) == pytest.approx(1)
    assert rank_agreement(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert rank_agreement(np.array([1.0, 2, 3]), np.array([2.0, 1, 3])) == pytest.approx(0.5)
    assert rank_agreement(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])) is None


@pytest.mark.parametrize(
    ("form", "curve"),
    [
        ("logarithmic", 0.9 - 0.2 * np.log1p(LEVEL / 0.1)),
        ("exponential", 0.2 + 0.7 * np.exp(-LEVEL / 0.4)),
        ("hyperbolic", 0.2 + 0.7 / (1 + LEVEL / 0.3)),
        ("linear", 0.9 - 0.3 * LEVEL),
    ],
)
def test_aic_finds_the_form_that_was_planted(form, curve):
    """With a little noise on it, the true form comes first and is close."""
    noisy = curve + np.random.default_rng(0).normal(scale=0.003, size=41)
    best = fits(LEVEL, noisy)[0]
    assert best["form"] == form
    assert best["rms"] == pytest.approx(0.003, rel=0.3)
    slow = 41 * np.log(best["rms"] ** 2) + 2 * (len(best["parameters"]) + 1)
    assert best["aic"] == pytest.approx(slow)


def test_a_plateau_by_hand():
    """The last two of eight levels: seeds average 0.2 and 0.3, so 0.25 with t for one degree of freedom."""
    score = np.array([[1, 1], [0.9, 0.7], [0.5, 0.5], [0.4, 0.4], [0.3, 0.3], [0.3, 0.3], [0.2, 0.4], [0.2, 0.2]])
    found = plateau(np.arange(8) / 10, score)
    assert found["value"] == pytest.approx(0.25)
    assert found["from"] == 0.6
    assert found["change"] == pytest.approx(-0.1)
    assert found["interval95"] == pytest.approx([0.25 - 12.7062 * 0.05, 0.25 + 12.7062 * 0.05], abs=1e-4)
    assert interval_of_mean(np.array([1.0])) is None


def test_a_rise_is_held_against_the_error_bars():
    """From 0.5 to 0.6 with bars of 0.071 and 0: not explained; with 0.071 twice it is. A fall never rises."""
    fall = np.array([[0.9, 0.9], [0.55, 0.45], [0.6, 0.6]])
    assert largest_rise(fall) == {"value": pytest.approx(0.1), "within_bars": False}
    fall[2] = [0.65, 0.55]
    assert largest_rise(fall)["within_bars"]
    assert largest_rise(np.array([[0.9], [0.8], [0.7]])) == {"value": 0, "within_bars": True}


def noise(last: float, first: float) -> dict[str, np.ndarray]:
    """Return a noise artifact in which every named score falls from `first` to a plateau at `last`."""
    level = np.linspace(0, 2, 9)
    curve = np.where(level == 0, first, last)
    score = np.broadcast_to(curve[:, None], (1, 3, 9, 2)).copy()
    presets = np.array(["printed", "released", "recommended"])
    return {"main/readings": np.array(["z"]), "main/level": level, "main/score": score, "main/presets": presets}


def test_a_pair_that_no_named_score_compares_has_no_curves():
    """Where models read prompts as tokens of another number the artifact is empty, and so is the summary."""
    assert noise_summary({"main/presets": np.array([])}) is None


@pytest.mark.parametrize(("first", "last", "near", "like"), [(0.9, 0.2, 3, 3), (0.3, 0.2, 3, 0), (0.9, 0.5, 0, 0)])
def test_the_papers_curve_is_recognised(first, last, near, like):
    """It starts near 0.94 and is flat near 0.2; a plateau alone is not the curve."""
    found = noise_summary(noise(last, first))
    assert len(found["near_the_papers_plateau"]) == near
    assert len(found["like_the_paper"]) == like
    assert found["presets"]["printed"]["unnoised"] == pytest.approx(first)


def test_alignment_is_summed_up_with_intervals_and_the_influence_term():
    """Score 0.5 of similarity 0.6 is moved by 0.1; only l1 over pairs is bounded, by 2 / 8; 16 prompts are enough."""
    parts = {"influence": "abs_l1", "over": "pairs"}
    row = {"why_none": None, "score": 0.5, "mean_similarity": 0.6, "mean_agreement": 0.9, "pairs": 8.0}
    stored = {
        "variants": {
            "printed": {**row, "parts": {"influence": "clamp_max", "over": "components"}},
            "released": {**row, "parts": parts},
            "MLPs stream": {"parts": parts, "why_none": "no stream"},
        },
        "presets": {name: {"matches": [], "chance": {}} for name in ("printed", "released")},
    }
    samples = np.tile(np.linspace(0.4, 0.6, 101), (2, 1))
    by_size = np.array([[[0.45, 0.55], [0.49, 0.51]]] * 2)
    sampling = {
        "variants": np.array(["printed", "released"]),
        "presets": np.array(["printed", "released"]),
        "score": samples,
        "mean_similarity": samples,
        "mean_agreement": samples,
        "sizes": np.array([8, 16]),
        "score_by_size": by_size,
    }
    found = alignment_summary(stored, sampling)
    assert found["presets"]["printed"]["score"] == {"value": 0.5, "interval95": pytest.approx([0.405, 0.595])}
    # Resamples of the similarity are centred on 0.5 and the similarity is 0.6: the spread is theirs, not the place.
    assert found["presets"]["printed"]["mean_similarity"]["interval95"] == pytest.approx([0.505, 0.695])
    assert found["presets"]["printed"]["influence_term"] == {"moved": pytest.approx(0.1), "bound": None}
    assert found["presets"]["released"]["influence_term"] == {"moved": pytest.approx(0.1), "bound": 0.25}
    assert found["variants"]["MLPs stream"]["why_none"] == "no stream"
    assert found["by_size"]["presets"]["printed"]["enough"] == 16
