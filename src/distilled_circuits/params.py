"""params.yaml as frozen, validated models: an unknown key, a wrong type or a value out of range stops at once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from distilled_circuits.errors import UserError
from distilled_circuits.graph import Graph, graph_of
from distilled_circuits.messages import one_line, shown
from distilled_circuits.param_analysis import (
    Activations,
    Alignment,
    Battery,
    Circuit,
    Comparison,
    Edges,
    Heads,
    Influence,
    Mlps,
    Noise,
    OutputScores,
    Patching,
    Probes,
    Prompts,
    Shift,
    Stability,
    Threads,
)
from distilled_circuits.param_distillation import Condition, Distillation, Family
from distilled_circuits.param_errors import explain, place_of
from distilled_circuits.param_models import Distilled, Pair, Scratch
from distilled_circuits.param_tasks import TaskSource
from distilled_circuits.param_types import Distinct, Section, TaskName
from distilled_circuits.yaml_files import read_yaml

GENERATED = get_args(TaskName)
"""Tasks that are made here."""
TAKEN = {"teacher", "student", "replicas", "rivals"}
"""Folders of a pair beside those of its tasks."""
LONGEST_NAME = 60
"""Bytes of a name: a file that is named after a stage, a pair and a task must still have a name of at most 255."""


class Params(Section):
    """All of params.yaml."""

    pairs: Annotated[list[str], Distinct, Field(min_length=1, description="a list of keys of models")]
    tasks: Annotated[list[str], Distinct, Field(min_length=1, description="a list of tasks")]
    device: Literal["auto", "cpu", "cuda"]
    threads: Threads
    models: dict[str, Pair]
    sources: dict[str, TaskSource]
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
    family: Family
    distillation: Distillation
    conditions: dict[str, Condition]
    comparison: Comparison

    @model_validator(mode="after")
    def _names_exist(self) -> Params:
        for key, names, known in (
            ("pairs", self.pairs, list(self.models)),
            ("tasks", self.tasks, list(self.sources)),
            ("noise.tasks", self.noise.tasks, self.tasks),
            ("battery.pairs", self.battery.pairs, self.pairs),
            ("distillation.students", self.distillation.students, list(self.family.students)),
            ("distillation.tasks", self.distillation.tasks, list(self.family.mixtures)),
            ("distillation.tasks", self.distillation.tasks, list(self.family.pace)),
            ("distillation.tasks", self.distillation.tasks, list(self.family.tuning)),
            ("distillation.tasks", self.distillation.tasks, list(self.distillation.circuits.methods)),
            ("distillation.tasks", self.distillation.tasks, list(self.distillation.training.prompts)),
            ("distillation.runs", self.distillation.runs, list(self.conditions)),
            ("distillation.sweep.conditions", self.distillation.sweep.conditions, self.distillation.runs),
            ("distillation.sweep.weighted", self.distillation.sweep.weighted, self.distillation.sweep.conditions),
            ("distillation.sweep.sized", self.distillation.sweep.sized, self.distillation.sweep.conditions),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(f"{key} names {name!r}, allowed: {', '.join(known)}")
        for name in (*self.models, *self.sources, *self.family.students, *self.conditions):
            if not name.isidentifier() or len(name.encode()) > LONGEST_NAME:
                raise ValueError(
                    f"the name {shown(name)}, allowed: letters, digits and _, at most {LONGEST_NAME} of them (it "
                    "becomes a folder and a stage)"
                )
        for name in TAKEN & self.sources.keys():
            raise ValueError(f"sources names a task {name!r}, allowed: others (results/pairs/PAIR/{name} is taken)")
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Params:
        for name in ("noise", "edges", "stability", "patching", "shift", "battery"):
            asked = getattr(self, name).prompts
            if asked > self.prompts.number:
                raise ValueError(f"{name}.prompts is {asked}, allowed: at most prompts.number ({self.prompts.number})")
        if min(self.alignment.sizes) > self.prompts.number:
            raise ValueError(
                f"alignment.sizes is {self.alignment.sizes}, allowed: at least one up to prompts.number "
                f"({self.prompts.number})"
            )
        teachers = [self.models[pair].teacher for pair in self.pairs]
        width = min((teacher.width for teacher in teachers if isinstance(teacher, Scratch)), default=math.inf)
        if self.mlps.directions > width:
            raise ValueError(f"mlps.directions is {self.mlps.directions}, allowed: at most the models' width ({width})")
        return self

    @model_validator(mode="after")
    def _made_tasks_can_be_made(self) -> Params:
        for name, source in self.sources.items():
            if source == "generated" and name not in GENERATED:
                raise ValueError(f"sources.{name} is generated, allowed: of {', '.join(GENERATED)}")
        return self

    @model_validator(mode="after")
    def _titles_differ(self) -> Params:
        titles = [source.title for name in self.tasks if (source := self.sources[name]) != "generated" and source.title]
        repeated = {title for title in titles if titles.count(title) > 1}
        if repeated:
            raise ValueError(f"sources has the title {repeated.pop()!r} for two tasks, allowed: each once")
        return self

    @model_validator(mode="after")
    def _battery_fits(self) -> Params:
        for name in self.battery.pairs:
            pair, other = self.models[name], self.battery.mismatched
            distilled = pair.trained_here and isinstance(pair.student, Distilled)
            if not distilled or pair.teacher.architecture != "gpt2":
                raise ValueError(
                    f"battery.pairs names {name!r}, allowed: pairs of GPT-2's architecture that are trained and "
                    "distilled here, or []"
                )
            if pair.teacher.width % other.heads:
                raise ValueError(
                    f"battery.mismatched.heads is {other.heads}, allowed: a divisor of the width of {name}'s teacher "
                    f"({pair.teacher.width})"
                )
        return self


def load_params(path: Path) -> Params:
    """Read and validate params.yaml; raise UserError with one line that names key, finding and what is allowed."""
    return _validated(read_yaml(path), path)


def load_params_and_graph() -> tuple[Params, Graph]:
    """Read params.yaml once for both, so that they are of one moment; its mistakes are said before dvc.yaml's."""
    path = Path("params.yaml")
    content = read_yaml(path)
    return _validated(content, path), graph_of(content)


def _validated(content: Any, path: Path) -> Params:
    """Return what was read of params.yaml as parameters; raise UserError for a mistake, `path` being what it names."""
    if not isinstance(content, dict):
        raise UserError(f"{path}: found {type(content).__name__}, allowed: keys with values")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        problems = error.errors()
        places = {place_of(problem) for problem in problems}
        more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
        raise UserError(one_line(f"{path}: {explain(problems[0], Params)}{more}")) from None
