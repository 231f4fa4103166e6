"""Stage `mapping`: the circuit heads of teacher and base student, what they are worth, and which are paired."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from distilled_circuits.artifacts import write_json
from distilled_circuits.circuits.ablation import Values
from distilled_circuits.circuits.head_circuits import (
    Circuit,
    Search,
    circuit_of,
    completeness,
    eliminated_circuit,
    greedy_circuit,
    minimality,
    random_circuits,
    rank_by_ablation,
    top_by_faithfulness,
)
from distilled_circuits.circuits.head_groups import Group, GroupFound, find_groups
from distilled_circuits.circuits.head_sets import HeadSets
from distilled_circuits.distillation.cka import chance_cka, debiased_cka
from distilled_circuits.distillation.impact import measure_impacts
from distilled_circuits.distillation.mapping import (
    Mapping as Pairs,
)
from distilled_circuits.distillation.mapping import (
    ModelImpacts,
    agreement,
    baseline_offset,
    map_by_assignment,
    map_by_impact,
    map_by_order,
    share_of_changed_pairs,
)
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.loading import choose_device, load_model
from distilled_circuits.progress import track
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.stored_questions import Questions
from distilled_circuits.stages.student_answers import COMPANION_PROMPTS, Examination, companion, read, similarity

BATCH = 100
"""Prompts of one forward pass."""
ROWS = (16, 32, 64, 128, 256)
"""Batch sizes for which biased CKA by chance is said."""


@dataclass(frozen=True)
class _Found:
    """One model's circuit heads layers upwards, their groups by name, and all that is said of them."""

    lens: HookLens
    heads: tuple[Component, ...]
    groups: dict[Component, str]
    impacts: ModelImpacts
    record: dict[str, Any]


def run(job: Job) -> None:
    """Find both circuits in the same way before any training, measure every head's impact, and pair the heads."""
    settings = job.param("distillation.circuits")
    method = settings.methods[job.item["task"]]
    device = choose_device(job.param("device"))
    exam = Examination.stored(job.input("questions"), device, settings)
    questions = exam.circuit
    found = {}
    # How long the search takes depends on what is found; what can be counted are the sweeps over single heads.
    models = {"teacher": job.input("teacher"), "student": job.input("base")}
    lenses = {side: HookLens(load_model(path, device)) for side, path in models.items()}
    means = {side: exam.means(lens) for side, lens in lenses.items()}
    heads = sum(lens.dimensions.layers * lens.dimensions.heads for lens in lenses.values())
    with track(heads, f"{job.name} heads") as progress:
        for side, lens in lenses.items():
            found[side] = _describe(lens, questions, means[side], method, settings, progress.advance)
    z = {side: read(each.lens, each.heads, questions)[1] for side, each in found.items()}
    table = _similarity(z["student"], z["teacher"])
    mappings = _mappings(found["student"], found["teacher"], table, settings)
    student, teacher = (found[side].impacts for side in ("student", "teacher"))
    student_side, teacher_side = found["student"], found["teacher"]
    widths = (student_side.lens.dimensions.d_head, teacher_side.lens.dimensions.d_head)
    records = {side: exam.record(each.lens, means[side]) for side, each in found.items()}
    references = {side: exam.answers(each.lens, each.heads, means[side]) for side, each in found.items()}
    before = {name: similarity(z["student"], z["teacher"], pairs) for name, pairs in mappings.items()}
    references["student"] |= {
        "aligned_cka": before["impact"],
        "companion": companion(records["teacher"], records["student"]),
    }
    content: dict[str, Any] = {
        "method": method,
        "prompts": len(questions),
        **{side: each.record for side, each in found.items()},
        "debiased_cka": table.tolist(),
        "chance_cka": {rows: chance_cka(*widths, rows) for rows in ROWS},
        "companion_prompts": COMPANION_PROMPTS,
        "companion": (table * agreement(student, teacher, student_side.heads, teacher_side.heads)).tolist(),
        "baseline_offset": baseline_offset(student, teacher),
        "changed_by_baseline": share_of_changed_pairs(mappings["impact"], mappings["impact_own"]),
        "mappings": {name: {**_pairs(mapping), "cka": before[name]} for name, mapping in mappings.items()},
    }
    provenance = job.provenance("mapping/3", device=device, seeds={"circuits": settings.seed})
    write_json(job.output("mapping"), provenance, content)
    write_json(job.output("untrained"), job.provenance("untrained/1", device=device), references)


