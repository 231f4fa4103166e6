"""Own tasks: prompts that a person wrote, one JSON object a line."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from distilled_circuits.errors import UserError
from distilled_circuits.tasks.prompt import Prompt, Span, last_word
from distilled_circuits.tasks.text_files import read_lines

TEXTS = ("prompt", "corrupted", "answer", "distractor")
"""The keys that every line must have; each is a text."""
POSITIONS = "positions"
"""The key that a line may have."""
SET_BY_READER = "last"
"""The role that every prompt has: its last word, where the answer is read."""


def read_own(path: Path) -> list[Prompt]:
    """Return the prompts of a file of JSON lines; blank lines are skipped, a byte order mark is accepted.

    Each line is an object with the texts `prompt`, `corrupted`, `answer` and `distractor`. The answer is what follows
    the prompt behind one space, which neither of them contains. `positions` names what stands where in `prompt`:

        {"prompt": "Van done in 1. Hat done in 2. Sun done in", "answer": "3", "distractor": "2",
         "corrupted": "Van done in 7. Hat done in 4. Sun done in",
         "positions": {"subject": "Sun", "numerals": ["1", [27, 28]]}}

    A position is one place or a list of places. A place is a text that the prompt contains exactly once, or
    `[start, end]`: characters counted from 0, `end` the first one behind it. All lines have the same positions with
    the same number of places. `last`, the last word of the prompt, is added to each.

    Raises UserError for the first mistake, a line that begins `PATH:LINE:` and says what to do.
    """
    prompts: list[Prompt] = []
    lines: dict[str, int] = {}
    for number, line in read_lines(path):
        source = f"{path}:{number}"
        prompt = _prompt(_object(line, source), source)
        if prompt.clean in lines:
            _fail(source, f"the same prompt stands in line {lines[prompt.clean]}: leave one of them out")
        lines[prompt.clean] = number
        if prompts:
            _check_roles(prompt, prompts[0])
        prompts.append(prompt)
    return prompts


def _fail(source: str, what: str) -> NoReturn:
    raise UserError(f"{source}: {what}")


def _object(line: str, source: str) -> dict[str, Any]:
    """Return the object of a line, all its keys known, none missing or given twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = next((key for key, times in Counter(key for key, _ in pairs).items() if times > 1), None)
        if twice is not None:
            _fail(source, f"the key {twice!r} stands there twice: leave one of them out")
        return dict(pairs)

    try:
        found = json.loads(line, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        _fail(source, f"not JSON, column {error.colno}: {error.msg}; every line is one whole object")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        _fail(source, f"not JSON that can be read: {error}")
    if not isinstance(found, dict):
        _fail(source, f"found {_short(found)}, allowed: an object with the keys {', '.join(TEXTS)}")
    missing = [key for key in TEXTS if key not in found]
    unknown = [key for key in found if key not in (*TEXTS, POSITIONS)]
    if unknown:
        _fail(source, f"unknown key {unknown[0]!r}, allowed: {', '.join((*TEXTS, POSITIONS))}")
    if missing:
        _fail(source, f"the key {missing[0]!r} is missing: every line needs {', '.join(TEXTS)}")
    return found


def _prompt(row: dict[str, Any], source: str) -> Prompt:
    clean, corrupted, answer, distractor = (_text(row, key, source) for key in TEXTS)
    for key, text in (("prompt", clean), ("corrupted", corrupted)):
        if text != text.rstrip():
            _fail(source, f"{key} ends in white space: take it away, the answer is read behind a space of its own")
    for key, text in (("answer", answer), ("distractor", distractor)):
        if text != text.strip():
            read = f" {text.strip()}"
            _fail(
                source, f"{key} {text!r} begins or ends with white space: take it away, it is read as {read!r} anyhow"
            )
    if answer == distractor:
        _fail(source, f"answer and distractor are both {answer!r}: their logits are compared, so give two")
    if clean == corrupted:
        _fail(source, "prompt and corrupted are the same text: change in corrupted what the answer depends on")
    roles = _roles(row.get(POSITIONS, {}), clean, source)
    return Prompt(clean, corrupted, answer, distractor, roles | {SET_BY_READER: (last_word(clean),)}, source=source)


def _short(value: Any) -> str:
    """Return a value as it is shown in a message, at most 60 characters of it."""
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _text(row: dict[str, Any], key: str, source: str) -> str:
    text = row[key]
    if not isinstance(text, str):
        _fail(source, f"{key}: found {_short(text)}, allowed: a text in quotes")
    if not text.strip():
        _fail(source, f"{key} is empty: write a text there")
    if re.search("[\ud800-\udfff]", text):
        _fail(source, f"{key} has half of a surrogate pair, which is no character: write the character itself")
    return text


def _roles(positions: Any, clean: str, source: str) -> dict[str, tuple[Span, ...]]:
    if not isinstance(positions, dict):
        _fail(source, f"positions: found {_short(positions)}, allowed: an object of names with places")
    roles = {}
    for name, places in positions.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            _fail(source, f"position {name!r}: a name has letters, digits and _ only, and begins with no digit")
        if name == SET_BY_READER:
            _fail(source, f"position {name!r} is the last word of every prompt: leave it out, or take another name")
        if places == []:
            _fail(source, f"position {name!r} has no place: give one or leave the name out")
        listed = places if isinstance(places, list) and not _are_offsets(places) else [places]
        roles[name] = tuple(_span(place, clean, f"{source}: position {name!r}") for place in listed)
    return roles


def _are_offsets(place: Any) -> bool:
    # True and False are numbers to Python, but nobody's offsets.
    return isinstance(place, list) and len(place) == 2 and all(type(offset) is int for offset in place)


def _span(place: Any, clean: str, where: str) -> Span:
    """Return the span of one place; `where` is what a message begins with."""
    if _are_offsets(place):
        start, end = place
        if not 0 <= start < end <= len(clean):
            _fail(where, f"{place} is outside of the prompt or empty, allowed: 0 <= start < end <= {len(clean)}")
        if clean[start:end] != clean[start:end].strip():
            _fail(where, f"{place} is {clean[start:end]!r}, which begins or ends with white space: leave that out")
        return start, end
    if not isinstance(place, str) or not place.strip():
        _fail(where, f"found {_short(place)}, allowed: a text of the prompt, [start, end], or a list of these")
    if place != place.strip():
        _fail(where, f"{place!r} begins or ends with white space: leave that out")
    starts = [match.start() for match in re.finditer(f"(?={re.escape(place)})", clean)]
    if not starts:
        _fail(where, f"{place!r} is not in the prompt: write it as it stands there")
    if len(starts) > 1:
        spans = ", ".join(str([start, start + len(place)]) for start in starts)
        _fail(where, f"{place!r} is in the prompt {len(starts)} times: give the characters of one, such as {spans}")
    return starts[0], starts[0] + len(place)


def _check_roles(prompt: Prompt, first: Prompt) -> None:
    """Compare the positions of a prompt with the first one's: arrays over all prompts need the same ones."""
    line = first.source.rpartition(":")[2]
    if prompt.roles.keys() != first.roles.keys():
        found, expected = (_names(p.roles) for p in (prompt, first))
        _fail(prompt.source, f"positions are {found}, but in line {line} {expected}: give every line the same ones")
    for name, spans in prompt.roles.items():
        number = len(first.roles[name])
        if len(spans) != number:
            _fail(
                prompt.source,
                f"position {name!r} has {len(spans)} places, but in line {line} {number}: give every line as many",
            )


def _names(roles: dict[str, Any]) -> str:
    return ", ".join(sorted(roles.keys() - {SET_BY_READER})) or "none"
