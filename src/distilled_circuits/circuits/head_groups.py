"""Groups of attention heads found by path patching, backward from the logits (Prakash et al.; CD 3.2, appendix B)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from distilled_circuits.circuits.ablation import PromptTensors
from distilled_circuits.circuits.head_paths import patch_senders
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens

ROUNDING = 1e-5
"""Scores closer to zero than this are rounding of float32: no head is chosen for one."""


@dataclass(frozen=True)
class Group:
    """Heads that send from one position to the logits, or to the q, k or v of an earlier group's heads there.

    `position` names the senders' token position, `reads` is "logits" (then `parent` is None), "q", "k" or "v" of the
    group `parent`; `share` of all heads are chosen at most.
    """

    name: str
    position: str
    reads: str
    parent: str | None
    share: float


@dataclass(frozen=True)
class GroupFound:
    """Scores (head,) in the order of the lens's heads, NaN where no path leads to the receivers; heads, best first."""

    scores: torch.Tensor
    heads: tuple[Component, ...]


def find_groups(
    lens: HookLens,
    prompts: PromptTensors,
    positions: Mapping[str, torch.Tensor],
    groups: Sequence[Group],
    batch_size: int,
    *,
    metric: str = "probability",
    advance: Callable[[float], None] = lambda _: None,
) -> dict[str, GroupFound]:
    """Find the heads of each group, parents first: those whose patched paths lower the answer's probability most.

    `positions` has the token position (prompt,) of each role. At most ceil(share * heads) heads are chosen, none with a
    score of zero or above; a group whose parent is empty is empty. A head found for two groups at one position counts
    for the later one (Prakash et al. on Value Fetcher and Position Transmitter), but what it receives as a head of the
    first is patched like that of the others. At different positions a head may serve several groups. `advance` is told
    the senders done, as many as there are heads for each group. Raises UserError at groups that do not fit together.
    """
    check_groups(groups, positions)
    senders = [component for component in lens.components if component.head is not None]
    scores: dict[str, torch.Tensor] = {}
    chosen: dict[str, list[Component]] = {}
    for group in groups:
        receivers = [] if group.parent is None else chosen[group.parent]
        if group.parent is not None and not receivers:
            scores[group.name] = torch.full((len(senders),), math.nan, dtype=torch.double)
            advance(len(senders))
        else:
            scores[group.name] = patch_senders(
                lens, prompts, positions[group.position], receivers, group.reads, batch_size,
                metric=metric, advance=advance,
            )  # fmt: skip
        scored = zip(scores[group.name].tolist(), senders, strict=True)
        most = math.ceil(round(group.share * len(senders), 9))
        chosen[group.name] = [head for _, head in sorted(pair for pair in scored if pair[0] < -ROUNDING)[:most]]
    found = {}
    for index, group in enumerate(groups):
        rivals = [chosen[later.name] for later in groups[index + 1 :] if later.position == group.position]
        heads = tuple(head for head in chosen[group.name] if not any(head in rival for rival in rivals))
        found[group.name] = GroupFound(scores[group.name], heads)
    return found


def check_groups(groups: Sequence[Group], positions: Mapping[str, torch.Tensor]) -> None:
    """Raise UserError at the first group that cannot be looked for, and say why."""
    before: list[str] = []
    for group in groups:
        wrong = None
        if group.name in before:
            wrong = "its name is taken; give each group its own"
        elif group.reads not in ("logits", "q", "k", "v"):
            wrong = f"it sends to {group.reads!r}; choose logits, q, k or v"
        elif (group.reads == "logits") != (group.parent is None):
            wrong = "a group that sends to the logits has no parent, and every other group has one"
        elif group.parent is not None and group.parent not in before:
            wrong = f"its parent {group.parent!r} is not listed before it; list parents first"
        elif group.position not in positions:
            wrong = f"the prompts have no position {group.position!r}; they have {', '.join(sorted(positions))}"
        elif not 0 < group.share <= 1:
            wrong = f"its share of heads is {group.share}; choose one above 0 and up to 1"
        if wrong:
            raise UserError(f"group of heads {group.name!r}: {wrong}")
        before.append(group.name)
