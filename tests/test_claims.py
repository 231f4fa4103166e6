"""The rules on the papers' claims, on hand-made numbers: each of them can go every way that it names."""

from copy import deepcopy
from functools import partial

import pytest

from distilled_circuits.comparison.variants import PRESETS, TABLE_5
from distilled_circuits.report import component_rules as components
from distilled_circuits.report import score_rules as scores
from distilled_circuits.report.claims import CLAIMS, judge, rule_in_words
from distilled_circuits.report.findings import FAILS, HOLDS, UNDECIDED, UNMEASURED, difference, hull, side_of

ABOVE, ACROSS, BELOW = (0.5, 1.5), (-0.5, 1.5), (-1.5, -0.5)
PAIR = {
    "circuit_threshold": 0.2,
    "models": {"teacher": {"layers": 4, "heads": 3}, "student": {"layers": 2, "heads": 3}},
    "battery": {"prompts": 8, "same_function": ["itself", "rotated"]},
}


def estimate(interval, value=None):
    """Return a value with its interval as `comparison` has it."""
    return {"value": sum(interval) / 2 if value is None else value, "interval95": list(interval)}


def mean_drops(components_, prompts):
    """Return a task in which the student's mean drop less the teacher's has these two intervals."""
    found = {**estimate(components_), "interval95_prompts": list(prompts)}
    return {"robustness": {"difference": found}}


def circuits(teacher, student, why=None):
    """Return a task with circuits whose sizes on resampled prompts have these ranges."""
    ranges = {"teacher": teacher, "student": student}
    return {
        "circuit": {model: {"why_none": why, "nodes": ["L0H0"] * sizes[1]} for model, sizes in ranges.items()},
        "stability": {m: {"why_none": None, "sizes": list(sizes), "prompts": 9} for m, sizes in ranges.items()},
    }


def roles(teacher, student):
    """Return a task with one role whose head costs so much in each model's circuit; None: no head plays it."""
    of = {"teacher": teacher, "student": student}
    played = {
        model: {"successor": {"title": "successor", "plays": cost is not None, "in_circuit": cost and estimate(cost)}}
        for model, cost in of.items()
    }
    return {"roles": played, "role_prompts": 8}


def model_circuits(**content):
    """Return a task in which both models have a circuit like this."""
    return {"circuit": {model: {"why_none": None, **content} for model in ("teacher", "student")}}


def without_circuit(*percent):
    """Return circuits without which so much is left."""
    return model_circuits(without_circuit={"percent": estimate(percent)})


def nodes(*intervals):
    """Return circuits whose nodes cost so much each."""
    return model_circuits(minimality=[{"node": f"L0H{n}", **estimate(i)} for n, i in enumerate(intervals)])


def thresholds(*sizes):
    """Return circuits of these sizes at the thresholds that were swept."""
    return model_circuits(thresholds=[{"heads": size - 1, "mlps": 1} for size in sizes])


NO_CIRCUIT = {"circuit": {model: {"why_none": "not positive"} for model in ("teacher", "student")}}


def mlp_groups(name, *intervals):
    """Return one group of teacher MLPs, each of which alone costs so much."""
    members = [{"mlp": f"MLP{n}", **estimate(interval)} for n, interval in enumerate(intervals)]
    return {"mlps": {"groups": [{"name": name, "members": members, "together": estimate((1, 2))}]}}


def first_token(gap):
    """Return the last pair of MLPs with this divergence at the first token."""
    row = {"teacher": "MLP3", "student": "MLP1", **({"first_token_gap": estimate(gap)} if gap else {})}
    return {"mlps": {"pairs": [row]}}


def shift(verdict):
    """Return one shift with this verdict; None: it was not possible."""
    row = {"name": "longer", "title": "longer", "prompts": 8, "verdict": verdict, "why_none": "" if verdict else "no"}
    return {"shift": {"variants": [{"name": "usual"}, {**row, "difference": verdict and estimate((-1, 1))}]}}


