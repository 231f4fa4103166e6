"""Invariants of circuit distillation: circuits and pairs, answers of all models, runs, sweeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from distilled_circuits.audit.expect import close, holds, same, within
from distilled_circuits.audit.findings import Wrong
from distilled_circuits.audit.models import files, weights
from distilled_circuits.audit.place import Place, model_sizes
from distilled_circuits.seed_ranges import seeds_of

TEACHER = {"teacher": "teacher", "student": "base"}
"""Where the models of each side of a mapping stand among the inputs."""


def mapping(at: Place) -> Iterator[Wrong]:
    """Circuits are of heads that exist, accuracies are shares, and pairs join circuit heads of both models."""
    content = at.json
    asked = at.arrays_of("questions")
    yield from same("prompts", content["prompts"], len(asked["circuit/answer"]))
    for side, stem in TEACHER.items():
        said = content[side]
        heads = [str(component) for component in at.sizes(stem).components if component.head is not None]
        yield from same(f"{side}.circuit", said["circuit"], [head for head in heads if head in said["circuit"]])
        yield from same(f"{side}.heads", [row["head"] for row in said["heads"]], heads)
        shares = [said["accuracy"], said["circuit_accuracy"], said["without_heads"]]
        yield from within(f"{side}, accuracies", [*shares, *(row["accuracy"] for row in said["heads"])], 0, 1)
        logs = [said["log_probability"], *(row["log_probability"] for row in said["heads"])]
        yield from holds(f"{side}, log probabilities", max(logs) <= 0, "at most 0", max(logs))
        yield from close(f"{side}.faithfulness", said["faithfulness"], said["circuit_accuracy"] / said["accuracy"])
        yield from in_range(f"{side}.random_accuracy", said["random_accuracy"])
    shape = [len(content[side]["circuit"]) for side in ("student", "teacher")]
    for table in ("debiased_cka", "companion"):
        yield from same(f"{table}, shape", list(np.shape(content[table])), shape)
        yield from within(table, content[table], -2, 1)
    for name, found in content["mappings"].items():
        yield from joined(f"mappings.{name}.pairs", found["pairs"], content)
        others = {pair["teacher"] for pair in found["pairs"]}
        yield from same(f"mappings.{name}.distinct_teachers", found["distinct_teachers"], len(others))
        yield from close(f"mappings.{name}.cka", found["cka"], pairs_cka(found["pairs"], content))


def joined(place: str, pairs: Sequence[dict[str, str]], content: dict[str, Any]) -> Iterator[Wrong]:
    """Pairs join heads of the student's circuit with heads of the teacher's."""
    for side in TEACHER:
        unknown = {pair[side] for pair in pairs} - set(content[side]["circuit"])
        yield from holds(place, not unknown, f"heads of the {side}'s circuit", sorted(unknown))


def pairs_cka(pairs: Sequence[dict[str, str]], content: dict[str, Any]) -> float:
    """Return the mean debiased CKA of pairs of heads from the table of all."""
    places = {side: {head: row for row, head in enumerate(content[side]["circuit"])} for side in TEACHER}
    table = content["debiased_cka"]
    return float(np.mean([table[places["student"][p["student"]]][places["teacher"][p["teacher"]]] for p in pairs]))


def in_range(place: str, said: dict[str, Any]) -> Iterator[Wrong]:
    """Require that a mean lies between the least and the largest of what it is of, all of them shares."""
    yield from within(place, said["range"], 0, 1)
    yield from within(f"{place}.value", said["value"], *said["range"])


def untrained(at: Place) -> Iterator[Wrong]:
    """Both models' answers to every test prompt before any training."""
    number = len(at.arrays_of("questions")["test/answer"])
    for side in TEACHER:
        yield from answers(at, side, at.json[side], number)
    before = at.json_of("mapping")["mappings"]["impact"]["cka"]
    yield from close("student.aligned_cka", at.json["student"]["aligned_cka"], before)


