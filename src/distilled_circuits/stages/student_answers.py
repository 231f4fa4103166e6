"""What a student or teacher answers: whole, by its circuit alone, off the distribution; and how it aligns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilled_circuits.circuits.ablation import Values, constant, mean_activations
from distilled_circuits.circuits.head_circuits import random_circuits
from distilled_circuits.circuits.head_sets import HeadSets
from distilled_circuits.comparison.alignment import align
from distilled_circuits.comparison.representations import ModelRecord
from distilled_circuits.comparison.variants import PRESETS
from distilled_circuits.distillation.cka import debiased_cka
from distilled_circuits.distillation.losses import degenerate_pairs, mean_over_pairs
from distilled_circuits.distillation.mapping import Mapping as Pairs
from distilled_circuits.distillation.reading import read_in_batches
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.stages.measured_records import measured_record
from distilled_circuits.stages.stored_questions import Questions, stored_questions, variant_names

BATCH = 250
"""Prompts of one forward pass."""
COMPANION_PROMPTS = 32
"""Prompts of the alignment score."""
DIRECTIONS = 3
"""Leading eigenvectors that the alignment score's summaries keep; the recommended variant does not read them."""


@dataclass(frozen=True, eq=False)
class Examination:
    """The prompts that every model of a task is asked, and how circuits are judged on them.

    `circuit` has the prompts that circuits were found on: means and impacts are taken there. `settings` is
    `distillation.circuits`: the first `searched` of them are asked what takes a pass for each head.
    """

    test: Questions
    circuit: Questions
    variants: dict[str, Questions]
    settings: Any

    @classmethod
    def stored(cls, path: Path, device: torch.device, settings: Any) -> Examination:
        """Read the prompts of a `questions` artifact."""
        return cls(
            stored_questions(path, "test", device),
            stored_questions(path, "circuit", device),
            {name: stored_questions(path, f"variants/{name}", device) for name in variant_names(path)},
            settings,
        )

    def means(self, lens: HookLens) -> Values:
        """Return what a head outside a circuit is replaced by."""
        return mean_activations(lens, self.circuit.corrupted, BATCH)

    def answers(
        self, lens: HookLens, circuit: Sequence[Component], means: Values, judged: int | None = None
    ) -> dict[str, Any]:
        """Return for each test prompt whether the model, also among the choices, and its circuit alone answer right.

        The circuit is asked the first `judged` of them, all by default. Also accuracies of random circuits of the same
        size, on the variants, and how much a single head's ablation costs on the mean.
        """
        logits, _ = read(lens, [], self.test)
        alone = HeadSets(lens, self.test.first(judged or len(self.test)).prompts, means, BATCH)
        few = HeadSets(lens, self.circuit.first(self.settings.searched).prompts, means, BATCH)
        kept = few.at_all_positions(circuit)
        rng = np.random.default_rng(self.settings.seed)
        random = random_circuits(few, kept, self.settings.random_draws, rng).double().mean(1)
        whole = few.accuracy(few.everything)
        drops = [whole - few.accuracy(few.everything - few.at_all_positions([head])) for head in few.heads]
        right = {
            "full": all_right(logits, self.test),
            "choice": chosen_right(logits, self.test),
            "circuit": alone.answers(kept).correct,
        }
        return {
            **{name: flags.int().tolist() for name, flags in right.items()},
            "random_circuits": {"value": random.mean().item(), "range": [random.min().item(), random.max().item()]},
            "variants": {name: accuracy(lens, asked) for name, asked in self.variants.items()},
            "mean_drop": float(np.mean(drops)),
        }

    def record(self, lens: HookLens, means: Values) -> ModelRecord:
        """Return what the first paper's alignment score reads of a model."""
        few = self.circuit.first(COMPANION_PROMPTS)
        return measured_record(lens, few.prompts, constant(means), BATCH)


def companion(teacher: ModelRecord, student: ModelRecord) -> float:
    """Return the first paper's alignment score, in the recommended variant: the widths of the models differ."""
    return float(align(teacher, student, PRESETS["recommended"], DIRECTIONS).score.score[0])


def read(
    lens: HookLens, heads: Collection[Component], asked: Questions
) -> tuple[torch.Tensor, dict[Component, torch.Tensor]]:
    """Return the logits (prompt, vocabulary) and z (prompt, d_head) of some heads, both at the last position."""
    chosen = sorted(heads)
    logits, found = read_in_batches(lens, asked.prompts.ids, chosen, ["z"], BATCH)
    return logits, dict(zip(chosen, found.get("z", ()), strict=True))


def similarity(
    student: Mapping[Component, torch.Tensor], teacher: Mapping[Component, torch.Tensor], pairs: Pairs
) -> float | None:
    """Return the mean debiased CKA of the pairs, from what their heads do (prompt, d_head); None without pairs."""
    if not pairs.pairs:
        return None
    own = torch.stack([student[head] for head, _ in pairs.pairs])
    other = torch.stack([teacher[head] for _, head in pairs.pairs])
    return mean_over_pairs(debiased_cka(own, other), skipped=degenerate_pairs(own, other)).item()


def accuracy(lens: HookLens, asked: Questions) -> float:
    """Return the share of prompts whose answer is the most likely token of all."""
    return share_right(read(lens, [], asked)[0], asked)


def share_right(logits: torch.Tensor, asked: Questions) -> float:
    """Return the share of prompts that are answered right where any token can be answered."""
    return all_right(logits, asked).double().mean().item()


def all_right(logits: torch.Tensor, asked: Questions) -> torch.Tensor:
    """Return which prompts are answered right where any token can be answered."""
    return logits.argmax(-1) == asked.prompts.answers


def chosen_right(logits: torch.Tensor, asked: Questions) -> torch.Tensor:
    """Return which prompts are answered right where only their choices can be answered."""
    best = logits.gather(-1, asked.choices).argmax(-1, keepdim=True)
    return asked.choices.gather(-1, best)[:, 0] == asked.prompts.answers