def _describe(
    lens: HookLens, questions: Questions, means: Values, method: str, settings: Any, advance: Callable[[], None]
) -> _Found:
    """Find one model's circuit and judge it: alone, against random ones, head by head, and for what it lacks."""
    sets = HeadSets(lens, questions.prompts, means, BATCH)
    few = HeadSets(lens, questions.first(settings.searched).prompts, means, BATCH)
    others = HeadSets(lens, questions.last(settings.searched).prompts, means, BATCH)
    groups = [Group(**group.model_dump()) for group in settings.groups]
    patched = _path_patching(lens, questions, groups)
    searched: dict[str, Any]
    if method == "path_patching":
        if patched is None:
            raise UserError(_no_positions(groups, questions))
        chosen = patched
        searched = {"groups": {name: _group(each) for name, each in chosen.items()}}
    else:
        ranking = rank_by_ablation(sets, questions.choices)
        search = _search(method, sets if method == "ablation" else few, list(ranking), settings)
        chosen = {"circuit": GroupFound(torch.zeros(0), search.heads)}
        scores = {"circuit": {"scores": [ranking[head] for head in sets.heads], "heads": list(map(str, search.heads))}}
        by_ablation = top_by_faithfulness(few, list(ranking), settings.share, settings.faithfulness)
        curves = {"ablation": list(by_ablation.faithfulness), method: list(search.faithfulness)}
        searched = {"groups": scores, "curves": curves}
    said_of_groups = (
        None if patched is None else _judge_groups(lens, others, questions, means, groups, patched, settings)
    )
    stands = {group.name: group.position for group in groups}
    groups = groups if method == "path_patching" else [Group("circuit", "last", "logits", None, settings.share)]
    circuit = circuit_of(groups, chosen, "heads")
    impacts = measure_impacts(sets, advance)
    heads = tuple(sorted({place.head for group in circuit.values() for place in group}))
    record = {
        "accuracy": sets.accuracy(sets.everything),
        "log_probability": impacts.log_probability,
        "circuit": list(map(str, heads)),
        "positions": {} if patched is None else _positions(heads, stands, patched),
        **searched,
        "without_heads": sets.accuracy(()),
        **_judged(sets, others, circuit, settings),
        "path_patching": said_of_groups,
        "heads": [{**asdict(impact), "head": str(impact.head)} for impact in impacts.heads],
    }
    of_head = {head: name for name, group in reversed(list(chosen.items())) for head in group.heads}
    return _Found(lens, heads, of_head if method == "path_patching" else {}, impacts, record)


def _judged(sets: HeadSets, others: HeadSets, circuit: Circuit, settings: Any) -> dict[str, Any]:
    """Return what a circuit keeps alone, what random ones keep, what it lacks, and which heads it could do without.

    The last tries a set for each two heads, so it has fewer prompts: `others` than those that a search chose heads on.
    """
    places = sorted({place for group in circuit.values() for place in group})
    rng = np.random.default_rng(settings.seed)
    random = random_circuits(sets, places, settings.random_draws, rng).double().mean(1)
    return {
        "circuit_accuracy": sets.accuracy(places),
        "faithfulness": sets.faithfulness(places),
        "random_draws": settings.random_draws,
        "random_accuracy": {"value": random.mean().item(), "range": [random.min().item(), random.max().item()]},
        "completeness": asdict(completeness(sets, circuit, settings.completeness_draws, rng)),
        "minimality": {
            name: {str(place.head): {**asdict(one), "score": _finite(one.score)} for place, one in group.items()}
            for name, group in minimality(others, circuit).items()
        },
        "minimality_prompts": len(others.prompts),
    }


