"""The report: one self-contained HTML page of figures, tables and the register."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from distilled_circuits.figures.style import to_png


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its PNG as a data address, its width in CSS pixels, and a caption.

    The caption says what is shown, N and the interval; the title is for those who cannot see the picture.
    """

    source: str
    width: int
    caption: str
    title: str

    @classmethod
    def of(cls, figure: Figure, caption: str, title: str) -> Picture:
        """Draw a figure."""
        source = "data:image/png;base64," + base64.b64encode(to_png(figure)).decode()
        return cls(source, round(figure.get_size_inches()[0] * 96), caption, title)


def render(**content: Any) -> str:
    """Fill the page's template; a name that the template uses and nobody gives is an error."""
    folder = files("distilled_circuits.report")
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "percent": percent,
        "probability": probability,
        "capitalize_first": capitalize_first,
    }
    environment.globals["style"] = (folder / "page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(**content)


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with a fixed number of digits and a real minus sign, none before zero; a dash for None."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return (text if float(text) else text.removeprefix("-")).replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as percent."""
    return "–" if value is None else f"{number(100 * value, digits)}\N{NO-BREAK SPACE}%"


def probability(value: float | None, digits: int = 3) -> str:
    """Return a p value; one that would be rounded to zero as below the smallest that is shown."""
    smallest = 10**-digits
    return f"<{number(smallest, digits)}" if value is not None and value < smallest / 2 else number(value, digits)


def interval(values: list[float] | None, digits: int = 2) -> str:
    """Return an interval in square brackets; nothing for None."""
    return "" if values is None else f"[{number(values[0], digits)}, {number(values[1], digits)}]"


def capitalize_first(text: str) -> str:
    """Return text with a capital letter in front and the rest as it is."""
    return text[:1].upper() + text[1:]
