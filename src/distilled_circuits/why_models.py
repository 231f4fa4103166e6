"""What the models of a run will ask of its user before anything is fetched: disk, tokens, licences."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from distilled_circuits.models.checkpoints import source_cost
from distilled_circuits.models.hub import GB, Cost
from distilled_circuits.param_models import Distilled, Scratch
from distilled_circuits.params import Params

COPIES = 2
"""A model directory is in results and in DVC's cache; where the file system shares blocks, it takes them once."""


def models_of(params: Params, wanted: Collection[tuple[str, str]]) -> Iterator[str]:
    """Yield a line for each model that is made, by pair and side, and then what they take of the disk together.

    Asks the hub for sizes, and fetches nothing. Raises UserError for what is wrong with a source.
    """
    costs = []
    for name in (name for name in params.pairs if any(name == pair for pair, _ in wanted)):
        pair = params.models[name]
        if pair.needs:
            yield f"{name} needs: {_needs(pair.needs)}"
        for side in (side for side in ("teacher", "student") if (name, side) in wanted):
            source = getattr(pair, side)
            if isinstance(source, (Scratch, Distilled)):
                yield f"{name} {side}: {_training(source)}"
                continue
            label, cost = source_cost(source)
            costs.append(cost)
            yield f"{name} {side}: {cost.describe(label)} as {source.dtype}"
    yield from _disk(costs)


def _training(source: Any) -> str:
    layers = f"{source.layers} layers" if isinstance(source, Scratch) else f"from {len(source.layers)} teacher layers"
    return f"trained here: {source.architecture}, {layers}, {source.steps} steps; nothing to fetch"


def _needs(needs: Any) -> str:
    token = "a token of the hub whose owner has accepted the licence" if needs.token else "no token"
    return f"{needs.disk:g} GB of disk, {needs.memory:g} GB of memory, {token}; licence: {needs.licence}"


def _disk(costs: list[Cost]) -> Iterator[str]:
    if not costs:
        return
    fetched, written = (sum(getattr(cost, part) for cost in costs) for part in ("fetched", "written"))
    free = shutil.disk_usage(Path()).free
    yield (
        f"all models: {fetched / GB:.2f} GB to fetch into the hub's cache, {COPIES} x {written / GB:.2f} GB to write "
        f"here (results and DVC's cache); {free / GB:.0f} GB are free here"
    )
