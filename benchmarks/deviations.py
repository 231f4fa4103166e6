"""Measure on the default pair what docs/deviations.md says of the first paper, its released code and ours.

Run `python benchmarks/deviations.py` in a finished default run, where `results/` is: it prints the tables' numbers that
no artifact has. It takes three minutes on one core and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from distilled_circuits.artifacts import read_arrays, read_json
from distilled_circuits.circuits.ablation import PromptTensors, Values, constant, logit_differences, replacement
from distilled_circuits.circuits.edges import Edge
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.circuits.node_sets import NodeSets
from distilled_circuits.circuits.pruning import prune_nodes
from distilled_circuits.comparison.alignment import aligned, match_and_score
from distilled_circuits.comparison.mlps import direction_similarity, unit
from distilled_circuits.comparison.representations import ModelRecord, Summary, equal_weights
from distilled_circuits.comparison.scores import clipped_drop, mean_clipped_drop, retained_percent
from distilled_circuits.comparison.similarity import Similarities
from distilled_circuits.comparison.variants import PRESETS, RELEASED, Variant
from distilled_circuits.distillation.mapping import HeadImpact, ModelImpacts, map_by_impact
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.interface import Change
from distilled_circuits.models.loading import load_model
from distilled_circuits.stages.inputs import corrupted_means, prompt_tensors, to_numpy
from distilled_circuits.stages.job import MODELS
from distilled_circuits.stages.stored_records import stored_record

Array = NDArray[np.floating]
PAIR, STORIES = Path("results/pairs/mini"), Path("results/distillation/0/small")
TASKS = ("numerals", "words", "ioi", "facts")
DEVICE = torch.device("cpu")
SWEPT, ROWS, DIRECTIONS, THRESHOLD = 96, 128, 3, 0.20
"""Prompts of sweeps and prunings, rows of a pass, eigenvectors of an MLP, pruning's threshold."""
CHANGES = ({}, {"influence": "clamp_max", "over": "components"}, {"heads": "output"}, {"heads": "cka"})
"""One part of the released score as printed or as recommended."""


@dataclass(frozen=True)
class Side:
    """One model on one task: a lens, all prompts, and what was stored of all prompts and of the first `SWEPT`."""

    place: Path
    model: str
    lens: HookLens
    prompts: PromptTensors
    record: ModelRecord
    few: ModelRecord


def side_of(task: str, model: str) -> Side:
    """Read a model's side of a task."""
    place = PAIR / task
    prompts = prompt_tensors(place / "prompts.json", model, DEVICE)
    lens = HookLens(load_model(PAIR / model, DEVICE), prompts.read_at)
    files = place / "influence.h5", place / "activations.h5"
    return Side(place, model, lens, prompts, *(stored_record(*files, model, number) for number in (None, SWEPT)))


def ablations(side: Side) -> tuple[list[str], dict[str, Array]]:
    """Ablate every component in five ways, and in the released code's ways what it calls heads; also return drops."""
    lens, some = side.lens, side.prompts.rows(0, SWEPT)
    mean = corrupted_means(side.place / "activations.h5", side.model, DEVICE)
    everywhere = (part.mean(2, keepdim=True).expand_as(part).contiguous() for part in (mean.z, mean.mlp_out))
    ways = {"corrupted_mean": constant(mean), "one vector": constant(Values(*everywhere))}
    ways |= {kind: replacement(lens, kind, side.prompts, 64) for kind in ("clean_mean", "zero", "resample")}
    sweeps = {name: influence_sweep(lens, some, way, ROWS) for name, way in ways.items()}
    left = {name: retained_percent(*map(to_numpy, (s.unablated, s.ablated))) for name, s in sweeps.items()}
    lines = []
    for name, values in left.items():
        drop, (low, high) = mean_clipped_drop(values)
        lines.append(f"{name}: {drop:.2f} [{low:.2f}, {high:.2f}] %, {_ranks(values, left['corrupted_mean'])}")
    heads = side.record.is_head
    zeroed = left["zero"][heads]
    lines.append(f"heads, z zero: {clipped_drop(zeroed).mean():.2f} %")
    for name, found in _released_heads(lens, some).items():
        last = np.abs(100 - found[-lens.dimensions.heads :]).max()
        lines.append(f"{name} zero: {clipped_drop(found).mean():.2f} %, {_ranks(found, zeroed)}, last layer {last:.2g}")
        left[name] = left["zero"].copy()
        left[name][heads] = found
    return lines, {name: 100 - values for name, values in left.items()}