def _positions(
    heads: Sequence[Component], stands: Mapping[str, str], patched: Mapping[str, GroupFound]
) -> dict[str, str]:
    """Return where each circuit head stands: where the first of its groups does, and at the end if it has none."""
    found = {head: stands[name] for name in reversed(list(patched)) for head in patched[name].heads}
    return {str(head): found.get(head, "last") for head in heads}


def _search(method: str, sets: HeadSets, ranking: list[Component], settings: Any) -> Search:
    if method in ("greedy", "elimination"):
        search = greedy_circuit if method == "greedy" else eliminated_circuit
        return search(sets, settings.share, settings.faithfulness)
    return top_by_faithfulness(sets, ranking, settings.share, settings.faithfulness)


def _path_patching(lens: HookLens, questions: Questions, groups: list[Group]) -> dict[str, GroupFound] | None:
    """Return the groups backward from the logits; None where the task has no such positions."""
    if not {group.position for group in groups} <= set(questions.roles):
        return None
    return find_groups(lens, questions.prompts, questions.roles, groups, BATCH)


def _no_positions(groups: list[Group], questions: Questions) -> str:
    wanted = sorted({group.position for group in groups} - set(questions.roles))
    return (
        f"distillation.circuits.groups stand at {', '.join(wanted)}, which prompts of this task do not have: choose "
        "another of distillation.circuits.methods"
    )


def _judge_groups(
    lens: HookLens,
    others: HeadSets,
    questions: Questions,
    means: Values,
    groups: list[Group],
    found: Mapping[str, GroupFound],
    settings: Any,
) -> dict[str, Any]:
    """Return the groups and what they are worth: everywhere, and only where each stands (Prakash et al.)."""
    asked = questions.last(len(others.prompts))
    roles = {group.position: asked.roles[group.position] for group in groups}
    standing = HeadSets(lens, asked.prompts, means, BATCH, roles)
    at_positions = circuit_of(groups, found, "positions")
    return {
        "groups": {name: list(map(str, group.heads)) for name, group in found.items()},
        "heads": len({head for group in found.values() for head in group.heads}),
        "prompts": len(asked),
        **_judged(others, others, circuit_of(groups, found, "heads"), settings),
        "at_positions": standing.accuracy({place for group in at_positions.values() for place in group}),
    }


def _similarity(student: Mapping[Component, torch.Tensor], teacher: Mapping[Component, torch.Tensor]) -> np.ndarray:
    """Return the debiased CKA (student head, teacher head) of z at the last position."""
    other = torch.stack([z.double() for z in teacher.values()])
    return (
        torch.stack([debiased_cka(z.double().expand(len(other), -1, -1), other) for z in student.values()])
        .cpu()
        .numpy()
    )


def _mappings(student: _Found, teacher: _Found, similarity: np.ndarray, settings: Any) -> dict[str, Pairs]:
    models = (student.impacts, teacher.impacts, student.heads, teacher.heads)
    impact = map_by_impact(*models)
    weights = settings.hungarian
    return {
        "impact": impact,
        "impact_own": map_by_impact(*models, "impact_own"),
        "hungarian": map_by_assignment(
            *models, similarity, weights.impact, weights.depth, student.groups, teacher.groups
        ),
        "identity": map_by_order(student.heads, teacher.heads),
    }


def _pairs(mapping: Pairs) -> dict[str, Any]:
    return {
        "pairs": [{"student": str(own), "teacher": str(other)} for own, other in mapping.pairs],
        "distances": list(mapping.distances),
        "tied": mapping.tied,
        "distinct_teachers": mapping.distinct_teachers,
    }


def _group(found: GroupFound) -> dict[str, Any]:
    return {"scores": [_finite(score) for score in found.scores.tolist()], "heads": list(map(str, found.heads))}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
