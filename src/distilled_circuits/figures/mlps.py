"""Figures of MLPs: the similarity of all pairs, and outputs of a pair in their principal directions."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from distilled_circuits.figures.style import STUDENT, TEACHER, new_figure


def mlp_heat_map(similarity: np.ndarray, similar: float) -> Figure:
    """Draw the similarity of every teacher MLP with every student MLP (DC Fig. 7); pairs above `similar` are framed."""
    teachers, students = similarity.shape
    figure = new_figure(1.9 + 0.62 * students, 1.1 + 0.4 * teachers)
    axis = figure.subplots()
    image = axis.imshow(similarity, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(similarity):
        axis.text(
            column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white" if value > 0.6 else "black"
        )
        if value > similar:
            axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=STUDENT, linewidth=1.8))
    axis.set_xticks(range(students), labels=[f"S-MLP{n}" for n in range(students)])
    axis.set_yticks(range(teachers), labels=[f"T-MLP{n}" for n in range(teachers)])
    figure.colorbar(image, ax=axis, label="mean |cosine|")
    return figure


def mlp_scatter(teacher: np.ndarray, student: np.ndarray, names: tuple[str, str]) -> Figure:
    """Draw a pair's outputs (prompt, pos, 2) in each model's own two directions, the first token marked (DC Fig. 2)."""
    figure = new_figure(7.4, 3.2)
    axes = figure.subplots(1, 2)
    for axis, points, name, colour in zip(axes, (teacher, student), names, (TEACHER, STUDENT), strict=True):
        axis.scatter(*points[:, 1:].reshape(-1, 2).T, s=7, color=colour, alpha=0.35, label="other tokens", linewidths=0)
        axis.scatter(*points[:, 0].T, s=26, color="black", marker="x", linewidths=1, label="first token")
        axis.set_title(name)
        axis.set_xlabel("first direction")
        axis.margins(0.12)
    axes[0].set_ylabel("second direction")
    axes[0].legend(loc="best", fontsize=7, framealpha=0.8)
    return figure
