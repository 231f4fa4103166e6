"""Sections of params.yaml on tasks: which are made here, which are read from files, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from distilled_circuits.param_models import SHA256
from distilled_circuits.param_types import Section

FOLDER = "data/tasks/"
LONGEST_TITLE = 80
"""Characters of a title; figures have it too, where two `$` begin and end a formula."""
Files = Annotated[list[str], Field(min_length=1, description=f"a list of files below {FOLDER}")]


class TaskFile(Section):
    """A task that is read from files; SHA-256 in their order, none at all or one for each.

    `space`: whether an answer is read as it stands after a space. `published_as` is the first paper's task whose own
    prompts these are: its numbers may then be compared.
    """

    format: Literal["jsonl", "lan2024", "simpleqa", "ioi", "causal_tom"]
    files: Files
    sha256: list[SHA256] = Field(default=[])
    title: str = ""
    space: bool = True
    published_as: Literal["", "numerals", "words"] = ""

    @model_validator(mode="after")
    def _files_fit(self) -> TaskFile:
        outside = [file for file in self.files if not file.startswith(FOLDER) or ".." in file]
        if outside:
            raise ValueError(f"files has {outside[0]!r}, allowed: files below {FOLDER}, where a change is noticed")
        if len(self.title) > LONGEST_TITLE or not (self.title.isprintable() and self.title.count("$") < 2):
            raise ValueError(f"title, allowed: at most {LONGEST_TITLE} characters, on one line, `$` at most once")
        if self.published_as and not (self.format == "lan2024" and self.sha256):
            raise ValueError("published_as, allowed: of the format lan2024 with sha256, which say that they are those")
        if self.sha256 and len(self.sha256) != len(self.files):
            raise ValueError(f"sha256 has {len(self.sha256)} entries, allowed: none, or one a file ({len(self.files)})")
        return self


def _kind(value: Any) -> str:
    return "in-words" if isinstance(value, str) else "in-files"


TaskSource = Annotated[
    Annotated[Literal["generated"], Tag("in-words")] | Annotated[TaskFile, Tag("in-files")], Discriminator(_kind)
]
