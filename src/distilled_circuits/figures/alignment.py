"""Figures of the alignment score: matched pairs, noise, number of prompts, pairs with a known answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distilled_circuits.figures.style import CYCLE, new_figure

NAMED_PAIRS = 6


def matched_pairs(matches: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw each teacher component's influence against its partner's; colour is similarity, the strongest are named."""
    figure = new_figure(5.2, 3.6)
    axis = figure.subplots()
    own = np.array([match["teacher_influence"] for match in matches])
    partner = np.array([match["student_influence"] for match in matches])
    colour = [match["similarity"] for match in matches]
    axis.plot([0, 1], [0, 1], color="grey", linewidth=0.7, linestyle="--", label="equal influence")
    points = axis.scatter(
        own, partner, c=colour, cmap="viridis", vmin=0, vmax=1, s=26, edgecolors="black", linewidths=0.4
    )
    for index in _apart(own, partner):
        text = f"{matches[index]['teacher']}→{matches[index]['student']}"
        right = own[index] < 0.6
        axis.annotate(
            text,
            (own[index], partner[index]),
            xytext=(7 if right else -7, 0),
            textcoords="offset points",
            fontsize=7,
            ha="left" if right else "right",
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
        )
    axis.set_xlim(-0.05, 1.08)
    axis.set_ylim(-0.08, 1.12)
    axis.set_xlabel("influence in the teacher")
    axis.set_ylabel("influence of its partner in the student")
    axis.legend(fontsize=7, loc="lower right")
    figure.colorbar(points, ax=axis, label="similarity")
    return figure


def _apart(own: np.ndarray, partner: np.ndarray) -> list[int]:
    """Return the pairs of largest influence that stand far enough apart for their names not to overlap."""
    chosen: list[int] = []
    for index in np.argsort(-np.maximum(own, partner), kind="stable"):
        near = [n for n in chosen if abs(partner[n] - partner[index]) < 0.07 and abs(own[n] - own[index]) < 0.35]
        if not near and len(chosen) < NAMED_PAIRS:
            chosen.append(int(index))
    return chosen


def noise_curve(level: Sequence[float], curves: Mapping[str, Mapping[str, Any]], published_plateau: float) -> Figure:
    """Draw named scores against the noise (DC Fig. 3), one standard deviation over seeds as bars."""
    figure = new_figure(7, 3.4)
    axis = figure.subplots()
    for colour, (name, curve) in zip(CYCLE, curves.items(), strict=False):
        axis.errorbar(
            level, curve["score"], yerr=curve["standard_deviation"], color=colour, elinewidth=1, capsize=2, marker=".",
            label=name,
        )  # fmt: skip
    axis.axhline(published_plateau, color="black", linewidth=0.7)
    axis.annotate(
        "plateau in the paper (GPT2 / DistilGPT2)",
        (level[0], published_plateau),
        xytext=(0, -9),
        textcoords="offset points",
        fontsize=7,
    )
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("standard deviation of the noise on the student's activations")
    axis.set_ylabel("alignment")
    axis.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(curves), frameon=False)
    return figure


def survey_curves(curves: Sequence[Mapping[str, Any]], presets: Sequence[str]) -> Figure:
    """Draw the score against the noise for every reading, a panel for each named score."""
    figure = new_figure(9.5, 3.6)
    panels = _panels(figure, presets, "noise", sharey=True)
    colours = [*CYCLE, "#7fa7c4", "#e0a18c", "#a9c8a3"]
    for preset, axis in panels.items():
        for colour, curve in zip(colours, curves, strict=False):
            axis.plot(
                curve["level"], curve["presets"][preset]["score"], color=colour, marker=".", linewidth=1,
                label=curve["reading"],
            )  # fmt: skip
        axis.set_ylim(0, 1.02)
    _legend_below(figure, panels[presets[0]], columns=3)
    return figure


def size_curves(by_task: Mapping[str, Mapping[str, Any]], presets: Sequence[str]) -> Figure:
    """Draw scores on fewer prompts, mean and range of the choices, a panel for each named score and a line a task."""
    figure = new_figure(9.5, 3)
    panels = _panels(figure, presets, "prompts")
    for preset, axis in panels.items():
        for colour, (task, found) in zip(CYCLE, by_task.items(), strict=False):
            curve = found["presets"][preset]
            axis.plot(found["sizes"], curve["mean"], color=colour, marker=".", linewidth=1, label=task)
            axis.fill_between(found["sizes"], curve["low"], curve["high"], color=colour, alpha=0.2, linewidth=0)
        axis.set_xscale("log", base=2)
        axis.set_xticks(found["sizes"], [str(size) for size in found["sizes"]])
    panels[presets[0]].legend(fontsize=7, frameon=False)
    return figure


def battery_dots(rows: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw the scores of all candidates by named variant: a dot for each task and teacher, a panel for each variant."""
    candidates = list(next(iter(rows.values())))
    figure = new_figure(9.5, 0.6 + 0.3 * len(candidates))
    panels = _panels(figure, list(rows), "alignment", ylabel="", sharey=True)
    for variant, axis in panels.items():
        for place, candidate in enumerate(candidates):
            values = rows[variant][candidate]
            axis.plot(values, [place] * len(values), "o", color=CYCLE[0], markersize=4, alpha=0.6)
            if values:
                axis.plot([np.mean(values)], [place], "|", color="black", markersize=11)
        axis.set_xlim(-0.02, 1.04)
        axis.grid(axis="y", linewidth=0.4)
    first = next(iter(panels.values()))
    first.set_yticks(range(len(candidates)), candidates)
    first.invert_yaxis()
    return figure


def gap_scatter(points: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> Figure:
    """Draw alignment against the teacher's logit difference less the student's: a panel a variant, a colour each."""
    figure = new_figure(9.5, 3.2)
    panels = _panels(figure, list(points), "performance gap, logits", sharex=True)
    for variant, axis in panels.items():
        for colour, (name, pairs) in zip(CYCLE, points[variant].items(), strict=False):
            if pairs:
                axis.plot(*zip(*pairs, strict=True), "o", color=colour, markersize=4, label=name)
        axis.set_ylim(0, 1.02)
    _legend_below(figure, next(iter(panels.values())), columns=6)
    return figure


def _panels(
    figure: Figure, titles: Sequence[str], xlabel: str, ylabel: str = "alignment", **shared: bool
) -> dict[str, Axes]:
    """Return panels side by side by title; the first one names the upward axis of all."""
    panels = dict(zip(titles, figure.subplots(1, len(titles), squeeze=False, **shared)[0], strict=True))
    for title, axis in panels.items():
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(xlabel)
    panels[titles[0]].set_ylabel(ylabel)
    return panels


def _legend_below(figure: Figure, axis: Axes, columns: int) -> None:
    """Write one legend for all panels, from what is drawn in one of them."""
    entries = axis.get_legend_handles_labels()
    figure.legend(*entries, fontsize=7, loc="outside lower center", ncols=columns, frameon=False)
