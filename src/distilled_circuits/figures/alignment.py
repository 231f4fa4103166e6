"""Figures of the alignment score: the matched pairs behind it, and the score under noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from distilled_circuits.figures.style import STUDENT, TEACHER, new_figure

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


def noise_curve(
    level: np.ndarray, score: np.ndarray, similarity: np.ndarray, agreement: np.ndarray, published_plateau: float
) -> Figure:
    """Draw the score against the noise (DC Fig. 3), one standard deviation over seeds as bars, with its two parts."""
    figure = new_figure(7, 3.2)
    axis = figure.subplots()
    spread = score.std(1, ddof=1) if score.shape[1] > 1 else None
    axis.errorbar(
        level,
        score.mean(1),
        yerr=spread,
        color=TEACHER,
        ecolor=STUDENT,
        elinewidth=1,
        capsize=2,
        marker=".",
        label="alignment",
    )
    axis.plot(level, similarity.mean(1), color="grey", linewidth=1, linestyle="--", label="mean similarity alone")
    axis.plot(
        level, agreement.mean(1), color="grey", linewidth=1, linestyle=":", label="mean influence agreement alone"
    )
    axis.axhline(published_plateau, color="black", linewidth=0.7)
    axis.annotate(
        "plateau in the paper (GPT2 / DistilGPT2)",
        (level[-1], published_plateau),
        xytext=(0, -9),
        textcoords="offset points",
        fontsize=7,
        ha="right",
    )
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("standard deviation of the noise on the student's activations")
    axis.set_ylabel("alignment")
    axis.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
    return figure
