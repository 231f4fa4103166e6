"""What a circuit of attention heads is worth, and circuits from single-head ablations (Prakash et al.; CD 3.2)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from distilled_circuits.circuits.head_groups import Group, GroupFound
from distilled_circuits.circuits.head_sets import HeadSets, Place
from distilled_circuits.lens.components import Component

Circuit = Mapping[str, Sequence[Place]]
"""The places of each group by its name."""


@dataclass(frozen=True)
class Minimality:
    """Relative gain in accuracy from one place, and whether that is enough to keep it."""

    score: float
    kept: bool


@dataclass(frozen=True)
class Completeness:
    """Differences in accuracy between model and circuit less the same places: for random ones, for each group."""

    random: tuple[float, ...]
    groups: dict[str, float]


@dataclass(frozen=True)
class Search:
    """Heads in the order of their addition, and faithfulness of the first 1, 2, ... of all heads that were tried."""

    heads: tuple[Component, ...]
    faithfulness: tuple[float, ...]


def circuit_of(groups: Sequence[Group], found: Mapping[str, GroupFound], mode: str) -> dict[str, tuple[Place, ...]]:
    """Return found groups as a circuit: mode "positions" keeps heads at their group's position, "heads" everywhere.

    For "positions" the sets of heads must know the roles, for "heads" they must not. There a head of two groups is one
    place, which is removed whole when either group loses it. Raises ValueError at another mode.
    """
    if mode not in ("heads", "positions"):
        raise ValueError(f"{mode!r} is no mode: heads or positions")
    return {
        group.name: tuple(
            Place(head, group.position) if mode == "positions" else Place(head) for head in found[group.name].heads
        )
        for group in groups
    }


def random_circuits(sets: HeadSets, places: Collection[Place], draws: int, rng: np.random.Generator) -> torch.Tensor:
    """Return which prompts (draw, prompt) random circuits answer right: as many heads as `places` has for each role.

    Heads of a role are drawn without repetition (the code of Prakash et al. may draw one twice).
    """
    sizes = sorted(Counter(place.position for place in set(places)).items())
    answered = [torch.zeros(0, len(sets.prompts), dtype=torch.bool, device=sets.prompts.ids.device)]
    for _ in range(draws):
        drawn = [
            Place(sets.heads[index], role)
            for role, size in sizes
            for index in rng.choice(len(sets.heads), size, replace=False).tolist()
        ]
        answered.append(sets.answers(drawn).correct[None])
    return torch.cat(answered)


def minimality(
    sets: HeadSets,
    circuit: Circuit,
    share: float = 0.3,
    threshold: float = 0.01,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, dict[Place, Minimality]]:
    """Judge each place h of the circuit C without the places of its group that could stand in for it.

    K_h: the ceil(share * group) others h' with the largest positive acc(C - h') - acc(C - {h, h'}). The score is
    acc(C - K_h) / acc(C - K_h - h) - 1; h is kept from `threshold` on. Over an accuracy of zero the score is infinite,
    or zero where both are zero. C is the whole circuit throughout, so the order of groups does not matter. Pairs in
    one head index are removed together like all others (the code of Prakash et al. leaves one of them in).
    """
    whole = frozenset(place for places in circuit.values() for place in places)
    found: dict[str, dict[Place, Minimality]] = {}
    for name, places in circuit.items():
        found[name] = {}
        for place in places:
            score = _gain(sets, whole, places, place, math.ceil(round(share * len(places), 9)))
            found[name][place] = Minimality(score, score >= threshold)
            advance()
    return found


def _gain(sets: HeadSets, circuit: frozenset[Place], group: Sequence[Place], place: Place, number: int) -> float:
    # Rounded, so that equal drops are equal and the order of the group decides.
    drops = {
        other: round(sets.accuracy(circuit - {other}) - sets.accuracy(circuit - {other, place}), 9)
        for other in group
        if other != place
    }
    stand_ins = [other for other in sorted(drops, key=lambda other: -drops[other]) if drops[other] > 0]
    rest = circuit - set(stand_ins[:number])
    with_it, without = sets.accuracy(rest), sets.accuracy(rest - {place})
    if without == 0:
        return math.inf if with_it > 0 else 0.0
    return with_it / without - 1


def completeness(sets: HeadSets, circuit: Circuit, draws: int, rng: np.random.Generator) -> Completeness:
    """Compare model M and circuit C less the same places K: abs(acc(M - K) - acc(C - K)), small for a complete circuit.

    K is random in `draws` runs, each place of C with probability 1/2, and then each group in turn.
    """
    places = sorted({place for group in circuit.values() for place in group})
    whole = frozenset(places)

    def gap(removed: Collection[Place]) -> float:
        return abs(sets.accuracy(sets.everything.difference(removed)) - sets.accuracy(whole.difference(removed)))

    halves = [rng.random(len(places)) < 0.5 for _ in range(draws)]
    random = tuple(gap([place for place, out in zip(places, half, strict=True) if out]) for half in halves)
    return Completeness(random, {name: gap(group) for name, group in circuit.items()})


def rank_by_ablation(
    sets: HeadSets, choices: torch.Tensor, advance: Callable[[], None] = lambda: None
) -> dict[Component, float]:
    """Return each head's loss of mean margin when it alone is ablated, largest first (ties: lower layers first).

    The margin is the answer's logit minus the largest logit of the other `choices` (prompt, choice), token ids that may
    contain the answer. Raises ValueError where a prompt has no other choice.
    """
    answers = sets.prompts.answers[:, None]
    if (choices == answers).all(-1).any():
        raise ValueError("every prompt needs a choice beside its answer")

    def margin(kept: Collection[Place]) -> float:
        logits = sets.logits(kept).double()
        others = logits.gather(-1, choices).masked_fill(choices == answers, -math.inf)
        return (logits.gather(-1, answers)[:, 0] - others.amax(-1)).mean().item()

    full = margin(sets.everything)
    loss = {}
    for head in sets.heads:
        loss[head] = full - margin(sets.everything - sets.at_all_positions([head]))
        advance()
    return dict(sorted(loss.items(), key=lambda item: -item[1]))


def top_by_faithfulness(
    sets: HeadSets, ranking: Sequence[Component], most_share: float, target: float = 0.95
) -> Search:
    """Return the fewest top heads of a ranking that reach the target faithfulness, and the curve up to the cap.

    The cap is floor(most_share * heads), at least one. Where it does not suffice the best number below it is taken, the
    smallest of equals.
    """
    most = _most(sets, most_share)
    curve = [sets.faithfulness(sets.at_all_positions(ranking[:number])) for number in range(1, most + 1)]
    return Search(tuple(ranking[: _enough(curve, target)]), tuple(curve))


def greedy_circuit(
    sets: HeadSets, most_share: float, target: float = 0.95, advance: Callable[[], None] = lambda: None
) -> Search:
    """Add the head that raises the circuit's accuracy most, until the target faithfulness or the cap is reached.

    Unlike a ranking of single ablations this finds heads that back each other up. Equal accuracies are common at the
    start; the answer's mean log-probability decides between them. The cap is that of `top_by_faithfulness`.
    """
    heads: list[Component] = []
    curve: list[float] = []
    while len(heads) < _most(sets, most_share) and max(curve, default=0.0) < target:
        performance = {}
        for head in sets.heads:
            if head not in heads:
                answers = sets.answers(sets.at_all_positions([*heads, head]))
                performance[head] = (answers.correct.sum().item(), answers.log_probability.mean().item())
                advance()
        heads.append(max(performance, key=performance.__getitem__))
        curve.append(sets.faithfulness(sets.at_all_positions(heads)))
    return Search(tuple(heads[: _enough(curve, target)]), tuple(curve))


def eliminated_circuit(
    sets: HeadSets, most_share: float, target: float = 0.95, advance: Callable[[], None] = lambda: None
) -> Search:
    """Take away the head that is missed least, one after the other: what is left is the circuit.

    Unlike an addition from nothing this keeps heads that are of use only together, which in a small model are most.
    `heads` are in the order of their importance, the last to go first; faithfulness is that of the first 1, 2, ... of
    them, up to the cap of `top_by_faithfulness`. Ties go by the answer's mean log-probability.
    """
    left, gone = list(sets.heads), []
    while len(left) > 1:
        rest = {head: sets.answers(sets.at_all_positions(other for other in left if other != head)) for head in left}
        worth = {head: (kept.correct.sum().item(), kept.log_probability.mean().item()) for head, kept in rest.items()}
        gone.append(max(worth, key=worth.__getitem__))
        left.remove(gone[-1])
        advance()
    heads = [*left, *reversed(gone)][: _most(sets, most_share)]
    curve = [sets.faithfulness(sets.at_all_positions(heads[:number])) for number in range(1, len(heads) + 1)]
    return Search(tuple(heads[: _enough(curve, target)]), tuple(curve))


def _most(sets: HeadSets, share: float) -> int:
    return max(1, math.floor(round(share * len(sets.heads), 9)))


def _enough(curve: Sequence[float], target: float) -> int:
    """Return the smallest number of heads that reaches the target, or else the smallest with the best value."""
    reached = [number for number, value in enumerate(curve, 1) if value >= target]
    return reached[0] if reached else 1 + int(np.argmax(curve))
