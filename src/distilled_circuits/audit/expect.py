"""What invariants are written with: each function yields a `Wrong` where an expectation does not hold."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from distilled_circuits.audit.findings import Wrong, shown
from distilled_circuits.audit.store import Arrays

CLOSE = 1e-4
"""How far two ways to the same number may be apart, relative to its size (or to 1): float32 sums in another order."""
KINDS = {
    "number": "f",
    "number or nan": "f",
    "share": "f",
    "share or nan": "f",
    "score": "f",
    "score or nan": "f",
    "log probability": "f",
    "count": "iu",
    "integer": "iu",
    "flag": "b",
    "text": "O",
}
"""What a dataset may hold, with NumPy's kinds of types: a share is 0 to 1, a score is -1 to 1."""
BOUND = sys.float_info.max
RANGES = {"share": (0, 1), "score": (-1, 1), "log probability": (-BOUND, 0), "count": (0, BOUND)}
LARGE = 2**22
"""Bytes from which on a dataset is read in blocks."""
SLACK = 1e-5
"""Rounding beyond a range: a cosine of float32 vectors is not quite at most 1."""


def same(place: str, found: Any, expected: Any) -> Iterator[Wrong]:
    """Two things are equal."""
    if found != expected:
        yield Wrong(place, shown(expected), shown(found))


def close(place: str, found: ArrayLike, expected: ArrayLike, tolerance: float = CLOSE) -> Iterator[Wrong]:
    """Numbers are equal but for rounding; NaN stands where NaN is expected."""
    one, other = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    if one.shape != other.shape:
        yield Wrong(place, f"shape {other.shape}", f"shape {one.shape}")
        return
    largest = np.abs(other[np.isfinite(other)]).max(initial=1.0)
    apart = ~np.isclose(one, other, rtol=tolerance, atol=tolerance * largest, equal_nan=True)
    if apart.any():
        index = tuple(np.argwhere(apart)[0].tolist())
        where = f"{place}{list(index)}" if index else place
        yield Wrong(where, f"{other[index]:.8g}", f"{one[index]:.8g}")


def within(place: str, values: ArrayLike, low: float, high: float) -> Iterator[Wrong]:
    """Numbers are in a range, rounding aside; NaN is in none."""
    found = np.asarray(values)
    for extreme in (float(found.min()), float(found.max())) if found.size else ():
        if not low - SLACK <= extreme <= high + SLACK:
            yield Wrong(place, f"{low} to {high}", f"{extreme:.8g}")
            return


def holds(place: str, true: Any, expected: str, found: Any) -> Iterator[Wrong]:
    """Something is true; `expected` and `found` say what, and what is there instead."""
    if not true:
        yield Wrong(place, expected, shown(found))


def finite(content: Any) -> Iterator[Wrong]:
    """No number anywhere in JSON is NaN or infinite."""
    try:
        json.dumps(content, allow_nan=False)
    except ValueError:
        yield from _endless("", content)


def _endless(place: str, content: Any) -> Iterator[Wrong]:
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _endless(f"{place}.{key}" if place else str(key), value)
    elif isinstance(content, float) and not math.isfinite(content):
        yield Wrong(place, "a finite number", str(content))


def layout(arrays: Arrays, form: Mapping[str, str], sizes: Mapping[str, int], prefix: str = "") -> Iterator[Wrong]:
    """Datasets below `prefix` are those of a form: kind of values, names of axes, and lengths that agree.

    `form` has for each dataset a kind and its axes, such as `share: layer head`; with `?` before it the dataset need
    not be there. `sizes` are known lengths of axes; of the others, all that have a name have one length.
    """
    known = dict(sizes)
    for name, spec in form.items():
        path, kind, axes = f"{prefix}{name}", spec.lstrip("?").partition(":")[0], spec.partition(":")[2].split()
        if path not in arrays:
            yield from holds(path, spec.startswith("?"), "a dataset", "nothing")
            continue
        dataset = arrays.dataset(path)
        empty = dataset.size == 0  # NumPy knows no type of an empty list
        wrong = [
            *holds(path, dataset.dtype.kind in KINDS[kind] or empty, f"values of kind {kind}", dataset.dtype),
            *same(f"{path}, axes", arrays.labels(path).split(), axes),
        ]
        if not wrong:
            expected = tuple(known.setdefault(axis, length) for axis, length in zip(axes, dataset.shape, strict=True))
            wrong += same(f"{path}, shape", dataset.shape, expected)
        yield from wrong
        if not wrong:
            yield from values(arrays, path, kind)


def values(arrays: Arrays, path: str, kind: str) -> Iterator[Wrong]:
    """All values of a dataset are as its kind has them."""
    if kind in ("flag", "text", "integer"):
        return
    low, high = RANGES.get(kind.removesuffix(" or nan"), (-BOUND, BOUND))
    large = arrays.dataset(path).nbytes > LARGE
    for block in arrays.blocks(path) if large else [arrays[path]]:
        kept = block[~np.isnan(block)] if kind.endswith("or nan") else block
        wrong = list(within(path, kept, low, high))
        if wrong:
            yield wrong[0]
            return


def nothing_else(arrays: Arrays, *forms: str) -> Iterator[Wrong]:
    """There is no dataset beside those named."""
    extra = set(arrays) - set(forms)
    if extra:
        yield Wrong(min(extra), "no such dataset", "one")
