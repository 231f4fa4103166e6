"""Commands that a page of docs/ gives, with what it shows of their output; and how a page is followed."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from projects import ROOT, environment

BLOCK = re.compile(r"^```\w*\n(.*?)^```$|((?:^    [^\n]+\n)+)", re.MULTILINE | re.DOTALL)
"""A fenced block, or lines indented by four spaces."""
MARK = "=== step"


@dataclass(frozen=True)
class Step:
    """A command, and the lines that the page shows below it."""

    command: str
    shown: tuple[str, ...] = ()


def steps(page: str) -> list[Step]:
    """Return the commands of a page of docs/ in their order.

    Where a block has lines that begin with `$ `, these are commands and the others what was printed. In an indented
    block without such lines every line is a command, but for an example of data in braces.
    """
    found: list[Step] = []
    for fenced, indented in BLOCK.findall((ROOT / "docs" / page).read_text()):
        lines = [line.removeprefix("    ") if indented else line for line in (fenced or indented).splitlines()]
        if any(line.startswith("$ ") for line in lines):
            for line in lines:
                if line.startswith("$ "):
                    found.append(Step(line[2:]))
                elif found:
                    found[-1] = Step(found[-1].command, (*found[-1].shown, line))
        elif indented:
            found += [Step(line) for line in lines if not line.startswith("{")]
    return found


def follow(page: str, folder: Path, **places: str) -> list[tuple[Step, str]]:
    """Run a page's commands in one shell that starts in `folder` and ends at the first that fails.

    `places` are what the page's own stand for: `srv="/tmp/x"` for `/srv`. Returns each step with what it printed.
    """
    todo = steps(page)
    script = "\n".join(f"echo '{MARK} {number}'\n{step.command}" for number, step in enumerate(todo))
    for name, place in places.items():
        script = script.replace(f"/{name}/", f"{place}/")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, f"docs/{page}:\n{done.stdout[-6000:]}"
    printed = re.split(rf"^{MARK} \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    return list(zip(todo, printed, strict=True))


def words(text: str) -> set[str]:
    """Return the words of three letters or more: what is left of an output when its numbers change."""
    return set(re.findall(r"[^\W\d_]{3,}", text))
