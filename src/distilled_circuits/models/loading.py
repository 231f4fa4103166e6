"""Strict loading of checkpoints: what is missing on disk is an error, never a random weight."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging

from distilled_circuits.artifacts import digest
from distilled_circuits.errors import UserError
from distilled_circuits.lens.architectures import architecture_of
from distilled_circuits.models.checkpoint_files import BUFFERS, OTHER_HEADS

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def choose_device(wanted: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`; raise UserError when a GPU is demanded and there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("params.yaml: device is cuda, but torch finds no GPU: set device to auto or cpu")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        # The same inputs give the same bytes where CUDA has a repeatable kernel; it warns where it has none.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
    return torch.device(wanted)


def load_config(folder: Path) -> PretrainedConfig:
    """Return a model directory's configuration; raise UserError when it has none that can be read."""
    with _one_line(folder, "no loadable checkpoint"):
        # Where it is not said, transformers asks on the terminal whether to run Python code that the directory brings.
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_model(folder: Path, device: torch.device, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Load a model directory in evaluation mode with eager attention (patterns need it) and frozen weights.

    `dtype` is the type to compute in, that of the stored weights by default.
    Raises UserError when the directory is no checkpoint or does not fill the model: TransformerLens silences Hugging
    Face's own warning about that.
    """
    import transformers

    logging.disable_progress_bar()
    config = one_kernel_gelu(load_config(folder))
    hf_class = getattr(transformers, architecture_of(config.model_type).hf_class)
    with _one_line(folder, "no loadable checkpoint"):
        model, report = hf_class.from_pretrained(
            folder,
            config=config,
            dtype=dtype or "auto",
            attn_implementation="eager",
            output_loading_info=True,
            local_files_only=True,
        )
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        found = [str(key) for key in report[kind] if not str(key).endswith(BUFFERS)]
        wrong = sorted(key for key in found if kind != "unexpected_keys" or not key.startswith(OTHER_HEADS))
        if wrong:
            keys = ", ".join(wrong[:3])
            raise UserError(f"{folder}: the checkpoint does not fill the model, {kind.replace('_', ' ')}: {keys}")
    return model.to(device).eval().requires_grad_(requires_grad=False)


def one_kernel_gelu(config: PretrainedConfig) -> PretrainedConfig:
    """Give GPT-2's own approximation of GELU as one kernel in place of seven; the same function to rounding."""
    if getattr(config, "activation_function", None) == "gelu_new":
        config.activation_function = "gelu_pytorch_tanh"
    return config


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a model directory's tokenizer; raise UserError when it has none.

    Chat templates are left out: nothing here chats, and their names become names of files when it is saved.
    """
    with _one_line(folder, "no loadable tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer.chat_template = None
    return tokenizer


@contextmanager
def _one_line(folder: Path, what: str) -> Iterator[None]:
    """Turn whatever a damaged file makes transformers raise into one line; a lack of memory stays what it is."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - pickles, JSON, shapes and types each fail in a way of their own
        said = str(error).strip().splitlines() or [""]
        raise UserError(f"{folder}: {what} ({type(error).__name__}: {said[0]})") from None


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> dict[str, str]:
    """Write a model directory and return the SHA-256 of each of its files."""
    logging.disable_progress_bar()
    model.save_pretrained(folder, max_shard_size="1TB")  # one file, whatever its size
    tokenizer.save_pretrained(folder)
    return {name: digest(folder / name) for name in sorted(file.name for file in folder.iterdir())}
