"""Stage `circuit`: prune both models to the nodes that carry the task, and say what the circuits are worth."""

from __future__ import annotations

from typing import Any

from distilled_circuits.artifacts import write_json
from distilled_circuits.circuits.evaluation import evaluate_circuit
from distilled_circuits.circuits.pruning import NoCircuitError, Pruned, prune_nodes
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.self_check import self_check
from distilled_circuits.models.loading import choose_device, load_model
from distilled_circuits.progress import track
from distilled_circuits.stages.inputs import corrupted_means, prompt_tensors
from distilled_circuits.stages.job import MODELS, Job


def run(job: Job) -> None:
    """Write nodes, the trace of decisions, and the logit differences with only and without the circuit."""
    settings = job.param("circuit")
    device = choose_device(job.param("device"))
    prompts = prompt_tensors(job.input("prompts"), device)
    content: dict[str, Any] = {}
    for name in MODELS:
        lens = HookLens(load_model(job.input(name), device))
        self_check(lens)
        means = corrupted_means(job.input("activations"), name, device)
        # How many sweeps pruning takes is not known in advance; three is what it usually does.
        with track(3 * len(lens.components), f"{job.name} visits, {name}") as progress:

            def note(state: str, progress=progress) -> None:  # noqa: ANN001
                progress.note(state)
                progress.advance()

            try:
                pruned = prune_nodes(lens, prompts, means, settings.threshold, settings.batch_size, note)
                why_none = None
            except NoCircuitError as error:
                # A finding about this model, not a mistake: the paper's own student is at it on two tasks.
                pruned, why_none = Pruned((), ()), str(error)
        values = evaluate_circuit(lens, prompts, means, pruned.nodes, settings.batch_size)
        content[name] = {
            **_describe(pruned),
            "why_none": why_none,
            "logit_difference": {
                "full": values.full.tolist(),
                "only_circuit": values.only_circuit.tolist(),
                "without_circuit": values.without_circuit.tolist(),
            },
        }
    write_json(job.output("circuit"), job.provenance("circuit/1", device=device), content)


def _describe(pruned: Pruned) -> dict[str, Any]:
    return {
        "nodes": [str(node) for node in pruned.nodes],
        "trace": [
            {
                "sweep": decision.sweep,
                "direction": decision.direction,
                "component": str(decision.component),
                "retained": decision.retained,
                "removed": decision.removed,
            }
            for decision in pruned.trace
        ],
    }
