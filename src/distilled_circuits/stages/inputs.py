"""Stored artifacts as the tensors and arrays that the core works on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from distilled_circuits.artifacts import read_arrays, read_json
from distilled_circuits.circuits.ablation import Means, PromptTensors


def prompt_tensors(path: Path, device: torch.device, number: int | None = None) -> PromptTensors:
    """Return the first `number` clean prompts (all by default) of a `prompts` artifact."""
    records = read_json(path, "prompts/1")["prompts"][:number]

    def column(key: str) -> torch.Tensor:
        return torch.tensor([record[key] for record in records], device=device)

    return PromptTensors(column("ids"), column("answer_id"), column("distractor_id"))


def corrupted_ids(path: Path, device: torch.device) -> torch.Tensor:
    """Return the token ids (prompt, pos) of the corrupted prompts of a `prompts` artifact."""
    records = read_json(path, "prompts/1")["prompts"]
    return torch.tensor([record["corrupted_ids"] for record in records], device=device)


def corrupted_means(path: Path, model: str, device: torch.device) -> Means:
    """Return the means over corrupted prompts of `teacher` or `student` from an `activations` artifact."""
    z, mlp_out = read_arrays(path, "activations/1", [f"{model}/corrupted_mean/z", f"{model}/corrupted_mean/mlp_out"])
    return Means(torch.from_numpy(z).to(device), torch.from_numpy(mlp_out).to(device))


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor's values as float32 in main memory."""
    return tensor.detach().float().cpu().numpy()
