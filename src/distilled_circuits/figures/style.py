"""Colours, sizes and file format that all figures share."""

from __future__ import annotations

import io

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

TEACHER, STUDENT = "#33658a", "#d1603d"
"""One colour for each model, in every figure."""
COLOURS = {"teacher": TEACHER, "student": STUDENT}
CYCLE = ("#33658a", "#d1603d", "#5b8e55", "#8a5a9e", "#b3892c", "#4d4d4d")
"""Colours of conditions; all of them print and are told apart without red against green."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, laid out so that labels never overlap."""
    return Figure(figsize=(width, height), layout="constrained")


def signed_map(axis: Axes, values: np.ndarray, limit: float) -> AxesImage:
    """Draw values (layer, ...) with layers upward; white is zero, and colours end at `limit` on both sides."""
    return axis.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit, origin="lower", aspect="auto")


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context({"font.size": 9}):
        figure.savefig(buffer, format="png", dpi=144, metadata={"Software": None})
    return buffer.getvalue()
