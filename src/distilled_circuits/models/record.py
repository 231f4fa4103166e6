"""model.json: what a model directory says of the model's origin and training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilled_circuits.artifacts import Provenance, replacing, to_json
from distilled_circuits.models.loading import save_model
from distilled_circuits.models.training import Evaluation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def write_model(
    path: Path,
    provenance: Provenance,
    origin: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    log: Sequence[Evaluation],
    *,
    source: Mapping[str, str] | None = None,
    reading: Mapping[str, Any] | None = None,
) -> None:
    """Write a model directory with its model.json, whole or not at all.

    `source` says where a model was brought in from, `reading` how it reads prompts where that is not the usual way.
    """
    with replacing(path) as folder:
        record = model_record(provenance, origin, save_model(model, tokenizer, folder), log)
        record |= {"source": dict(source or {}), "reading": dict(reading or {})}
        (folder / "model.json").write_text(to_json(record), encoding="utf-8")


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
    asked = "unseen prompts (facts: memorised ones)" if "facts" in evaluation.accuracy else "unseen prompts"
    return f"{label}: accuracy on {asked} after {evaluation.step} steps: {accuracies}\n"
