"""Stage `heads`: which heads play a role, by where they attend, and what the task loses without them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from distilled_circuits.artifacts import HDF5Writer, read_arrays, read_json, write_hdf5, write_json
from distilled_circuits.comparison.scores import baseline_problem, retained_percent
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.loading import choose_device
from distilled_circuits.models.reading import load_reader
from distilled_circuits.progress import track
from distilled_circuits.roles.cells import Placed, Role, roles_of
from distilled_circuits.roles.detectors import Verdict, best_head, role_scores, verdict
from distilled_circuits.stages.inputs import hook_lens, prompt_tensors, to_numpy
from distilled_circuits.stages.job import MODELS, Job
from distilled_circuits.stages.positions import placed, placed_prompts
from distilled_circuits.statistics import bootstrap_weights, weighted_ratio
from distilled_circuits.tasks.encoding import encode_prompts
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.prompt import spread
from distilled_circuits.tasks.registry import TASKS

HEADS = ("layer", "head")


def run(job: Job) -> None:
    """Write every head's score in every role with its null, mean patterns, and the best head of each role."""
    settings = job.param("heads")
    device = choose_device(job.param("device"))
    usual = {model: placed_prompts(job.input("prompts"), model) for model in MODELS}
    scattered = _spread_prompts(job)
    prompts = scattered or {model: placed.first(settings.prompts) for model, placed in usual.items()}
    common = [roles_of(prompts[model]) for model in MODELS]
    roles = {name: role for name, role in common[0].items() if name in common[1]}
    seeds = {"prompts, shuffled positions, bootstrap": settings.seed}
    content: dict[str, Any] = {}
    with (
        write_hdf5(job.output("heads"), job.provenance("heads/1", device=device, seeds=seeds)) as out,
        track(len(MODELS) * len(roles), f"{job.name} roles") as progress,
    ):
        out.put("role", np.array(list(roles), dtype=str), ("role",))
        for model in MODELS:
            for name, role in roles.items():
                cells = role.cells(usual[model]).mean(0).astype(np.float32)
                out.put(f"{model}/cells/{name}", cells, ("query_pos", "key_pos"))
            (patterns,) = read_arrays(job.input("activations"), "activations/1", [f"{model}/pattern"])
            out.put(f"{model}/mean_pattern", patterns.mean(0), (*HEADS, "query_pos", "key_pos"))
            lens = hook_lens(job, model, prompt_tensors(job.input("prompts"), model, device), device)
            patterns = _patterns(lens, prompts[model], settings.batch_size)
            found = _judge(patterns, prompts[model], roles, settings, progress.advance)
            _write(out, model, found)
            cost = _Cost(job, model)
            content[model] = {name: _entry(roles[name].title, found[name], cost) for name in roles}
    provenance = job.provenance("roles_played/1", device=device, seeds=seeds)
    told = {"prompts": len(prompts["teacher"].ids), "scattered": scattered is not None}
    write_json(job.output("roles_played"), provenance, {**told, **content})


def _spread_prompts(job: Job) -> dict[str, Placed] | None:
    """Return prompts of the task with filler words at random places, for each model in its own tokens.

    In the task's own prompts all that plays a role stands at one place, and a head that looks for it cannot be told
    from one that looks there. Returns None where that cannot be had: the task is read from a file, or a tokenizer reads
    such prompts as tokens of unequal number.
    """
    if not read_json(job.input("prompts"), "prompts/3")["generated"]:
        return None
    settings = job.param("heads")
    rng = random.Random(settings.seed)
    lexicon = load_lexicon(job.input("lexicon"))
    made = TASKS[job.item["task"]].prompts(lexicon, settings.prompts, rng)
    made = [spread(prompt, lexicon.fillers, settings.fillers, rng) for prompt in made]
    try:
        return {model: placed(encode_prompts(made, load_reader(job.input(model), f"the {model}"))) for model in MODELS}
    except UserError:
        return None


@torch.no_grad()
def _patterns(lens: HookLens, prompts: Placed, batch_size: int) -> np.ndarray:
    """Return attention patterns (prompt, layer, head, query, key)."""
    layers = range(lens.dimensions.layers)
    parts = []
    for ids in torch.from_numpy(prompts.ids).to(lens.device).split(batch_size):
        _, cache = lens.cache(ids, [("pattern", layer) for layer in layers])
        parts.append(to_numpy(torch.stack([cache["pattern", layer] for layer in layers], dim=1)))
    return np.concatenate(parts)