def answers(at: Place, place: str, said: dict[str, Any], circuit: int) -> Iterator[Wrong]:
    """Right or wrong for each test prompt, and accuracies on every variant of the prompts."""
    asked = at.arrays_of("questions")
    for kind, number in (("full", None), ("choice", None), ("circuit", circuit)):
        yield from same(f"{place}.{kind}, number", len(said[kind]), number or len(asked["test/answer"]))
        yield from holds(f"{place}.{kind}", set(said[kind]) <= {0, 1}, "0 or 1 for each prompt", set(said[kind]))
    right = [one <= other for one, other in zip(said["full"], said["choice"], strict=False)]
    yield from holds(f"{place}.choice", all(right), "right wherever the whole answer is", "a wrong one")
    variants = sorted({name.split("/")[1] for name in asked if name.startswith("variants/")})
    yield from same(f"{place}.variants", sorted(said["variants"]), variants)
    yield from within(f"{place}.variants", list(said["variants"].values()), 0, 1)
    yield from in_range(f"{place}.random_circuits", said["random_circuits"])
    yield from within(f"{place}.mean_drop", said["mean_drop"], -1, 1)


def distilled(at: Place) -> Iterator[Wrong]:
    """Hold the first seed's student, and of every run pairs, log and answers, against what was asked for."""
    record, condition = at.json, at.params[f"conditions.{at.item['condition']}"]
    yield from files(at.path, record["files"])
    config = at.store.config(at.path)
    yield from weights(at.path, model_sizes(config), config)
    yield from same("condition", record["condition"], at.item["condition"])
    seeds = list(seeds_of(at.item["seeds"]))
    yield from same("seeds", [each["seed"] for each in record["seeds"]], seeds)
    said = at.store.provenance(at.path)["seeds"]
    yield from same("provenance.seeds.training", said.get("training"), seeds)
    mapped = at.json_of("mapping")
    judged = min(at.params["distillation.judged"], len(at.arrays_of("questions")["test/answer"]))
    for each in record["seeds"]:
        for number, run in enumerate(each["runs"]):
            place = f"seeds.{each['seed']}.runs[{number}]"
            yield from answers(at, place, run, judged)
            yield from joined(f"{place}.pairs", run["pairs"], mapped)
            yield from log(f"{place}.log", run["log"], condition, at.params["distillation.training"])


def log(place: str, rows: list[dict[str, Any]], condition: dict[str, Any], training: dict[str, Any]) -> Iterator[Wrong]:
    """Require that the loss is the weighted sum of its terms, at the steps that are logged."""
    steps = [row["step"] for row in rows]
    every = training["log_every"]
    expected = [step for step in range(1, training["steps"] + 1) if step % every == 0 or step == 1]
    yield from holds(f"{place}, steps", steps in ([], expected), expected, steps)
    for row in rows:
        terms = [condition["cross_entropy"] * (row["cross_entropy"] or 0)]
        if condition["alignment"] != "none":
            terms.append(condition["weight"] * (row["alignment"] or 0))
        if condition["labels"] != "soft":  # whose divergence has no entry of its own
            yield from close(f"{place}, step {row['step']}, loss", row["loss"], sum(terms), 1e-3)
        if row["cka"] is not None:
            yield from within(f"{place}, step {row['step']}, cka", row["cka"], 0, 1)


def sweep(at: Place) -> Iterator[Wrong]:
    """Trials of one condition, each within what was asked for."""
    content, name = at.json, at.path.stem
    yield from same("used", content["used"], at.params[f"conditions.{name}"])
    yield from same("prompts", content["prompts"], len(at.arrays_of("questions")["validation/answer"]))
    yield from within("base and teacher", [content["base"], content["teacher"]], 0, 1)
    asked = at.params["distillation.sweep"]
    known = {"weight": set(asked["weights"]), "prompts": set(asked["sizes"])}
    for index, trial in enumerate(content["trials"]):
        yield from same(f"trials[{index}].condition", trial["condition"], name)
        yield from holds(f"trials[{index}].seen", 0 < trial["seen"] <= trial["prompts"], "at most prompts", trial)
        if trial["accuracy"] is not None:
            yield from within(f"trials[{index}].accuracy", trial["accuracy"], 0, 1)
        for kind, key in (("weight", "weight"), ("size", "prompts")):
            if trial["sweep"] == kind:
                yield from holds(f"trials[{index}].{key}", trial[key] in known[key], sorted(known[key]), trial[key])
