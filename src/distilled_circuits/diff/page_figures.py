"""The figures of the report's page by section and title, each with the digest of its picture."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser


def figures_of(page: str) -> dict[str, str]:
    """Return the SHA-256 of every embedded picture by `section: title`; a second of that name gets a number.

    The section is the id of the heading above it, the title what the page says to those who cannot see it. Captions are
    no names: they have numbers in them.
    """
    parser = _Figures()
    parser.feed(page)
    parser.close()
    return parser.found


class _Figures(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._section = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the section of a heading and the digest of a picture."""
        given = {name: value or "" for name, value in attrs}
        if re.fullmatch("h[1-6]", tag) and given.get("id"):
            self._section = given["id"]
        elif tag == "img" and given.get("src", "").startswith("data:"):
            name = f"{self._section}: {given.get('alt', '')}"
            same = sum(known == name or known.startswith(f"{name} (") for known in self.found)
            name = f"{name} ({same + 1})" if same else name
            self.found[name] = hashlib.sha256(given["src"].encode()).hexdigest()
