"""Prompts as token ids: one answer token, one length, roles as token positions, or an error that names the prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distilled_circuits.errors import UserError
from distilled_circuits.tasks.prompt import Prompt, Span

READ_OUT = "last"
"""The role of the place where the answer is read: every encoded prompt has it."""
Record = dict[str, Any]
"""A prompt as one model reads it: texts, tokens, ids and positions, as in the artifact `prompts`."""


@dataclass(frozen=True)
class Reader:
    """How a model reads prompts.

    `tokenizer` is a fast Hugging Face tokenizer, `name` what errors call it. A causal model is given the text, behind a
    beginning-of-text token if `begins` is set, and answers at its end. A `masked` one is given text, mask and
    `after_mask` between its special tokens, and answers at the mask. `longest` is how many tokens it can read.
    """

    tokenizer: Any
    name: str
    masked: bool = False
    begins: bool = False
    after_mask: str = ""
    longest: int | None = None


@dataclass(frozen=True)
class AnswerForm:
    """What token stands for an answer: after a `space` or not, and one that is all of it or the `first` of several."""

    first_token: bool = False
    space: bool = True


WORD = AnswerForm()
"""One token, after a space."""


def encode_prompts(prompts: Sequence[Prompt], reader: Reader, form: AnswerForm = WORD) -> list[Record]:
    """Return a record for each prompt: texts, tokens, ids, answer and distractor ids, and positions by role.

    `read_at` counts the position of the answer from the end. A role's span is the token in which it ends. Prompts with
    choices also get the choices' ids and their kind. Raises UserError when an answer has not the form, or when the
    prompts differ in length.
    """
    known: dict[str, list[int]] = {}
    records = [_encode(prompt, reader, known, form) for prompt in prompts]
    for prompt, record in zip(prompts, records, strict=True):
        _check_length(prompt, record, records[0], reader)
    return records


def encode_alike(
    prompts: Sequence[Prompt], readers: Sequence[Reader], number: int, form: AnswerForm = WORD
) -> tuple[list[list[Record]], dict[str, int]]:
    """Return for each reader the records of the first `number` prompts that all can read, and why others were left out.

    Left out are prompts with an answer that is not one token or with unknown words, then all that have not the most
    frequent lengths. Means are taken position by position, so prompts must be of one length; which length is the
    tokenizers' affair.
    """
    known: list[dict[str, list[int]]] = [{} for _ in readers]
    kept, left_out = [], Counter()
    for prompt in prompts:
        try:
            found = [_encode(prompt, *each, form) for each in zip(readers, known, strict=True)]
        except UserError:
            left_out["words that are unknown, or an answer that is not one token of its own"] += 1
            continue
        lengths = tuple(len(record[key]) for record in found for key in ("ids", "corrupted_ids"))
        if lengths[0::2] != lengths[1::2]:
            left_out["clean and corrupted prompt differ in length"] += 1
        else:
            kept.append((lengths, found))
    usual = Counter(lengths for lengths, _ in kept).most_common(1)[0][0] if kept else ()
    alike = [found for lengths, found in kept if lengths == usual]
    chosen = alike[:number]
    left_out["not of the most frequent length"] = len(kept) - len(alike)
    records = [[found[index] for found in chosen] for index in range(len(readers))]
    return records, {reason: count for reason, count in left_out.items() if count}


def _check_length(prompt: Prompt, record: Record, first: Record, reader: Reader) -> None:
    for key, text in (("ids", "clean"), ("corrupted_ids", "corrupted")):
        if len(record[key]) != len(first["ids"]):
            raise UserError(
                f"{_place(prompt)}prompts of different lengths: {first['clean']!r} has {len(first['ids'])} tokens of "
                f"{reader.name}, {record[text]!r} has {len(record[key])}; all prompts of a task need one length, "
                "because means are taken position by position: reword or drop the others"
            )


def _encode(prompt: Prompt, reader: Reader, known: dict[str, list[int]], form: AnswerForm) -> Record:
    words = (prompt.answer, prompt.distractor, *prompt.choices)
    for word in words:
        if word not in known:
            text = f" {word}" if form.space else word
            known[word] = reader.tokenizer(text, add_special_tokens=False)["input_ids"]
    lead = _shared_space([known[word] for word in words], reader.tokenizer)
    ids = {word: _answer_id(prompt, word, known[word][len(lead) :], reader, form) for word in words}
    if ids[prompt.answer] == ids[prompt.distractor]:
        raise UserError(
            f"{_place(prompt)}answer {prompt.answer!r} and distractor {prompt.distractor!r} begin with the same token "
            f"of {reader.name}: choose another distractor"
        )
    clean, offsets, read_at = _text(prompt.clean, lead, reader)
    corrupted, places, _ = _text(prompt.corrupted, lead, reader)
    _check_known(prompt, prompt.clean, clean, offsets, reader)
    _check_known(prompt, prompt.corrupted, corrupted, places, reader)
    length = max(len(clean), len(corrupted))
    if reader.longest is not None and length > reader.longest:
        raise UserError(
            f"{_place(prompt)}the prompt {prompt.clean!r} has {length} tokens of {reader.name}, but the model reads at "
            f"most {reader.longest}: shorten it"
        )
    shift = int(not reader.masked and reader.begins)
    places = {
        role: [_token_at(span, offsets, prompt, role) + shift for span in spans]
        for role, spans in prompt.roles.items()
        if role != READ_OUT
    }
    record = {
        "clean": prompt.clean,
        "corrupted": prompt.corrupted,
        "answer": prompt.answer,
        "distractor": prompt.distractor,
        "tokens": _tokens(prompt.clean, clean, offsets, shift, reader),
        "ids": clean,
        "corrupted_ids": corrupted,
        "answer_id": ids[prompt.answer],
        "distractor_id": ids[prompt.distractor],
        "read_at": read_at,
        "positions": dict(sorted({**places, READ_OUT: [len(clean) + read_at]}.items())),
    }
    if prompt.choices:
        record |= {"choice_ids": [ids[word] for word in prompt.choices], "kind": prompt.kind}
    return record


def _text(text: str, lead: list[int], reader: Reader) -> tuple[list[int], Sequence[Span], int]:
    """Return token ids, their spans in the text, and where the answer is read, from the end."""
    tokenizer = reader.tokenizer
    if reader.masked:
        encoded = tokenizer(f"{text} {tokenizer.mask_token}{reader.after_mask}", return_offsets_mapping=True)
        ids = encoded["input_ids"]
        if ids.count(tokenizer.mask_token_id) != 1:
            raise UserError(f"{text!r} has a mask of its own: the answer is read at the one that is put behind it")
        return ids, encoded["offset_mapping"], ids.index(tokenizer.mask_token_id) - len(ids)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    begin = [tokenizer.bos_token_id] if reader.begins else []
    return [*begin, *encoded["input_ids"], *lead], encoded["offset_mapping"], -1


def _check_known(prompt: Prompt, text: str, ids: list[int], offsets: Sequence[Span], reader: Reader) -> None:
    """Raise UserError for a word that the tokenizer does not know: the model would read a stand-in for it."""
    # A beginning that we put there may be the same token: GPT-2 has one for everything.
    own = ids[int(not reader.masked and reader.begins) :]
    if reader.tokenizer.unk_token_id in own:
        start, end = offsets[own.index(reader.tokenizer.unk_token_id)]
        raise UserError(
            f"{_place(prompt)}{reader.name} does not know {text[start:end]!r} of {text!r}: take other words"
        )


def _shared_space(words: Sequence[list[int]], tokenizer: Any) -> list[int]:
    """Return the tokens of white space that all answers begin with.

    Some tokenizers keep a space apart from a numeral: it then belongs to the prompt, whichever the answer is.
    """
    lead: list[int] = []
    for column in zip(*words, strict=False):
        if len(set(column)) > 1 or tokenizer.decode(column[0]).strip() or tokenizer.unk_token_id in column:
            break
        lead.append(column[0])
    return lead


def _answer_id(prompt: Prompt, word: str, ids: list[int], reader: Reader, form: AnswerForm) -> int:
    """Return the token of a word as it follows the prompt."""
    tokenizer = reader.tokenizer
    several, unknown = len(ids) > 1 and not form.first_token, tokenizer.unk_token_id
    if not ids or several or ids[0] == unknown or not tokenizer.decode(ids[0]).strip():
        pieces = tokenizer.convert_ids_to_tokens(ids)
        raise UserError(
            f"{_place(prompt)}the answer {word!r} of the prompt {prompt.clean!r} is not one token of {reader.name}: it "
            f"becomes {pieces}; choose another answer or tokenizer"
        )
    return ids[0]


def _tokens(text: str, ids: list[int], offsets: Sequence[Span], shift: int, reader: Reader) -> list[str]:
    """Return what each token shows: the piece of text, or a special token's name where there is none."""
    names = reader.tokenizer.convert_ids_to_tokens(ids)
    spans = [(0, 0)] * shift + [*offsets]
    spans += [(0, 0)] * (len(ids) - len(spans))
    return [text[start:end].strip() or name for (start, end), name in zip(spans, names, strict=True)]


def _token_at(span: Span, offsets: Sequence[Span], prompt: Prompt, role: str) -> int:
    for position, (start, end) in enumerate(offsets):
        if start < span[1] <= end:
            return position
    raise UserError(f"{_place(prompt)}the role {role!r} at characters {span} of {prompt.clean!r} falls on no token")


def _place(prompt: Prompt) -> str:
    return f"{prompt.source}: " if prompt.source else ""
