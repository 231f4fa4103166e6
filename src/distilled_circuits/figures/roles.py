"""Figures of role validation: patches by component and position, scores of heads' outputs, curves of probes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distilled_circuits.figures.style import COLOURS, new_figure, signed_map

TITLE_WIDTH = 38
"""Characters of a line in the title of a small panel."""


def block_patches(
    recovered: Mapping[str, Mapping[str, np.ndarray]], tokens: Mapping[str, Sequence[str]], label: str
) -> Figure:
    """Draw recoveries (layer, pos) of whole blocks, models in columns, parts in rows.

    `recovered` is by part and then by model, `tokens` by model; the scale is shared, white is zero.
    """
    models = list(next(iter(recovered.values())))
    layers = [found.shape[0] for found in next(iter(recovered.values())).values()]
    figure = new_figure(
        1.6 + 2 * 0.2 * max(map(len, tokens.values())), 1.4 + len(recovered) * (0.3 + 0.24 * max(layers))
    )
    axes = figure.subplots(len(recovered), len(models), squeeze=False)
    limit = max(np.abs(values).max() for found in recovered.values() for values in found.values())
    for row, (part, found) in zip(axes, recovered.items(), strict=True):
        for axis, model in zip(row, models, strict=True):
            image = signed_map(axis, found[model], limit)
            axis.set_title(f"{model}, {part}")
            axis.set_yticks(range(len(found[model])), labels=[f"L{n}" for n in range(len(found[model]))])
            last = part == list(recovered)[-1]
            own = tokens[model]
            axis.set_xticks(range(len(own)), labels=own if last else [], rotation=90, fontsize=6.5)
    figure.colorbar(image, ax=axes, label=label, shrink=0.8)
    return figure


def head_patches(recovered: Mapping[str, Mapping[str, np.ndarray]], label: str) -> Figure:
    """Draw recoveries (layer, head) of heads, models in rows, one column for each kind of patch."""
    kinds = list(recovered)
    models = list(recovered[kinds[0]])
    heads = max(found.shape[1] for found in recovered[kinds[0]].values())
    layers = [recovered[kinds[0]][model].shape[0] for model in models]
    figure = new_figure(1.4 + len(kinds) * (0.45 + 0.2 * heads), 1.3 + 0.26 * sum(layers))
    axes = figure.subplots(len(models), len(kinds), squeeze=False, height_ratios=layers)
    limit = max(np.abs(values).max() for found in recovered.values() for values in found.values())
    for row, model in zip(axes, models, strict=True):
        for axis, kind in zip(row, kinds, strict=True):
            values = recovered[kind][model]
            image = signed_map(axis, values, limit)
            axis.set_title(f"{model}, {kind}", fontsize=8)
            axis.set_xticks(range(values.shape[1]), labels=[f"H{n}" for n in range(values.shape[1])], fontsize=6)
            names = [f"L{n}" for n in range(values.shape[0])]
            axis.set_yticks(range(values.shape[0]), labels=names if kind == kinds[0] else [])
    figure.colorbar(image, ax=axes, label=label, shrink=0.8)
    return figure


def output_scores_map(percent: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draw how often heads (layer, head) promote tokens, in percent; `percent` is by token, models are in rows."""
    scores = list(percent)
    models = list(percent[scores[0]])
    layers = [percent[scores[0]][model].shape[0] for model in models]
    heads = max(percent[scores[0]][model].shape[1] for model in models)
    figure = new_figure(1.6 + len(scores) * (0.4 + 0.36 * heads), 1.3 + 0.27 * sum(layers))
    axes = figure.subplots(len(models), len(scores), squeeze=False, height_ratios=layers)
    for row, model in zip(axes, models, strict=True):
        for axis, score in zip(row, scores, strict=True):
            values = percent[score][model]
            image = axis.imshow(values, cmap="Blues", vmin=0, vmax=100, origin="lower", aspect="auto")
            for (layer, head), value in np.ndenumerate(values):
                colour = "white" if value > 60 else "black"
                axis.text(head, layer, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
            axis.set_title(f"{model}, {score}")
            axis.set_xticks(range(values.shape[1]), labels=[f"H{n}" for n in range(values.shape[1])], fontsize=7)
            axis.set_yticks(range(values.shape[0]), labels=[f"L{n}" for n in range(values.shape[0])])
    figure.colorbar(image, ax=axes, label="% of prompts", shrink=0.8)
    return figure


def probe_curves(probes: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw what probes reach along the residual stream (DC Figs. 23-26), a panel for each question, both models.

    `probes` has for each model `stages` and `targets`, as in the comparison. Depth is relative, from the embedding (0)
    to the last block (1). Dotted: permuted labels; grey: chance. Crosses: the best head of each layer, where heads are
    asked, and dots the best with permuted labels.
    """
    names = list(probes["teacher"]["targets"])
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(3.3 * columns, 0.5 + 2.3 * rows)
    axes = figure.subplots(rows, columns, sharey=True, sharex=True, squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        for model, found in probes.items():
            _probe(axis, found["targets"][name], COLOURS[model], model)
        axis.axhline(probes["teacher"]["targets"][name]["chance"], color="#888888", linewidth=0.8)
        axis.set_title(textwrap.fill(probes["teacher"]["targets"][name]["title"], TITLE_WIDTH), fontsize=8)
        axis.set_ylim(-0.04, 1.05)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for row in axes:
        row[0].set_ylabel("accuracy or AUROC")
    for axis in axes.flat[max(0, len(names) - columns) : len(names)]:
        axis.set_xlabel("depth")
        axis.tick_params(labelbottom=True)
    with_heads = max(axes.flat[: len(names)], key=lambda axis: len(axis.get_legend_handles_labels()[0]))
    handles, labels = with_heads.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=8, frameon=False)
    return figure


def _probe(axis: Axes, target: Mapping[str, Any], colour: str, model: str) -> None:
    depth = np.linspace(0, 1, len(target["residual"]["mean"]))
    for kind, style, label in (("residual", "-", model), ("residual_control", ":", f"{model}, labels permuted")):
        curve = target[kind]
        axis.plot(depth, curve["mean"], style, color=colour, linewidth=1.4, label=label)
        axis.fill_between(depth, curve["low"], curve["high"], color=colour, alpha=0.2, linewidth=0)
    if "head" in target:
        found = target["head"]
        where = depth[2::2]
        spread = [np.subtract(found["mean"], found["low"]), np.subtract(found["high"], found["mean"])]
        label = f"{model}, best head of a layer"
        axis.errorbar(
            where, found["mean"], yerr=spread, fmt="x", color=colour, markersize=4, elinewidth=0.7, label=label
        )
        permuted = f"{model}, best head, permuted"
        axis.plot(where, target["head_control"]["mean"], ".", color=colour, markersize=4, alpha=0.6, label=permuted)