def _released_heads(lens: HookLens, prompts: PromptTensors) -> dict[str, Array]:
    """Return what is left (head,) without a position, a slice or a channel of what attention adds to the stream."""

    def left(*place: object) -> Array:
        changes = [[(("attn_out", layer), _zeroing(place))] for layer in range(lens.dimensions.layers)]
        values = [logit_differences(lens.run(prompts.ids, edits), prompts).mean() for edits in ([], *changes)]
        return 100 * np.array(values[1:]) / float(values[0])

    heads, size = range(lens.dimensions.heads), lens.dimensions.d_head
    found = {
        "position h": [left(slice(None), head) for head in heads],
        "slice of channels": [left(..., slice(head * size, (head + 1) * size)) for head in heads],
        "channel h": [left(..., head) for head in heads],
    }
    return {name: np.stack(values, 1).ravel() for name, values in found.items()}


def _zeroing(place: tuple[object, ...]) -> Change:
    def change(activation: torch.Tensor) -> torch.Tensor:
        activation = activation.clone()
        activation[place] = 0
        return activation

    return change


def circuits(side: Side) -> Iterator[str]:
    """Yield what nodes cost in the circuit and from the full model, circuits by other rules, edges left untested."""
    names = [f"{side.model}/{name}" for name in ("full", "only_circuit", "without_node")]
    full, only, without = read_arrays(side.place / "evaluation.h5", "evaluation/1", names)
    nodes = [Component.parse(node) for node in read_json(side.place / "circuit.json", "circuit/2")[side.model]["nodes"]]
    drops = 100 - retained_percent(side.record.unablated, side.record.ablated)
    alone = dict(zip(side.lens.components, drops, strict=True))
    inside, outside = 100 * (only.mean() - without.mean(1)) / full.mean(), np.array([alone[node] for node in nodes])
    yield f"{(inside < 20).sum()} of {len(nodes)} nodes cost less than 20 points inside, {(outside < 20).sum()} alone"
    inside, outside = (part[[node.head is not None for node in nodes]] for part in (inside, outside))
    yield f"their heads: {inside.mean():.2f} points inside, {outside.mean():.2f} alone, {_ranks(inside, outside)}"
    some = side.prompts.rows(0, SWEPT)
    mean = constant(corrupted_means(side.place / "activations.h5", side.model, DEVICE))
    sets, nested = (NodeSets(side.lens, some, mean, ROWS, nested_over=over) for over in (None, some.corrupted))
    large = [component for component, drop in alone.items() if drop >= 20]
    usual, other = (set(prune_nodes(which, THRESHOLD).nodes) for which in (sets, nested))
    share = 100 / sets.differences(()).mean()
    keep, over, least = (share * part.mean() for part in (sets.only(usual), nested.only(usual), sets.only(large)))
    yield f"{len(large)} components cost 20 % alone and keep {least:.1f} %"
    both = f"pruned with them {len(other)} nodes, Jaccard index {len(usual & other) / len(usual | other):.2f}"
    yield f"{SWEPT} prompts: {len(usual)} nodes keep {keep:.1f} %, with nested means {over:.1f} %; {both}"
    names, kept = read_arrays(
        side.place / "edges.h5", "edges/1", [f"{side.model}/{name}" for name in ("edges", "kept")]
    )
    edges = [Edge.parse(name) for name, keep in zip(names, kept, strict=True) if keep]
    same = [e for e in edges if e.part == "mlp" and e.sender.head is not None and e.sender.layer == e.receiver.layer]
    yield f"{len(same)} of {len(edges)} kept edges run from a head to the MLP of its layer"


