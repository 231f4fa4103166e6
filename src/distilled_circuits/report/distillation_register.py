"""The register of the second paper: Tables 1 and 2 beside what our students of the same role do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distilled_circuits.report.register import Measured, register_row

SECOND_PAPER = "2509.25002"
ROLES = {"llama3-1b": "small", "llama3-3b": "large", "llama3-8b": None}
"""Students of the paper by the names of ours with the same role; the 8B model is the teacher."""
MODELS = {
    ("base", None): "base",
    ("goat", "ce"): "teacher",
    ("alpaca", "ce"): "teacher",
    ("full", "ce"): "ce_full",
    ("circuit", "ce"): "ce_circuit",
    ("circuit", "align"): "align_only",
    ("circuit", "ce+rand"): "ce_random",
    ("circuit", "ce+align"): "ce_aligned",
}
"""Rows of the paper's tables by the names of our conditions."""
KINDS = {"accuracy": "full", "circuit accuracy": "circuit"}


def distillation_register(
    published: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return one row for each number of the second paper: it, ours with its interval or None, and why.

    `results` has what `comparison` says of each student and task; of several teachers the first counts.
    """
    rows = []
    for entry in published:
        if entry["paper"] == SECOND_PAPER:
            measured = _measured(entry, results)
            verdict = (
                "other models altogether: shows what is computed, not evidence about Llama"
                if measured
                else "not measured in this run"
            )
            rows.append(register_row(entry, measured, verdict))
    return rows


def _measured(entry: dict[str, Any], results: Sequence[dict[str, Any]]) -> Measured:
    setting = entry["setting"]
    name = MODELS.get((setting["trained"], setting["loss"]))
    role = ROLES[setting["model"]]
    for found in results:
        same_task = found["of"]["task"] == setting["task"].replace(" ", "_")
        if same_task and role in (None, found["of"]["student"]) and name in found["models"]:
            return {key: found["models"][name][KINDS[entry["quantity"]]][key] for key in ("value", "interval95")}
    return None
