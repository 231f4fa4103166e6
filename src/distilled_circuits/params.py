"""params.yaml as frozen, validated models: an unknown key, a wrong type or a value out of range stops at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from distilled_circuits.errors import UserError
from distilled_circuits.param_errors import explain

Count = Annotated[int, Field(ge=1, description="a whole number of at least 1")]
Index = Annotated[int, Field(ge=0, description="a whole number of at least 0")]
AtLeastTwo = Annotated[int, Field(ge=2, description="a whole number of at least 2")]
AtLeastEight = Annotated[int, Field(ge=8, description="a whole number of at least 8")]
AtLeastTen = Annotated[int, Field(ge=10, description="a whole number of at least 10")]
Positive = Annotated[float, Field(gt=0, description="a number above 0")]
NotNegative = Annotated[float, Field(ge=0, description="a number of at least 0")]
Share = Annotated[float, Field(gt=0, lt=1, description="a number between 0 and 1, both excluded")]
Portion = Annotated[float, Field(gt=0, le=1, description="a number above 0 and up to 1")]
TaskName = Literal["numerals", "words", "ioi", "facts"]


def _all_different(values: Any) -> Any:
    if isinstance(values, list) and len({str(value) for value in values}) < len(values):
        raise ValueError("lists a value twice")
    return values


Distinct = BeforeValidator(_all_different)


class Section(BaseModel):
    """A part of params.yaml: frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Threads(Section):
    """CPU threads of a job."""

    training: Count
    analysis: Count


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
    dtype: Literal["float32", "bfloat16"]
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


class NoiseLevels(Section):
    """Standard deviations of the noise: from zero to `stop` in equal steps."""

    stop: NotNegative
    step: Positive


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

    tasks: Annotated[list[TaskName], Distinct, Field(min_length=1, description="a list of tasks")]
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

    replicas: Annotated[list[Count], Distinct, Field(min_length=1, description="a list of whole numbers from 1 on")]
    judged: Annotated[list[Index], Distinct, Field(min_length=1, description="a list of 0 and of replicas")]
    mismatched: Mismatched
    prompts: AtLeastEight
    resamples: AtLeastTen
    draws: AtLeastTen
    seed: Index

    @model_validator(mode="after")
    def _judged_are_trained(self) -> Battery:
        for replica in self.judged:
            if replica and replica not in self.replicas:
                raise ValueError(f"judged has {replica}, allowed: 0 and what replicas has ({self.replicas})")
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


class Comparison(Section):
    """Bootstrap over components."""

    resamples: AtLeastTen
    seed: Index


class Params(Section):
    """All of params.yaml."""

    pairs: Annotated[list[str], Distinct, Field(min_length=1, description="a list of keys of models")]
    tasks: Annotated[list[TaskName], Distinct, Field(min_length=1, description="a list of tasks")]
    device: Literal["auto", "cpu", "cuda"]
    threads: Threads
    models: dict[str, Pair]
    prompts: Prompts
    activations: Activations
    influence: Influence
    circuit: Circuit
    edges: Edges
    stability: Stability
    heads: Heads
    mlps: Mlps
    patching: Patching
    output_scores: OutputScores
    probes: Probes
    shift: Shift
    alignment: Alignment
    noise: Noise
    battery: Battery
    distillation: Distillation
    conditions: dict[str, Condition]
    comparison: Comparison

    @model_validator(mode="after")
    def _names_exist(self) -> Params:
        for key, names, known in (
            ("pairs", self.pairs, list(self.models)),
            ("noise.tasks", self.noise.tasks, self.tasks),
            ("distillation.task", [self.distillation.task], self.tasks),
            ("distillation.runs", self.distillation.runs, list(self.conditions)),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(f"{key} names {name!r}, allowed: {', '.join(known)}")
        for name in ("noise", "edges", "stability", "patching", "shift", "battery"):
            asked = getattr(self, name).prompts
            if asked > self.prompts.number:
                raise ValueError(f"{name}.prompts is {asked}, allowed: at most prompts.number ({self.prompts.number})")
        width = min(self.models[pair].teacher.width for pair in self.pairs)
        if self.mlps.directions > width:
            raise ValueError(f"mlps.directions is {self.mlps.directions}, allowed: at most the models' width ({width})")
        for name in (*self.models, *self.conditions):
            if not name.isidentifier():
                raise ValueError(f"the name {name!r}, allowed: letters, digits and _ (it becomes a folder and a stage)")
        return self


def load_params(path: Path) -> Params:
    """Read and validate params.yaml; raise UserError with one line that names key, finding and what is allowed."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; start in the project's folder") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: found {type(content).__name__}, allowed: keys with values")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        problems = error.errors()
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"{path}: {explain(problems[0], Params)}{more}") from None
