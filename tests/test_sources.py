"""What the page says of where its parts come from: artifacts found, digested, and given to the parts made of them."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from distilled_circuits.artifacts import Provenance, write_hdf5, write_json, write_text
from distilled_circuits.report.sources import DISTILLATION, PAIR, RUN, TASK, artifacts_of, sources_of


def said(stage: str) -> Provenance:
    """Return what an artifact of a stage says of itself."""
    return Provenance("made/1", stage, params={}, inputs={}, device="cpu", dtype="float32")


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """Two tasks of a pair with a few artifacts, a model with a file that is none, and the comparison."""
    monkeypatch.chdir(tmp_path)
    folder = Path("results/pairs/mini")
    for task in ("ioi", "facts"):
        with write_hdf5(folder / task / "battery.h5", said(f"battery@mini-{task}")) as file:
            file.put("score", [1.0], ["case"])
        write_json(folder / task / "circuit.json", said(f"circuit@mini-{task}"), {})
    write_json(folder / "teacher/model.json", said("teacher@mini"), {})
    write_text(folder / "teacher/config.json", json.dumps({"n_layer": 2}))
    write_text(folder / "README.md", "no artifact")
    write_json(Path("results/comparison.json"), said("comparison"), {})
    return Path("results")


def test_artifacts_are_found_by_what_they_say_of_themselves(results):
    """Files below folders, by path; the digest is what `sha256sum` prints, the size the file's."""
    found = {each.path: each for each in artifacts_of([results / "comparison.json", results / "pairs"])}
    assert list(found) == [
        "results/comparison.json",
        "results/pairs/mini/facts/battery.h5",
        "results/pairs/mini/facts/circuit.json",
        "results/pairs/mini/ioi/battery.h5",
        "results/pairs/mini/ioi/circuit.json",
        "results/pairs/mini/teacher/model.json",
    ]
    content = Path("results/pairs/mini/ioi/battery.h5").read_bytes()
    battery = found["results/pairs/mini/ioi/battery.h5"]
    assert (battery.sha256, battery.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert battery.stage == "battery@mini-ioi"


def test_parts_are_made_of_what_they_declare(results):
    """A task's part of its own files, a pair's of all its tasks' and the comparison; what was not run is left out."""
    artifacts = artifacts_of([results])
    own = sources_of({"grid": "influence.h5 circuit.json"}, results / "pairs/mini/ioi", artifacts)
    assert [each.path for each in own["grid"]] == ["results/pairs/mini/ioi/circuit.json"]
    of_pair = sources_of({"battery": "comparison */battery.h5"}, results / "pairs/mini", artifacts)
    assert [each.stage for each in of_pair["battery"]] == ["comparison", "battery@mini-facts", "battery@mini-ioi"]
    named = sources_of({"circuit": "{task}/circuit.json"}, results / "pairs/mini", artifacts, task="facts")
    assert [each.path for each in named["circuit"]] == ["results/pairs/mini/facts/circuit.json"]


def test_the_parts_of_the_page_are_those_that_are_declared():
    """The templates name no part without a source, and no declared part is left over."""
    folder = Path(__file__).parent.parent / "src/distilled_circuits/report"
    text = "".join(template.read_text() for template in folder.glob("*.j2"))
    assert set(re.findall(r"sources\.(\w+)", text)) == {*TASK, *PAIR, *DISTILLATION, *RUN}
