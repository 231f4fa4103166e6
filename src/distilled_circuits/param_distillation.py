"""Sections of params.yaml on circuit distillation: the family of models, the conditions, the runs."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from distilled_circuits.param_models import Shape
from distilled_circuits.param_types import (
    AtLeastEight,
    AtLeastTen,
    AtLeastTwo,
    Count,
    Distinct,
    Index,
    NotNegative,
    Portion,
    Positive,
    Section,
    Share,
)
from distilled_circuits.seed_ranges import seeds_of

MOST_SEEDS = 1000
"""Seeds of all entries: each is a student trained for each condition."""


def _has_weight(weights: dict[str, float]) -> dict[str, float]:
    if not 0 < sum(weights.values()) < math.inf:
        raise ValueError("has no weight above 0, allowed: at least one")
    return weights


StoryName = Literal["entity_tracking", "theory_of_mind"]
TextName = Literal["entity_tracking", "theory_of_mind", "copying", "arithmetic", "instructions"]
Mixture = Annotated[
    dict[TextName, NotNegative],
    Field(min_length=1, description="weights by kind of text"),
    AfterValidator(_has_weight),
]
Seeds = Annotated[list[Index], Distinct, Field(min_length=1, description="a list of different seeds")]
Names = Annotated[list[str], Distinct, Field(min_length=1, description="a list of names")]


class Learner(Shape):
    """A model that is trained on stories until it reaches `level` on its task."""

    layers: AtLeastTwo
    level: Annotated[float, Field(ge=0, lt=1, description="a number of at least 0 and below 1")]


class Tuning(Section):
    """What the teacher of a task is trained on further."""

    texts: Mixture
    steps: Count
    learning_rate: Positive


class Pace(Section):
    """When the next lesson starts."""

    raise_at: Share
    patience: Count


class Gap(Section):
    """What accuracies base student and teacher must have for a verdict to count."""

    base: Annotated[list[Share], Field(min_length=2, max_length=2, description="the lowest and the highest accuracy")]
    teacher: Share


class Family(Section):
    """A teacher and students of several sizes that learn from the same texts."""

    mixtures: dict[StoryName, Mixture]
    pace: dict[StoryName, Pace]
    teacher: Learner
    gap: Gap
    tuning: dict[StoryName, Tuning]
    students: Annotated[dict[str, Learner], Field(min_length=1, description="students by name")]


class Questions(Section):
    """How many prompts of each kind."""

    test: AtLeastEight
    variants: AtLeastEight
    validation: AtLeastEight
    circuit: AtLeastEight
    training: AtLeastEight
    seed: Index


class HeadGroup(Section):
    """One group of heads in path patching backward from the logits."""

    name: str
    position: str
    reads: Literal["logits", "q", "k", "v"]
    parent: str | None
    share: Portion


class Hungarian(Section):
    """Weights of the one-to-one mapping's cost."""

    impact: Annotated[float, Field(ge=0, le=1, description="a number between 0 and 1")]
    depth: NotNegative


class HeadCircuits(Section):
    """How the circuit heads of both models are found."""

    methods: dict[StoryName, Literal["path_patching", "ablation", "greedy", "elimination"]]
    groups: Annotated[list[HeadGroup], Field(min_length=1, description="a list of groups")]
    share: Portion
    faithfulness: Portion
    searched: AtLeastEight
    hungarian: Hungarian
    random_draws: Count
    completeness_draws: Count
    seed: Index


class Training(Section):
    """What all conditions share."""

    prompts: dict[StoryName, Count]
    steps: Count
    batch_size: AtLeastEight
    warmup: Count
    log_every: Count


class Sweep(Section):
    """Trials on validation prompts, and the two curves."""

    seed: Index
    conditions: Names
    learning_rates: Annotated[list[Positive], Distinct, Field(description="a list of learning rates")]
    weights: Annotated[list[Positive], Distinct, Field(min_length=1, description="a list of values of lambda")]
    weighted: Annotated[list[str], Distinct, Field(description="a list of names")]
    sizes: Annotated[list[Count], Distinct, Field(min_length=1, description="a list of numbers of prompts")]
    sized: Annotated[list[str], Distinct, Field(description="a list of names")]


class Distillation(Section):
    """Which circuit distillations are run."""

    teachers: Seeds
    students: Names
    tasks: Annotated[list[StoryName], Distinct, Field(description="a list of tasks, or [] for none")]
    runs: Names
    seeds: Annotated[list[int | str], Field(min_length=1, description="a list of seeds, such as 3, and ranges, 0-2")]
    questions: Questions
    circuits: HeadCircuits
    judged: AtLeastEight
    training: Training
    sweep: Sweep
    resamples: AtLeastTen

    @model_validator(mode="after")
    def _seeds_are_different(self) -> Distillation:
        ranges = [seeds_of(written) for written in self.seeds]
        if sum(each.stop - each.start for each in ranges) > MOST_SEEDS or max(each.stop for each in ranges) > 2**31:
            raise ValueError(f"seeds has more than {MOST_SEEDS} or one above {2**31 - 1}, allowed: fewer, smaller ones")
        seeds = [seed for each in ranges for seed in each]
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if twice:
            raise ValueError(f"seeds has {', '.join(map(str, twice))} twice, allowed: each once")
        return self

    @model_validator(mode="after")
    def _judges_test_prompts(self) -> Distillation:
        if self.judged > self.questions.test:
            raise ValueError(f"judged is {self.judged}, allowed: at most questions.test ({self.questions.test})")
        return self

    @model_validator(mode="after")
    def _fills_a_batch(self) -> Distillation:
        numbers = [*self.training.prompts.values(), *self.sweep.sizes]
        least, most = self.training.batch_size, self.questions.training
        for number in (min(numbers), max(numbers)):
            if not least <= number <= most:
                raise ValueError(
                    f"training.prompts and sweep.sizes have {number}, allowed: training.batch_size ({least}) to "
                    f"questions.training ({most})"
                )
        return self


class Condition(Section):
    """One way of distilling a circuit; what is not said is as in the paper's cross entropy on circuit heads."""

    trains: Literal["all", "circuit", "outside"] = "circuit"
    key_values: Literal["any", "none"] = "any"
    learning_rate: Positive
    cross_entropy: NotNegative = 1.0
    labels: Literal["teacher", "gold", "soft"] = "teacher"
    temperature: Positive = 1.0
    text: Literal["prompts", "tuning"] = "prompts"
    alignment: Literal["none", "cka", "cka_debiased", "projection", "attention_kl"] = "none"
    weight: NotNegative = 0.0
    mapping: Literal["none", "impact", "impact_own", "hungarian", "random", "identity"] = "none"
    maps: Count = 1
    site: Literal["z", "write"] = "z"
    position: Literal["last", "role"] = "last"
    pair_weights: Literal["equal", "companion"] = "equal"
    shuffled: bool = False

    @model_validator(mode="after")
    def _is_consistent(self) -> Condition:
        if (self.alignment == "none") != (self.mapping == "none"):
            raise ValueError(f"alignment is {self.alignment} and mapping is {self.mapping}, allowed: both or neither")
        if self.cross_entropy == 0 and self.weight == 0:
            raise ValueError("cross_entropy and weight are both 0, allowed: at least one above 0")
        if self.maps > 1 and self.mapping != "random":
            raise ValueError(f"maps is {self.maps}, allowed: 1 where mapping is not random")
        if self.text == "tuning" and self.alignment != "none":
            raise ValueError(f"text is tuning and alignment is {self.alignment}, allowed: none")
        return self
