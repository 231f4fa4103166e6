"""The tutorial is followed to the letter: each of its commands is run, and a report comes out."""

import json
import re
import shutil
from pathlib import Path

import pytest
from pages import follow, steps
from projects import ROOT, project


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> tuple[Path, str]:
    """A clone in which everything was done as the tutorial says, and what was printed."""
    params = (ROOT / "params.yaml").read_text()
    fewer_levels = params.replace("step: 0.05}", "step: 0.5}").replace("step: 0.4,", "step: 2.0,")  # of noise: a tenth
    assert len(fewer_levels) == len(params) - 1
    folder = project(tmp_path_factory.mktemp("tutorial") / "clone", fewer_levels)
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder, "\n".join(printed for _, printed in follow("tutorial.md", folder))


def test_the_tutorial_has_its_steps():
    """Make checkpoints, copy the task, edit params.yaml, ask, run."""
    assert [step.command.split()[0] for step in steps("tutorial.md")] == [
        "python", "mkdir", "cp", "sed", "distilled-circuits", "snakemake",
    ]  # fmt: skip


def test_a_report_comes_out(followed):
    """On the pair and the task, with a teacher that knows it and a circuit."""
    folder, printed = followed
    assert "mine teacher: mine/teacher: 0.00 GB to fetch" in printed
    pair = json.loads((folder / "results/comparison.json").read_text())["pairs"]["mine"]
    task = pair["tasks"]["mine"]
    assert task["logit_difference"]["teacher"]["interval95"][0] > 0
    assert task["circuit"]["teacher"]["heads"] + task["circuit"]["teacher"]["mlps"] > 0
    assert set(task["patching"]["teacher"]["places"]) == {"days", "last", "last_day", "all"}
    page = (folder / "results/report.html").read_text()
    assert "My own task" in page
    assert "came on" in page


def test_the_example_of_a_line_is_one(tmp_path):
    """The JSON in the text is read as it stands there."""
    from distilled_circuits.tasks.own import read_own

    (line,) = re.findall(r"^    (\{.+\})$", (ROOT / "docs/tutorial.md").read_text(), re.MULTILINE)
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{line}\n")
    (prompt,) = read_own(path)
    assert prompt.answer == "Wednesday"