def probe(low, high, control=0.2):
    """Return a probe whose accuracy has this interval where it is best, chance being 0.25."""
    target = {
        "residual": {"mean": [0.1, (low + high) / 2], "low": [0.0, low], "high": [0.2, high]},
        "residual_control": {"mean": [0.1, control]},
        "chance": 0.25,
    }
    return {"probes": {model: {"targets": {"next_element": target}} for model in ("teacher", "student")}}


def noise(plateau, unnoised=0.9, near=True, ahead=5.0):
    """Return a task with one curve under noise; the logarithm's AIC is ahead of the other form's by so much."""
    fits = [{"form": "logarithmic", "aic": -ahead}, {"form": "linear", "aic": 0.0}]
    end = estimate(plateau) if plateau else {"value": 0.2, "interval95": None}
    curve = {"unnoised": unnoised, "plateau": end, "near_the_papers_plateau": near, "fits": fits}
    return {"noise": {"prompts": 8, "presets": {"printed": curve}}}


def battery(*students):
    """Return a task with a battery: names, scores' intervals and logit differences of students; the teacher has 10."""
    rows = [
        {"candidate": name, "logit_difference": performance, "scores": {p: estimate(interval) for p in PRESETS}}
        for name, interval, performance in (("itself", (1, 1), 10.0), *students)
    ]
    return {"battery": {"ranking": rows}}


def same_function(interval):
    """Return a pair whose teacher in another basis scores this."""
    candidates = {"itself": estimate((1, 1)), "rotated": estimate(interval)}
    row = {"variant": "printed", "candidates": candidates, "rank_agreement": 1.0}
    return {"battery": {**PAIR["battery"], "rows": [row]}}


def agreements(lowest):
    """Return a pair in which one combination of Table 5 ranks the students in another order."""
    rows = [{"variant": name, "rank_agreement": 1.0} for name in TABLE_5.values()]
    rows[-1]["rank_agreement"] = lowest
    return {"battery": {**PAIR["battery"], "rows": rows}}


def story(verdict="inconclusive", value=0.01, **changes):
    """Return what `comparison` has of a student and story task, with one judged claim."""
    judged = {"verdict": verdict, "reason": "C1 is so much: because"}
    claims = [{"claim": {"contrast": "C1"}, "verdict": judged, "value": value, "interval95": [-0.01, 0.03]}]
    return {"claims": claims, "prompts": 8, "circuit_prompts": 4, **changes}


def teacher_circuit(low, high, whole=1.0):
    """Return a task whose teacher's circuit alone has this accuracy."""
    teacher = {"full": {"value": whole}, "circuit": estimate((low, high))}
    return story(models={"teacher": teacher})


def circuit_contrast(bootstrap, seeds):
    """Return a task with this contrast of circuits alone."""
    contrast = {**estimate(bootstrap), "interval95_seeds": seeds and list(seeds)}
    return story(circuit_contrasts={"C1": contrast})


def steps(aligned, alone):
    """Return a task with the steps that two conditions take, by seed."""
    return story(reached={"steps": {"ce_aligned": aligned, "ce_circuit": alone}})


