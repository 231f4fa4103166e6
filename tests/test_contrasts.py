"""What replicates: seeds and prompts resampled together, Holm's correction, and every verdict with its neighbours."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilled_circuits.distillation.contrasts import (
    PRIMARY,
    Answers,
    Contrast,
    SeedDifference,
    gap_closed,
    measure_contrast,
    measure_contrasts,
)
from distilled_circuits.distillation.verdicts import (
    ALIGNMENT_HELPS,
    CLAIMS,
    INCONCLUSIVE,
    NOT_REPLICATED,
    PARTLY,
    PUBLISHED,
    RANDOM_HARMS,
    REPLICATED,
    Setting,
    claim_verdicts,
    deciding_interval,
    judge_claim,
    judge_task,
    published_differences,
)
from distilled_circuits.statistics import (
    bootstrap_p,
    exact_mcnemar,
    holm,
    least_mcnemar_difference,
    percentile_interval,
    resampled_means,
    two_level_bootstrap,
)


def rng(seed: int = 0) -> np.random.Generator:
    """Return a source of random numbers."""
    return np.random.default_rng(seed)


# ------------------------------------------------------------------------------------------------ Holm, McNemar, p


def test_holm_by_hand():
    """Sorted .005 .01 .03 .04 times 4 3 2 1 is .02 .03 .06 .04, and none may be below the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_rejects_what_the_step_down_procedure_rejects(p):
    """Adjusted p below alpha is the same as: the k smallest pass alpha/n, alpha/(n-1), ... one after another."""
    for alpha in (0.05, 0.3):
        rejected = set()
        for step, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
            if p[index] * (len(p) - step) >= alpha:
                break
            rejected.add(index)
        assert {index for index, adjusted in enumerate(holm(p)) if adjusted < alpha} == rejected


def test_bootstrap_p_counts_the_rarer_side_twice_and_zero_on_both():
    """Of 19 resamples two are at or below zero: 2 (1 + 2) / 20; all zeros say nothing; none below is 2 / 20."""
    assert bootstrap_p(np.array([-1.0, 0.0] + [1.0] * 17)) == pytest.approx(0.3)
    assert bootstrap_p(np.array([1.0, 0.0] + [-1.0] * 17)) == pytest.approx(0.3)
    assert bootstrap_p(np.zeros(19)) == 1
    assert bootstrap_p(np.ones(19)) == pytest.approx(0.1)


@pytest.mark.parametrize("discordant", [6, 7, 20, 101, 400])
def test_the_least_difference_is_the_first_that_mcnemar_sees(discordant):
    """The counts behind it are significant, and one prompt the other way they are not."""
    difference = least_mcnemar_difference(1000, discordant)
    more = round((discordant + 1000 * difference) / 2)
    assert exact_mcnemar(more, discordant - more) < 0.05 <= exact_mcnemar(more - 1, discordant - more + 1)


def test_five_discordant_prompts_show_nothing():
    """5 : 0 has p = .0625."""
    assert least_mcnemar_difference(1000, 5) is None
    assert least_mcnemar_difference(1000, 0) is None


# -------------------------------------------------------------------------------------------- two-level bootstrap


def test_two_level_bootstrap_is_a_loop_over_draws():
    """Quantiles agree with seeds and prompts drawn and averaged one resample at a time."""
    differences = rng(1).integers(-1, 2, size=(4, 30)).astype(float) + np.array([[0.0], [0.2], [0.4], [0.9]])
    other = rng(2)
    slow = []
    for _ in range(6000):
        prompts = other.choice(30, 30)
        slow.append(np.mean([differences[seed, prompts].mean() for seed in other.choice(4, 4)]))
    fast = two_level_bootstrap(differences, 6000, rng(3))
    assert np.percentile(fast, [2.5, 25, 50, 75, 97.5]) == pytest.approx(
        np.percentile(slow, [2.5, 25, 50, 75, 97.5]), abs=0.025
    )


