"""The figure of distribution shift: what each model keeps of its logit difference on prompts unlike training's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from distilled_circuits.figures.style import STUDENT, TEACHER, new_figure


def shift_bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw, for each kind of prompts, the share of the usual logit difference that both models keep, with intervals.

    `rows` are those of the comparison for which shares could be taken.
    """
    figure = new_figure(8.2, 1.3 + 0.5 * len(rows))
    axis = figure.subplots()
    for offset, model, colour in ((-0.19, "teacher", TEACHER), (0.19, "student", STUDENT)):
        kept = [row[model]["kept"] for row in rows]
        values = np.array([entry["value"] for entry in kept])
        ends = np.array([entry["interval95"] for entry in kept])
        spread = np.maximum([values - ends[:, 0], ends[:, 1] - values], 0)
        axis.barh(
            np.arange(len(rows)) + offset, values, xerr=spread, height=0.36, color=colour, label=model,
            error_kw={"linewidth": 0.8},
        )  # fmt: skip
    axis.axvline(100, color="black", linewidth=0.6, linestyle="dotted")
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set_yticks(range(len(rows)), labels=[row["title"] for row in rows])
    axis.invert_yaxis()
    axis.set_xlabel("logit difference kept (% of that on the usual prompts)")
    figure.legend(loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    return figure
