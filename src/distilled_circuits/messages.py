"""A message as a person gets to see it: one line of bounded length, whatever the file that it quotes has in it."""

from __future__ import annotations

import reprlib

MOST = 600
"""Characters of a message; of a longer one the middle is left out, for what to do stands at its end."""

MOST_SHOWN = 120
"""Characters of a value in it."""


def one_line(message: object) -> str:
    """Return a message on one printable line."""
    line = printable(message)
    return line if len(line) <= MOST else f"{line[: MOST - 105]} ... {line[-100:]}"


def printable(message: object) -> str:
    """Return a message on one line, what does not print as escapes, so that no file can write to a terminal."""
    words = " ".join(str(message).split())
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in words)


def shown(value: object) -> str:
    """Return a value that was found, so much of it that a person recognises it."""
    text = _SHORTENED.repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


_SHORTENED = reprlib.Repr()
for _limit, _most in (("level", 2), ("dict", 4), ("list", 8), ("string", 80), ("long", 40), ("other", 80)):
    setattr(_SHORTENED, f"max{_limit}", _most)