def test_two_level_bootstrap_has_the_analytic_variance():
    """Of a sum of a seed's and a prompt's part: var(seeds) / S + var(prompts) / P."""
    seeds, prompts = rng(1).normal(0, 2, 5), rng(2).normal(0, 3, 40)
    samples = two_level_bootstrap(seeds[:, None] + prompts, 20000, rng(3))
    assert samples.mean() == pytest.approx(seeds.mean() + prompts.mean(), abs=0.03)
    assert samples.var() == pytest.approx(seeds.var() / 5 + prompts.var() / 40, rel=0.05)


def test_seeds_share_the_drawn_prompts():
    """Seeds that answer alike add nothing to the prompts: five have the interval of one, not of five times N."""
    one = rng(1).integers(-1, 2, size=(1, 200)).astype(float)
    spreads = [two_level_bootstrap(np.repeat(one, copies, axis=0), 5000, rng(2)).std() for copies in (1, 5)]
    assert spreads[1] == pytest.approx(spreads[0], rel=0.05)


def test_pooling_seeds_that_differ_is_too_narrow():
    """Seeds at -4 to +8 points: the pooled answers exclude zero, the resampled seeds do not."""
    shares = [-0.04, 0.08, 0.06, -0.03, 0.07]
    differences = np.stack(
        [rng(seed).permutation(np.arange(2000) < 2000 * abs(s)) * np.sign(s) for seed, s in enumerate(shares)]
    )
    pooled = percentile_interval(resampled_means(differences.ravel(), 400, rng(1)))
    two_level = percentile_interval(two_level_bootstrap(differences, 2000, rng(1)))
    assert pooled[0] > 0
    assert two_level[0] < 0 < two_level[1]


def test_chunks_of_resamples_add_up_and_repeat():
    """More prompts than fit at once: the right number of resamples, the same for the same seed, and different ones."""
    differences = rng(1).integers(-1, 2, size=(2, 2**19))
    samples = two_level_bootstrap(differences, 9, rng(2))
    assert samples.shape == (9,)
    assert len(set(samples)) == 9
    assert np.array_equal(samples, two_level_bootstrap(differences, 9, rng(2)))


# ---------------------------------------------------------------------------------------------------- contrasts

BASE = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
TEACHER = np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 0])


def row(text: str) -> list[int]:
    """Return ten answers."""
    return [int(answer) for answer in text]


ANSWERS = Answers(
    {
        "ce_aligned": np.array([row("1111111100"), row("1111110000")]),
        "ce_circuit": np.array([row("1100000011"), row("1111110000")]),
        "ce_random": np.array(
            [
                [row("1000000000"), row("0000000000"), row("1100000000")],
                [row("1110000000"), row("1110000000"), row("0000000000")],
            ]
        ),
    },
    BASE,
    TEACHER,
)


def test_a_contrast_by_hand():
    """Two seeds at +4 and 0 of ten prompts; only discordant prompts enter each seed's own test."""
    found = measure_contrast(ANSWERS, "C1", "ce_aligned", "ce_circuit", 1000, rng())
    assert found.value == pytest.approx(0.2)
    assert [seed.difference for seed in found.seeds] == pytest.approx([0.4, 0.0])
    tests = [seed.tests[0] for seed in found.seeds]
    assert [(test.only_first, test.only_second, test.prompts) for test in tests] == [(6, 2, 10), (0, 0, 10)]
    assert [test.p for test in tests] == [exact_mcnemar(6, 2), 1]
    assert found.same_sign == 1
    # Student's t with one degree of freedom: 0.2 +- 12.706 * 0.2.
    assert found.interval95_seeds == pytest.approx((0.2 - 2.5412, 0.2 + 2.5412), abs=1e-4)
    assert found.interval95[0] < 0.2 < found.interval95[1]
    assert found.p_holm is None
    json.dumps(asdict(found))


def test_maps_are_averaged_within_a_seed_and_tested_one_by_one():
    """Three maps a seed: their mean is the seed's difference, each has its own test, a tie is exactly none."""
    found = measure_contrast(ANSWERS, "C4", "ce_random", "base", 1000, rng())
    assert [seed.difference for seed in found.seeds] == pytest.approx([-0.1, 0.0])
    assert found.seeds[1].difference == 0
    assert [(test.only_first, test.only_second) for test in found.seeds[0].tests] == [(0, 1), (0, 2), (0, 0)]
    assert [(test.only_first, test.only_second) for test in found.seeds[1].tests] == [(1, 0), (1, 0), (0, 2)]
    assert found.same_sign == 1


