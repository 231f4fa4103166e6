"""The claims of both papers in our own words, where they stand, and the rule that judges each here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from distilled_circuits.report import component_rules as components
from distilled_circuits.report import score_rules as scores
from distilled_circuits.report.findings import VERDICTS, Finding

FIRST, SECOND = "Distilled Circuits", "Circuit Distillation"
TASK, PAIR, DISTILLATION = "task", "pair", "distillation"


@dataclass(frozen=True)
class Claim:
    """A claim, its place in its paper, and its rule: for each task of a pair, each pair, or each student and task."""

    paper: str
    where: str
    text: str
    of: str
    rule: Callable[..., list[Finding]]


CLAIMS = (
    Claim(
        FIRST, "3.2.3, Table 2, App. K, L", "Ablating a component costs the student more, on average.",
        TASK, components.larger_mean_drop,
    ),
    Claim(
        FIRST, "3.2.3, 5", "The student is also more vulnerable to shifts of the distribution.",
        TASK, components.keeps_less_off_distribution,
    ),
    Claim(
        FIRST, "abstract, 3, 3.2", "The student does the task with fewer components.",
        TASK, components.smaller_circuit,
    ),
    Claim(
        FIRST, "3.2.1, Table 1", "It leans harder on the one head that plays a role than the teacher on its own.",
        TASK, components.leans_on_one_head,
    ),
    Claim(
        FIRST, "3.2.1, App. I", "It leaves out a role of the teacher's heads (there: similar member detection).",
        TASK, components.loses_a_role,
    ),
    Claim(
        FIRST, "3.2.2", "One MLP of the student takes over what several MLPs of the teacher do.",
        TASK, components.merges_mlps,
    ),
    Claim(
        FIRST, "3.2.2", "It leaves out an MLP of the teacher that works against the answer.",
        TASK, components.drops_a_harmful_mlp,
    ),
    Claim(
        FIRST, "3.2.2", "The last MLPs of both differ at the first token while they agree at the others.",
        TASK, components.diverges_at_the_first_token,
    ),
    Claim(
        FIRST, "3.1.1", "Without the circuit the models no longer do the task (that it suffices is by construction).",
        TASK, components.circuit_is_necessary,
    ),
    Claim(
        FIRST, "3.1.1", "Circuits are minimal: each node alone costs at least the threshold.",
        TASK, components.every_node_costs_the_threshold,
    ),
    Claim(
        FIRST, "App. N", "The size of a circuit hardly depends on the pruning threshold.",
        TASK, components.size_is_stable,
    ),
    Claim(
        FIRST, "3.1.3, App. J.3", "The next element becomes linearly readable from the stream of both models.",
        TASK, components.readable_next_element,
    ),
    Claim(
        FIRST, "4.2.1, Fig. 3", "The alignment score falls as noise on the student's activations grows.",
        TASK, scores.falls_with_noise,
    ),
    Claim(FIRST, "4.2.1, Fig. 3", "It levels off near 0.2.", TASK, scores.levels_off_near_a_fifth),
    Claim(FIRST, "4.2.1, Fig. 3", "It falls like a logarithm.", TASK, scores.falls_logarithmically),
    Claim(
        FIRST, "4.2.2, Table 3", "A model of another architecture, not distilled from the teacher, scores lower.",
        TASK, scores.mismatched_scores_lower,
    ),
    Claim(
        FIRST, "4.2.2, 5", "Performance alone does not tell how alike two models compute.",
        TASK, scores.performance_does_not_tell,
    ),
    Claim(
        FIRST, "4.1.3", "The score measures what components do: the same computation in other clothes is 1.",
        PAIR, scores.same_function_scores_one,
    ),
    Claim(
        FIRST, "App. M, Table 5", "How influence is normalised and components are matched does not change the ranking.",
        PAIR, scores.ranking_survives_choices,
    ),
    Claim(
        SECOND, "4.1", "The circuit alone does nearly all that the teacher does.",
        DISTILLATION, scores.circuit_carries_the_teacher,
    ),
    Claim(
        SECOND, "4.1, 4.2, Tables 1, 2", "CE + Align beats CE on the same parameters.",
        DISTILLATION, partial(scores.as_judged, contrast="C1"),
    ),
    Claim(
        SECOND, "abstract, 4, Tables 1, 2", "CE + Align on the circuit beats CE on all parameters.",
        DISTILLATION, partial(scores.as_judged, contrast="C2"),
    ),
    Claim(
        SECOND, "4.1, 4.2, Tables 1, 2", "CE + Align beats alignment of random pairs.",
        DISTILLATION, partial(scores.as_judged, contrast="C3"),
    ),
    Claim(
        SECOND, "4.2, Tables 1, 2", "Alignment of random pairs falls below the base student.",
        DISTILLATION, partial(scores.as_judged, contrast="C4"),
    ),
    Claim(
        SECOND, "Tables 1, 2", "Alignment alone leaves the base student as it is.",
        DISTILLATION, partial(scores.as_judged, contrast="align_only"),
    ),
    Claim(
        SECOND, "Tables 3, 4", "Tuning on the teacher's own data beats CE + Align.",
        DISTILLATION, partial(scores.as_judged, contrast="direct"),
    ),
    Claim(
        SECOND, "4.1, 4.2", "What CE + Align gains is in the circuit: circuits alone gain too.",
        DISTILLATION, scores.circuit_gains_too,
    ),
    Claim(
        SECOND, "4, Fig. 5", "CE + Align gets there in fewer steps.",
        DISTILLATION, scores.learns_in_fewer_steps,
    ),
)  # fmt: skip


def judge(pairs: Mapping[str, Any], distillations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return every claim with its rule in words, all findings, and how many there are of each verdict.

    `pairs` and `distillations` are what `comparison` has of each pair, and of each student and story task.
    """
    rows = []
    for claim in CLAIMS:
        findings = _findings(claim, pairs, distillations)
        counts = {verdict: sum(found["verdict"] == verdict for found in findings) for verdict in VERDICTS}
        row = {"paper": claim.paper, "where": claim.where, "text": claim.text, "rule": rule_in_words(claim)}
        rows.append({**row, "counts": counts, "findings": findings})
    return rows


def rule_in_words(claim: Claim) -> str:
    """Return the docstring of a claim's rule as one paragraph."""
    rule = claim.rule.func if isinstance(claim.rule, partial) else claim.rule
    return " ".join((inspect.getdoc(rule) or "").split())


def _findings(
    claim: Claim, pairs: Mapping[str, Any], distillations: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    judged: list[tuple[str, list[Finding]]] = []
    if claim.of == TASK:
        judged = [
            (f"{name}, {task['title']}", claim.rule({**task, "pair": pair}))
            for name, pair in pairs.items()
            for task in pair["tasks"].values()
        ]
    elif claim.of == PAIR:
        judged = [(name, claim.rule(pair)) for name, pair in pairs.items()]
    else:
        judged = [(_family(each["of"], each["title"]), claim.rule(each)) for each in distillations]
    return [{"of": of, **asdict(finding)} for of, findings in judged for finding in findings]


def _family(of: Mapping[str, Any], title: str) -> str:
    return f"family {of['teacher']}, student {of['student']}, {title}"
