"""Invariants of model directories: files as listed, weights that can be read and fit config.json, a sane log."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from distilled_circuits.audit.expect import holds, same, within
from distilled_circuits.audit.findings import Wrong
from distilled_circuits.audit.place import Place, Sizes, model_sizes
from distilled_circuits.errors import UserError

RECORD = "model.json"


def model(at: Place) -> Iterator[Wrong]:
    """Hold a model directory of any origin against its own record."""
    record = at.json
    yield from files(at.path, record["files"])
    sizes = model_sizes(at.store.config(at.path))
    yield from weights(at.path, sizes, at.store.config(at.path))
    yield from training(record.get("training", []))


def files(folder: Path, listed: Mapping[str, str]) -> Iterator[Wrong]:
    """Require the files that model.json lists; their digests are held against it by the check of inputs."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {RECORD}
    yield from same("files", sorted(there), sorted(listed))


def weights(folder: Path, sizes: Sizes, config: Mapping[str, Any]) -> Iterator[Wrong]:
    """Every safetensors file can be read, its tensors fit the sizes of config.json and are finite."""
    layers, found = set(), 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                for name in file.keys():  # noqa: SIM118 - it is no dictionary
                    found += 1
                    yield from tensor(name, file, sizes, config)
                    layers |= {int(number) for number in re.findall(r"\.(?:h|layers?)\.(\d+)\.", f".{name}")}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path.name}: {error}") from None
    yield from holds("*.safetensors", found, "weights", "none")
    yield from same("layers with weights", sorted(layers), list(range(sizes.layers)))


def tensor(name: str, file: Any, sizes: Sizes, config: Mapping[str, Any]) -> Iterator[Wrong]:
    """One tensor has the shape that the sizes say, and finite values."""
    part = file.get_slice(name)
    shape = tuple(part.get_shape())
    for pattern, expected in shapes(sizes, config).items():
        if re.search(rf"(^|\.)({pattern})$", name):
            yield from same(f"{name}, shape", shape, expected)
    if part.get_dtype() in ("F16", "F32", "F64"):
        yield from holds(name, np.isfinite(file.get_tensor(name)).all(), "finite numbers", "NaN or infinity")


def shapes(sizes: Sizes, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return shapes of tensors by the end of their name, for the architectures that this project reads."""
    width, vocabulary = sizes.d_model, sizes.vocabulary
    all_heads, shared = sizes.heads * sizes.d_head, sizes.key_value_heads * sizes.d_head
    inner = config.get("n_inner") or config.get("intermediate_size") or config.get("hidden_dim") or 4 * width
    square = (width, width)
    known: dict[str, dict[str, tuple[int, ...]]] = {
        "gpt2": {
            r"wte\.weight": (vocabulary, width),
            r"attn\.c_attn\.weight": (width, 3 * width),
            r"attn\.c_proj\.weight": square,
            r"mlp\.c_fc\.weight": (width, inner),
            r"mlp\.c_proj\.weight": (inner, width),
        },
        "llama": {
            r"embed_tokens\.weight": (vocabulary, width),
            r"q_proj\.weight": (all_heads, width),
            r"[kv]_proj\.weight": (shared, width),
            r"o_proj\.weight": (width, all_heads),
            r"(gate|up)_proj\.weight": (inner, width),
            r"down_proj\.weight": (width, inner),
        },
        "bert": {
            r"word_embeddings\.weight": (vocabulary, width),
            r"self\.(query|key|value)\.weight": square,
            r"intermediate\.dense\.weight": (inner, width),
        },
        "distilbert": {
            r"word_embeddings\.weight": (vocabulary, width),
            r"attention\.(q|k|v|out)_lin\.weight": square,
            r"ffn\.lin1\.weight": (inner, width),
        },
    }
    return known.get(sizes.architecture, {})


def training(log: list[dict[str, Any]]) -> Iterator[Wrong]:
    """Require that steps rise, losses are not negative, and accuracies are shares."""
    steps = [entry["step"] for entry in log]
    yield from same("training, steps", steps, sorted(set(steps)))
    for index, entry in enumerate(log):
        yield from holds(
            f"training[{index}].loss", entry["loss"] is None or entry["loss"] >= 0, "a loss", entry["loss"]
        )
        yield from within(f"training[{index}].accuracy", list(entry["accuracy"].values()), 0, 1)


def output_weights(folder: Path, sizes: Sizes) -> np.ndarray | None:
    """Return W_O (layer, head, d_head, d_model) of a model in one float32 file of GPT-2's form; else None."""
    path = folder / "model.safetensors"
    if sizes.architecture != "gpt2" or not path.exists():
        return None
    with safe_open(path, framework="numpy") as file:
        names = [f"transformer.h.{layer}.attn.c_proj.weight" for layer in range(sizes.layers)]
        if not set(names) <= set(file.keys()) or file.get_slice(names[0]).get_dtype() != "F32":
            return None
        found = np.stack([file.get_tensor(name) for name in names])
    return found.reshape(sizes.layers, sizes.heads, sizes.d_head, sizes.d_model)