def test_a_tie_between_thirds_is_exactly_zero():
    """One map of three right everywhere, the base at a third of the prompts: equal, and no seed has a sign."""
    maps, base = np.zeros((2, 3, 30)), np.arange(30) >= 20
    maps[:, 0] = 1
    found = measure_contrast(Answers({"ce_random": maps}, base, base), "C4", "ce_random", "base", 100, rng())
    assert (found.value, [seed.difference for seed in found.seeds]) == (0, [0, 0])
    assert abs((maps[0].mean(0) - base).mean()) > 0  # what a difference of means would have been


def test_several_maps_on_both_sides_are_tested_pair_by_pair():
    """A difference of two conditions with maps is that of their means; three against three are nine tests."""
    found = measure_contrast(ANSWERS, "self", "ce_random", "ce_random", 100, rng())
    assert (found.value, found.p, found.interval95) == (0, 1, (0, 0))
    assert [len(seed.tests) for seed in found.seeds] == [9, 9]


def test_one_seed_has_no_interval_over_seeds():
    """Its bootstrap is one over prompts."""
    single = Answers({name: correct[:1] for name, correct in ANSWERS.conditions.items()}, BASE, TEACHER)
    found = measure_contrast(single, "C1", "ce_aligned", "ce_circuit", 1000, rng())
    assert found.interval95_seeds is None
    assert deciding_interval(found) == found.interval95


def test_holm_runs_over_the_primary_contrasts_that_were_measured():
    """No CE on everything here: C1, C3 and C4 are the family, secondary ones are outside, other contrasts missing."""
    with_shuffled = replace(ANSWERS, conditions={**ANSWERS.conditions, "ce_shuffled": ANSWERS.conditions["ce_circuit"]})
    found = measure_contrasts(with_shuffled, 500, seed=3)
    assert list(found) == ["C1", "C3", "C4", "shuffled", "random_less_ce"]
    family = [name for name in found if name in PRIMARY]
    assert [found[name].p_holm for name in family] == holm([found[name].p for name in family])
    assert found["shuffled"].p_holm is None
    assert found["C1"].interval95 == measure_contrasts(ANSWERS, 500, seed=3)["C1"].interval95
    assert found["C1"].p != measure_contrasts(ANSWERS, 500, seed=4)["C1"].p


def test_gap_closed_is_the_share_of_the_teachers_lead():
    """Base .2, teacher .9: .7 on average closes 5 / 7, random pairs open it; no lead, no share."""
    assert gap_closed(ANSWERS, "ce_aligned") == pytest.approx(5 / 7)
    assert gap_closed(ANSWERS, "ce_random") == pytest.approx((9 / 60 - 0.2) / 0.7)
    assert gap_closed(replace(ANSWERS, teacher=BASE), "ce_aligned") is None
    near = Answers({"ce": np.ones((1, 100))}, np.arange(100) < 50, np.arange(100) < 54)
    assert gap_closed(near, "ce") is None


@pytest.mark.parametrize(
    "broken",
    [
        {"base": BASE[:9]},
        {"teacher": TEACHER[:9]},
        {"conditions": {}},
        {"conditions": {"a": np.ones((2, 10)), "b": np.ones((3, 10))}},
        {"conditions": {"a": np.ones((2, 10)), "b": np.ones((2, 3, 9))}},
    ],
)
def test_unpaired_answers_are_refused(broken):
    """Every condition must have the same seeds and all models the same prompts."""
    with pytest.raises(ValueError, match="seeds or prompts differ"):
        replace(ANSWERS, **broken)


# ----------------------------------------------------------------------------------------------------- verdicts

MET = Setting(base=0.55, teacher=0.95, teacher_circuit=0.90)


def contrast(name: str, points: float, reach: float, p: float = 0.001, agree: int = 5, **changes) -> Contrast:
    """Return a contrast of five seeds with its interval, in points."""
    value = points / 100
    around = ((points - reach) / 100, (points + reach) / 100)
    primary = name in PRIMARY
    seeds = (SeedDifference(value, ()),) * 5
    return replace(Contrast(name, "a", "b", value, around, around, p, p if primary else None, seeds, agree), **changes)


