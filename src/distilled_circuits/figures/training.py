"""Figures of trainings: accuracies of teacher and student, and the conditions of circuit distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from distilled_circuits.figures.style import CYCLE, new_figure


def accuracy_curves(logs: Mapping[str, Sequence[Mapping[str, Any]]], base_step: int) -> Figure:
    """Draw accuracy by task against training steps for each model; `base_step` of the student is marked."""
    figure = new_figure(8, 2.8)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (model, log) in zip(axes, logs.items(), strict=True):
        for colour, task in zip(cycle(CYCLE), log[0]["accuracy"], strict=False):
            steps = [entry["step"] for entry in log]
            axis.plot(steps, [entry["accuracy"][task] for entry in log], color=colour, label=task, marker=".", ms=4)
        axis.set_title(model)
        axis.set_xlabel("training step")
    axes[1].axvline(base_step, color="black", linewidth=0.8, linestyle=":")
    axes[1].annotate("base", (base_step, 0.03), xytext=(4, 0), textcoords="offset points", fontsize=8, va="bottom")
    axes[0].set_ylabel("accuracy")
    axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    axes[0].legend(fontsize=7, loc="lower right")
    return figure


def loss_curves(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw cross entropy (CD Fig. 5) and debiased CKA against steps; bands span the seeds."""
    figure = new_figure(8.4, 3)
    axes = figure.subplots(1, 2)
    for key, axis, label in zip(
        ("cross_entropy", "debiased_cka"),
        axes,
        ("cross entropy on the teacher's answers", "debiased CKA of the pairs"),
        strict=True,
    ):
        for colour, condition in zip(cycle(CYCLE), dict.fromkeys(run["condition"] for run in runs), strict=False):
            logs = [run["log"] for run in runs if run["condition"] == condition]
            if logs[0][0][key] is None:
                continue
            steps = [entry["step"] for entry in logs[0]]
            values = np.array([[entry[key] for entry in log] for log in logs])
            axis.plot(steps, values.mean(0), color=colour, label=condition, linewidth=1.2)
            axis.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)
        axis.set_xlabel("step")
        axis.set_ylabel(label)
        axis.legend(fontsize=7)
    axes[0].set_yscale("log")
    return figure


def accuracy_bars(
    conditions: Sequence[Mapping[str, Any]], base: Mapping[str, float], teacher: Mapping[str, float]
) -> Figure:
    """Draw accuracy and circuit accuracy of the base, each condition and the teacher; whiskers span the seeds."""
    figure = new_figure(8, 3)
    axis = figure.subplots()
    names = ["base", *(row["condition"] for row in conditions), "teacher"]
    for offset, key, label, colour in (
        (-0.2, "accuracy", "full model", CYCLE[0]),
        (0.2, "circuit_accuracy", "circuit alone", CYCLE[4]),
    ):
        values = [base[key], *(row[key]["value"] for row in conditions), teacher[key]]
        ranges = [(base[key],) * 2, *(tuple(row[key]["range"]) for row in conditions), (teacher[key],) * 2]
        whiskers = np.abs(np.array(ranges).T - np.array(values))
        positions = np.arange(len(names)) + offset
        axis.bar(
            positions,
            values,
            width=0.38,
            color=colour,
            label=label,
            yerr=whiskers,
            ecolor="black",
            capsize=2,
            error_kw={"linewidth": 0.8},
        )
        for x, value, high in zip(positions, values, whiskers[1], strict=True):
            axis.annotate(
                f"{100 * value:.0f}",
                (x, value + high),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
    axis.set_xticks(range(len(names)), labels=names, fontsize=8)
    axis.set_yticks(np.linspace(0, 1, 6))
    axis.set_ylim(0, 1.2)
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.set_ylabel("accuracy")
    axis.legend(fontsize=7, loc="upper left", ncols=2)
    return figure
