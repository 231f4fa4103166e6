"""SimpleQA (Wei et al. 2024): short questions, each with a wrong answer of the same type from another question."""

from __future__ import annotations

import ast
import csv
import io
import random
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from distilled_circuits.errors import UserError
from distilled_circuits.tasks.prompt import Prompt, last_word
from distilled_circuits.tasks.text_files import read_text

NEEDED = ("problem", "answer")
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
DATE = re.compile(rf"[12]\d{{3}}|.*\b({MONTHS})\b.*\d.*|\d.*\b({MONTHS})\b.*|\d{{4}}-\d\d-\d\d", re.DOTALL)
NUMBER = re.compile(r"[^\w\s]?\d.*", re.DOTALL)


@dataclass(frozen=True)
class Question:
    """A question of the file, its answer, the first word and the type of that, and the line where it begins.

    The first token of an answer counts; answers that begin with the same word cannot be told apart by it.
    """

    text: str
    answer: str
    first_word: str
    kind: str
    source: str


def read_simpleqa(path: Path, rng: random.Random) -> list[Prompt]:
    """Return a prompt for each question of a CSV file with the columns `problem`, `answer` and, if known, `metadata`.

    The prompt is the bare question. The distractor is the answer of another question, drawn from those whose answer has
    the same type and another first word; the corrupted prompt is that other question. The type is `answer_type` of the
    metadata; in a file without this column it is read off the answer: a date, a number, or another text. White space
    around questions and answers is taken away. Raises UserError that names file and line.
    """
    questions = _questions(path)
    groups: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        groups[question.kind].append(question)
    return [_prompt(question, groups[question.kind], rng) for question in questions]


def _prompt(question: Question, group: list[Question], rng: random.Random) -> Prompt:
    others = [other for other in group if other.first_word != question.first_word and other.text != question.text]
    if not others:
        raise UserError(
            f"{question.source}: no other answer of the type {question.kind!r} begins with another word than "
            f"{question.answer!r}, so there is no distractor: leave the question out or add others"
        )
    other = rng.choice(others)
    roles = {"last": (last_word(question.text),)}
    return Prompt(question.text, other.text, question.answer, other.answer, roles, source=question.source)


def _questions(path: Path) -> list[Question]:
    # Unterminated quotes would silently make one answer of the rest of the file; `strict` refuses them.
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    questions: list[Question] = []
    begins = 1
    try:
        columns = reader.fieldnames or ()
        missing = [column for column in NEEDED if column not in columns]
        if missing:
            raise UserError(f"{path}:1: no column {missing[0]!r}, needed: problem, answer; metadata where it is known")
        begins = reader.line_num + 1
        for row in reader:
            questions.append(_question(row, f"{path}:{begins}"))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{begins}: not CSV: {error}; quotes inside of quotes are doubled") from None
    if not questions:
        raise UserError(f"{path}:1: the file has no questions: it needs a line for each below the names of the columns")
    return questions


def _question(row: dict[str | None, str | None], source: str) -> Question:
    if None in row or None in row.values():
        raise UserError(f"{source}: another number of fields than the first line: put texts with commas in quotes")
    text, answer = (row[column].strip() for column in NEEDED)
    if not text or not answer:
        raise UserError(f"{source}: {'answer' if text else 'problem'} is empty: fill it or leave the line out")
    return Question(text, answer, answer.split()[0], _kind(row.get("metadata"), answer, source), source)


def _kind(metadata: str | None, answer: str, source: str) -> str:
    """Return the type of an answer: that of the metadata, which are a Python dictionary written as text."""
    if metadata is None:
        return "date" if DATE.fullmatch(answer) else "number" if NUMBER.fullmatch(answer) else "text"
    try:
        found = ast.literal_eval(metadata)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("answer_type"), str):
        raise UserError(f"{source}: metadata is no dictionary with a text for 'answer_type'")
    return found["answer_type"]