def measured(**changes: Contrast | None) -> dict[str, Contrast]:
    """Return contrasts as in the paper, 5 points above CE and 10 below the base, but for `changes`; None leaves out."""
    paper = {
        "C1": contrast("C1", 5, 1.5),
        "C2": contrast("C2", 4, 1.5),
        "C3": contrast("C3", 15, 3),
        "C4": contrast("C4", -10, 3),
        "shuffled": contrast("shuffled", 3, 1),
        "hungarian": contrast("hungarian", 1, 2),
    }
    return {name: each for name, each in {**paper, **changes}.items() if each is not None}


TIE, WIDE, BELOW = contrast("C1", 0.5, 1.5), contrast("C1", 0.5, 2.5), contrast("C1", -4, 2.5)
LOST_TO_HOLM = contrast("C1", 3, 2.9, p=0.03, p_holm=0.06)
SCATTERED = contrast("C1", 5, 3, agree=3)


@pytest.mark.parametrize(
    ("changes", "verdict", "says"),
    [
        ({}, REPLICATED, "C1 (a less b) is +5.0 points [+3.5, +6.5], p = 0.0010 after Holm, of this sign in 5 of 5"),
        ({"C4": None}, REPLICATED, "shuffled"),
        ({"hungarian": None}, REPLICATED, "shuffled"),
        # C1 inconclusive comes before all others, also where C3 and C4 are as in the paper.
        ({"C1": WIDE}, INCONCLUSIVE, "too wide"),
        ({"C1": contrast("C1", -2, 2.5)}, INCONCLUSIVE, "too wide"),
        ({"C1": LOST_TO_HOLM}, INCONCLUSIVE, "p = 0.0600 after Holm"),
        ({"C1": None}, INCONCLUSIVE, "C1 was not measured: ce_aligned or ce_circuit was not run"),
        # A tie.
        ({"C1": TIE}, RANDOM_HARMS, "C4"),
        ({"C1": TIE, "C4": contrast("C4", -1, 3)}, NOT_REPLICATED, "no difference"),
        ({"C1": TIE, "C4": contrast("C4", 5, 3)}, NOT_REPLICATED, "no difference"),
        ({"C1": TIE, "C3": contrast("C3", 1, 2)}, NOT_REPLICATED, "no difference"),
        ({"C1": TIE, "C4": None}, NOT_REPLICATED, "no difference"),
        ({"C1": TIE, "C4": contrast("C4", -10, 3, agree=3)}, NOT_REPLICATED, "no difference"),
        # Below zero: not replicated however wide, and although random pairs harm.
        ({"C1": BELOW}, NOT_REPLICATED, "other way round"),
        # Above zero, and something is missing.
        ({"C2": contrast("C2", 0, 1)}, ALIGNMENT_HELPS, "C2"),
        ({"C2": contrast("C2", 1, 5)}, ALIGNMENT_HELPS, "C2"),
        ({"C2": None}, ALIGNMENT_HELPS, "C2 was not measured"),
        ({"C2": contrast("C2", -3, 1)}, ALIGNMENT_HELPS, "C2"),
        ({"C3": contrast("C3", 0, 1)}, ALIGNMENT_HELPS, "C3"),
        ({"shuffled": contrast("shuffled", 0, 1)}, ALIGNMENT_HELPS, "shuffled"),
        ({"shuffled": contrast("shuffled", 1, 5)}, ALIGNMENT_HELPS, "shuffled"),
        ({"shuffled": None}, ALIGNMENT_HELPS, "shuffled was not measured"),
        ({"C1": SCATTERED}, ALIGNMENT_HELPS, "not for 4 seeds of 5"),
        # One-to-one pairs: a tie must be shown; undecided or slightly worse is none.
        ({"hungarian": contrast("hungarian", 0.5, 1)}, ALIGNMENT_HELPS, "one-to-one pairs do as well"),
        ({"hungarian": contrast("hungarian", -3, 1)}, ALIGNMENT_HELPS, "one-to-one pairs do as well"),
        ({"hungarian": contrast("hungarian", 1.5, 2)}, REPLICATED, "C1"),
        ({"hungarian": contrast("hungarian", 1, 0.5)}, REPLICATED, "C1"),
    ],
)
def test_verdicts_of_a_task(changes, verdict, says):
    """Each row of the table, and what falls between its rows."""
    found = judge_task(measured(**changes), MET)
    assert found.verdict == verdict
    assert says in found.reason


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (replace(MET, base=0.44), "the base student answers 0.44, asked for are 0.45 to 0.70"),
        (replace(MET, base=0.71), "the base student answers 0.71"),
        (replace(MET, teacher=0.89), "the teacher answers 0.89, asked for are at least 0.90"),
        (replace(MET, teacher_circuit=0.75), "the teacher's circuit keeps 0.79 of its accuracy"),
    ],
)
def test_without_its_setting_a_task_is_inconclusive(setting, says):
    """No gap to close, or no mechanism to hand on: whatever the contrasts say, for the task and for each claim."""
    for contrasts in (measured(), measured(C1=BELOW), {}):
        assert judge_task(contrasts, setting).verdict == INCONCLUSIVE
        assert says in judge_task(contrasts, setting).reason
    assert {row.verdict.verdict for row in claim_verdicts("entity_tracking", measured(), setting)} == {INCONCLUSIVE}


