"""Story prompts from a `questions` artifact, as the tensors that training and evaluation work on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from distilled_circuits.artifacts import open_hdf5
from distilled_circuits.circuits.ablation import PromptTensors


@dataclass(frozen=True)
class Questions:
    """Prompts of one split: choices (prompt, choice), kinds (prompt,), and by role the position (prompt,) it is at.

    A role that several positions play, such as all labels, is left out.
    """

    prompts: PromptTensors
    choices: torch.Tensor
    kinds: np.ndarray
    roles: dict[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def corrupted(self) -> torch.Tensor:
        """Return the corrupted prompts (prompt, pos), which means are taken over."""
        if self.prompts.corrupted is None:
            raise ValueError("these questions have no corrupted prompts")
        return self.prompts.corrupted

    def first(self, number: int) -> Questions:
        """Return the first so many."""
        return self._rows(0, number)

    def last(self, number: int) -> Questions:
        """Return the last so many, all if there are no more."""
        return self._rows(max(0, len(self) - number), len(self))

    def _rows(self, start: int, stop: int) -> Questions:
        rows = slice(start, stop)
        roles = {role: places[rows] for role, places in self.roles.items()}
        prompts = self.prompts.rows(start, stop)
        return replace(self, prompts=prompts, choices=self.choices[rows], kinds=self.kinds[rows], roles=roles)


def stored_questions(path: Path, split: str, device: torch.device, number: int | None = None) -> Questions:
    """Return the first `number` questions of a split (all by default)."""
    with open_hdf5(path, "questions/1") as file:
        stored = file[split]

        def column(name: str) -> torch.Tensor:
            return torch.from_numpy(stored[name][:number]).long().to(device)

        single = [role for role, places in stored["roles"].items() if places.shape[1] == 1]
        return Questions(
            PromptTensors(column("ids"), column("answer"), column("distractor"), column("corrupted")),
            column("choices"),
            stored["kind"].asstr()[:number],
            {role: column(f"roles/{role}")[:, 0] for role in sorted(single)},
        )


def variant_names(path: Path) -> list[str]:
    """Return the names of the variants, prompts unlike the usual ones."""
    with open_hdf5(path, "questions/1") as file:
        return sorted(file["variants"])
