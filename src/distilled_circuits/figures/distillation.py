"""Figures of circuit distillation: training curves, accuracies, pairs of heads, curves over lambda and data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from distilled_circuits.figures.style import CYCLE, STUDENT, TEACHER, new_figure, signed_map

BARS = (("accuracy", "full model", CYCLE[0]), ("circuit_accuracy", "circuit alone", CYCLE[4]))
STYLES = ("-", "--", ":")


def condition_style(conditions: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return line style and colour of each condition: the same in every panel of a page."""
    return {
        name: {"color": CYCLE[n % len(CYCLE)], "linestyle": STYLES[n // len(CYCLE) % len(STYLES)]}
        for n, name in enumerate(conditions)
    }


def loss_curves(curves: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw cross entropy (CD Fig. 5) and debiased CKA of the pairs against steps; bands span the seeds.

    `curves` has by condition `step` (entry,), `cross_entropy` and `debiased_cka` (run, entry), NaN where there is none.
    """
    figure = new_figure(8.6, 3.6)
    axes = figure.subplots(1, 2)
    styles = condition_style(list(curves))
    for axis, key in zip(axes, ("cross_entropy", "debiased_cka"), strict=True):
        for name, curve in curves.items():
            values = np.array(curve[key], float)
            if np.isnan(values).any():
                continue
            axis.plot(curve["step"], values.mean(0), label=name, linewidth=1.3, **styles[name])
            axis.fill_between(
                curve["step"], values.min(0), values.max(0), color=styles[name]["color"], alpha=0.12, linewidth=0
            )
        axis.set_xlabel("step")
    axes[0].set_ylabel("cross entropy on the teacher's answers")
    axes[0].set_yscale("log")
    axes[1].set_ylabel("debiased CKA of the pairs")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, loc="outside lower center", ncols=5, frameon=False)
    return figure


def accuracy_bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw accuracy and circuit accuracy of each row with its 95 % interval; base and teacher are rows as well."""
    figure = new_figure(9, 3.4)
    axis = figure.subplots()
    for offset, (key, label, colour) in zip((-0.2, 0.2), BARS, strict=True):
        values = np.array([row[key]["value"] for row in rows])
        ends = np.array([row[key]["interval95"] for row in rows]).T
        places = np.arange(len(rows)) + offset
        axis.bar(
            places, values, width=0.38, color=colour, label=label, yerr=np.abs(ends - values), ecolor="black",
            capsize=2, error_kw={"linewidth": 0.8},
        )  # fmt: skip
        for x, value, high in zip(places, values, ends[1], strict=True):
            axis.annotate(
                f"{100 * value:.0f}", (x, max(value, high)), xytext=(0, 2), textcoords="offset points", ha="center",
                fontsize=7,
            )  # fmt: skip
    axis.set_xticks(range(len(rows)), labels=[row["condition"] for row in rows], fontsize=7.5, rotation=20, ha="right")
    axis.set_ylim(0, 1.15)
    axis.set_yticks(np.linspace(0, 1, 6))
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.set_ylabel("accuracy")
    axis.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return figure


def mapping_diagram(teacher: Mapping[str, float], student: Mapping[str, float], pairs: Mapping[str, Any]) -> Figure:
    """Draw each circuit head's impact on a scale of its model, and join the pairs; one panel a mapping.

    `teacher` and `student` have impacts in points of accuracy by head, `pairs` lists of (student, teacher) by mapping.
    """
    figure = new_figure(2.6 * len(pairs) + 0.6, 3.6)
    axes = np.atleast_1d(figure.subplots(1, len(pairs), sharey=True))
    heights = {"T": _spread(teacher), "S": _spread(student)}
    for axis, (name, joined) in zip(axes, pairs.items(), strict=True):
        for own, other in joined:
            axis.plot([0, 1], [heights["T"][other], heights["S"][own]], color="grey", linewidth=0.9, zorder=1)
        for x, side, colour, ha in ((0, "T", TEACHER, "right"), (1, "S", STUDENT, "left")):
            axis.scatter([x] * len(heights[side]), list(heights[side].values()), color=colour, s=18, zorder=2)
            for head, y in heights[side].items():
                impact = (teacher if side == "T" else student)[head]
                axis.annotate(
                    f"{side}-{head} {100 * impact:.1f}", (x, y), xytext=(-5 if x == 0 else 5, 0),
                    textcoords="offset points", ha=ha, va="center", fontsize=6.5,
                )  # fmt: skip
        axis.set_title(name, fontsize=9)
        axis.set_xlim(-0.95, 1.95)
        axis.set_xticks([0, 1], labels=["teacher", "student"], fontsize=7.5)
        axis.set_yticks([])
        for spine in ("left", "right", "top"):
            axis.spines[spine].set_visible(False)
    return figure


def _spread(impacts: Mapping[str, float]) -> dict[str, float]:
    """Return heights in the order of impact, evenly apart: impacts themselves would lie on each other."""
    ranked = sorted(impacts, key=lambda head: (impacts[head], head))
    return {head: (n + 0.5) / len(ranked) for n, head in enumerate(ranked)}


def weight_curves(
    rows: Sequence[Mapping[str, Any]], reference: float | None, base: float, names: Sequence[str]
) -> Figure:
    """Draw accuracy against lambda for some conditions, and accuracy against the pairs' debiased CKA.

    `reference` is the accuracy of cross entropy alone, `base` the untrained student's accuracy.
    """
    figure = new_figure(8.4, 3.2)
    left, right = figure.subplots(1, 2, sharey=True)
    styles = condition_style(names)
    for name in names:
        own = sorted((row for row in rows if row["condition"] == name), key=lambda row: row["weight"])
        weights, accuracy = [row["weight"] for row in own], [row["accuracy"] for row in own]
        left.plot(weights, accuracy, marker="o", ms=4, label=name, **styles[name])
        right.plot([row["debiased_cka"] for row in own], accuracy, marker="o", ms=4, **styles[name])
        for row in own:
            right.annotate(
                f"{row['weight']:g}", (row["debiased_cka"], row["accuracy"]), xytext=(3, 3),
                textcoords="offset points", fontsize=6,
            )  # fmt: skip
    for axis in (left, right):
        if reference is not None:
            axis.axhline(reference, color="black", linewidth=0.9, label="cross entropy alone")
        axis.axhline(base, color="grey", linewidth=0.9, linestyle=":", label="base")
        axis.yaxis.set_major_formatter(PercentFormatter(1))
    left.set_xscale("log")
    left.set_xlabel("lambda, on the mean over pairs")
    left.set_ylabel("accuracy on validation prompts")
    right.set_xlabel("debiased CKA of the pairs (at each point: lambda)")
    right.xaxis.set_major_locator(MaxNLocator(6))
    left.legend(fontsize=7)
    return figure


def size_curves(rows: Sequence[Mapping[str, Any]], base: float, teacher: float) -> Figure:
    """Draw accuracy against the number of training prompts that are seen, with those of the base and the teacher."""
    figure = new_figure(5.6, 3.2)
    axis = figure.subplots()
    names = list(dict.fromkeys(row["condition"] for row in rows))
    for name, style in condition_style(names).items():
        own = sorted((row for row in rows if row["condition"] == name), key=lambda row: row["seen"])
        axis.plot([row["seen"] for row in own], [row["accuracy"] for row in own], marker="o", ms=4, label=name, **style)
    axis.axhline(base, color="grey", linewidth=0.9, linestyle=":")
    axis.axhline(teacher, color="grey", linewidth=0.9)
    for level, text in ((base, "base"), (teacher, "teacher")):
        axis.annotate(
            text, (min(row["seen"] for row in rows), level), xytext=(0, 2), textcoords="offset points", fontsize=7
        )
    axis.set_xscale("log", base=2)
    # Of more prompts than all steps together see, the rest makes no difference.
    there = {row["seen"]: row["prompts"] for row in rows}
    labels = [str(seen) if seen == prompts else f"{seen}\nof {prompts}" for seen, prompts in sorted(there.items())]
    axis.set_xticks(sorted(there), labels=labels)
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.set_xlabel("training prompts seen")
    axis.set_ylabel("accuracy on validation prompts")
    axis.legend(fontsize=7)
    return figure


def faithfulness_curves(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw what the first 1, 2, ... heads keep of each model's accuracy; `curves` by model and search."""
    figure = new_figure(2.8 * len(curves) + 0.6, 2.8)
    axes = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    styles = condition_style(list(dict.fromkeys(name for found in curves.values() for name in found)))
    for axis, (model, found) in zip(axes, curves.items(), strict=True):
        for name, values in found.items():
            axis.plot(range(1, len(values) + 1), values, marker="o", ms=3, label=name, **styles[name])
        axis.axhline(1, color="grey", linewidth=0.9)
        axis.set_title(model, fontsize=9)
        axis.set_xlabel("heads")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel("faithfulness")
    axes[0].legend(fontsize=7)
    return figure


def head_maps(
    maps: Mapping[str, Mapping[str, np.ndarray]], chosen: Mapping[str, Mapping[str, Sequence[str]]]
) -> Figure:
    """Draw what each search gives every head: one row a model, one column a search, chosen heads framed.

    `maps` has arrays (layer, head) of relative changes by model and search; `chosen` names the heads that were taken.
    """
    columns = len(next(iter(maps.values())))
    figure = new_figure(2.2 * columns + 0.8, 1.7 * len(maps) + 0.5)
    axes = figure.subplots(len(maps), columns, squeeze=False)
    for row, (model, found) in zip(axes, maps.items(), strict=True):
        known = np.concatenate([values[~np.isnan(values)] for values in found.values()])
        limit = max(1e-6, float(np.abs(known).max(initial=0)))
        for axis, (search, values) in zip(row, found.items(), strict=True):
            image = signed_map(axis, values, limit)
            _frame(axis, chosen[model].get(search, ()))
            axis.set_title(f"{model}: {search.replace('_', ' ')}", fontsize=7.5)
            axis.set_xticks(range(values.shape[1]))
            axis.set_yticks(range(values.shape[0]))
            axis.tick_params(labelsize=6.5)
        figure.colorbar(image, ax=list(row), shrink=0.9).ax.tick_params(labelsize=6.5)
        row[0].set_ylabel("layer", fontsize=7.5)
    for axis in axes[-1]:
        axis.set_xlabel("head", fontsize=7.5)
    return figure


def _frame(axis: Axes, heads: Sequence[str]) -> None:
    for name in heads:
        layer, head = (int(part) for part in name[1:].split("H"))
        axis.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, fill=False, linewidth=1.6))
