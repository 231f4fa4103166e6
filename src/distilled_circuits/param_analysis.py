"""Sections of params.yaml on the analysis of a pair: from prompts to the battery, and the comparison."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from distilled_circuits.param_types import (
    AtLeastEight,
    AtLeastTen,
    AtLeastTwo,
    Count,
    Distinct,
    Index,
    Portion,
    Positive,
    Section,
    Share,
)


class Threads(Section):
    """CPU threads of a job."""

    training: Count
    analysis: Count


class Prompts(Section):
    """How many prompts a task has."""

    number: AtLeastEight
    seed: Index


CachedSite = Literal["z", "pattern", "mlp_out", "residual"]


class Activations(Section):
    """What is cached for each prompt."""

    sites: Annotated[
        list[CachedSite], Distinct, Field(min_length=3, description="a list that has z, pattern and mlp_out")
    ]
    batch_size: Count

    @model_validator(mode="after")
    def _has_what_later_stages_read(self) -> Activations:
        if not {"z", "pattern", "mlp_out"} <= set(self.sites):
            raise ValueError(
                f"sites is {self.sites}, allowed: a list that has z, pattern and mlp_out (later stages read them)"
            )
        return self


Ablation = Literal["corrupted_mean", "clean_mean", "zero", "resample"]


class Influence(Section):
    """Single-component ablation."""

    ablation: Ablation
    engine: Literal["hooks", "bridge"]
    dtype: Literal["stored", "float32", "bfloat16"]
    batch_size: Annotated[
        Annotated[int, Field(ge=1)] | Literal["auto"], Field(description="a whole number of at least 1, or auto")
    ]


class Circuit(Section):
    """Iterative node pruning, and what circuits are judged by."""

    source: Literal["pruned", "imported"]
    ablation: Ablation
    means: Literal["independent", "nested"]
    threshold: Share
    thresholds: Annotated[list[Share], Distinct, Field(min_length=1, description="a list of numbers in (0, 1)")]
    random_draws: Count
    curve_points: AtLeastTwo
    seed: Index
    batch_size: Count

    @model_validator(mode="after")
    def _nested_means_are_of_corrupted_prompts(self) -> Circuit:
        if self.means == "nested" and self.ablation != "corrupted_mean":
            raise ValueError(f"means is nested, allowed: independent where ablation is {self.ablation}")
        return self


class Edges(Section):
    """Path patching between the nodes of a circuit."""

    prompts: AtLeastTwo
    threshold: Share
    relative_to: Literal["circuit", "full"]
    exact_share: Portion


class Stability(Section):
    """Circuits on resampled prompts."""

    prompts: AtLeastTwo
    resamples: Count
    edge_resamples: Count
    seed: Index


class Heads(Section):
    """Role detectors and their null."""

    prompts: AtLeastEight
    fillers: Count
    minimum: Share
    level: Share
    shuffles: Count
    batch_size: Count
    resamples: AtLeastTen
    seed: Index

    @model_validator(mode="after")
    def _level_can_be_reached(self) -> Heads:
        if self.level * (self.shuffles + 1) <= 1:
            raise ValueError(f"shuffles is {self.shuffles}, allowed: at least {int(1 / self.level)} for this level")
        return self


class Mlps(Section):
    """What MLPs are compared by, and what they add to the answer."""

    directions: Count
    similar: Share
    resamples: AtLeastTen
    seed: Index
    batch_size: Count


class Patching(Section):
    """Activation patching, clean into corrupted."""

    prompts: AtLeastTwo
    batch_size: Count


class OutputScores(Section):
    """Successor and copy scores of heads."""

    first: Count
    batch_size: Count


class Probes(Section):
    """Linear probes."""

    splits: AtLeastTwo
    strength: Positive
    seed: Index
    batch_size: Count


class Shift(Section):
    """Prompts off the distribution of training."""

    prompts: AtLeastTwo
    seed: Index


class CustomVariant(Section):
    """A choice for each part of the alignment score."""

    influence: Literal["clamp_max", "abs_max", "abs_l1", "abs_l2", "l2"]
    over: Literal["components", "pairs"]
    heads: Literal["output", "pattern_rows", "pattern_flat", "cka", "cka_by_position", "cka_last"]
    mlps: Literal["directions", "subspace", "signed_mean", "stream", "cka", "cka_by_position", "cka_last"]
    direction: Literal["teacher_to_student", "student_to_teacher"]
    matching: Literal["greedy", "hungarian", "soft", "top"]
    neighbours: Count
    temperature: Positive
    top: Count
    weighting: Literal["equal", "teacher"]
    rescale: bool
    doubled: bool


class Alignment(Section):
    """The variant of the user's own choice, and what scores are held against."""

    custom: CustomVariant
    draws: AtLeastTen
    resamples: AtLeastTen
    sizes: Annotated[list[AtLeastEight], Distinct, Field(min_length=1, description="a list of whole numbers from 8 on")]
    subsets: AtLeastTwo
    seed: Index