OF_TASKS = [
    (components.larger_mean_drop, mean_drops(ABOVE, ABOVE), HOLDS),
    (components.larger_mean_drop, mean_drops(BELOW, BELOW), FAILS),
    (components.larger_mean_drop, mean_drops(ACROSS, ABOVE), UNDECIDED),
    (components.larger_mean_drop, mean_drops(ABOVE, ACROSS), UNDECIDED),
    (components.larger_mean_drop, {"robustness": {"difference": None, "teacher": {"why_none": "no"}}}, UNMEASURED),
    (components.smaller_circuit, circuits((9, 12), (5, 8)), HOLDS),
    (components.smaller_circuit, circuits((5, 8), (9, 12)), FAILS),
    (components.smaller_circuit, circuits((5, 9), (8, 12)), UNDECIDED),
    (components.smaller_circuit, circuits((5, 9), (8, 12), why="not positive"), UNMEASURED),
    (components.leans_on_one_head, roles((-20, -10), (-40, -30)), HOLDS),
    (components.leans_on_one_head, roles((-40, -30), (-20, -10)), FAILS),
    (components.leans_on_one_head, roles((-40, -20), (-30, -10)), UNDECIDED),
    (components.leans_on_one_head, roles((-40, -20), None), UNMEASURED),
    (components.leans_on_one_head, roles(None, (-40, -20)), UNMEASURED),
    (components.loses_a_role, roles((-40, -20), None), HOLDS),
    (components.loses_a_role, roles((-40, -20), (-1, 0)), FAILS),
    (components.loses_a_role, roles(None, (-1, 0)), UNMEASURED),
    (components.circuit_is_necessary, without_circuit(-5, 19), HOLDS),
    (components.circuit_is_necessary, without_circuit(21, 30), FAILS),
    (components.circuit_is_necessary, without_circuit(10, 30), UNDECIDED),
    (components.circuit_is_necessary, NO_CIRCUIT, UNMEASURED),
    (components.every_node_costs_the_threshold, nodes((21, 25), (30, 40)), HOLDS),
    (components.every_node_costs_the_threshold, nodes((21, 25), (3, 4), (19, 21)), FAILS),
    (components.every_node_costs_the_threshold, nodes((21, 25), (19, 21)), UNDECIDED),
    (components.every_node_costs_the_threshold, NO_CIRCUIT, UNMEASURED),
    (components.size_is_stable, thresholds(30, 29, 28), HOLDS),
    (components.size_is_stable, thresholds(30, 26), FAILS),
    (components.size_is_stable, thresholds(30), UNMEASURED),
    (components.merges_mlps, mlp_groups("partners of S-MLP1", ABOVE, ABOVE), HOLDS),
    (components.merges_mlps, mlp_groups("partners of S-MLP1", ABOVE, ACROSS), UNDECIDED),
    (components.merges_mlps, mlp_groups("without a partner", ABOVE, ABOVE), FAILS),
    (components.merges_mlps, {"mlps": {"groups": None}}, UNMEASURED),
    (components.drops_a_harmful_mlp, mlp_groups("without a partner", ABOVE, BELOW), HOLDS),
    (components.drops_a_harmful_mlp, mlp_groups("without a partner", ABOVE, ABOVE), FAILS),
    (components.drops_a_harmful_mlp, mlp_groups("without a partner", ABOVE, ACROSS), UNDECIDED),
    (components.drops_a_harmful_mlp, mlp_groups("partners of S-MLP1", BELOW), UNMEASURED),
    (components.diverges_at_the_first_token, first_token(ABOVE), HOLDS),
    (components.diverges_at_the_first_token, first_token(BELOW), FAILS),
    (components.diverges_at_the_first_token, first_token(ACROSS), UNDECIDED),
    (components.diverges_at_the_first_token, first_token(None), UNMEASURED),
    (components.keeps_less_off_distribution, shift("student keeps less"), HOLDS),
    (components.keeps_less_off_distribution, shift("student keeps more"), FAILS),
    (components.keeps_less_off_distribution, shift("no difference shown"), UNDECIDED),
    (components.keeps_less_off_distribution, shift(None), UNMEASURED),
    (components.readable_next_element, probe(0.8, 0.9), HOLDS),
    (components.readable_next_element, probe(0.1, 0.2), FAILS),
    (components.readable_next_element, probe(0.2, 0.3), UNDECIDED),
    (components.readable_next_element, probe(0.3, 0.5, control=0.4), UNDECIDED),
    (scores.falls_with_noise, noise((0.2, 0.3)), HOLDS),
    (scores.falls_with_noise, noise((0.91, 0.95)), FAILS),
    (scores.falls_with_noise, noise((0.85, 0.95)), UNDECIDED),
    (scores.falls_with_noise, {"noise": None}, UNMEASURED),
    (scores.falls_with_noise, noise(None), UNMEASURED),
    (scores.levels_off_near_a_fifth, noise((0.18, 0.22)), HOLDS),
    (scores.levels_off_near_a_fifth, noise((0.18, 0.22), near=False), FAILS),
    (scores.levels_off_near_a_fifth, noise((0.3, 0.4), near=False), FAILS),
    (scores.levels_off_near_a_fifth, noise((0.2, 0.28)), UNDECIDED),
    (scores.levels_off_near_a_fifth, {"noise": None}, UNMEASURED),
    (scores.levels_off_near_a_fifth, noise(None), UNMEASURED),
    (scores.falls_logarithmically, noise((0.1, 0.2), ahead=3), HOLDS),
    (scores.falls_logarithmically, noise((0.1, 0.2), ahead=-3), FAILS),
    (scores.falls_logarithmically, noise((0.1, 0.2), ahead=1), UNDECIDED),
    (scores.falls_logarithmically, {"noise": None}, UNMEASURED),
    (scores.mismatched_scores_lower, battery(("distilled", (7, 8), 9), ("mismatched", (5, 6), 9)), HOLDS),
    (scores.mismatched_scores_lower, battery(("distilled", (5, 6), 9), ("mismatched", (7, 8), 9)), FAILS),
    (scores.mismatched_scores_lower, battery(("distilled", (5, 7), 9), ("mismatched", (6, 8), 9)), UNDECIDED),
    (scores.mismatched_scores_lower, {"battery": None}, UNMEASURED),
    (scores.performance_does_not_tell, battery(("a", (7, 8), 5), ("b", (5, 6), 9)), HOLDS),
    (scores.performance_does_not_tell, battery(("a", (7, 8), 9), ("b", (5, 6), 7), ("c", (3, 4), 5)), FAILS),
    (scores.performance_does_not_tell, battery(("a", (7, 8), 9), ("b", (5, 6), 7)), UNDECIDED),
    (scores.performance_does_not_tell, battery(("a", (7, 8), 8.9), ("b", (5, 6), 9)), UNDECIDED),
    (scores.performance_does_not_tell, {"battery": None}, UNMEASURED),
]
OF_PAIRS = [
    (scores.same_function_scores_one, same_function((0.995, 1)), HOLDS),
    (scores.same_function_scores_one, same_function((0.1, 0.2)), FAILS),
    (scores.same_function_scores_one, same_function((0.98, 1)), UNDECIDED),
    (scores.same_function_scores_one, {"battery": None}, UNMEASURED),
    (scores.ranking_survives_choices, agreements(1.0), HOLDS),
    (scores.ranking_survives_choices, agreements(0.9), FAILS),
    (scores.ranking_survives_choices, {"battery": None}, UNMEASURED),
]
OF_STORIES = [
    (partial(scores.as_judged, contrast="C1"), story("replicated"), HOLDS),
    (partial(scores.as_judged, contrast="C1"), story("not replicated"), FAILS),
    (partial(scores.as_judged, contrast="C1"), story("partly"), UNDECIDED),
    (partial(scores.as_judged, contrast="C1"), story("inconclusive"), UNDECIDED),
    (partial(scores.as_judged, contrast="C1"), story("inconclusive", value=None), UNMEASURED),
    (scores.circuit_carries_the_teacher, teacher_circuit(0.85, 0.9), HOLDS),
    (scores.circuit_carries_the_teacher, teacher_circuit(0.6, 0.7), FAILS),
    (scores.circuit_carries_the_teacher, teacher_circuit(0.75, 0.85), UNDECIDED),
    (scores.circuit_carries_the_teacher, teacher_circuit(0.6, 0.7, whole=0.7), HOLDS),
    (scores.circuit_carries_the_teacher, teacher_circuit(0, 0, whole=0.0), UNMEASURED),
    (scores.circuit_gains_too, circuit_contrast(ABOVE, ABOVE), HOLDS),
    (scores.circuit_gains_too, circuit_contrast(BELOW, BELOW), FAILS),
    (scores.circuit_gains_too, circuit_contrast(ABOVE, ACROSS), UNDECIDED),
    (scores.circuit_gains_too, circuit_contrast(ABOVE, None), UNMEASURED),
    (scores.learns_in_fewer_steps, steps([10, 15], [20, 20]), HOLDS),
    (scores.learns_in_fewer_steps, steps([20, 25], [20, 20]), FAILS),
    (scores.learns_in_fewer_steps, steps([15, 25], [20, 20]), UNDECIDED),
    (scores.learns_in_fewer_steps, steps([15, None], [20, 20]), UNMEASURED),
    (scores.learns_in_fewer_steps, story(reached=None), UNMEASURED),
]


