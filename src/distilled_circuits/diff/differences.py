"""Two sides of a comparison as data, and everything in which they differ: no file, no git, no DVC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from distilled_circuits.diff.changes import Change, changes, flattened
from distilled_circuits.diff.circuits import Circuit, CircuitDifference, compare_circuits
from distilled_circuits.diff.numbers import Number, NumberChange, Place, headline, in_both


@dataclass(frozen=True)
class Side:
    """A run in one state, as far as it is at hand; `title` says more of it than its name.

    `outputs` are the MD5s of stages' outputs by path and `made_by` the stages. `numbers`, verdicts and libraries are
    those of comparison.json, `figures` digests of the report's pictures; numbers and figures are None where these are
    not at hand. Circuits go by `pair task model`. `notes` say what could not be read.
    """

    name: str
    title: str
    params: Mapping[str, Any]
    outputs: Mapping[str, str] = field(default_factory=dict)
    made_by: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[Place, Number] | None = None
    verdicts: Mapping[str, str] = field(default_factory=dict)
    circuits: Mapping[str, Circuit] = field(default_factory=dict)
    figures: Mapping[str, str] | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def lacks(self, circuit: str) -> bool:
        """Whether a circuit was never made here, rather than not being at hand."""
        pair, task, _ = circuit.split()
        return f"results/pairs/{pair}/{task}/circuit.json" not in self.outputs


@dataclass(frozen=True)
class Outputs:
    """What became of a stage's outputs: paths, of all items together, and how many have the same bytes."""

    stage: str
    changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    same: int

    @property
    def touched(self) -> bool:
        """Whether any output differs."""
        return bool(self.changed or self.added or self.removed)


@dataclass(frozen=True)
class Headline:
    """A number that is shown first: what it is of, what it is, and how it changed."""

    owner: str
    title: str
    change: NumberChange


@dataclass(frozen=True)
class Missing:
    """Names of circuits, numbers and figures that only one side has, and how many are on both."""

    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    both: int


@dataclass(frozen=True)
class Differences:
    """Everything in which two sides differ, and the headline numbers whether they do or not.

    None stands for what cannot be compared because one side's artifact is not at hand.
    """

    old: str
    new: str
    titles: tuple[str, str]
    notes: tuple[str, ...]
    params: tuple[Change, ...]
    sources: tuple[str, ...]
    libraries: tuple[Change, ...]
    outputs: tuple[Outputs, ...]
    circuits: tuple[CircuitDifference, ...]
    circuits_on_one_side: Missing
    headlines: tuple[Headline, ...] | None
    other_numbers: tuple[NumberChange, ...] | None
    numbers_on_one_side: Missing
    verdicts: tuple[Change, ...] | None
    figures: tuple[Change, ...] | None
    figures_on_one_side: Missing

    @property
    def none(self) -> bool:
        """Whether all that was compared is the same, to the byte where there are bytes."""
        return not (self.params or self.sources or self.libraries or any(stage.touched for stage in self.outputs))

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def compare(old: Side, new: Side, sources: tuple[str, ...] = ()) -> Differences:
    """Compare two sides; `sources` are the files of code and data that differ between them."""
    both = None not in (old.numbers, new.numbers)
    before, after = (dict(side.numbers or {}) if both else {} for side in (old, new))
    numbers = in_both(before, after)
    first = {place: found for place in numbers if (found := headline(place))}
    others = tuple(change for place, change in numbers.items() if place not in first and change.changed)
    drawn = None not in (old.figures, new.figures)
    figures = [dict(side.figures or {}) if drawn else {} for side in (old, new)]
    return Differences(
        old=old.name,
        new=new.name,
        titles=(old.title, new.title),
        notes=(*old.notes, *new.notes),
        params=changes(flattened(old.params), flattened(new.params)),
        sources=sources,
        libraries=changes(old.libraries, new.libraries) if old.libraries and new.libraries else (),
        outputs=tuple(_outputs(old, new)),
        circuits=tuple(
            compare_circuits(name, circuit, new.circuits[name])
            for name, circuit in old.circuits.items()
            if name in new.circuits
        ),
        circuits_on_one_side=_missing(
            [name for name in old.circuits if name in new.circuits or new.lacks(name)],
            [name for name in new.circuits if name in old.circuits or old.lacks(name)],
        ),
        headlines=tuple(Headline(*first[place], numbers[place]) for place in first) if both else None,
        other_numbers=others if both else None,
        numbers_on_one_side=_missing(*([".".join(place) for place in side] for side in (before, after))),
        verdicts=changes(old.verdicts, new.verdicts) if both else None,
        figures=changes(*figures) if drawn else None,
        figures_on_one_side=_missing(*figures),
    )


def _missing(old: Iterable[str], new: Iterable[str]) -> Missing:
    before, after = dict.fromkeys(old), dict.fromkeys(new)
    return Missing(
        tuple(name for name in before if name not in after),
        tuple(name for name in after if name not in before),
        len(before.keys() & after.keys()),
    )


def _outputs(old: Side, new: Side) -> Iterator[Outputs]:
    """Yield what became of each stage's outputs, in the order of the stages' names."""
    stages = {**old.made_by, **new.made_by}
    for stage in sorted(set(stages.values())):
        before, after = (
            {path: md5 for path, md5 in side.outputs.items() if stages[path] == stage} for side in (old, new)
        )
        found = {kind: [] for kind in ("changed", "added", "removed")}
        for change in changes(before, after):
            found[change.kind].append(change.name)
        same = sum(after.get(path) == md5 for path, md5 in before.items())
        yield Outputs(stage, *(tuple(found[kind]) for kind in ("changed", "added", "removed")), same)
