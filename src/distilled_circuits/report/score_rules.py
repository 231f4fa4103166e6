"""Rules for claims about scores and training: the alignment score of the first paper, all of the second.

Like `component_rules`: a docstring is the rule as the page prints it.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

from distilled_circuits.comparison.alignment_summary import PAPERS_PLATEAU
from distilled_circuits.comparison.variants import PRESETS, TABLE_5
from distilled_circuits.distillation.verdicts import FAITHFUL, NOT_REPLICATED, REPLICATED
from distilled_circuits.report.findings import (
    FAILS,
    HOLDS,
    UNDECIDED,
    UNMEASURED,
    Finding,
    Numbers,
    difference,
    hull,
    side_of,
)

ONE = 0.99
"""A score of 1 up to rounding."""
NEARER = 2.0
"""Difference of AIC from which on one form of curve is said to be nearer than another."""
GAPS_APART = 0.05
"""Share of the teacher's logit difference by which two students must differ in performance to be told apart by it."""
PAPERS_FORM = "logarithmic"
NO_NOISE = "no noise experiment on this task"
ONE_SEED = "one seed of noise has no interval"
NO_BATTERY = "no battery of known pairs was run"


def falls_with_noise(task: Numbers) -> list[Finding]:
    """Take the score without noise less the mean of the last quarter of levels; above 0 it holds, below 0 it does not.

    The interval is Student's t over seeds.
    """
    findings = []
    for name, curve in _curves(task).items():
        if curve["plateau"]["interval95"] is None:
            findings.append(Finding(name, UNMEASURED, reason=ONE_SEED))
            continue
        fall = curve["unnoised"] - curve["plateau"]["value"]
        interval = difference([curve["unnoised"]] * 2, curve["plateau"]["interval95"])
        findings.append(Finding(name, side_of(interval), fall, interval, task["noise"]["prompts"]))
    return findings or [Finding("score", UNMEASURED, reason=NO_NOISE)]


def levels_off_near_a_fifth(task: Numbers) -> list[Finding]:
    """Take the mean score of the last quarter of noise levels: within 0.15 to 0.25 and flat it holds.

    It does not hold if the interval over seeds lies outside, or if the curve still falls there (by 0.03 or more for one
    unit of noise).
    """
    findings, (least, most) = [], PAPERS_PLATEAU
    for name, curve in _curves(task).items():
        plateau = curve["plateau"]
        if plateau["interval95"] is None:
            findings.append(Finding(name, UNMEASURED, reason=ONE_SEED))
            continue
        low, high = plateau["interval95"]
        falling = least <= plateau["value"] <= most and not curve["near_the_papers_plateau"]
        inside = low >= least and high <= most
        verdict = FAILS if falling or high < least or low > most else HOLDS if inside else UNDECIDED
        reason = "still falling there" if falling else ""
        prompts = task["noise"]["prompts"]
        findings.append(Finding(name, verdict, plateau["value"], (low, high), prompts, reason))
    return findings or [Finding("score", UNMEASURED, reason=NO_NOISE)]


def falls_logarithmically(task: Numbers) -> list[Finding]:
    """Take the AIC of the best other form of curve less that of the logarithm: above 2 it holds, below −2 not."""
    findings = []
    for name, curve in _curves(task).items():
        aic = {fit["form"]: fit["aic"] for fit in curve["fits"]}
        others = {form: value for form, value in aic.items() if form != PAPERS_FORM}
        if PAPERS_FORM not in aic or not others:
            findings.append(Finding(name, UNMEASURED, reason="no fit of a logarithm beside another form"))
            continue
        best = min(others, key=others.__getitem__)
        ahead = others[best] - aic[PAPERS_FORM]
        verdict = HOLDS if ahead > NEARER else FAILS if ahead < -NEARER else UNDECIDED
        findings.append(Finding(f"{name}, AIC", verdict, ahead, None, task["noise"]["prompts"], f"other: {best}"))
    return findings or [Finding("score", UNMEASURED, reason=NO_NOISE)]