def named(cases):
    """Return cases with a readable name each."""
    return [
        pytest.param(*case, id=f"{getattr(case[0], 'func', case[0]).__name__}-{case[2].replace(' ', '_')}-{number}")
        for number, case in enumerate(cases)
    ]


@pytest.mark.parametrize(("rule", "task", "verdict"), named(OF_TASKS))
def test_a_rule_on_a_task_goes_every_way(rule, task, verdict):
    """By hand-made intervals on either side of the bound, across it, and missing."""
    assert {found.verdict for found in rule({"prompts": 8, **task, "pair": PAIR})} == {verdict}


@pytest.mark.parametrize(("rule", "pair", "verdict"), named(OF_PAIRS))
def test_a_rule_on_a_pair_goes_every_way(rule, pair, verdict):
    """The same for what is judged once for all tasks."""
    assert {found.verdict for found in rule(pair)} == {verdict}


@pytest.mark.parametrize(("rule", "found", "verdict"), named(OF_STORIES))
def test_a_rule_on_circuit_distillation_goes_every_way(rule, found, verdict):
    """The same for a student and story task."""
    assert [each.verdict for each in rule(found)] == [verdict]


def test_a_task_without_the_question_has_no_finding():
    """Not every task is a sequence with a next element."""
    task = {"prompts": 8, "probes": {model: {"targets": {}} for model in ("teacher", "student")}}
    assert components.readable_next_element({**task, "pair": PAIR}) == []


