"""Sections of params.yaml on the models of a pair and their training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from distilled_circuits.param_types import Count, Distinct, Index, NotNegative, Positive, Section, TaskName


class Teacher(Section):
    """A teacher that is trained from scratch."""

    seed: Index
    layers: Count
    heads: Count
    width: Count
    initial_scale: Positive
    steps: Count
    batch_size: Count
    learning_rate: Positive
    warmup: Count
    weight_decay: NotNegative
    text_weight: NotNegative
    evaluate_every: Count

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Teacher:
        if self.width % self.heads:
            raise ValueError(f"heads is {self.heads}, allowed: a divisor of width ({self.width})")
        return self


class Student(Section):
    """A student that is distilled from the pair's teacher."""

    seed: Index
    layers: Annotated[list[Index], Distinct, Field(min_length=1, description="a list of teacher layers")]
    steps: Count
    batch_size: Count
    learning_rate: Positive
    warmup: Count
    weight_decay: NotNegative
    temperature: Positive
    kl_weight: NotNegative
    lm_weight: NotNegative
    text_weight: NotNegative
    evaluate_every: Count


class Pair(Section):
    """A teacher, its student, and the text that both are trained on."""

    mixture: Annotated[dict[TaskName, NotNegative], Field(min_length=1, description="weights by task")]
    teacher: Teacher
    student: Student

    @model_validator(mode="after")
    def _layers_exist(self) -> Pair:
        if max(self.student.layers) >= self.teacher.layers:
            raise ValueError(
                f"student.layers is {self.student.layers}, allowed: layers of the teacher, 0 to "
                f"{self.teacher.layers - 1}"
            )
        if not any(self.mixture.values()):
            raise ValueError("mixture has no weight above 0, allowed: at least one")
        return self
