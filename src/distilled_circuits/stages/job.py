"""What a stage is given: exactly the inputs, parameters and outputs that dvc.yaml declares for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from distilled_circuits.artifacts import Provenance, digest, library_versions, read_plain_json

MODELS = ("teacher", "student")
"""The two models of a pair, in the order of every table and figure."""
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Job:
    """One stage for one item. Asking for what dvc.yaml does not declare is an error: DVC would not know of it."""

    name: str
    item: Mapping[str, Any]
    params: Mapping[str, Any]
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]

    def param(self, name: str) -> Any:
        """Return the validated section or value of params.yaml at a dotted name."""
        return self._declared("params", self.params, name)

    def input(self, name: str) -> Path:
        """Return an input by its file's stem: `prompts`, `activations`, `teacher`."""
        return self._declared("deps", self.inputs, name)

    def output(self, name: str) -> Path:
        """Return an output by its file's stem."""
        return self._declared("outs", self.outputs, name)

    def provenance(
        self,
        schema: str,
        *,
        device: object = "cpu",
        dtype: str = "float32",
        seeds: dict[str, Any] | None = None,
        read: Mapping[str, Sequence[Path]] | None = None,
    ) -> Provenance:
        """Return what the artifact is to say of itself; of models among its inputs, their origin and weights.

        `read` names, for an input that is a folder of many things, the files that were read of it: others are then no
        part of the artifact.
        """
        files = [file for name, path in self.inputs.items() for file in (read or {}).get(name, [path])]
        records = {name: path / "model.json" for name, path in self.inputs.items()}
        models = {name: read_plain_json(record) for name, record in records.items() if record.exists()}
        return Provenance(
            schema=schema,
            stage=self.name,
            params={name: _plain(value) for name, value in self.params.items()},
            inputs={str(path): digest(path) for path in files},
            device=str(device),
            dtype=dtype,
            seeds=seeds or {},
            models={
                name: {"origin": model["origin"], "weights": model["files"].get(WEIGHTS)}
                for name, model in models.items()
            },
            libraries=library_versions(),
        )

    def _declared(self, kind: str, values: Mapping[str, Any], name: str) -> Any:
        if name not in values:
            raise KeyError(f"{self.name} uses {name!r}, which its `{kind}` in dvc.yaml do not declare")
        return values[name]


def _plain(value: Any) -> Any:
    """Return a validated parameter as JSON can hold it."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.model_dump() if isinstance(value, BaseModel) else value
