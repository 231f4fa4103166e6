"""What replicates of the second paper, by rules fixed in advance: a verdict for each claim and one for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distilled_circuits.distillation.contrasts import CONTRASTS, Contrast

ALPHA = 0.05
MARGIN = 0.02
"""Two points of accuracy: an interval that holds zero shows a tie when its half-width is at most this."""
SAME_SIGN = 0.8
"""Share of the seeds that must agree with the mean: four of five."""
FAITHFUL = 0.8
"""What the teacher's circuit alone must keep of the teacher's accuracy, or there is no mechanism to hand on."""

REPLICATED = "replicated"
PARTLY = "partly"
NOT_REPLICATED = "not replicated"
INCONCLUSIVE = "inconclusive"
ALIGNMENT_HELPS = "partly: alignment helps, mechanism not shown"
RANDOM_HARMS = "partly: random harms only"

_PRINTED = ("base", "teacher", "ce_full", "ce_circuit", "align_only", "ce_random", "ce_aligned", "direct")
PUBLISHED = {
    "entity_tracking": {
        "1B": dict(zip(_PRINTED, (0.68, 0.85, 0.75, 0.73, 0.68, 0.58, 0.77, 0.77), strict=True)),
        "3B": dict(zip(_PRINTED, (0.72, 0.85, 0.78, 0.77, 0.73, 0.63, 0.82, 0.83), strict=True)),
    },
    "theory_of_mind": {
        "1B": dict(zip(_PRINTED, (0.55, 0.76, 0.60, 0.59, 0.52, 0.49, 0.64, 0.58), strict=True)),
        "3B": dict(zip(_PRINTED, (0.58, 0.76, 0.63, 0.62, 0.55, 0.49, 0.65, 0.66), strict=True)),
    },
}
"""Full-model accuracies by task and student, CD Tables 1 and 2; `direct` is GOAT-1B and -3B (Table 3), Alpaca-1B and
-3B (Table 4)."""


@dataclass(frozen=True)
class Verdict:
    """A verdict and the sentence that holds its numbers."""

    verdict: str
    reason: str


@dataclass(frozen=True)
class Setting:
    """The models of a task as they were before anything is compared: accuracies on its test prompts, and the gap rule.

    The base student must be within `base_range` and the teacher at `least_teacher` or above.
    """

    base: float
    teacher: float
    teacher_circuit: float
    base_range: tuple[float, float] = (0.45, 0.70)
    least_teacher: float = 0.90

    def unmet(self) -> str | None:
        """Return what makes every comparison of this task inconclusive; None if nothing does."""
        low, high = self.base_range
        if not low <= self.base <= high:
            return f"the base student answers {self.base:.2f}, asked for are {low:.2f} to {high:.2f}"
        if self.teacher < self.least_teacher:
            return f"the teacher answers {self.teacher:.2f}, asked for are at least {self.least_teacher:.2f}"
        if self.teacher_circuit < FAITHFUL * self.teacher:
            kept = self.teacher_circuit / self.teacher
            return f"the teacher's circuit keeps {kept:.2f} of its accuracy, asked for are at least {FAITHFUL:.2f}"
        return None


@dataclass(frozen=True)
class Claim:
    """A claim as the sign that a contrast has if it is true; 0 claims that there is no difference.

    `tie` is the verdict where a difference is claimed and the interval shows that there is none.
    """

    text: str
    contrast: str
    sign: int
    tie: str = NOT_REPLICATED


CLAIMS = (
    Claim("CE + Align beats CE on the same parameters", "C1", 1),
    Claim("CE + Align beats CE on all parameters", "C2", 1),
    Claim("CE + Align beats CE + Rand", "C3", 1),
    Claim("CE + Rand falls below the base student", "C4", -1),
    Claim("Align alone leaves the base student as it is", "align_only", 0),
    Claim("Tuning on the teacher's own data beats CE + Align", "direct", -1, tie=PARTLY),
)
"""The last two stand in the paper's tables, not in its text, and not in all of them: Align alone loses three points in
theory of mind; tuning ties once, is ahead by a point twice, and once falls behind by six."""
CONTENT = Claim("CE + Align beats aligning with the teacher's rows shuffled", "shuffled", 1)
"""No claim of the paper, but what tells its mechanism from a regulariser."""


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim beside its contrast (None where it was not measured) and the paper's differences by student, if any.

    `interval95` is the one that decided.
    """

    claim: Claim
    verdict: Verdict
    value: float | None
    interval95: tuple[float, float] | None
    published: dict[str, float] | None


