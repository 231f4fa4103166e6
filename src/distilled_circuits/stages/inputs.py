"""Stored artifacts as the tensors and arrays that the core works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilled_circuits.artifacts import read_arrays, read_json
from distilled_circuits.circuits.ablation import PromptTensors, Replacement, Values, constant, replacement
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.interface import Lens
from distilled_circuits.lens.self_check import self_check
from distilled_circuits.models.loading import load_model
from distilled_circuits.stages.job import Job


def prompt_records(path: Path, model: str) -> list[dict[str, Any]]:
    """Return the prompts of a `prompts` artifact as `teacher` or `student` reads them."""
    return read_json(path, "prompts/3")["prompts"][model]


def prompt_tensors(path: Path, model: str, device: torch.device, number: int | None = None) -> PromptTensors:
    """Return the first `number` prompts (all by default) of a `prompts` artifact in a model's tokens."""
    return record_tensors(prompt_records(path, model)[:number], device)


def record_tensors(records: Sequence[Mapping[str, Any]], device: torch.device) -> PromptTensors:
    """Return encoded prompts as tensors."""

    def column(key: str) -> torch.Tensor:
        return torch.tensor([record[key] for record in records], device=device)

    (read_at,) = {record["read_at"] for record in records}
    return PromptTensors(column("ids"), column("answer_id"), column("distractor_id"), column("corrupted_ids"), read_at)


def corrupted_means(path: Path, model: str, device: torch.device) -> Values:
    """Return the means over corrupted prompts of `teacher` or `student` from an `activations` artifact."""
    z, mlp_out = read_arrays(path, "activations/1", [f"{model}/corrupted_mean/z", f"{model}/corrupted_mean/mlp_out"])
    return Values(torch.from_numpy(z).to(device)[:, None], torch.from_numpy(mlp_out).to(device)[:, None])


def replacement_of(path: Path, model: str, kind: str, lens: Lens, prompts: PromptTensors) -> Replacement:
    """Return what a kind of ablation puts in place: the means of an `activations` artifact, or what the model gives."""
    if kind == "corrupted_mean":
        return constant(corrupted_means(path, model, lens.device))
    return replacement(lens, kind, prompts, batch_size=64)


def hook_lens(job: Job, model: str, prompts: PromptTensors, device: torch.device) -> HookLens:
    """Return a checked lens on `teacher` or `student` that reads where the prompts are answered."""
    lens = HookLens(load_model(job.input(model), device), prompts.read_at)
    self_check(lens)
    return lens


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor's values as float32 in main memory."""
    return tensor.detach().float().cpu().numpy()
