"""What alignment reads of a model, from stored artifacts: no model is loaded."""

from __future__ import annotations

from pathlib import Path

from distilled_circuits.artifacts import open_hdf5, read_arrays
from distilled_circuits.comparison.representations import ModelRecord


def stored_record(influence: Path, activations: Path, model: str, number: int | None = None) -> ModelRecord:
    """Return the record of `teacher` or `student` on the first `number` prompts (all by default)."""
    unablated, ablated = read_arrays(influence, "influence/2", [f"{model}/unablated", f"{model}/ablated"])
    with open_hdf5(activations, "activations/1") as file:
        stored = file[model]
        return ModelRecord(
            unablated=unablated[:number],
            ablated=ablated[:, :number],
            z=stored["z"][:number],
            output_weights=stored["output_weights"][()],
            mlp_out=stored["mlp_out"][:number],
            pattern=stored["pattern"][:number],
            # The first entry of `residual` is the embedding; the others are the stream behind each block.
            stream=stored["residual"][:number, 1:].mean(2) if "residual" in stored else None,
            read_at=int(stored["read_at"][()]),
        )


def component_names(influence: Path, model: str) -> list[str]:
    """Return the names of a model's components in their order."""
    (names,) = read_arrays(influence, "influence/2", [f"{model}/components"])
    return list(names)