def _judge(
    patterns: np.ndarray, prompts: Placed, roles: Mapping[str, Role], settings: Any, advance: Callable[[], None]
) -> dict[str, Verdict]:
    # The patterns themselves say whether a model looks ahead.
    causal = not np.triu(patterns[0], k=1).any()
    verdicts = {}
    for name, role in roles.items():
        # A generator for each role: its null does not depend on which other roles a task has.
        rng = np.random.default_rng(settings.seed)
        scores = role_scores(patterns, role.cells(prompts), settings.shuffles, rng, causal=causal)
        verdicts[name] = verdict(scores, settings.minimum, settings.level)
        advance()
    return verdicts


def _write(out: HDF5Writer, model: str, verdicts: dict[str, Verdict]) -> None:
    for key in ("score", "expected", "excess", "shuffled_p", "outlier", "plays"):
        values = np.array([getattr(found, key) for found in verdicts.values()])
        out.put(f"{model}/{key}", values, ("role", *HEADS))
    out.put(f"{model}/chance", np.array([found.chance for found in verdicts.values()]), ("role",))


class _Cost:
    """What the task loses without a head: alone, and within the circuit."""

    def __init__(self, job: Job, model: str) -> None:
        settings = job.param("heads")
        names, self.unablated, self.ablated = read_arrays(
            job.input("influence"), "influence/2", [f"{model}/{key}" for key in ("components", "unablated", "ablated")]
        )
        self.names = list(names)
        self.nodes = read_json(job.input("circuit"), "circuit/2")[model]["nodes"]
        rng = np.random.default_rng(settings.seed)
        self.weights = bootstrap_weights(len(self.unablated), settings.resamples, rng).astype(float)
        self.evaluation = read_arrays(
            job.input("evaluation"),
            "evaluation/1",
            [f"{model}/{key}" for key in ("full", "only_circuit", "without_node")],
        )
        self.meaningless = baseline_problem(self.unablated)

    def alone(self, head: str) -> dict[str, Any] | None:
        """Return the change in percent when the head alone is ablated, and its rank among heads, 1 costing most."""
        if self.meaningless:
            return None
        index = self.names.index(head)
        change = 100 * (self.ablated[index] - self.unablated)
        retained = retained_percent(self.unablated, self.ablated)
        heads = [row for row, name in enumerate(self.names) if Component.parse(name).head is not None]
        rank = 1 + int((retained[heads] < retained[index]).sum())
        return {**weighted_ratio(change, self.unablated, self.weights), "rank": rank, "of": len(heads)}

    def in_circuit(self, head: str) -> dict[str, Any] | None:
        """Return the change in points of the full logit difference when the head leaves the circuit (DC Table 1)."""
        if self.meaningless or head not in self.nodes:
            return None
        full, only, without = self.evaluation
        return weighted_ratio(100 * (without[self.nodes.index(head)] - only), full, self.weights)


def _entry(title: str, found: Verdict, cost: _Cost) -> dict[str, Any]:
    """Return what is said of one role in one model; `plays` is false where no head stands out from the null."""
    layer, head = best_head(found)
    name = str(Component(layer, head))
    players = [str(Component(int(one), int(other))) for one, other in zip(*np.nonzero(found.plays), strict=True)]
    # Attention is not importance: of the heads that look there, the one that the task misses most.
    costs = {player: cost.alone(player) for player in players}
    measured = {player: found for player, found in costs.items() if found}
    costliest = min(measured, key=lambda player: measured[player]["value"], default=None)
    return {
        "title": title,
        "plays": bool(found.plays.any()),
        "best": name,
        "score": float(found.score[layer, head]),
        "chance": found.chance,
        "expected": float(found.expected[layer, head]),
        "excess": float(found.excess[layer, head]),
        "shuffled_p": float(found.shuffled_p[layer, head]),
        "outlier": float(found.outlier[layer, head]),
        "alone": cost.alone(name),
        "in_circuit": cost.in_circuit(name),
        "all": players,
        "costliest": costliest and {"head": costliest, "alone": measured[costliest]},
    }
