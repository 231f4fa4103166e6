"""Sections of params.yaml on models and their training: a pair, and circuit distillation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from distilled_circuits.param_types import Count, Distinct, Index, NotNegative, Portion, Positive, Section, TaskName


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
    base_task: TaskName
    base_accuracy: Annotated[float, Field(ge=0, lt=1, description="a number of at least 0 and below 1")]


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


class DistillationTraining(Section):
    """What all conditions of circuit distillation share."""

    training_prompts: Count
    test_prompts: Count
    prompt_seed: Index
    steps: Count
    batch_size: Annotated[int, Field(ge=4, description="a whole number of at least 4")]
    learning_rate: Positive
    warmup: Count
    log_every: Count

    @model_validator(mode="after")
    def _fills_a_batch(self) -> DistillationTraining:
        if self.training_prompts < self.batch_size:
            raise ValueError(
                f"training_prompts is {self.training_prompts}, allowed: at least batch_size ({self.batch_size})"
            )
        return self


class Distillation(Section):
    """Which circuit distillations are run; facts are memorised, so there are no unseen ones to distil on."""

    task: Literal["numerals", "words", "ioi"]
    runs: Annotated[list[str], Distinct, Field(min_length=1, description="a list of keys of conditions")]
    seeds: Annotated[list[Index], Distinct, Field(min_length=1, description="a list of different seeds")]
    circuit_share: Portion
    training: DistillationTraining


class Condition(Section):
    """One way of distilling a circuit."""

    trains: Literal["all", "circuit"]
    cross_entropy: NotNegative
    cka: NotNegative
    mapping: Literal["none", "impact", "impact_own", "random"]

    @model_validator(mode="after")
    def _has_a_loss(self) -> Condition:
        if self.cross_entropy == 0 and self.cka == 0:
            raise ValueError("cross_entropy and cka are both 0, allowed: at least one above 0")
        if self.cka > 0 and self.mapping == "none":
            raise ValueError("mapping is none, allowed: impact, impact_own or random where cka is above 0")
        return self
