"""Figures of circuits: the drawing of nodes and edges, what each node adds, circuits by size, stability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from distilled_circuits.circuits.edges import Edge
from distilled_circuits.figures.style import COLOURS, CYCLE, new_figure
from distilled_circuits.lens.components import Component

PARTS = {"q": CYCLE[0], "k": CYCLE[4], "v": CYCLE[2], "mlp": CYCLE[3], "logits": CYCLE[5]}
"""Colour of an edge by what it enters."""
PORTS = {"q": -0.26, "k": 0.0, "v": 0.26}
"""Where q, k and v are entered, from the middle of a head's box."""
ABOVE = 1.3
"""How far the logits stand above a circuit's highest node."""


def circuit_drawing(
    nodes: Mapping[str, Sequence[str]], edges: Mapping[str, Sequence[str]], drop: Mapping[str, np.ndarray]
) -> Figure:
    """Draw both circuits, layers upward, heads entered by q, k or v, in the manner of DC Figs. 8 and 9.

    `edges` are the kept ones and `drop` the share of the circuit's logit difference that each costs; the wider, the
    more. Edges whose patching raises it are dashed: a threshold relative to the full model can keep such edges.
    """
    places = {model: _places([Component.parse(name) for name in names]) for model, names in nodes.items()}
    corners = np.array([place for found in places.values() for place in found.values()]).reshape(-1, 2)
    left, right = (corners[:, 0].min(), corners[:, 0].max()) if len(corners) else (-1.0, 1.0)
    highest = corners[:, 1].max() if len(corners) else 0.0
    figure = new_figure(10.5, 1.8 + 0.55 * (highest + 1))
    for axis, model in zip(figure.subplots(1, 2, sharex=True, sharey=True), nodes, strict=True):
        _draw(axis, places[model], edges[model], drop[model])
        axis.set_title(f"{model}: {len(nodes[model])} nodes, {len(edges[model])} edges")
        axis.set_xlim(left - 0.6, right + 0.6)
        axis.set_ylim(-0.7, highest + ABOVE + 0.6)
    handles = [Line2D([], [], color=colour, linewidth=2, label=f"into {part}") for part, colour in PARTS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _draw(axis: Axes, places: Mapping[Component, tuple[float, float]], edges: Sequence[str], drop: np.ndarray) -> None:
    top = max((y for _, y in places.values()), default=0) + ABOVE
    for component, (x, y) in places.items():
        _box(axis, x, y, str(component), "#e8eef4" if component.head is not None else "#efe6f2")
        if component.head is not None:
            for part, shift in PORTS.items():
                axis.text(x + shift, y - 0.36, part, fontsize=6, ha="center", va="center", color=PARTS[part], zorder=4)
    _box(axis, 0, top, "logits", "#eeeeee")
    largest = max(np.abs(drop).max(), 1e-9) if len(drop) else 1.0
    for name, share in zip(edges, drop, strict=True):
        edge = Edge.parse(name)
        x0, y0 = places[edge.sender]
        x1, y1 = (0, top) if edge.receiver is None else places[edge.receiver]
        strength = abs(share) / largest
        axis.add_patch(
            FancyArrowPatch(
                (x0, y0 + 0.22),
                (x1 + PORTS.get(edge.part, 0.0), y1 - (0.42 if edge.part in PORTS else 0.2)),
                connectionstyle="arc3,rad=0.06",
                arrowstyle="-|>",
                mutation_scale=5 + 5 * strength,
                linewidth=0.4 + 3.2 * strength,
                color=PARTS[edge.part],
                alpha=0.35 + 0.6 * strength,
                linestyle="solid" if share > 0 else "dashed",
                zorder=2,
            )
        )
    for layer in {component.layer for component in places}:
        axis.text(0, 2 * layer + 0.5, f"layer {layer}", transform=axis.get_yaxis_transform(), ha="right", va="center")
    axis.tick_params(length=0, labelbottom=False, labelleft=False)
    for side in axis.spines.values():
        side.set_visible(False)


def _places(components: Sequence[Component]) -> dict[Component, tuple[float, float]]:
    """Return where nodes stand: a layer's heads in a row, its MLP above; rows are shifted so that lines part."""
    places: dict[Component, tuple[float, float]] = {}
    for layer in sorted({component.layer for component in components}):
        heads = [component for component in components if component.layer == layer and component.head is not None]
        for index, head in enumerate(heads):
            places[head] = (1.05 * (index - (len(heads) - 1) / 2) + 0.18 * (-1) ** layer, 2 * layer)
        if Component(layer) in components:
            places[Component(layer)] = (0.5 * (-1) ** layer, 2 * layer + 1)
    return places


def _box(axis: Axes, x: float, y: float, text: str, colour: str) -> None:
    axis.add_patch(
        FancyBboxPatch(
            (x - 0.4, y - 0.2), 0.8, 0.4, boxstyle="round,pad=0.02", facecolor=colour, edgecolor="black",
            linewidth=0.7, zorder=3,
        )
    )  # fmt: skip
    axis.text(x, y + 0.01, text, ha="center", va="center", fontsize=7, zorder=4)


def minimality_bars(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draw how many points of the full logit difference each node of a circuit adds to it (DC Table 1).

    `rows` have `node`, `value` and `interval95`, by model.
    """
    tallest = max(len(nodes) for nodes in rows.values())
    figure = new_figure(9, 1.4 + 0.17 * tallest)
    axes = figure.subplots(1, len(rows), sharex=True, squeeze=False)[0]
    for axis, (model, nodes) in zip(axes, rows.items(), strict=True):
        ordered = sorted(nodes, key=lambda row: row["value"])
        values = np.array([row["value"] for row in ordered])
        ends = np.array([row["interval95"] for row in ordered]).reshape(-1, 2)
        spread = np.maximum([values - ends[:, 0], ends[:, 1] - values], 0) if len(values) else None
        axis.barh(
            range(len(ordered)), values, xerr=spread, color=COLOURS[model], height=0.7, error_kw={"linewidth": 0.8}
        )
        axis.axvline(0, color="black", linewidth=0.6)
        axis.set_yticks(range(len(ordered)), labels=[row["node"] for row in ordered], fontsize=7)
        axis.set_title(f"{model}, {len(ordered)} nodes")
        axis.set_xlabel("points of the full logit difference lost")
    return figure


def size_curves(found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw what circuits of growing size keep: the strongest single nodes, pruning at its thresholds, random nodes.

    `found` has for each model `curve` (size, percent), `thresholds`, `random_percent` and its number of nodes, `heads`
    plus `mlps`.
    """
    figure = new_figure(9, 3.2)
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axis, (model, circuit) in zip(axes, found.items(), strict=True):
        axis.plot(
            circuit["curve"]["size"], circuit["curve"]["percent"], "o-", color=COLOURS[model], markersize=3,
            linewidth=1, label="strongest when ablated alone",
        )  # fmt: skip
        sizes = [row["heads"] + row["mlps"] for row in circuit["thresholds"]]
        axis.plot(
            sizes, [row["only_circuit_percent"] for row in circuit["thresholds"]], "s", color="black", markersize=4,
            label="pruned, at each threshold",
        )  # fmt: skip
        random = circuit["random_percent"]
        low, high = (abs(random["value"] - end) for end in random["range"])
        axis.errorbar(
            [circuit["heads"] + circuit["mlps"]], [random["value"]], yerr=[[low], [high]], fmt="x", color="#777777",
            label="random, of the circuit's size",
        )  # fmt: skip
        axis.axhline(100, color="black", linewidth=0.5, linestyle="dotted")
        axis.set_title(model)
        axis.set_xlabel("nodes kept")
        axis.legend(fontsize=7, frameon=False)
    axes[0].set_ylabel("logit difference kept (%)")
    return figure