def test_one_seed_is_inconclusive():
    """However clear: its interval knows no other seeds."""
    single = contrast("C1", 10, 1, agree=1, seeds=(SeedDifference(0.1, ()),), interval95_seeds=None)
    assert judge_task(measured(C1=single), MET).verdict == INCONCLUSIVE
    assert "one seed" in judge_task(measured(C1=single), MET).reason


def test_the_wider_interval_decides():
    """Three seeds at 1, 4 and 7 points: the bootstrap never sees zero, Student's t over three seeds does."""
    few = contrast("C1", 4, 2, seeds=(SeedDifference(0.04, ()),) * 3, agree=3, interval95_seeds=(-0.034, 0.114))
    assert deciding_interval(few) == (-0.034, 0.114)
    assert judge_task(measured(C1=few), MET).verdict == INCONCLUSIVE
    shared = contrast("C1", 4, 5, interval95_seeds=(0.039, 0.041))
    assert deciding_interval(shared) == pytest.approx((-0.01, 0.09))


ALIGN_ONLY, DIRECT = CLAIMS[-2:]


@pytest.mark.parametrize(
    ("claim", "points", "reach", "changes", "verdict"),
    [
        (CLAIMS[0], 5, 2, {}, REPLICATED),
        (CLAIMS[0], 5, 2, {"agree": 4}, REPLICATED),
        (CLAIMS[0], 5, 2, {"agree": 3}, PARTLY),
        (CLAIMS[0], 5, 2, {"p_holm": 0.06}, INCONCLUSIVE),
        (CLAIMS[0], 0, 1.9, {}, NOT_REPLICATED),
        (CLAIMS[0], 0, 2.1, {}, INCONCLUSIVE),
        (CLAIMS[0], -5, 2, {"p_holm": 0.06}, NOT_REPLICATED),
        (CLAIMS[3], -10, 3, {}, REPLICATED),
        (CLAIMS[3], 5, 3, {}, NOT_REPLICATED),
        (ALIGN_ONLY, 0.5, 1, {}, REPLICATED),
        (ALIGN_ONLY, 1.2, 0.5, {}, REPLICATED),
        (ALIGN_ONLY, -3, 2, {}, NOT_REPLICATED),
        (ALIGN_ONLY, 0, 3, {}, INCONCLUSIVE),
        (ALIGN_ONLY, 3, 4, {}, INCONCLUSIVE),
        (ALIGN_ONLY, 1.5, 1, {}, INCONCLUSIVE),
        (DIRECT, -3, 1, {}, REPLICATED),
        (DIRECT, -3, 1, {"p": 0.06}, INCONCLUSIVE),
        (DIRECT, 0, 1, {}, PARTLY),
        (DIRECT, 0, 4, {}, INCONCLUSIVE),
        (DIRECT, 6, 3, {}, NOT_REPLICATED),
    ],
)
def test_verdicts_of_claims(claim, points, reach, changes, verdict):
    """Right side, wrong side, tie and too wide; a claim of no difference needs the whole interval within two points."""
    found = contrast(claim.contrast, points, reach, **changes)
    assert judge_claim(claim, {claim.contrast: found}, MET).verdict == verdict


