"""Prompts as token ids: one answer token, one length, roles as token positions, or an error that names the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distilled_circuits.errors import UserError
from distilled_circuits.tasks.prompt import Prompt, Span


def encode_prompts(prompts: Sequence[Prompt], tokenizer: Any, name: str) -> list[dict[str, Any]]:
    """Return a record for each prompt: texts, tokens, ids, answer and distractor ids, and positions by role.

    Prompts with choices also get the choices' ids and their kind.

    `tokenizer` is a fast Hugging Face tokenizer, `name` what errors call it. No special tokens are added: scores are
    taken without a beginning-of-text token. A role's span is the token in which it ends. Raises UserError when an
    answer is not exactly one known token, or when the prompts differ in length.
    """
    known: dict[str, int] = {}
    records = [_encode(prompt, tokenizer, name, known) for prompt in prompts]
    first = len(records[0]["ids"])
    for record in records:
        for key in ("ids", "corrupted_ids"):
            if len(record[key]) != first:
                raise UserError(
                    f"prompts of different lengths: {records[0]['clean']!r} has {first} tokens of {name}, "
                    f"{record['clean' if key == 'ids' else 'corrupted']!r} has {len(record[key])}; "
                    "all prompts of a task need one "
                    "length, because means are taken position by position: reword or drop the others"
                )
    return records


def _encode(prompt: Prompt, tokenizer: Any, name: str, known: dict[str, int]) -> dict[str, Any]:
    def word_id(word: str) -> int:
        if word not in known:
            known[word] = _one_token(prompt, word, tokenizer, name)
        return known[word]

    clean = tokenizer(prompt.clean, add_special_tokens=False, return_offsets_mapping=True)
    corrupted = tokenizer(prompt.corrupted, add_special_tokens=False)
    offsets = clean["offset_mapping"]
    record = {
        "clean": prompt.clean,
        "corrupted": prompt.corrupted,
        "answer": prompt.answer,
        "distractor": prompt.distractor,
        "tokens": [prompt.clean[start:end].strip() for start, end in offsets],
        "ids": clean["input_ids"],
        "corrupted_ids": corrupted["input_ids"],
        "answer_id": word_id(prompt.answer),
        "distractor_id": word_id(prompt.distractor),
        "positions": {
            role: [_token_at(span, offsets, prompt, role) for span in spans]
            for role, spans in sorted(prompt.roles.items())
        },
    }
    if prompt.choices:
        record |= {"choice_ids": [word_id(word) for word in prompt.choices], "kind": prompt.kind}
    return record


def _one_token(prompt: Prompt, word: str, tokenizer: Any, name: str) -> int:
    """Return the id of a word as it follows the prompt, after a space."""
    ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        pieces = tokenizer.convert_ids_to_tokens(ids)
        raise UserError(
            f"the answer {word!r} of the prompt {prompt.clean!r} is not one token of {name}: it becomes {pieces}; "
            "choose another answer or tokenizer"
        )
    return ids[0]


def _token_at(span: Span, offsets: Sequence[Span], prompt: Prompt, role: str) -> int:
    for position, (start, end) in enumerate(offsets):
        if start < span[1] <= end:
            return position
    raise UserError(f"the role {role!r} at characters {span} of {prompt.clean!r} falls on no token")
