"""Stage `heads`: which heads play a role, by where they attend, and what the task loses without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distilled_circuits.artifacts import HDF5Writer, read_arrays, read_json, write_hdf5, write_json
from distilled_circuits.comparison.scores import baseline_problem, retained_percent
from distilled_circuits.lens.components import Component
from distilled_circuits.progress import track
from distilled_circuits.roles.cells import Placed, roles_of
from distilled_circuits.roles.detectors import Verdict, best_head, role_scores, verdict
from distilled_circuits.stages.job import MODELS, Job
from distilled_circuits.stages.positions import placed_prompts
from distilled_circuits.statistics import bootstrap_weights, weighted_ratio

HEADS = ("layer", "head")


def run(job: Job) -> None:
    """Write every head's score in every role with its null, mean patterns, and the best head of each role."""
    settings = job.param("heads")
    prompts = placed_prompts(job.input("prompts"))
    roles = roles_of(prompts)
    seeds = {"shuffled positions, bootstrap": settings.seed}
    content: dict[str, Any] = {}
    with (
        write_hdf5(job.output("heads"), job.provenance("heads/1", seeds=seeds)) as out,
        track(len(MODELS) * len(roles), f"{job.name} roles") as progress,
    ):
        out.put("role", np.array(list(roles), dtype=str), ("role",))
        for name, role in roles.items():
            cells = role.cells(prompts)
            out.put(f"cells/{name}", cells.mean(0).astype(np.float32), ("query_pos", "key_pos"))
        for model in MODELS:
            (patterns,) = read_arrays(job.input("activations"), "activations/1", [f"{model}/pattern"])
            out.put(f"{model}/mean_pattern", patterns.mean(0), (*HEADS, "query_pos", "key_pos"))
            verdicts = _judge(patterns, prompts, settings, progress.advance)
            _write(out, model, verdicts)
            cost = _Cost(job, model)
            content[model] = {name: _entry(roles[name].title, verdicts[name], cost) for name in roles}
    write_json(job.output("roles_played"), job.provenance("roles_played/1", seeds=seeds), content)


def _judge(patterns: np.ndarray, prompts: Placed, settings: Any, advance: Callable[[], None]) -> dict[str, Verdict]:
    # The patterns themselves say whether a model looks ahead.
    causal = not np.triu(patterns[0], k=1).any()
    verdicts = {}
    for name, role in roles_of(prompts).items():
        # A generator for each role: its null does not depend on which other roles a task has.
        rng = np.random.default_rng(settings.seed)
        scores = role_scores(patterns, role.cells(prompts), settings.shuffles, rng, causal=causal)
        verdicts[name] = verdict(scores, settings.minimum, settings.level)
        advance()
    return verdicts


def _write(out: HDF5Writer, model: str, verdicts: dict[str, Verdict]) -> None:
    for key in ("score", "excess", "shuffled_p", "outlier", "plays"):
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
    return {
        "title": title,
        "plays": bool(found.plays.any()),
        "best": name,
        "score": float(found.score[layer, head]),
        "chance": found.chance,
        "excess": float(found.excess[layer, head]),
        "shuffled_p": float(found.shuffled_p[layer, head]),
        "outlier": float(found.outlier[layer, head]),
        "alone": cost.alone(name),
        "in_circuit": cost.in_circuit(name),
        "all": [str(Component(int(one), int(other))) for one, other in zip(*np.nonzero(found.plays), strict=True)],
    }