def claim_verdicts(task: str, contrasts: Mapping[str, Contrast], setting: Setting) -> list[ClaimVerdict]:
    """Return the verdict of each of CLAIMS for one task and student."""
    rows = []
    for claim in CLAIMS:
        found = contrasts.get(claim.contrast)
        value, interval = (None, None) if found is None else (found.value, deciding_interval(found))
        verdict = judge_claim(claim, contrasts, setting)
        rows.append(ClaimVerdict(claim, verdict, value, interval, published_differences(task, claim.contrast)))
    return rows


def published_differences(task: str, contrast: str) -> dict[str, float] | None:
    """Return the paper's value of a contrast by student; None for a task or a condition that it has not."""
    first, second = CONTRASTS[contrast]
    students = PUBLISHED.get(task, {})
    if not students or any(name not in printed for printed in students.values() for name in (first, second)):
        return None
    return {student: round(printed[first] - printed[second], 2) for student, printed in students.items()}


def deciding_interval(contrast: Contrast) -> tuple[float, float]:
    """Return the hull of the interval over seeds and prompts and Student's t interval over seeds.

    Neither will do alone. Where seeds differ more than prompts do, the bootstrap's 95 % interval holds the truth in
    75, 84 and 91 % of cases for 3, 5 and 10 seeds (simulated, normal seeds); Student's t is exact there but knows
    nothing of the prompts, which all seeds share.
    """
    intervals = [each for each in (contrast.interval95, contrast.interval95_seeds) if each is not None]
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def judge_claim(claim: Claim, contrasts: Mapping[str, Contrast], setting: Setting) -> Verdict:
    """Return whether a claim replicates, by the first rule that applies.

    Without the contrast, with one seed or where the setting is not met nothing is concluded. An interval all on the
    wrong side refutes, with or without Holm's correction: that guards claims, not their refutation. One that holds zero
    shows a tie if it is narrow and nothing if it is wide. One all on the right side replicates the claim if it is
    significant after Holm and four of five seeds agree; if seeds disagree the claim holds on average ("partly"), and if
    Holm's p is too large nothing is concluded, because a tie is not shown either. Secondary contrasts have the
    bootstrap's own p.
    """
    contrast = contrasts.get(claim.contrast)
    problem = _problem(claim, contrast, setting)
    if contrast is None or problem:
        return Verdict(INCONCLUSIVE, problem)
    if claim.sign == 0:
        return _judge_no_difference(contrast)
    low, high = sorted(claim.sign * end for end in deciding_interval(contrast))
    narrow = high - low <= 2 * MARGIN
    p = contrast.p if contrast.p_holm is None else contrast.p_holm
    return _first(
        contrast,
        [
            (high < 0, NOT_REPLICATED, "the difference is the other way round"),
            (low <= 0 and narrow, claim.tie, "no difference, within a half-width of 2 points"),
            (low <= 0, INCONCLUSIVE, "the interval holds 0 and is too wide to show a tie"),
            (p >= ALPHA, INCONCLUSIVE, "not significant"),
            (contrast.same_sign / len(contrast.seeds) < SAME_SIGN, PARTLY, "on average, but not for 4 seeds of 5"),
            (True, REPLICATED, "as claimed"),
        ],
    )


