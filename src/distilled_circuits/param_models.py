"""Sections of params.yaml on the models of a pair: trained here, from the Hugging Face hub, or from a directory."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from distilled_circuits.param_types import Count, Distinct, Index, NotNegative, Positive, Section, TaskName

Architecture = Literal["gpt2", "llama", "bert", "distilbert"]
Dtype = Literal["float32", "bfloat16"]
SHA256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="64 hexadecimal digits, a SHA-256")]


class Training(Section):
    """How long and how fast a model is trained."""

    seed: Index
    steps: Count
    batch_size: Count
    learning_rate: Positive
    warmup: Count
    weight_decay: NotNegative
    text_weight: NotNegative
    evaluate_every: Count


class Shape(Training):
    """A model that is trained from scratch: its shape, and how."""

    layers: Count
    heads: Count
    width: Count
    initial_scale: Positive

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Shape:
        if self.width % self.heads:
            raise ValueError(f"heads is {self.heads}, allowed: a divisor of width ({self.width})")
        return self


class Scratch(Shape):
    """A model of a pair that is trained from scratch, on texts of the tasks by their weights."""

    architecture: Architecture
    mixture: Annotated[dict[TaskName, NotNegative], Field(min_length=1, description="weights by task")]
    key_value_heads: Count | None = None

    @model_validator(mode="after")
    def _fits_its_architecture(self) -> Scratch:
        if (self.key_value_heads is not None) != (self.architecture == "llama"):
            raise ValueError("key_value_heads, allowed: of a llama, which needs it, and of no other architecture")
        if self.key_value_heads and self.heads % self.key_value_heads:
            raise ValueError(f"key_value_heads is {self.key_value_heads}, allowed: a divisor of heads ({self.heads})")
        if not 0 < sum(self.mixture.values()) < math.inf:
            raise ValueError("mixture has no weight above 0, allowed: at least one")
        return self


class Distilled(Training):
    """A student that starts from some of its teacher's layers and is distilled from it."""

    architecture: Architecture
    layers: Annotated[list[Index], Distinct, Field(min_length=1, description="a list of teacher layers")]
    temperature: Positive
    kl_weight: NotNegative
    lm_weight: NotNegative


class _Stored(Section):
    """A model that somebody else has trained, and how it reads prompts."""

    dtype: Dtype = "float32"
    begins: bool = False
    after_mask: str = ""


class Hub(_Stored):
    """A model of the Hugging Face hub at a revision, best a commit hash: a branch may move."""

    hub: Annotated[
        str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$", description="a repository such as openai-community/gpt2")
    ]
    revision: Annotated[
        str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$", description="a commit's 40 digits, a branch or a tag")
    ]


class Local(_Stored):
    """A model directory on this machine; with the SHA-256 of its weights a change of them does not go unnoticed."""

    local: str
    sha256: SHA256 | None = None


def _kind(value: Any) -> str:
    """Return which kind of model a section describes, by a key that it alone has."""
    keys = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    if "hub" in keys:
        return "from-hub"
    if "local" in keys:
        return "from-disk"
    return "from-teacher" if isinstance(keys.get("layers"), list) else "from-scratch"


_OF_SCRATCH = Annotated[Scratch, Tag("from-scratch")]
_OF_HUB, _OF_DISK = Annotated[Hub, Tag("from-hub")], Annotated[Local, Tag("from-disk")]
_OF_TEACHER = Annotated[Distilled, Tag("from-teacher")]
Teacher = Annotated[_OF_SCRATCH | _OF_HUB | _OF_DISK, Discriminator(_kind)]
Student = Annotated[_OF_SCRATCH | _OF_HUB | _OF_DISK | _OF_TEACHER, Discriminator(_kind)]


class Needs(Section):
    """What a pair asks of its user: GB of disk and of memory, whether a token, and under which licence it stands."""

    disk: Positive
    memory: Positive
    token: bool
    licence: str


class Pair(Section):
    """A teacher and its student."""

    teacher: Teacher
    student: Student
    needs: Needs | None = None

    @property
    def trained_here(self) -> bool:
        """Whether both models are made by the pipeline."""
        return all(isinstance(model, (Scratch, Distilled)) for model in (self.teacher, self.student))

    @model_validator(mode="after")
    def _student_fits(self) -> Pair:
        if not isinstance(self.student, Distilled):
            return self
        if not isinstance(self.teacher, Scratch):
            raise ValueError("student starts from teacher layers, allowed: where the teacher is trained here")  # noqa: TRY004
        if max(self.student.layers) >= self.teacher.layers:
            raise ValueError(
                f"student.layers is {self.student.layers}, allowed: layers of the teacher, 0 to "
                f"{self.teacher.layers - 1}"
            )
        made = (self.teacher.architecture, self.student.architecture)
        if made[0] != made[1] and made != ("bert", "distilbert"):
            raise ValueError(
                f"student.architecture is {made[1]}, allowed: the teacher's ({made[0]}), or distilbert after bert"
            )
        return self
