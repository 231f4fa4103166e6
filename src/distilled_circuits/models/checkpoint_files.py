"""The files of a checkpoint: which are needed, whether weights are whole, how many parameters they have."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from huggingface_hub import errors
from huggingface_hub.hf_api import SafetensorsFileMetadata, parse_local_safetensors_file_metadata

from distilled_circuits.artifacts import read_plain_json
from distilled_circuits.errors import UserError

CONFIG = "config.json"
TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model")
SETTINGS = ("tokenizer_config.json", "merges.txt", "special_tokens_map.json", "added_tokens.json")
WEIGHTS = {"model.safetensors": "model*-of-*.safetensors", "pytorch_model.bin": "pytorch_model*-of-*.bin"}
"""Weights in one file, and the pattern of their shards: transformers takes the first that is there, so do we."""
NO_WEIGHTS = "no weights that transformers loads (model.safetensors, pytorch_model.bin, or their shards and index)"
BUFFERS = (".attn.bias", ".attn.masked_bias", ".position_ids")
"""Ends of keys that old checkpoints store beside weights and no model needs."""
OTHER_HEADS = ("bert.pooler.", "cls.seq_relationship.")
"""Beginnings of keys that a BERT as it was trained has for another task than words behind a mask."""


def check_weights(folder: Path) -> None:
    """Raise UserError when a directory has no weights, lacks a shard that its index names, or has a file cut short.

    Only headers are read. Pickled weights (`.bin`) have none: that they are there is all that is checked, and
    `torch.load(weights_only=True)`, which transformers uses, fails on a damaged one.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such directory: mend `local` in params.yaml")
    names = names_in(folder)
    files = weight_files(names)
    if not files:
        raise UserError(f"{folder}: {NO_WEIGHTS}")
    if files[0].endswith(".index.json"):
        try:
            missing = sorted(set(map(str, read_plain_json(folder / files[0])["weight_map"].values())) - set(names))
        except (KeyError, TypeError, AttributeError, ValueError):
            raise UserError(f"{folder / files[0]}: it does not say which shard a weight is in") from None
        if missing:
            raise UserError(f"{folder / missing[0]}: missing, though {files[0]} names it: fetch or copy it again")
    local_parameters(folder, files)  # reads every header


def weight_files(names: Collection[str]) -> list[str]:
    """Return the weights among a checkpoint's files, an index before its shards; [] when there are none."""
    for whole, shards in WEIGHTS.items():
        if whole in names:
            return [whole]
        if f"{whole}.index.json" in names:
            return [f"{whole}.index.json", *sorted(name for name in names if fnmatchcase(name, shards))]
    return []


def needed_files(names: Collection[str]) -> list[str]:
    """Return configuration, tokenizer and weights among a checkpoint's files, the weights last."""
    patterns = (CONFIG, *TOKENIZERS, *SETTINGS)
    small = [name for name in sorted(names) if any(fnmatchcase(name, pattern) for pattern in patterns)]
    return small + weight_files(names)


def names_in(folder: Path) -> list[str]:
    """Return the names of the files of a directory; [] when there is none."""
    return [file.name for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []


def read_header(path: Path) -> SafetensorsFileMetadata:
    """Return the header of a safetensors file; raise UserError when the file is not as long as it says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
    if first == b"version ":
        raise UserError(f"{path}: a Git LFS pointer, not the weights: run `git lfs pull` in its repository")
    try:
        header = parse_local_safetensors_file_metadata(path)
        last = max((tensor.data_offsets[1] for tensor in header.tensors.values()), default=0)
        end = 8 + int.from_bytes(first, "little") + last
    except (errors.SafetensorsParsingError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise UserError(f"{path}: truncated, or no safetensors file ({size} bytes): fetch or copy it again") from None
    if size != end:
        what = "truncated" if size < end else "damaged"
        raise UserError(f"{path}: {what}: its header promises {end} bytes, it has {size}: fetch or copy it again")
    return header


def count(headers: Iterable[SafetensorsFileMetadata]) -> int:
    """Return how many parameters headers describe, without old buffers."""
    tensors = (item for header in headers for item in header.tensors.items())
    return sum(
        tensor.parameter_count
        for name, tensor in tensors
        if not name.endswith(BUFFERS) and not name.startswith(OTHER_HEADS)
    )


def local_parameters(folder: Path, weights: Iterable[str]) -> int | None:
    """Return how many parameters the safetensors among `weights` have, None for pickles; UserError if cut short."""
    return count(read_header(folder / name) for name in weights if name.endswith(".safetensors")) or None
