"""The roles that a head can play, each as the cells (query, key) of its attention pattern that define it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.bool_]
"""Cells (prompt, query, key) of attention patterns."""


@dataclass(frozen=True)
class Placed:
    """Prompts of one length as roles see them: token ids (prompt, pos), and positions (prompt, n) by name."""

    ids: NDArray[np.integer]
    positions: Mapping[str, NDArray[np.integer]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of cells: (prompt, pos, pos)."""
        prompts, length = self.ids.shape
        return prompts, length, length

    def first(self, number: int) -> Placed:
        """Return the first `number` prompts."""
        return Placed(self.ids[:number], {name: where[:number] for name, where in self.positions.items()})


@dataclass(frozen=True)
class Role:
    """A role: its name in words, which named positions it needs, and its cells."""

    title: str
    needs: tuple[str, ...]
    cells: Callable[[Placed], Cells]


def _between(query: str, key: str) -> Callable[[Placed], Cells]:
    """Return cells from every position of one name to every earlier position of another."""

    def cells(prompts: Placed) -> Cells:
        found = np.zeros(prompts.shape, dtype=bool)
        queries, keys = prompts.positions[query], prompts.positions[key]
        rows = np.arange(len(queries))[:, None, None]
        found[rows, queries[:, :, None], keys[:, None, :]] = True
        return found & _earlier(prompts)

    return cells


def _earlier(prompts: Placed) -> Cells:
    length = prompts.ids.shape[1]
    return np.broadcast_to(np.tri(length, k=-1, dtype=bool), prompts.shape)


def _previous(prompts: Placed) -> Cells:
    return np.broadcast_to(np.eye(prompts.ids.shape[1], k=-1, dtype=bool), prompts.shape)


def _duplicates(prompts: Placed) -> Cells:
    return (prompts.ids[:, :, None] == prompts.ids[:, None, :]) & _earlier(prompts)


def _induction(prompts: Placed) -> Cells:
    """Return cells from a token to what followed its earlier occurrences (the token itself follows no earlier one)."""
    found = np.zeros(prompts.shape, dtype=bool)
    found[:, :, 1:] = _duplicates(prompts)[:, :, :-1]
    return found & _earlier(prompts)


ROLES = {
    "previous_token": Role("previous token head", (), _previous),
    "duplicate_token": Role("similar member / duplicate token head", (), _duplicates),
    "induction": Role("induction head", (), _induction),
    "numeral_detection": Role("numeral detection head", ("numerals",), _between("numerals", "numerals")),
    "numeral_mover": Role("numeral mover head", ("last", "numerals"), _between("last", "numerals")),
    "successor": Role("successor head", ("last", "last_numeral"), _between("last", "last_numeral")),
    "name_mover": Role("name mover head", ("last", "io"), _between("last", "io")),
}
"""Roles by name, in the words of DC Table 1 and Appendix G:

* previous token: from each token to the one before;
* duplicate token (DC: similar member): from each token to earlier occurrences of it;
* induction: from each token to what followed its earlier occurrences;
* numeral detection: from each numeral to the earlier numerals;
* numeral mover: from the last token to the numerals;
* successor: from the last token to the last numeral;
* name mover: from the last token to the indirect object.
"""


def roles_of(prompts: Placed) -> dict[str, Role]:
    """Return the roles that these prompts can show: whose positions they name, and whose cells they have."""
    return {
        name: role
        for name, role in ROLES.items()
        if all(position in prompts.positions for position in role.needs) and role.cells(prompts).any()
    }
