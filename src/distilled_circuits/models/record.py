"""model.json: what a model directory says of the model's origin and training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from distilled_circuits.artifacts import Provenance
from distilled_circuits.models.training import Evaluation


def model_record(
    provenance: Provenance, origin: str, files: dict[str, str], log: Sequence[Evaluation]
) -> dict[str, Any]:
    """Return model.json's content: provenance, origin, the files' SHA-256, and the log of evaluations."""
    training = [
        {"step": entry.step, "loss": None if math.isnan(entry.loss) else entry.loss, "accuracy": entry.accuracy}
        for entry in log
    ]
    return {"provenance": asdict(provenance), "origin": origin, "files": files, "training": training}


def report_evaluation(label: str, evaluation: Evaluation) -> str:
    """Return one line with the accuracies at the end of training."""
    accuracies = ", ".join(f"{task} {accuracy:.3f}" for task, accuracy in evaluation.accuracy.items())
    return f"{label}: accuracy (facts: memorised, others: unseen prompts) after {evaluation.step} steps: {accuracies}\n"
