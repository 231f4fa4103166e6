"""The pages of docs/ are followed to the letter on a finished run: every command ends well and prints what is shown."""

import shutil
from pathlib import Path

import pytest
from pages import follow, steps, words
from projects import ROOT, call, copy_of

PAGES = {"reproduce.md": 9, "change-a-parameter.md": 12, "audit.md": 9, "team.md": 28}
"""The pages, and how many commands each has at least."""
DEFAULT_RUN = {"entity", "tracking", "words", "ioi", "facts"}
"""What the shown run has and the small one has not."""


@pytest.fixture
def checkout(finished_run, tmp_path, monkeypatch) -> Path:
    """A finished and committed checkout as `make` finds it, whose code others can clone from /srv/team/code.git."""
    folder = copy_of(finished_run, tmp_path / "checkout")
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "results/README.md"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").mkdir()
    (folder / ".venv/ready").touch()
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "t")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "t@t")
    call(folder, "git", "add", "--all")
    call(folder, "git", "commit", "--quiet", "--message", "finished")
    call(tmp_path, "git", "clone", "--quiet", "--bare", "checkout", "team/code.git")
    call(folder, "git", "remote", "add", "origin", str(tmp_path / "team/code.git"))
    call(folder, "git", "push", "--quiet", "--set-upstream", "origin", "HEAD")
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_followed(page, checkout, tmp_path):
    """In one shell from the top to the bottom; each word shown is printed, whatever the numbers are."""
    assert len(steps(page)) >= PAGES[page]
    for step, printed in follow(page, checkout, srv=str(tmp_path)):
        missing = words(" ".join(step.shown)) - words(printed) - words(str(tmp_path)) - DEFAULT_RUN
        assert not missing, f"docs/{page}: `{step.command}` printed\n{printed[-3000:]}"


def test_what_a_page_says_is_found(tmp_path, monkeypatch):
    """Commands and outputs of fences and of indented blocks; a fence without a command and data are no steps."""
    monkeypatch.setattr("pages.ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    text = (
        'Do\n\n    ls a\n    {"x": 1}\n\n```console\n$ dvc status\nAll is 3 up\n$ true\n```\n\n```\nno command\n```\n'
    )
    (tmp_path / "docs/page.md").write_text(text)
    found = [(step.command, step.shown) for step in steps("page.md")]
    assert found == [("ls a", ()), ("dvc status", ("All is 3 up",)), ("true", ())]
    assert words("All is 3 up_date") == {"All", "date"}
