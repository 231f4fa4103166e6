"""How a score falls with noise: forms fitted to a curve and compared by AIC, its plateau, and whether it ever rises."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit

from distilled_circuits.statistics import interval_of_mean

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Form:
    """A family of curves: its formula in words, the function of level and parameters, and where to start fitting."""

    formula: str
    function: Callable[..., Array]
    start: Callable[[float, float, float], tuple[float, ...]]


FORMS = {
    "logarithmic": Form(
        "a - b ln(1 + x / c)",
        lambda x, a, b, c: a - b * np.log1p(x / c),
        lambda first, last, reach: (first, first - last, reach / 4),
    ),
    "exponential": Form(
        "a + b exp(-x / c)",
        lambda x, a, b, c: a + b * np.exp(-x / c),
        lambda first, last, reach: (last, first - last, reach / 4),
    ),
    "hyperbolic": Form(
        "a + b / (1 + x / c)",
        lambda x, a, b, c: a + b / (1 + x / c),
        lambda first, last, reach: (last, first - last, reach / 4),
    ),
    "linear": Form(
        "a - b x",
        lambda x, a, b: a - b * x,
        lambda first, last, reach: (first, (first - last) / reach),
    ),
}
"""What is fitted; the paper calls its curve inverse-logarithmic (DC 4.2.1)."""


def fits(level: Array, score: Array) -> list[dict[str, Any]]:
    """Return the forms fitted by least squares to a curve (level,), the best by AIC first.

    AIC is n ln(RSS / n) + 2 k for k parameters and the variance. Points of one curve share their noise, so differences
    of AIC say which form is closer, not how surely. A form that does not converge is left out.
    """
    found = []
    first, last, reach = float(score[0]), float(score[-1]), float(level[-1])
    for name, form in FORMS.items():
        start = form.start(first, last, reach)
        if len(level) <= len(start) + 1:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", OptimizeWarning)
                parameters, _ = curve_fit(
                    form.function, level, score, start, bounds=_bounds(start, reach), method="trf", max_nfev=5000
                )
        except (RuntimeError, OptimizeWarning):
            continue
        residual = max(float(np.square(score - form.function(level, *parameters)).sum()), 1e-20)
        aic = len(level) * np.log(residual / len(level)) + 2 * (len(start) + 1)
        found.append(
            {
                "form": name,
                "formula": form.formula,
                "parameters": [float(value) for value in parameters],
                "aic": float(aic),
                "rms": float(np.sqrt(residual / len(level))),
            }
        )
    return sorted(found, key=lambda fit: fit["aic"])


def _bounds(start: tuple[float, ...], reach: float) -> tuple[list[float], list[float]]:
    """Return bounds of the parameters: any number, but a scale of levels (the third) within 100 times the range."""
    low, high = [-np.inf] * len(start), [np.inf] * len(start)
    low[2:], high[2:] = [reach / 100] * len(low[2:]), [reach * 100] * len(high[2:])
    return low, high


def plateau(level: Array, score: Array) -> dict[str, Any]:
    """Return the mean of the last quarter of levels, from scores (level, seed), with a t interval over seeds.

    `change` is what the mean still moves from the first to the last of these levels: near zero on a real plateau.
    """
    last = max(2, len(level) // 4)
    by_seed = score[-last:].mean(0)
    return {
        "value": float(by_seed.mean()),
        "interval95": interval_of_mean(by_seed),
        "from": float(level[-last]),
        "change": float(score[-1].mean() - score[-last].mean()),
    }


def spread_over_seeds(score: Array) -> Array:
    """Return the standard deviation (level,) of scores (level, seed): the error bars; zero for a single seed."""
    return score.std(1, ddof=1) if score.shape[1] > 1 else np.zeros(len(score))


def largest_rise(score: Array) -> dict[str, float | bool]:
    """Return how far the mean over seeds rises above an earlier level at most, and whether error bars explain it.

    From scores (level, seed). A rise is explained when it is below the two standard deviations over seeds together.
    """
    mean = score.mean(1)
    spread = spread_over_seeds(score)
    lowest = np.array([int(mean[: index + 1].argmin()) for index in range(len(mean))])
    rise = mean - mean[lowest]
    return {
        "value": float(rise.max()),
        "within_bars": bool((rise <= spread + spread[lowest] + 1e-12).all()),
    }
