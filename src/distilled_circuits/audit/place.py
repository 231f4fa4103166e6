"""An artifact among its neighbours: what invariants may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilled_circuits.audit.store import Arrays, Store
from distilled_circuits.lens.architectures import architecture_of
from distilled_circuits.lens.components import Component, all_components
from distilled_circuits.stages.collect import shape_of


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model, from its config.json."""

    architecture: str
    layers: int
    heads: int
    d_head: int
    d_model: int
    vocabulary: int
    key_value_heads: int

    @property
    def components(self) -> list[Component]:
        """All components in the order of arrays."""
        return all_components(self.layers, self.heads)

    @property
    def axes(self) -> dict[str, int]:
        """Lengths of the axes that the model decides."""
        return {
            "layer": self.layers,
            "mlp": self.layers,
            "head": self.heads,
            "d_head": self.d_head,
            "d_model": self.d_model,
            "component": self.layers * (self.heads + 1),
        }

    @property
    def causal(self) -> bool:
        """Whether attention looks back only."""
        return architecture_of(self.architecture).causal

    @property
    def additive(self) -> bool:
        """Whether the stream is the sum of what blocks write: norms stand before, not after, the additions."""
        return not architecture_of(self.architecture).post_ln


@dataclass(frozen=True)
class Place:
    """One artifact with its parameters, and the paths of its inputs and item, which say what stands beside it."""

    path: Path
    store: Store
    inputs: Mapping[str, Path]
    item: Mapping[str, Any]

    @property
    def arrays(self) -> Arrays:
        """The artifact's own datasets."""
        return self.store.arrays(self.path)

    @property
    def json(self) -> dict[str, Any]:
        """The artifact's own content."""
        return self.store.json(self.path)

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters that the artifact says it was made with, by dotted name."""
        return self.store.provenance(self.path)["params"]

    def beside(self, name: str) -> Path:
        """Return a file of the artifact's folder."""
        return self.path.parent / name

    def arrays_of(self, name: str) -> Arrays:
        """Return the datasets of another artifact of the same folder, or of an input by its stem."""
        return self.store.arrays(self.inputs.get(name, self.beside(f"{name}.h5")))

    def json_of(self, name: str) -> dict[str, Any]:
        """Return another JSON artifact of the same folder, or an input by its stem."""
        return self.store.json(self.inputs.get(name, self.beside(f"{name}.json")))

    def sizes(self, model: str) -> Sizes:
        """Return the sizes of a model among the inputs by its stem; of a pair's if it stands a folder above."""
        return model_sizes(self.store.config(self.inputs.get(model, self.path.parent.parent / model)))

    def exact(self, model: str) -> bool:
        """Whether a model computes in float32, so that two ways to one number agree."""
        config = self.store.config(self.inputs.get(model, self.path.parent.parent / model))
        return (config.get("dtype") or config.get("torch_dtype") or "float32") == "float32"

    def prompts(self, model: str) -> list[dict[str, Any]]:
        """Return the task's prompts as a model reads them."""
        return self.json_of("prompts")["prompts"][model]

    def axes(self, model: str, most: int | None = None) -> dict[str, int]:
        """Return lengths of axes that a model and the task's prompts (at most so many) decide."""
        prompts = self.prompts(model)
        number = len(prompts) if most is None else min(most, len(prompts))
        return {**self.sizes(model).axes, "prompt": number, "pos": len(prompts[0]["ids"])}


def model_sizes(config: Mapping[str, Any]) -> Sizes:
    """Return the sizes that a config.json says."""
    shape = shape_of(dict(config))
    heads, width = shape["heads"], shape["width"]
    return Sizes(
        architecture=shape["architecture"],
        layers=shape["layers"],
        heads=heads,
        d_head=config.get("head_dim") or width // heads,
        d_model=width,
        vocabulary=config["vocab_size"],
        key_value_heads=config.get("num_key_value_heads") or heads,
    )
