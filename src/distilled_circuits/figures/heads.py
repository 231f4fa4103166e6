"""Figures of heads: mean attention with a role's cells outlined, and every head's score in every role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from distilled_circuits.figures.style import STUDENT, new_figure

OUTLINE = STUDENT
"""Colour of the cells that define a role, and of heads that play it."""
SHORT = {"numerals": "number", "subjects": "subject", "io": "IO", "s1": "S1", "s2": "S2"}
"""How positions of a role are labelled on axes."""


def attention_maps(
    patterns: Mapping[str, np.ndarray],
    titles: Mapping[str, str],
    cells: Mapping[str, np.ndarray],
    tokens: Mapping[str, Sequence[str]],
) -> Figure:
    """Draw mean attention (query, key) of a head of each model side by side (DC Figs. 4-6, 12-14, 17-19).

    Everything is by model: two models may have tokens of their own. `cells` is the share of prompts in which a cell
    defines the role: outlined, dashed where it is not so in all. Keys that no query reads are left white, above the
    diagonal of causal models.
    """
    length = max(map(len, tokens.values()))
    size = 1.2 + 0.155 * length
    figure = new_figure(2 * size + 0.7, size + 0.3)
    axes = figure.subplots(1, len(patterns))
    for axis, (model, pattern) in zip(axes, patterns.items(), strict=True):
        causal = not np.triu(pattern, k=1).any()
        shown = np.ma.masked_where(np.triu(np.ones_like(pattern), k=1) > 0, pattern) if causal else pattern
        image = axis.imshow(shown, cmap="Blues", vmin=0, vmax=1)
        for query, key in zip(*np.nonzero(cells[model]), strict=True):
            style = "solid" if cells[model][query, key] == 1 else (0, (2, 1.5))
            axis.add_patch(
                Rectangle((key - 0.5, query - 0.5), 1, 1, fill=False, edgecolor=OUTLINE, linewidth=0.9, linestyle=style)
            )
        axis.set_title(titles[model])
        own = tokens[model]
        axis.set_xticks(range(len(own)), labels=own, rotation=90, fontsize=6.5)
        axis.set_yticks(range(len(own)), labels=own, fontsize=6.5)
        axis.set_xlabel("key")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("query")
    figure.colorbar(image, ax=axes, label="mean attention", shrink=0.8)
    return figure


def role_scores_map(scores: Mapping[str, np.ndarray], plays: Mapping[str, np.ndarray], roles: Sequence[str]) -> Figure:
    """Draw the score (role, layer, head) of every head in every role, the student below; framed are heads that play."""
    layers, heads = (max(found.shape[axis] for found in scores.values()) for axis in (1, 2))
    figure = new_figure(2.4 + 0.165 * layers * heads, 1.3 + 0.24 * len(roles) * len(scores))
    axes = figure.subplots(len(scores), 1)
    for axis, (model, found) in zip(axes, scores.items(), strict=True):
        image = _scores(axis, found.reshape(len(roles), -1), plays[model].reshape(len(roles), -1))
        own_layers, own_heads = found.shape[1:]
        axis.set_title(f"{model}, heads by layer")
        axis.set_yticks(range(len(roles)), labels=roles, fontsize=8)
        axis.set_xlim(-0.5, layers * heads - 0.5)
        axis.set_xticks(
            [(layer + 0.5) * own_heads - 0.5 for layer in range(own_layers)],
            labels=[f"L{n}" for n in range(own_layers)],
        )
        axis.tick_params(axis="x", length=0)
        for layer in range(1, own_layers):
            axis.axvline(layer * own_heads - 0.5, color="black", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.colorbar(image, ax=axes, label="score", shrink=0.9)
    return figure


def _scores(axis: Axes, found: np.ndarray, plays: np.ndarray):  # noqa: ANN202
    image = axis.imshow(found, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in zip(*np.nonzero(plays), strict=True):
        axis.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=OUTLINE, linewidth=1.4, zorder=3)
        )
    return image


def token_labels(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a label for each position: the token where it is always the same, else its role, else an example.

    `records` are encoded prompts of one length. Two roles take turns at a position where the order of names changes;
    examples end in an ellipsis. Two `$` in a token would begin and end a formula: they are escaped.
    """
    roles: dict[int, set[str]] = {}
    for record in records:
        for name, short in SHORT.items():
            for position in record["positions"].get(name, []):
                roles.setdefault(position, set()).add(short)
    columns = zip(*(record["tokens"] for record in records), strict=True)
    labels = [
        column[0] if len(set(column)) == 1 else "/".join(sorted(roles.get(position, {f"{column[0]}…"})))
        for position, column in enumerate(columns)
    ]
    return [label.replace("$", r"\$") for label in labels]
