"""CausalToM (Prakash et al. 2025) from its published files: who believes that what is in which container."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilled_circuits.errors import UserError
from distilled_circuits.tasks.prompt import FIELD, Prompt, Span, compose, fill, last_word
from distilled_circuits.tasks.text_files import read_json
from distilled_circuits.tasks.theory_of_mind import ALL_QUESTIONS, UNKNOWN, Question

DRAWN = 2048
"""Prompts that are drawn; a run uses the first so many of one length."""
TWO_STORIES = (8, 4, 4)
"""Characters, containers and contents of two stories that have none in common."""
CONTEXT = ("container_1", "container_2", "state_1", "state_2")
"""Fields that a context has exactly once; characters may occur more often."""
CHARACTERS = tuple(f"character_{n}" for n in (1, 2, 3, 4))
ASKED = ("character_q", "container_q")
THIRD = "<container_3>"
VISIBILITY = re.compile(r"\{character_(\d)\} (can|cannot) observe \{character_(\d)\}'s actions")


@dataclass(frozen=True)
class Template:
    """A story and its question with fields in braces; `seen` has (asker, owner) where asker sees what owner does."""

    context: str
    question: str
    seen: frozenset[Question]
    source: str

    def knows(self, question: Question) -> bool:
        """Whether the asked character (0 or 1) filled the container of `owner` itself or saw it being filled."""
        asker, owner = question
        return asker == owner or question in self.seen


@dataclass(frozen=True)
class Names:
    """What a story is about: four characters of whom the first two act, two containers and what is in them."""

    characters: tuple[str, ...]
    containers: tuple[str, ...]
    states: tuple[str, ...]


def read_causal_tom(paths: Sequence[Path], rng: random.Random) -> list[Prompt]:
    """Return different prompts, up to 2048; templates take turns, and within them the four questions.

    `paths` are four published files: `story_templates.json`, an object whose `templates` are a list of objects with
    `context` and `question`, and three lists of words: characters, containers (`bottles.json`), and what is filled into
    them (`drinks.json`). In templates `<character_1>` fills `<container_1>` with `<state_1>`, `<character_2>` likewise;
    `<character_q>` and `<container_q>` are asked for. Templates with a third container are skipped. Who sees whom is
    read from `<character_1> can observe <character_2>'s actions`; nobody sees anything else.

    The prompt is `Story: ...`, `Question: ...`, `Answer:`, each on its line. The published instruction stands in their
    code, not in this file: copied into it as `instruction` beside `templates` (that key is ours), it goes in front.

    The answer is the content or `unknown`, the distractor the other of the two. The corrupted prompt tells the same
    template of other characters, containers and contents; it asks what is known where the prompt asks what is not,
    and the other way round (their pair of answerable and unanswerable questions). Raises UserError that names the file
    and the template, counted from 1.
    """
    templates_path, *word_paths = paths
    templates, instruction = _templates(templates_path)
    words = [_words(path, number) for path, number in zip(word_paths, TWO_STORIES, strict=True)]
    prompts: dict[str, Prompt] = {}
    for n in range(DRAWN):
        template = templates[n % len(templates)]
        question = ALL_QUESTIONS[n // len(templates) % len(ALL_QUESTIONS)]
        prompt = _prompt(template, question, _draw(words, rng), instruction, rng)
        prompts.setdefault(prompt.clean, prompt)
    return list(prompts.values())


def _draw(words: Sequence[Sequence[str]], rng: random.Random) -> tuple[Names, Names]:
    """Draw two stories that have nothing in common: four characters, two containers, two contents each."""
    characters, containers, states = (tuple(rng.sample(kind, n)) for kind, n in zip(words, TWO_STORIES, strict=True))
    return Names(characters[:4], containers[:2], states[:2]), Names(characters[4:], containers[2:], states[2:])


def _prompt(
    template: Template, question: Question, stories: Sequence[Names], instruction: str, rng: random.Random
) -> Prompt:
    names, others = stories
    known = template.knows(question)
    opposite = [other for other in ALL_QUESTIONS if template.knows(other) != known]
    clean, roles = _told(template, question, names, instruction)
    # Where everybody sees everything there is no opposite question; the contents differ in any case.
    corrupted, _ = _told(template, rng.choice(opposite or ALL_QUESTIONS), others, instruction)
    content = names.states[question[1]]
    answer, distractor = (content, UNKNOWN) if known else (UNKNOWN, content)
    return Prompt(clean, corrupted, answer, distractor, roles | {"last": (last_word(clean),)}, source=template.source)


def _told(
    template: Template, question: Question, names: Names, instruction: str
) -> tuple[str, dict[str, tuple[Span, ...]]]:
    asker, owner = question
    values: dict[str, Any] = dict(zip(CHARACTERS, names.characters, strict=True))
    for n, (container, state) in enumerate(zip(names.containers, names.states, strict=True)):
        values[f"container_{n + 1}"] = (container, "containers" + " context_container" * (n == owner))
        values[f"state_{n + 1}"] = (state, "contents" + " context_content" * (n == owner))
    values["character_q"] = (names.characters[asker], "asker")
    values["container_q"] = (names.containers[owner], "question_container")
    story, asked = fill(template.context, values), fill(template.question, values)
    return compose([instruction, "Story: ", *story, "\nQuestion: ", *asked, "\nAnswer:"])


def _templates(path: Path) -> tuple[list[Template], str]:
    """Return the templates with two containers, and the instruction with the blank line behind it, or nothing."""
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("templates"), list):
        raise UserError(f"{path}: allowed: an object with a list of `templates`, as published")
    instruction = found.get("instruction", "")
    if not isinstance(instruction, str):
        raise UserError(f"{path}: instruction must be a text")
    templates = [
        _template(row, f"{path}: template {number}")
        for number, row in enumerate(found["templates"], 1)
        if THIRD not in str(row)
    ]
    if not templates:
        raise UserError(f"{path}: no template with two containers")
    return templates, f"Instruction: {instruction.strip()}\n\n" if instruction.strip() else ""


def _template(row: Any, source: str) -> Template:
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("context", "question")):
        raise UserError(f"{source}: allowed: an object with the texts `context` and `question`")
    context, question = (re.sub(r"<(\w+)>", r"{\1}", row[key].strip()) for key in ("context", "question"))
    for key, text, once, often in (("context", context, CONTEXT, CHARACTERS), ("question", question, ASKED, ())):
        fields = FIELD.findall(text)
        wrong = [field for field in once if fields.count(field) != 1]
        unknown = [field for field in fields if field not in (*once, *often)]
        if wrong or unknown:
            said = f"<{wrong[0]}> must stand there once" if wrong else f"<{unknown[0]}> is no known field"
            raise UserError(f"{source}: {key}: {said}")
    sentences = VISIBILITY.findall(context)
    # A wording that we do not know must not pass for blindness: the answer would be wrong.
    if context.count("observe") != len(sentences):
        raise UserError(f"{source}: who sees whom must read `<character_1> can observe <character_2>'s actions`")
    seen = frozenset((int(who) - 1, int(whom) - 1) for who, verb, whom in sentences if verb == "can")
    return Template(context, question, seen, source)


def _words(path: Path, least: int) -> list[str]:
    words = read_json(path)
    if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
        raise UserError(f"{path}: allowed: a list of words, as published")
    different = list(dict.fromkeys(word.strip() for word in words))
    if len(different) < least:
        raise UserError(f"{path}: {len(different)} different words, but two stories without a common one need {least}")
    return different