def test_intervals_decide():
    """An end on the bound decides nothing; a difference of intervals takes their far ends."""
    assert [side_of(interval) for interval in ((0, 1), (-1, 0), (0.1, 1))] == [UNDECIDED, UNDECIDED, HOLDS]
    assert difference((5, 7), (1, 2)) == (3, 6)
    assert hull((0, 2), (-1, 1)) == (-1, 2)


def test_every_rule_is_tried_and_says_itself():
    """No claim without a case above for holding and one for failing, and none whose rule is not in words."""
    tried = {(getattr(case[0], "func", case[0]), case[2]) for case in [*OF_TASKS, *OF_PAIRS, *OF_STORIES]}
    for claim in CLAIMS:
        rule = getattr(claim.rule, "func", claim.rule)
        assert {(rule, HOLDS), (rule, FAILS)} <= tried
        assert rule_in_words(claim).endswith(".")
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)


def test_claims_are_counted_by_verdict():
    """Two pairs with one task each: what each claim finds is named by pair and task, and counted."""
    task = {"title": "Numerals", "prompts": 8, **NO_CIRCUIT, **roles(None, None), **shift(None), **mlp_groups("x")}
    task |= {**mean_drops(ABOVE, ABOVE), **first_token(ABOVE), **noise((0.2, 0.3)), "battery": None}
    task["mlps"] = {**mlp_groups("without a partner", ABOVE)["mlps"], **first_token(ABOVE)["mlps"]}
    task |= {"stability": {model: {"why_none": None} for model in ("teacher", "student")}, **probe(0.8, 0.9)}
    other = {**deepcopy(task), **mean_drops(BELOW, BELOW)}
    pairs = {name: {**PAIR, "battery": None, "tasks": {"numerals": own}} for name, own in (("a", task), ("b", other))}
    row = next(row for row in judge(pairs, []) if row["text"].startswith("Ablating a component"))
    assert row["counts"] == {HOLDS: 1, FAILS: 1, UNDECIDED: 0, UNMEASURED: 0}
    assert [found["of"] for found in row["findings"]] == ["a, Numerals", "b, Numerals"]
    assert all(sum(row["counts"].values()) == len(row["findings"]) for row in judge(pairs, []))