MOST_LEVELS = 1000


class NoiseLevels(Section):
    """Standard deviations of the noise: from zero to `stop` in equal steps."""

    stop: Positive
    step: Positive

    @model_validator(mode="after")
    def _has_two_levels(self) -> NoiseLevels:
        if self.step > self.stop:
            raise ValueError(f"step is {self.step}, allowed: at most stop ({self.stop}), so that there are two levels")
        if self.stop / self.step > MOST_LEVELS:
            raise ValueError(f"step is {self.step}, allowed: at least stop / {MOST_LEVELS}; each level is a run")
        return self


class NoiseReading(Section):
    """What is noised, where, and in which unit."""

    site: Literal["components", "z", "mlp_out", "residual"]
    layer: Annotated[Index | Literal["all"], Field(description="all, or the number of a layer from 0 on")]
    scale: Literal["absolute", "relative"]


class NoiseSurvey(NoiseLevels):
    """Levels and seeds of the other readings."""

    seeds: Annotated[list[Index], Distinct, Field(min_length=1, description="a list of different seeds")]


class Noise(Section):
    """Noise-injection experiment."""

    tasks: Annotated[list[str], Distinct, Field(description="a list of tasks, or [] for no noise")]
    prompts: AtLeastTwo
    reading: NoiseReading
    levels: NoiseLevels
    seeds: Annotated[list[Index], Distinct, Field(min_length=1, description="a list of different seeds")]
    readings: list[NoiseReading]
    survey: NoiseSurvey


class Mismatched(Section):
    """A Llama to compare a GPT-2 with."""

    layers: Count
    heads: Count
    key_value_heads: Count

    @model_validator(mode="after")
    def _groups_are_equal(self) -> Mismatched:
        if self.heads % self.key_value_heads:
            raise ValueError(f"key_value_heads is {self.key_value_heads}, allowed: a divisor of heads ({self.heads})")
        return self


class Battery(Section):
    """Pairs with a known answer."""

    pairs: Annotated[list[str], Distinct, Field(description="a list of pairs, or [] for no battery")]
    replicas: Annotated[list[Count], Distinct, Field(min_length=1, description="a list of whole numbers from 1 on")]
    judged: Annotated[list[Index], Distinct, Field(min_length=1, description="a list of 0 and of replicas")]
    mismatched: Mismatched
    prompts: AtLeastEight
    resamples: AtLeastTen
    draws: AtLeastTen
    seed: Index

    @model_validator(mode="after")
    def _judged_are_trained(self) -> Battery:
        if 0 not in self.judged:
            raise ValueError(f"judged is {self.judged}, allowed: a list that has 0, the pair's own teacher")
        for replica in self.judged:
            if replica and replica not in self.replicas:
                raise ValueError(f"judged has {replica}, allowed: 0 and what replicas has ({self.replicas})")
        return self


class Comparison(Section):
    """Bootstrap over components."""

    resamples: AtLeastTen
    seed: Index
