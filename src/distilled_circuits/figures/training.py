"""Figure of the trainings of a pair: accuracies of teacher and student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from distilled_circuits.figures.style import CYCLE, new_figure


def accuracy_curves(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draw accuracy by task against training steps for each model."""
    figure = new_figure(8, 2.8)
    axes = figure.subplots(1, len(logs), sharey=True, squeeze=False)[0]
    for axis, (model, log) in zip(axes, logs.items(), strict=True):
        for colour, task in zip(cycle(CYCLE), log[0]["accuracy"], strict=False):
            steps = [entry["step"] for entry in log]
            axis.plot(steps, [entry["accuracy"][task] for entry in log], color=colour, label=task, marker=".", ms=4)
        axis.set_title(model)
        axis.set_xlabel("training step")
    axes[0].set_ylabel("accuracy")
    axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    axes[0].legend(fontsize=7, loc="lower right")
    return figure
