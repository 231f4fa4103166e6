"""Prompts with the positions that roles are defined by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distilled_circuits.artifacts import read_json
from distilled_circuits.roles.cells import Placed


def placed_prompts(path: Path) -> Placed:
    """Return the clean prompts of a `prompts` artifact with their named positions."""
    return placed(read_json(path, "prompts/2")["prompts"])


def placed(records: Sequence[Mapping[str, Any]]) -> Placed:
    """Return encoded prompts with their named positions."""
    positions = {name: np.array([record["positions"][name] for record in records]) for name in records[0]["positions"]}
    return Placed(np.array([record["ids"] for record in records]), positions)
