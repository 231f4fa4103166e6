"""How a model on disk reads prompts: from its configuration, its tokenizer, and what its model.json says of it."""

from __future__ import annotations

from pathlib import Path

from distilled_circuits.artifacts import read_plain_json
from distilled_circuits.errors import UserError
from distilled_circuits.lens.architectures import architecture_of
from distilled_circuits.models.loading import load_config, load_tokenizer
from distilled_circuits.tasks.encoding import Reader


def load_reader(folder: Path, name: str) -> Reader:
    """Return how the model in a directory reads prompts; `name` is what errors call it.

    Raises UserError when its tokenizer lacks the token that it needs: a mask, or the beginning of a text.
    """
    tokenizer = load_tokenizer(folder)
    config = load_config(folder)
    masked = not architecture_of(config.model_type).causal
    said = read_plain_json(folder / "model.json").get("reading", {})
    if masked and tokenizer.mask_token_id is None:
        raise UserError(
            f"{folder}: the tokenizer has no mask token, but the model answers at one: save it with mask_token"
        )
    if said.get("begins") and tokenizer.bos_token_id is None:
        raise UserError(f"{folder}: the tokenizer has no beginning-of-text token: set begins to false in params.yaml")
    longest = getattr(config, "max_position_embeddings", None)
    return Reader(
        tokenizer, f"{name}'s tokenizer", masked, said.get("begins", False), said.get("after_mask", ""), longest
    )
