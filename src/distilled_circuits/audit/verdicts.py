"""Invariants of the verdicts on circuit distillation: accuracies, contrasts and judgements worked out again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from distilled_circuits.artifacts import to_json
from distilled_circuits.audit.expect import close, same, within
from distilled_circuits.audit.findings import Wrong
from distilled_circuits.audit.place import Place
from distilled_circuits.distillation.contrasts import PRIMARY, Answers, Contrast, PairedTest, SeedDifference
from distilled_circuits.distillation.verdicts import Setting, claim_verdicts, judge_task
from distilled_circuits.statistics import exact_mcnemar, holm

KINDS = ("full", "circuit", "choice")


def verdicts(at: Place) -> Iterator[Wrong]:
    """Everything but the bootstrap follows from the stored answers, and the judgements from the contrasts."""
    content = at.json
    answers = {kind: stored_answers(at, kind) for kind in KINDS}
    full = answers["full"]
    yield from same("prompts", content["prompts"], full.prompts)
    yield from same("circuit_prompts", content["circuit_prompts"], answers["circuit"].prompts)
    for name, row in content["models"].items():
        for kind, given in answers.items():
            right = given.models(name).mean(1)
            yield from close(f"models.{name}.{kind}.value", row[kind]["value"], right.mean(), 1e-9)
            yield from close(f"models.{name}.{kind}.by_seed", row[kind]["by_seed"], right.mean(1), 1e-9)
            low, high = row[kind]["interval95"]
            yield from within(f"models.{name}.{kind}.value", row[kind]["value"], low, high)
    right_answers = at.arrays_of("questions")["test/answer"]
    yield from close("majority", content["majority"], np.bincount(right_answers).max() / len(right_answers), 1e-9)
    setting = content["setting"]
    for model in ("base", "teacher"):
        yield from close(f"setting.{model}", setting[model], full.accuracy(model), 1e-9)
    for part, given in (("contrasts", full), ("circuit_contrasts", answers["circuit"])):
        for name, said in content[part].items():
            yield from contrast(f"{part}.{name}", said, given)
        family = [said for name, said in content[part].items() if name in PRIMARY]
        adjusted = holm([said["p"] for said in family])
        yield from close(f"{part}, p_holm", [said["p_holm"] for said in family], adjusted, 1e-9)
    yield from judgements(content, at.item["task"])


def stored_answers(at: Place, kind: str) -> Answers:
    """Return the answers of all runs beside this artifact and of both models before training."""
    runs, written = at.params["distillation.runs"], at.params["distillation.seeds"]
    conditions = {}
    for name in runs:
        records = [at.store.json(at.inputs["runs"] / name / str(entry))["seeds"] for entry in written]
        conditions[name] = np.array([[run[kind] for run in each["runs"]] for each in itertools.chain(*records)])
    asked = min(right.shape[-1] for right in conditions.values())
    before = at.json_of("untrained")
    return Answers(conditions, np.array(before["student"][kind])[:asked], np.array(before["teacher"][kind])[:asked])


def contrast(place: str, said: dict[str, Any], answers: Answers) -> Iterator[Wrong]:
    """Require the difference of the accuracies, seed by seed, and McNemar's p of the counted prompts."""
    first, second = answers.models(said["first"]), answers.models(said["second"])
    by_seed = first.mean((1, 2)) - second.mean((1, 2))
    yield from close(f"{place}.value", said["value"], by_seed.mean(), 1e-9)
    yield from close(f"{place}.seeds", [each["difference"] for each in said["seeds"]], by_seed, 1e-9)
    yield from within(f"{place}, p", [said["p"], said["p_holm"] or 0.0], 0, 1)
    yield from within(f"{place}.value", said["value"], *said["interval95"])
    for index, (each, ours, theirs) in enumerate(zip(said["seeds"], first, second, strict=True)):
        tests = [(int((a > b).sum()), int((b > a).sum())) for a, b in itertools.product(ours, theirs)]
        stored = [(test["only_first"], test["only_second"]) for test in each["tests"]]
        yield from same(f"{place}.seeds[{index}].tests", stored, tests)
        yield from close(
            f"{place}.seeds[{index}], p", [t["p"] for t in each["tests"]], [exact_mcnemar(*t) for t in tests]
        )


def judgements(content: dict[str, Any], task: str) -> Iterator[Wrong]:
    """Require that the verdicts are what the rules say of the stored contrasts."""
    contrasts = {name: as_contrast(said) for name, said in content["contrasts"].items()}
    setting = Setting(**{**content["setting"], "base_range": tuple(content["setting"]["base_range"])})
    yield from same("verdict", content["verdict"], asdict(judge_task(contrasts, setting)))
    claims = [asdict(claim) for claim in claim_verdicts(task, contrasts, setting)]
    yield from same("claims", to_json({"claims": content["claims"]}), to_json({"claims": claims}))


def as_contrast(said: dict[str, Any]) -> Contrast:
    """Return a stored contrast as the rules read it."""
    seeds = tuple(
        SeedDifference(each["difference"], tuple(PairedTest(**test) for test in each["tests"]))
        for each in said["seeds"]
    )
    known = {key: value for key, value in said.items() if key != "detectable"}
    return Contrast(**{**known, "seeds": seeds})