def _curves(task: Numbers) -> Numbers:
    return task["noise"]["presets"] if task["noise"] else {}


def mismatched_scores_lower(task: Numbers) -> list[Finding]:
    """Take the distilled student's score less that of a model of another architecture; above 0 it holds, below not.

    The interval is one end less the other of the two scores' intervals over prompts.
    """
    found = _battery_scores(task)
    if not {"distilled", "mismatched"} <= found.keys():
        return [Finding("score", UNMEASURED, reason=NO_BATTERY)]
    findings = []
    for name in PRESETS:
        ours, other = (found[candidate]["scores"].get(name) for candidate in ("distilled", "mismatched"))
        if not ours or not other:
            findings.append(Finding(name, UNMEASURED, reason="the score does not apply to both"))
            continue
        interval = difference(ours["interval95"], other["interval95"])
        value = ours["value"] - other["value"]
        findings.append(Finding(name, side_of(interval), value, interval, task["pair"]["battery"]["prompts"]))
    return findings


def performance_does_not_tell(task: Numbers) -> list[Finding]:
    """Count pairs of students of which the one nearer to the teacher's logit difference scores lower.

    Only pairs count whose scores have intervals apart and whose gaps to the teacher differ by at least 5 % of its logit
    difference. It holds if there is such a pair, does not if there is none among at least three, and is not decided
    among fewer.
    """
    found = _battery_scores(task)
    teacher = found.get("itself")
    if teacher is None:
        return [Finding("score", UNMEASURED, reason=NO_BATTERY)]
    students = [row for name, row in found.items() if name not in task["pair"]["battery"]["same_function"]]
    findings = []
    for preset in PRESETS:
        scored = [row for row in students if row["scores"].get(preset)]
        signs = [_order(*rows, preset, teacher["logit_difference"]) for rows in combinations(scored, 2)]
        against, apart = signs.count(-1), len(signs) - signs.count(0)
        verdict = HOLDS if against else FAILS if apart >= 3 else UNDECIDED
        what = f"{preset}, pairs of {apart}"
        findings.append(Finding(what, verdict, against, prompts=task["pair"]["battery"]["prompts"]))
    return findings


def _order(first: Numbers, second: Numbers, preset: str, teacher: float) -> int:
    """Return 1 if the student that scores clearly higher is the nearer one in performance, −1 if not, 0 if neither."""
    scores = side_of(difference(*(row["scores"][preset]["interval95"] for row in (first, second))))
    gaps = [abs(teacher - row["logit_difference"]) for row in (first, second)]
    if scores == UNDECIDED or abs(gaps[0] - gaps[1]) < GAPS_APART * abs(teacher):
        return 0
    return 1 if (scores == HOLDS) == (gaps[0] < gaps[1]) else -1


def _battery_scores(task: Numbers) -> dict[str, Any]:
    return {row["candidate"]: row for row in task["battery"]["ranking"]} if task["battery"] else {}


def same_function_scores_one(pair: Numbers) -> list[Finding]:
    """Take the lowest score of the teacher against itself with other orders of heads or another basis.

    Above 0.99 it holds, below it does not.
    """
    findings = []
    for row in pair["battery"]["rows"] if pair["battery"] else []:
        scores = {name: row["candidates"].get(name) for name in pair["battery"]["same_function"]}
        if row["variant"] in PRESETS and all(scores.values()):
            name = min(scores, key=lambda each: scores[each]["value"])
            verdict = side_of(scores[name]["interval95"], ONE)
            interval = tuple(scores[name]["interval95"])
            prompts = pair["battery"]["prompts"]
            findings.append(Finding(row["variant"], verdict, scores[name]["value"], interval, prompts, name))
    return findings or [Finding("score", UNMEASURED, reason=NO_BATTERY)]


