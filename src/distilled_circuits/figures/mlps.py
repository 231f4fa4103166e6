"""Figures of MLPs: the similarity of all pairs, their outputs' directions, what they add, and the logit lens."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from distilled_circuits.figures.style import COLOURS, STUDENT, TEACHER, new_figure, signed_map


def mlp_heat_maps(similarities: Mapping[str, np.ndarray], similar: float, framed: Collection[str]) -> Figure:
    """Draw teacher MLPs against student MLPs by each measure (DC Fig. 7).

    Pairs above `similar` are framed for the measures in `framed`.
    """
    teachers, students = next(iter(similarities.values())).shape
    figure = new_figure(1.1 + len(similarities) * (0.35 + 0.55 * students), 1.2 + 0.38 * teachers)
    axes = figure.subplots(1, len(similarities), squeeze=False)[0]
    for axis, (measure, values) in zip(axes, similarities.items(), strict=True):
        image = axis.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            colour = "white" if value > 0.6 else "black"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
            if measure in framed and value > similar:
                axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=STUDENT, linewidth=1.8))
        axis.set_title(measure)
        axis.set_xticks(range(students), labels=[f"S-MLP{n}" for n in range(students)], fontsize=8)
        names = [f"T-MLP{n}" for n in range(teachers)]
        axis.set_yticks(range(teachers), labels=names if axis is axes[0] else [])
    figure.colorbar(image, ax=axes, label="similarity")
    return figure


def mlp_scatters(pairs: Sequence[tuple[str, np.ndarray, str, np.ndarray]]) -> Figure:
    """Draw outputs (prompt, pos, 2) of pairs, teacher above student, in their own directions (DC Figs. 2, 20, 21).

    A pair is the teacher MLP's name and points, then the student's; the first token is marked.
    """
    figure = new_figure(1.0 + 1.75 * len(pairs), 4.2)
    axes = figure.subplots(2, len(pairs), squeeze=False)
    for column, (*teacher, student, points) in zip(axes.T, pairs, strict=True):
        for axis, name, outputs, colour in ((column[0], *teacher, TEACHER), (column[1], student, points, STUDENT)):
            _scatter(axis, outputs, colour)
            axis.set_title(name, fontsize=8)
            axis.tick_params(labelsize=6)
            axis.margins(0.12)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def _scatter(axis: Axes, points: np.ndarray, colour: str) -> None:
    axis.scatter(*points[:, 1:].reshape(-1, 2).T, s=4, color=colour, alpha=0.35, label="other tokens", linewidths=0)
    axis.scatter(*points[:, 0].T, s=18, color="black", marker="x", linewidths=0.9, label="first token")


def attribution_maps(parts: Mapping[str, np.ndarray], tokens: Mapping[str, Sequence[str]]) -> Figure:
    """Draw what each MLP (layer, pos) adds to the logit difference read at each position (DC Figs. 10, 11)."""
    layers = max(len(values) for values in parts.values())
    figure = new_figure(1.6 + 2 * 0.2 * max(map(len, tokens.values())), 1.5 + 0.27 * layers)
    axes = figure.subplots(1, len(parts), squeeze=False)[0]
    limit = max(np.abs(values).max() for values in parts.values())
    for axis, (model, values) in zip(axes, parts.items(), strict=True):
        image = signed_map(axis, values, limit)
        axis.set_title(model)
        axis.set_xticks(range(len(tokens[model])), labels=tokens[model], rotation=90, fontsize=6.5)
        axis.set_yticks(range(len(values)), labels=[f"MLP{n}" for n in range(len(values))])
    figure.colorbar(image, ax=axes, label="logits")
    return figure


def logit_lens_curves(found: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> Figure:
    """Draw probability and median rank of answer and distractor after each layer, 0 being the embedding."""
    figure = new_figure(8, 2.8)
    axes = figure.subplots(1, 2)
    for model, tokens in found.items():
        for token, style in (("answer", "o-"), ("distractor", "s:")):
            for axis, what, shift in ((axes[0], "probability", 0), (axes[1], "median_rank", 1)):
                values = np.array(tokens[token][what]) + shift
                axis.plot(values, style, color=COLOURS[model], markersize=3, linewidth=1.2, label=f"{model}, {token}")
    axes[0].set_ylabel("mean probability")
    axes[1].set_ylabel("median rank (1 is first)")
    axes[1].set_yscale("log")
    axes[1].invert_yaxis()
    for axis in axes:
        axis.set_xlabel("layers passed")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure
