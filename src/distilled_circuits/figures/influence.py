"""Figures of single ablations and circuits: histograms, and every component of both models on one grid."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from distilled_circuits.figures.style import COLOURS, new_figure
from distilled_circuits.lens.components import Component


def ablation_histograms(drop: Mapping[str, np.ndarray]) -> Figure:
    """Draw how many components lose how much of the logit difference when ablated alone (DC Figs. 15, 16, 22).

    `drop` has for teacher and student the drop in percent of each component, NaN where there are no percentages; axes
    are shared.
    """
    figure = new_figure(8, 2.8)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    every = np.concatenate([values[np.isfinite(values)] for values in drop.values()])
    bins = np.linspace(min([-10, *every]), max([100, *every]), 34)
    for axis, (model, values) in zip(axes, drop.items(), strict=True):
        if not np.isfinite(values).all():
            axis.text(0.5, 0.5, "no percentages", ha="center", transform=axis.transAxes)
        axis.hist(values[np.isfinite(values)], bins=bins, color=COLOURS[model], edgecolor="white", linewidth=0.5)
        axis.axvline(0, color="black", linewidth=0.6)
        axis.set_yscale("symlog", linthresh=1)
        axis.set_title(f"{model}, {len(values)} components")
        axis.set_xlabel("drop of the logit difference (%)")
    axes[0].set_ylabel("components")
    axes[0].set_yticks([0, 1, 2, 5, 10, 20, 50], labels=["0", "1", "2", "5", "10", "20", "50"])
    return figure


def component_grid(
    components: Mapping[str, Sequence[str]], drop: Mapping[str, np.ndarray], circuit: Mapping[str, Collection[str]]
) -> Figure:
    """Draw both models as grids, layers upward, heads and then the MLP to the right; circuit nodes are framed.

    Colour is the drop in percent when the component alone is ablated: what a node does alone, and whether pruning kept
    it, are two things.
    """
    layers = max(Component.parse(names[-1]).layer for names in components.values()) + 1
    figure = new_figure(9, 1.3 + 0.42 * layers)
    axes = figure.subplots(1, 2)
    for axis, model in zip(axes, components, strict=True):
        image = _grid(axis, components[model], drop[model], circuit[model])
        axis.set_title(f"{model}: {len(circuit[model])} of {len(components[model])} nodes")
    figure.colorbar(image, ax=axes, label="drop when ablated alone (%)", extend="both", pad=0.01)
    return figure


def _grid(axis: Axes, names: Sequence[str], drop: np.ndarray, circuit: Collection[str]):  # noqa: ANN202
    layers = Component.parse(names[-1]).layer + 1
    values = drop.reshape(layers, -1)
    image = axis.imshow(values, cmap="PuOr_r", vmin=-60, vmax=60, origin="lower", aspect="auto")
    columns = values.shape[1]
    for index, name in enumerate(names):
        row, column = divmod(index, columns)
        value = values[row, column]
        axis.text(
            column,
            row,
            f"{round(value)}" if np.isfinite(value) else "–",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if abs(value) > 40 else "black",
        )
        if name in circuit:
            axis.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.6, zorder=3)
            )
    axis.set_xticks(range(columns), labels=[*(f"H{head}" for head in range(columns - 1)), "MLP"])
    axis.set_yticks(range(layers), labels=[f"L{layer}" for layer in range(layers)])
    axis.axvline(columns - 1.5, color="white", linewidth=3, zorder=1.5)
    return image