def ranking_survives_choices(pair: Numbers) -> list[Finding]:
    """Take the lowest rank agreement of the other rows of Table 5 with max + greedy, over the battery's students.

    It holds at 1, where no order changes, and does not below.
    """
    rows = {row["variant"]: row["rank_agreement"] for row in pair["battery"]["rows"]} if pair["battery"] else {}
    agreements = {name: rows[name] for name in TABLE_5.values() if name != "printed" and rows.get(name) is not None}
    if not agreements:
        return [Finding("rank agreement", UNMEASURED, reason=NO_BATTERY)]
    lowest = min(agreements, key=agreements.__getitem__)
    verdict = HOLDS if agreements[lowest] >= 1 - 1e-9 else FAILS
    prompts = pair["battery"]["prompts"]
    return [Finding("rank agreement", verdict, agreements[lowest], None, prompts, lowest)]


def as_judged(found: Numbers, contrast: str) -> list[Finding]:
    """Take the difference of accuracy by the rules of docs/circuit-distillation.md, which were fixed before the runs.

    “Replicated” there is “holds here”, “not replicated” is “does not hold here”; “partly” and “inconclusive” are not
    decided.
    """
    row = next(each for each in found["claims"] if each["claim"]["contrast"] == contrast)
    verdict = {REPLICATED: HOLDS, NOT_REPLICATED: FAILS}.get(row["verdict"]["verdict"], UNDECIDED)
    if row["value"] is None:
        return [Finding("difference of accuracy", UNMEASURED, reason=row["verdict"]["reason"])]
    interval = tuple(row["interval95"])
    why = row["verdict"]["reason"].rpartition(": ")[2]
    return [Finding("difference of accuracy", verdict, row["value"], interval, found["prompts"], why)]


def circuit_carries_the_teacher(found: Numbers) -> list[Finding]:
    """Take the accuracy of the teacher's circuit alone as a share of the whole teacher's.

    Above 0.8 it holds, below it does not.
    """
    teacher = found["models"]["teacher"]
    whole = teacher["full"]["value"]
    if not whole:
        return [Finding("share of accuracy", UNMEASURED, reason="the teacher answers nothing")]
    low, high = (end / whole for end in teacher["circuit"]["interval95"])
    value, prompts = teacher["circuit"]["value"] / whole, found["circuit_prompts"]
    return [Finding("share of accuracy", side_of((low, high), FAITHFUL), value, (low, high), prompts)]


def circuit_gains_too(found: Numbers) -> list[Finding]:
    """Take the accuracy of circuits alone, CE + Align less CE on the same parameters; above 0 it holds, below not.

    The interval is the hull of that over seeds and prompts and Student's t over seeds.
    """
    contrast = found["circuit_contrasts"].get("C1")
    if not contrast or not contrast["interval95_seeds"]:
        return [Finding("difference of accuracy", UNMEASURED, reason="fewer than two seeds of both")]
    interval = hull(contrast["interval95"], contrast["interval95_seeds"])
    prompts = found["circuit_prompts"]
    return [Finding("difference of accuracy", side_of(interval), contrast["value"], interval, prompts)]


def learns_in_fewer_steps(found: Numbers) -> list[Finding]:
    """Count steps until the cross entropy is a fifth of its start, CE + Align less CE on the same parameters, by seed.

    Steps are read where training is logged. It holds if fewer are taken in every seed, and does not if in none.
    """
    steps = found["reached"]["steps"] if found["reached"] else {}
    pairs = list(zip(steps.get("ce_aligned", []), steps.get("ce_circuit", []), strict=False))
    what = "mean of steps"
    if len(pairs) < 2 or any(None in each for each in pairs):
        return [Finding(what, UNMEASURED, reason="fewer than two seeds in which both reach it")]
    apart = [aligned - alone for aligned, alone in pairs]
    verdict = HOLDS if max(apart) < 0 else FAILS if min(apart) >= 0 else UNDECIDED
    seen = "by seed: " + ", ".join(f"{each:+d}" for each in apart)
    return [Finding(what, verdict, sum(apart) / len(apart), None, found["prompts"], seen)]
