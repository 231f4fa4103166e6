"""Prompts with the positions that roles are defined by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distilled_circuits.roles.cells import Placed
from distilled_circuits.stages.inputs import prompt_records


def placed_prompts(path: Path, model: str) -> Placed:
    """Return the clean prompts of a `prompts` artifact in a model's tokens, with their named positions."""
    return placed(prompt_records(path, model))


def placed(records: Sequence[Mapping[str, Any]]) -> Placed:
    """Return encoded prompts with their named positions."""
    positions = {name: np.array([record["positions"][name] for record in records]) for name in records[0]["positions"]}
    return Placed(np.array([record["ids"] for record in records]), positions)