@torch.no_grad()
def prompts_and_tokens(sides: tuple[Side, Side]) -> Iterator[str]:
    """Yield what selection by the teacher, other distractors and an end token in front do to the logit difference."""
    teacher, student = (side.record.unablated for side in sides)
    best = np.argsort(-teacher)[: len(teacher) // 2]
    gaps = [(teacher[rows] - student[rows]).mean() for rows in (slice(None), best)]
    yield f"teacher less student {gaps[0]:.2f}, on the half that the teacher is surest of {gaps[1]:.2f}"
    for side in sides:
        asked, rows = side.prompts, torch.arange(len(side.prompts))
        logits, answers = side.lens.run(asked.ids), asked.answers
        twice = logits[rows, answers] > logits[rows, asked.distractors] + np.log(2)
        kept = int((twice & (logits.argmax(-1) == answers)).sum())
        others = answers[torch.from_numpy(np.random.default_rng(0).integers(len(rows), size=len(rows)))]
        untyped = (logits[rows, answers] - logits[rows, others])[others != answers].mean()
        end = torch.full_like(asked.ids[:, :1], side.lens.model.config.eos_token_id)
        begun = logit_differences(side.lens.run(torch.cat([end, asked.ids], 1)), asked).mean()
        values = f"{logit_differences(logits, asked).mean():.2f}, against others' answers {untyped:.2f}"
        yield f"{side.model}: {kept} of {len(rows)} selected; {values}, behind an end token {begun:.2f}"


def scores(sides: tuple[Side, Side], drops: list[dict[str, Array]]) -> Iterator[str]:
    """Yield the released score with one part changed, and the named ones under other ablations and samples."""
    records, few = [side.record for side in sides], [side.few for side in sides]
    whole, first = (_similarities(part, equal_weights(len(part[0].unablated))) for part in (records, few))
    for parts in CHANGES:
        yield f"released {parts or ''}: {aligned(whole, replace(RELEASED, **parts)).score.score[0]:.3f}"
    for name in drops[0]:
        values = [_score(variant, first, [part[name][None] for part in drops])[0] for variant in PRESETS.values()]
        yield f"influence by {name}: " + ", ".join(map("{} {:.3f}".format, PRESETS, values))
    order = np.random.default_rng(0).permuted(np.tile(np.arange(len(records[0].unablated)), (40, 1)), axis=1)
    found, other = (_similarities(records, (order // 100 == part).astype(np.float32) / 100) for part in (0, 1))
    for name, variant in PRESETS.items():
        same, apart = (_score(variant, found, [drawn.teacher.drop, drawn.student.drop]) for drawn in (found, other))
        yield f"{name}, 100 prompts: sd {same.std(ddof=1):.4f}; by 100 others {np.abs(apart - same).mean():.4f}"


def _similarities(records: list[ModelRecord], weights: Array) -> Similarities:
    return Similarities(*(Summary(record, weights, DIRECTIONS) for record in records))


def _score(variant: Variant, found: Similarities, drops: list[Array]) -> Array:
    kinds = found.teacher.record.is_head, found.student.record.is_head
    return match_and_score(
        tuple(drops), kinds, found.heads(variant.heads), found.mlps(variant.mlps), variant
    ).score.score


def mlps(sides: tuple[Side, Side]) -> Iterator[str]:
    """Yield which student MLP is each teacher MLP's partner, by seven readings of their similarity."""
    outputs = [side.record.mlp_out.swapaxes(0, 1) for side in sides]
    found = _similarities([side.record for side in sides], equal_weights(outputs[0].shape[1]))
    single = np.array([_by_token([part[:, [row]] for part in outputs]) for row in range(24)])
    uncentred = direction_similarity(found.teacher.uncentred_directions[0], found.student.uncentred_directions[0])
    printed = found.mlps("directions")[0]
    readings = {"directions (printed)": printed, "the same, uncentred": uncentred}
    readings |= {"signed mean (released)": found.mlps("signed_mean")[0], "tokens of the first prompt": single[0]}
    readings |= {"tokens": _by_token(outputs), "CKA": found.mlps("cka")[0]}
    readings["tokens, mean removed"] = _by_token([part - part.mean((1, 2), keepdims=True) for part in outputs])
    for name, values in readings.items():
        yield f"MLPs, {name}: partners {values.argmax(1)}, {(values > 0.6).sum()} above 0.6, {_ranks(values, printed)}"
    yield f"one of 24 prompts against all: at most {np.abs(single - readings['tokens']).max():.3f}"


def _by_token(outputs: list[Array]) -> Array:
    """Return mean cosines (teacher MLP, student MLP) of outputs (mlp, prompt, pos, d_model) at the same token."""
    teacher, student = map(unit, outputs)
    return np.array([[(one * other).sum(-1).mean() for other in student] for one in teacher])


def mappings(path: Path) -> Iterator[str]:
    """Yield how many teacher heads circuit distillation aligns with, by each reading of the impact."""
    stored = read_json(path, "mapping/3")
    impacts, heads = [], []
    for side in (stored["student"], stored["teacher"]):
        rows = [HeadImpact(**{**row, "head": Component.parse(row["head"])}) for row in side["heads"]]
        impacts.append(ModelImpacts(side["accuracy"], side["log_probability"], tuple(rows)))
        heads.append([Component.parse(head) for head in side["circuit"]])
    for kind in ("ratio", "impact", "impact_own"):
        pairs = map_by_impact(*impacts, *heads, kind=kind)
        yield f"{kind}: {pairs.distinct_teachers} of {len(heads[1])} teacher heads, {pairs.tied} student heads tied"


def _ranks(values: Array, others: Array) -> str:
    return f"rank correlation {spearmanr(values.ravel(), others.ravel())[0]:.2f}"


def main() -> None:
    """Print everything, task by task."""
    torch.set_num_threads(1)
    for task in TASKS:
        sides = tuple(side_of(task, model) for model in MODELS)
        lines, drops = zip(*map(ablations, sides), strict=True)
        print(f"\n== {task}")
        for side, own in zip(sides, lines, strict=True):
            print(*(f"{side.model}: {line}" for line in [*own, *circuits(side)]), sep="\n")
        print(*prompts_and_tokens(sides), *scores(sides, list(drops)), *mlps(sides), sep="\n")
    for path in sorted(STORIES.glob("*/mapping.json")):
        print(f"\n== {path.parent.name}", *mappings(path), sep="\n")


if __name__ == "__main__":
    main()