def test_a_claim_stands_beside_what_was_measured_and_printed():
    """Also where a run has no such condition, or the paper no such task."""
    rows = claim_verdicts("entity_tracking", measured(), MET)
    assert [(row.value, row.published) for row in (rows[0], rows[5])] == [
        (0.05, {"1B": 0.04, "3B": 0.05}),
        (None, {"1B": 0.0, "3B": -0.01}),
    ]
    assert rows[0].interval95 == pytest.approx((0.035, 0.065))
    assert "direct was not measured: ce_aligned or direct was not run" in rows[5].verdict.reason
    assert {row.published for row in claim_verdicts("ioi", measured(), MET)} == {None}
    assert published_differences("entity_tracking", "shuffled") is None
    json.dumps([asdict(row) for row in rows])


def test_the_papers_differences():
    """As derived by hand from its tables, in points: entity tracking 1B, 3B; theory of mind 1B, 3B."""
    expected = {
        "C1": [4, 5, 5, 3],
        "C2": [2, 4, 4, 2],
        "C3": [19, 19, 15, 16],
        "C4": [-10, -9, -6, -9],
        "align_only": [0, 1, -3, -3],
        "direct": [0, -1, 6, -1],
    }
    for name, points in expected.items():
        found = [value for task in PUBLISHED for value in published_differences(task, name).values()]
        assert [round(100 * value) for value in found] == points, name


def test_the_papers_accuracies_are_those_on_record():
    """Tables 1 and 2 as in data/published_numbers.json; Tables 3 and 4, of `direct`, are not there."""
    names = {("full", "ce"): "ce_full", ("base", None): "base", ("circuit", "ce"): "ce_circuit"}
    names |= {("circuit", "align"): "align_only", ("circuit", "ce+rand"): "ce_random"}
    names |= {("circuit", "ce+align"): "ce_aligned"}
    record = json.loads((Path(__file__).parents[1] / "data" / "published_numbers.json").read_text(encoding="utf-8"))
    seen = 0
    for entry in record:
        setting = entry["setting"]
        condition = names.get((setting.get("trained"), setting.get("loss")))
        if entry["paper"] == "2509.25002" and entry["quantity"] == "accuracy" and condition:
            student = setting["model"].removeprefix("llama3-").upper()
            assert PUBLISHED[setting["task"].replace(" ", "_")][student][condition] == entry["value"], entry["id"]
            seen += 1
    assert seen == 2 * 2 * len(names)


def test_answers_lead_to_a_verdict():
    """From right and wrong answers to the word: five seeds, 800 prompts, the paper's accuracies."""
    accuracy = {"ce_aligned": 0.80, "ce_circuit": 0.70, "ce_full": 0.72, "ce_random": 0.45, "ce_shuffled": 0.70}
    difficulty = rng(1).random(800)

    def answered(share: float, *seeds: int) -> np.ndarray:
        return (difficulty + rng(sum(seeds)).normal(0, 0.05, (*seeds, 800)) < share).astype(int)

    conditions = {name: answered(share, 5) for name, share in accuracy.items() if name != "ce_random"}
    answers = Answers({**conditions, "ce_random": answered(0.45, 5, 3)}, answered(0.55), answered(0.97))
    setting = Setting(answers.accuracy("base"), answers.accuracy("teacher"), 0.9)
    contrasts = measure_contrasts(answers, 1000, seed=0)
    assert judge_task(contrasts, setting).verdict == REPLICATED
    level = replace(answers, conditions={**answers.conditions, "ce_circuit": conditions["ce_aligned"]})
    assert judge_task(measure_contrasts(level, 1000, seed=0), setting).verdict == RANDOM_HARMS
    words = [row.verdict.verdict for row in claim_verdicts("theory_of_mind", contrasts, setting)]
    assert words == [REPLICATED] * 4 + [INCONCLUSIVE] * 2
