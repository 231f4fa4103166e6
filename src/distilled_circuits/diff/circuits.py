"""Two circuits of one model on one task: nodes and edges gained and lost, and what those that stayed are worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distilled_circuits.diff.numbers import Number, NumberChange, in_both

LARGE = 1.0
"""Effects, which are in percent, are said to have changed from this many points on."""


@dataclass(frozen=True)
class Circuit:
    """A circuit as found.

    `nodes` have what goes with each when it alone is taken from the circuit, in percent of the full logit difference
    (None where it is not known); `edges`, those that were kept, what goes when each is patched, in percent of what the
    circuit keeps. `drops` has, of every component of the model, what goes when it alone is ablated from the full model,
    in percent.
    """

    nodes: Mapping[str, Number | None]
    edges: Mapping[str, Number]
    drops: Mapping[str, Number]


@dataclass(frozen=True)
class Members:
    """The nodes, or edges, of two circuits: how many, which were gained and lost, how the effects of others changed.

    `kept` has those of both circuits whose effects are known on both sides, those that changed most in front. The
    Jaccard index is 1 for two empty circuits.
    """

    old: int
    new: int
    jaccard: float
    gained: Mapping[str, Number | None]
    lost: Mapping[str, Number | None]
    kept: tuple[NumberChange, ...]

    @property
    def same(self) -> bool:
        """Whether the members are the same; their effects may differ."""
        return not self.gained and not self.lost


@dataclass(frozen=True)
class CircuitDifference:
    """Two circuits of a model; `drops` are the effects of ablating single components of the full model."""

    name: str
    nodes: Members
    edges: Members
    drops: tuple[NumberChange, ...]

    @property
    def changed(self) -> bool:
        """Whether anything differs at all, if only an effect and by little."""
        effects = (*self.nodes.kept, *self.edges.kept, *self.drops)
        return not (self.nodes.same and self.edges.same) or any(effect.changed for effect in effects)


def compare_circuits(name: str, old: Circuit, new: Circuit) -> CircuitDifference:
    """Compare two circuits of one model on one task."""
    return CircuitDifference(
        name, _members(old.nodes, new.nodes), _members(old.edges, new.edges), _effects(old.drops, new.drops)
    )


def large(effects: tuple[NumberChange, ...]) -> list[NumberChange]:
    """Return the effects that changed by LARGE or more."""
    return [effect for effect in effects if abs(effect.difference) >= LARGE]


def _members(old: Mapping[str, Number | None], new: Mapping[str, Number | None]) -> Members:
    together = len(old.keys() | new.keys())
    return Members(
        old=len(old),
        new=len(new),
        jaccard=len(old.keys() & new.keys()) / together if together else 1.0,
        gained={name: effect for name, effect in new.items() if name not in old},
        lost={name: effect for name, effect in old.items() if name not in new},
        kept=_effects(old, new),
    )


def _effects(old: Mapping[str, Number | None], new: Mapping[str, Number | None]) -> tuple[NumberChange, ...]:
    known = [{name: effect for name, effect in side.items() if effect is not None} for side in (old, new)]
    return tuple(sorted(in_both(*known).values(), key=lambda effect: -abs(effect.difference)))