def _judge_no_difference(contrast: Contrast) -> Verdict:
    """Return whether a contrast is shown to be within MARGIN of zero, which a merely wide interval does not."""
    low, high = deciding_interval(contrast)
    apart = low > 0 or high < 0
    return _first(
        contrast,
        [
            (max(-low, high) <= MARGIN, REPLICATED, "less than 2 points either way"),
            (apart and abs(contrast.value) > MARGIN, NOT_REPLICATED, "a difference of more than 2 points"),
            (True, INCONCLUSIVE, "the interval shows neither a difference above 2 points nor that there is none"),
        ],
    )


def judge_task(contrasts: Mapping[str, Contrast], setting: Setting) -> Verdict:
    """Return what replicates of a task for one student, by the first rule that applies.

    1. C1 inconclusive (not measured, setting not met, interval wide, or lost to Holm): inconclusive, whatever C3 and C4
       say; they have verdicts of their own.
    2. C1 a tie while C3 and C4 are as claimed: random harms only. A C1 below zero is no such case.
    3. C1 a tie or below zero: not replicated.
    4. C1 above zero, but anything else is missing: alignment helps, mechanism not shown. That is: seeds disagree on C1;
       C2, C3 or the contrast with shuffled rows is not shown to be above zero (untested is not shown); or one-to-one
       pairs do as well. Those are aligned as well, so that a tie must be shown here: an advantage over them whose
       interval holds zero and stays within MARGIN.
    5. Else replicated.
    """
    alignment, full, random, harm = (judge_claim(claim, contrasts, setting) for claim in CLAIMS[:4])
    if alignment.verdict == INCONCLUSIVE:
        return alignment
    if alignment.verdict == NOT_REPLICATED:
        tie = deciding_interval(contrasts["C1"])[1] >= 0
        harms = tie and random.verdict == harm.verdict == REPLICATED
        return Verdict(RANDOM_HARMS, _joined(alignment, random, harm)) if harms else alignment
    controls = [full, random, judge_claim(CONTENT, contrasts, setting), *_as_good_as_one_to_one(contrasts)]
    missing = [each for each in controls if each.verdict != REPLICATED]
    if missing or alignment.verdict == PARTLY:
        return Verdict(ALIGNMENT_HELPS, _joined(alignment, *missing))
    return Verdict(REPLICATED, _joined(alignment, *controls))


def _joined(*verdicts: Verdict) -> str:
    return "; ".join(each.reason for each in verdicts)


def _as_good_as_one_to_one(contrasts: Mapping[str, Contrast]) -> list[Verdict]:
    """Return the verdict that one-to-one pairs do as well, where that is shown."""
    contrast = contrasts.get("hungarian")
    if contrast is None:
        return []
    low, high = deciding_interval(contrast)
    shown = low <= 0 and high <= MARGIN
    return [Verdict(PARTLY, f"{_numbers(contrast)}: one-to-one pairs do as well")] if shown else []


def _problem(claim: Claim, contrast: Contrast | None, setting: Setting) -> str:
    """Return why nothing can be concluded; empty if something can."""
    if unmet := setting.unmet():
        return unmet
    if contrast is None:
        return f"{claim.contrast} was not measured: {' or '.join(CONTRASTS[claim.contrast])} was not run"
    return f"{_numbers(contrast)}: one seed says nothing of others" if len(contrast.seeds) < 2 else ""


def _first(contrast: Contrast, rules: Sequence[tuple[bool, str, str]]) -> Verdict:
    """Return the verdict of the first rule that holds, its reason after the contrast's numbers."""
    verdict, why = next((verdict, why) for holds, verdict, why in rules if holds)
    return Verdict(verdict, f"{_numbers(contrast)}: {why}")


def _numbers(contrast: Contrast) -> str:
    low, high = (100 * end for end in deciding_interval(contrast))
    p = f"p = {contrast.p:.4f}" if contrast.p_holm is None else f"p = {contrast.p_holm:.4f} after Holm"
    return (
        f"{contrast.name} ({contrast.first} less {contrast.second}) is {100 * contrast.value:+.1f} points "
        f"[{low:+.1f}, {high:+.1f}], {p}, of this sign in {contrast.same_sign} of {len(contrast.seeds)} seeds"
    )
