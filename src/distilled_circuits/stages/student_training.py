"""One training of a base student under a condition: what the stages that train have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilled_circuits.artifacts import read_json
from distilled_circuits.distillation.mapping import Mapping as Pairs
from distilled_circuits.distillation.mapping import random_mappings
from distilled_circuits.distillation.objective import AlignedPairs, Answers, Objective
from distilled_circuits.distillation.reading import Site, read_in_batches
from distilled_circuits.distillation.training import Schedule, Step, train_on_circuit
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.family import Stories, after_the_course, train_on_stories
from distilled_circuits.models.loading import choose_device, load_model
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.stored_questions import Questions
from distilled_circuits.tasks.lexicon import load_lexicon

BATCH = 250
"""Prompts of one forward pass without gradients."""


@dataclass(frozen=True)
class Run:
    """One training: its condition (a `conditions` section) and its seed."""

    label: str
    condition: Any
    seed: int


@dataclass(frozen=True, eq=False)
class Taught:
    """Training prompts (prompt, pos), what the teacher answers there, and what its paired heads do."""

    ids: torch.Tensor
    answers: Answers
    pairs: AlignedPairs

    def first(self, number: int) -> Taught:
        """Return the first so many prompts."""
        answers, pairs = self.answers, self.pairs
        return Taught(
            self.ids[:number],
            Answers(
                *(None if each is None else each[:number] for each in (answers.teacher, answers.gold, answers.logits))
            ),
            replace(
                pairs,
                targets={site: values[:, :number] for site, values in pairs.targets.items()},
                positions=None if pairs.positions is None else pairs.positions[:, :number],
            ),
        )


@dataclass(frozen=True, eq=False)
class Classroom:
    """What all trainings of one student on one task start from; `mapped` is the content of `mapping.json`.

    `training` is `distillation.training`; `tuning` and `recipe` are what the teacher of `task` was tuned on and how.
    """

    base: Path
    teacher: HookLens
    mapped: Mapping[str, Any]
    training: Any
    task: str
    tuning: Any
    recipe: Any
    stories: Stories

    @classmethod
    def of(cls, job: Job) -> Classroom:
        """Return what a job that trains students starts from."""
        device = choose_device(job.param("device"))
        return cls(
            job.input("base"),
            HookLens(load_model(job.input("teacher"), device)),
            read_json(job.input("mapping"), "mapping/3"),
            job.param("distillation.training"),
            job.item["task"],
            job.param(f"family.tuning.{job.item['task']}"),
            job.param("family.teacher"),
            Stories.of(load_lexicon(job.input("lexicon")), device),
        )

    @property
    def circuit(self) -> list[Component]:
        """Return the student's circuit heads, as they were found before any training."""
        return [Component.parse(name) for name in self.mapped["student"]["circuit"]]

    @property
    def teacher_circuit(self) -> list[Component]:
        """Return the teacher's circuit heads."""
        return [Component.parse(name) for name in self.mapped["teacher"]["circuit"]]

    def base_student(self) -> HookLens:
        """Return the student before any training, loaded anew."""
        return HookLens(load_model(self.base, self.teacher.device))

    def mappings(self, condition: Any, seed: int) -> list[Pairs]:
        """Return a condition's pairs; of random ones as many as it asks for, drawn anew for each seed."""
        if condition.mapping == "none":
            return [Pairs(())]
        stored = self.mapped["mappings"]["impact" if condition.mapping == "random" else condition.mapping]
        aligned = Pairs(
            tuple((Component.parse(pair["student"]), Component.parse(pair["teacher"])) for pair in stored["pairs"])
        )
        if condition.mapping != "random":
            return [aligned]
        return list(random_mappings(aligned, self.teacher_circuit, condition.maps, np.random.default_rng(seed)))

    def trained_heads(self, condition: Any, student: HookLens, seed: int) -> list[Component] | None:
        """Return the heads that a condition trains, None for the whole model; those outside are drawn by the seed."""
        if condition.trains == "all":
            return None
        if condition.trains == "circuit":
            return self.circuit
        outside = [head for head in student.components if head.head is not None and head not in self.circuit]
        number = min(len(self.circuit), len(outside))
        drawn = np.random.default_rng(seed).choice(len(outside), number, replace=False)
        return [outside[index] for index in sorted(drawn.tolist())]

    def taught(self, condition: Any, pairs: Pairs, questions: Questions) -> Taught:
        """Return what a condition with these pairs teaches on some prompts: one pass of the teacher for all trainings.

        Neither seeds nor rates nor λ change it.
        """
        teachers = [other for _, other in pairs.pairs]
        sites: list[Site] = sorted({"z", _objective(condition).aligned_site})
        own, other = self._positions(condition, pairs, questions)
        logits, targets = read_in_batches(self.teacher, questions.prompts.ids, teachers, sites, BATCH, other)
        return Taught(
            questions.prompts.ids,
            Answers(logits.argmax(-1), questions.prompts.answers, logits),
            AlignedPairs(tuple(head for head, _ in pairs.pairs), targets, own, self._weights(condition, pairs)),
        )

    def train(
        self, run: Run, taught: Taught, advance: Callable[[], None] = lambda: None
    ) -> tuple[HookLens, list[Step]]:
        """Train a fresh base student and return it with its log, which is empty for training on other texts."""
        student = self.base_student()
        condition, settings = run.condition, self.training
        if condition.text == "tuning":
            self._tune(student, run, advance)
            return student, []
        log = train_on_circuit(
            student,
            taught.ids,
            taught.answers,
            taught.pairs,
            _objective(condition),
            Schedule(settings.steps, settings.batch_size, condition.learning_rate, settings.warmup),
            self.trained_heads(condition, student, run.seed),
            run.seed,
            run.label,
            condition.key_values,
            advance,
        )
        return student, log

    def _positions(
        self, condition: Any, pairs: Pairs, questions: Questions
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the position (pair, prompt) of each pair's heads: the last, or where each head's group stands."""
        if condition.position == "last" or not pairs.pairs:
            return None, None
        sides = []
        for side, heads in zip(("student", "teacher"), zip(*pairs.pairs, strict=True), strict=True):
            stands = self.mapped[side]["positions"]
            if not stands:
                raise UserError("a condition has position: role, but the circuit of this task has no groups: use last")
            sides.append(torch.stack([questions.roles[stands[str(head)]] for head in heads]))
        return sides[0], sides[1]

    def _weights(self, condition: Any, pairs: Pairs) -> torch.Tensor | None:
        if condition.pair_weights == "equal" or not pairs.pairs:
            return None
        table, sides = np.array(self.mapped["companion"]), ("student", "teacher")
        places = [{name: n for n, name in enumerate(self.mapped[side]["circuit"])} for side in sides]
        chosen = [max(0.0, table[places[0][str(own)], places[1][str(other)]]) for own, other in pairs.pairs]
        return torch.tensor(chosen, device=self.teacher.device)

    def _tune(self, student: HookLens, run: Run, advance: Callable[[], None]) -> None:
        recipe = self.recipe.model_copy(
            update={
                "steps": self.training.steps,
                "learning_rate": run.condition.learning_rate,
                "batch_size": self.training.batch_size,
                "warmup": self.training.warmup,
                "evaluate_every": self.training.steps,
            }
        )
        student.model.train().requires_grad_(requires_grad=True)
        course = after_the_course(self.task)
        train_on_stories(student.model, recipe, self.tuning.texts, self.task, course, run.seed, self.stories, run.label)
        student.model.eval().requires_grad_(requires_grad=False)
        for _ in range(self.training.steps):
            advance()


def _objective(condition: Any) -> Objective:
    return Objective(
        condition.cross_entropy,
        condition.labels,
        condition.temperature,
        condition.alignment,
        condition.site,
        condition.weight,
        condition.shuffled,
    )
