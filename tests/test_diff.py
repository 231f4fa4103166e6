"""`diff` says in what two runs differ: pure comparison worked out by hand, then revisions, caches and what is amiss."""

import json
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import yaml
from projects import git_commit, git_init

from distilled_circuits.artifacts import Provenance, write_hdf5, write_json
from distilled_circuits.cli import main
from distilled_circuits.diff.changes import Change, changes, flattened
from distilled_circuits.diff.circuits import Circuit, compare_circuits, large
from distilled_circuits.diff.differences import Side, compare
from distilled_circuits.diff.numbers import Number, NumberChange, headline, numbers_of
from distilled_circuits.diff.page_figures import figures_of
from distilled_circuits.diff.text import lines_of
from distilled_circuits.lockfile import md5


def test_values_change_appear_and_vanish_by_dotted_name():
    """A list is one value, null is a value, an empty section is no hole, and a date is text."""
    old = flattened({"a": {"b": 1, "c": [1, 2]}, "gone": None, "same": {}, "day": date(2025, 5, 16)})
    new = flattened({"a": {"b": 1, "c": [2]}, "same": {}, "day": "2025-05-16", "late": {"x": None}})
    assert changes(old, new) == (
        Change("a.c", "changed", [1, 2], [2]),
        Change("gone", "removed", None, None),
        Change("late.x", "added", None, None),
    )


def test_numbers_go_by_names_and_take_their_interval_along():
    """Entries of a list by their name, those without one or with another's by index; booleans and ranges are none."""
    content = {
        "score": {"value": 1, "interval95": [0, 2], "interval95_prompts": [0, 3], "range": [5, 6], "percent": 7},
        "rows": [{"node": "L0H1", "value": 2.0}, {"node": "MLP0", "value": None}],
        "twins": [{"name": "x", "n": 1}, {"name": "x", "n": 2}],
        "curve": [0.5],
        "yes": True,
    }
    assert dict(numbers_of(content)) == {
        ("score",): Number(1, (0, 2)),
        ("score", "percent"): Number(7),
        ("rows", "L0H1"): Number(2),
        ("twins", "0", "n"): Number(1),
        ("twins", "1", "n"): Number(2),
        ("curve", "0"): Number(0.5),
    }


@pytest.mark.parametrize(
    ("old", "new", "changed", "apart"),
    [
        (Number(1, (0, 2)), Number(4, (2, 6)), True, False),
        (Number(1, (0, 2)), Number(4, (2.1, 6)), True, True),
        (Number(4, (2.1, 6)), Number(1, (0, 2)), True, True),
        (Number(1, (0, 2)), Number(1, (0, 3)), True, False),
        (Number(1, (0, 2)), Number(1 + 1e-7, (0, 2)), False, False),
        (Number(1), Number(1.001), True, None),
        (Number(1, (0, 2)), Number(1), True, None),
    ],
)
def test_intervals_are_apart_when_they_share_no_point(old, new, changed, apart):
    """In either order; unknown where one is missing; what differs by less than a millionth is the same."""
    found = NumberChange.between("n", old, new)
    assert (found.changed, found.apart, found.difference) == (changed, apart, new.value - old.value)


def test_headline_numbers_say_what_they_are():
    """Alignment, completeness and the second paper's accuracies; a part of them is none."""
    place = ("pairs", "mini", "tasks", "ioi")
    assert headline((*place, "alignment", "presets", "printed", "score")) == ("mini ioi", "alignment, printed")
    assert headline((*place, "circuit", "teacher", "only_circuit", "percent")) == (
        "mini ioi",
        "only the circuit, %, teacher",
    )
    assert headline(("distillation", "0-small-x", "models", "base", "full")) == ("0-small-x", "accuracy, base")
    assert headline((*place, "circuit", "teacher", "only_circuit")) is None


def test_circuits_lose_and_gain_nodes_and_edges():
    """Two of four nodes in both: a Jaccard index of 1/2; effects by size of their change, from one point on large."""
    old = Circuit({"A": Number(10), "B": Number(5), "C": None}, {"A->B": Number(3)}, {"A": Number(1), "Z": Number(2)})
    new = Circuit({"A": Number(10.5), "B": Number(2), "D": Number(7)}, {}, {"A": Number(1), "Z": Number(3)})
    found = compare_circuits("mini ioi teacher", old, new)
    assert (found.nodes.old, found.nodes.new, found.nodes.jaccard) == (3, 3, 0.5)
    assert (found.nodes.lost, found.nodes.gained) == ({"C": None}, {"D": Number(7)})
    assert [(effect.name, effect.difference) for effect in found.nodes.kept] == [("B", -3), ("A", 0.5)]
    assert [effect.name for effect in large(found.nodes.kept)] == ["B"]
    assert (found.edges.lost, found.edges.jaccard) == ({"A->B": Number(3)}, 0)
    assert [(drop.name, drop.changed) for drop in found.drops] == [("Z", True), ("A", False)]
    assert found.changed
    empty = Circuit({}, {}, {})
    assert compare_circuits("none", empty, empty).nodes.jaccard == 1
    assert not compare_circuits("same", old, old).changed


def test_figures_go_by_section_and_title():
    """Not by captions; a second of one title gets a number, and pictures from elsewhere are none of ours."""
    page = '<h2 id="s">S</h2><h3>no id</h3>' + "".join(
        f'<figure><img src="{source}" alt="a &amp; b"><figcaption>N = {source}</figcaption></figure>'
        for source in ("data:1", "data:2", "https://elsewhere")
    )
    old, new = figures_of(page), figures_of(page.replace("data:2", "data:3"))
    assert list(old) == ["s: a & b", "s: a & b (2)"]
    assert [change.name for change in changes(old, new)] == ["s: a & b (2)"]


def test_what_one_side_has_alone_is_named_and_the_rest_compared():
    """A task more: its circuits and numbers are of one side, those of both are held against each other."""

    def scores(**tasks):
        return {
            ("pairs", "mini", "tasks", task, "alignment", "presets", "printed", "score"): Number(score)
            for task, score in tasks.items()
        }

    circuit = Circuit({"A": None}, {}, {})
    old = Side(
        "old", "old", {}, {"a": "1"}, {"a": "s"}, scores(ioi=0.5), {}, {"mini ioi teacher": circuit}, {"x: y": "1"}
    )
    new = Side(
        "new", "new", {"p": 1}, {"a": "1", "b": "2"}, {"a": "s", "b": "s"}, scores(ioi=0.25, words=1), {},
        {"mini ioi teacher": circuit, "mini words teacher": circuit}, {"x: y": "1", "x: z": "2"},
    )  # fmt: skip
    found = compare(old, new)
    assert (found.circuits_on_one_side.only_new, found.circuits_on_one_side.both) == (("mini words teacher",), 1)
    assert [row.change.difference for row in found.headlines] == [-0.25]
    assert [(stage.stage, stage.added, stage.same) for stage in found.outputs] == [("s", ("b",), 1)]
    text = "\n".join(lines_of(found))
    assert "circuits of new alone: mini words teacher" in text
    assert "figures of new alone: x: z" in text
    assert "alignment, printed  0.500" in text
    assert "No difference" in "\n".join(lines_of(compare(old, old)))


def said_by(schema):
    """Return what an artifact says of itself."""
    return Provenance(schema, "stage", {}, {}, "cpu", "float32", libraries={"numpy": "2.0"})


class Run:
    """A git repository with runs whose artifacts are made by hand, put into a cache as DVC does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, folder / "results/pairs/mini/ioi"
        self.cache = folder / ".dvc/cache"
        folder.mkdir()
        (folder / ".gitignore").write_text("/results/\n/.dvc/\n")
        (folder / "params.yaml").write_text("circuit: {threshold: 0.2}\n")
        git_init(folder)

    def make(self, threshold: float, nodes: dict[str, float], score: float, schema: str = "circuit/2") -> None:
        """Write the artifacts of a run."""
        (self.folder / "params.yaml").write_text(yaml.safe_dump({"circuit": {"threshold": threshold}}))
        minimality = [{"node": n, "value": v, "interval95": [v - 1, v + 1]} for n, v in nodes.items()]
        task = {
            "alignment": {"presets": {"printed": {"score": {"value": score, "interval95": [score, score + 0.1]}}}},
            "circuit": {"teacher": {"minimality": minimality}},
        }
        claim = {"claim": {"text": "C"}, "verdict": {"verdict": "held" if score > 0.5 else "open"}}
        verdicts = {"of": {"teacher": 0, "task": "tom"}, "verdict": claim["verdict"], "claims": [claim]}
        write_json(self.place / "circuit.json", said_by(schema), {"teacher": {"nodes": list(nodes)}})
        content = {"pairs": {"mini": {"tasks": {"ioi": task}}}, "register": {}, "distillation_register": []}
        write_json(
            self.folder / "results/comparison.json", said_by("comparison/1"), {**content, "distillation": [verdicts]}
        )
        with write_hdf5(self.place / "edges.h5", said_by("edges/1")) as file:
            file.put("teacher/edges", [f"{node}->logits" for node in nodes], ["edge"])
            # The circuit keeps 4 of 5; patching each edge leaves 3, a quarter less.
            file.put("teacher/patched", np.full((len(nodes), 2), 3.0), ["edge", "prompt"])
            file.put("teacher/circuit", np.full(2, 4.0), ["prompt"])
            file.put("teacher/full", np.full(2, 5.0), ["prompt"])
            file.put("teacher/kept", np.arange(len(nodes)) < 2, ["edge"])
        with write_hdf5(self.place / "influence.h5", said_by("influence/2")) as file:
            file.put("teacher/components", ["L0H0"], ["component"])
            file.put("teacher/unablated", [5.0, 5.0], ["prompt"])
            file.put("teacher/ablated", [[4.0, 4.0]], ["component", "prompt"])
        picture = f'<h2 id="mini-ioi">x</h2><img src="data:{score}" alt="circuits">'
        (self.folder / "results/report.html").write_text(picture)

    def record(self) -> None:
        """Write dvc.lock, fill the cache and commit."""
        stages = {}
        for file in sorted(path for path in (self.folder / "results").rglob("*") if path.is_file()):
            digest = md5(file)
            stages[f"{file.stem}@x"] = {
                "outs": [{"path": file.relative_to(self.folder).as_posix(), "hash": "md5", "md5": digest}]
            }
            cached = self.cache / "files/md5" / digest[:2] / digest[2:]
            cached.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, cached)
        (self.folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
        git_commit(self.folder, "a run")


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """A repository with an empty first commit and two runs."""
    run = Run(tmp_path_factory.mktemp("diff") / "project")
    run.make(0.2, {"L0H1": 10.0, "L0H2": 5.0, "MLP0": 50.0}, 0.8)
    run.record()
    run.make(0.3, {"L0H1": 14.0, "MLP0": 50.5}, 0.4)
    run.record()
    return run


@pytest.fixture
def runs(two_runs, tmp_path, monkeypatch):
    """A copy of it, as the folder that one is in."""
    copy = object.__new__(Run)
    copy.folder = shutil.copytree(two_runs.folder, tmp_path / "project")
    copy.place, copy.cache = copy.folder / "results/pairs/mini/ioi", copy.folder / ".dvc/cache"
    monkeypatch.chdir(copy.folder)
    return copy


@pytest.mark.usefixtures("runs")
def test_a_revision_is_held_against_the_working_tree(capsys):
    """Its artifacts come from the cache; every kind of difference has its line."""
    assert main(["diff", "HEAD~1"]) == 0
    text = capsys.readouterr().out
    for line in (
        "from  HEAD~1 (",
        "to    the working tree",
        "  circuit.threshold  0.2 → 0.3",
        "Outputs: 4 with other bytes, 1 with the same",
        "  changed: circuit 1, comparison 1, edges 1, report 1\n",
        "  mini ioi teacher: nodes 3 → 2 (Jaccard 0.67), edges 2 → 2 (Jaccard 0.33)",
        "    nodes lost     L0H2 5.0\n",
        "    nodes changed  L0H1 10.0 → 14.0 *\n",
        "    edges lost     L0H2->logits 25.0\n",
        "    edges gained   MLP0->logits 25.0\n",
        "    alignment, printed  0.800 [0.800, 0.900]  → 0.400 [0.400, 0.500]  -0.400 *",
        "  0-tom, 0-tom: C\n    held\n    → open\n",
        "Figures of the report: 1 of 1 changed\n  mini-ioi: circuits\n",
        "* The two 95 % intervals do not overlap",
    ):
        assert line in text


def test_two_revisions_as_json_have_all_of_it(runs, capsys):
    """Also what did not change, by how much, and without a working tree's files."""
    shutil.rmtree(runs.folder / "results")
    assert main(["diff", "HEAD", "HEAD~1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["notes"] == []
    assert found["params"] == [{"name": "circuit.threshold", "kind": "changed", "old": 0.3, "new": 0.2}]
    (circuit,) = found["circuits"]
    assert circuit["nodes"]["gained"] == {"L0H2": {"value": 5.0, "interval95": [4.0, 6.0]}}
    assert circuit["drops"][0]["old"]["value"] == pytest.approx(20)  # 1 of 5
    assert [effect["changed"] for effect in circuit["drops"]] == [False]
    assert found["headlines"][0]["change"]["difference"] == pytest.approx(0.4)
    assert found["other_numbers"][0]["name"] == "pairs.mini.tasks.ioi.circuit.teacher.minimality.L0H1"


@pytest.mark.usefixtures("runs")
def test_no_difference_is_one_line(capsys):
    """A run and its own revision."""
    assert main(["diff", "HEAD"]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == [
        "No difference: parameters, code, data and the bytes of all outputs are the same."
    ]


def test_artifacts_are_found_where_the_cache_is_or_in_the_working_tree(runs, capsys):
    """A cache that .dvc/config.local names; without any, files of the working tree that are what the revision had."""
    runs.cache.rename(runs.folder.parent / "elsewhere")
    (runs.folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (runs.folder / ".dvc/config.local").write_text("[cache]\n    dir = ../../elsewhere\n")
    assert main(["diff", "HEAD~1"]) == 0
    assert "note" not in capsys.readouterr().out
    (runs.folder / ".dvc/config.local").unlink()
    assert main(["diff", "HEAD"]) == 0
    assert "note" not in capsys.readouterr().out


def test_what_is_not_at_hand_is_said_and_the_rest_compared(runs, capsys):
    """With the command that brings it."""
    shutil.rmtree(runs.cache)
    assert main(["diff", "HEAD~1"]) == 0
    text = capsys.readouterr().out
    missing = "results/comparison.json, results/report.html, results/pairs/mini/ioi/circuit.json"
    said = " ".join(text.split())
    assert f"note HEAD~1: {missing} are not at hand; `dvc fetch --all-commits {missing.replace(',', '')}`" in said
    assert "Outputs: 4 with other bytes, 1 with the same" in text
    assert "Numbers: not compared" in text and "Figures: not compared" in text


def test_the_working_tree_is_taken_as_it_is(runs, capsys):
    """An edited artifact, one that is gone and one of an older form are said to be so."""
    runs.make(0.3, {"L0H1": 14.0}, 0.4, schema="circuit/1")
    (runs.folder / "results/report.html").unlink()
    (runs.folder / "src").mkdir()
    (runs.folder / "src/new.py").write_text("")
    assert main(["diff", "HEAD"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    circuit = "results/pairs/mini/ioi/circuit.json"
    assert f"note the working tree: {circuit}, results/" in text
    assert "are not as dvc.lock records, compared as they are" in text
    assert "the working tree: results/report.html is not there; `dvc checkout`" in text
    assert f"note the working tree: {circuit} not read: its schema is circuit/1, this version reads circuit/2" in text
    assert "Code and data: src/new.py" in text
    assert "Circuits: none is at hand on both sides" in text


@pytest.mark.parametrize("damage", [b"", b"{", b'{"provenance": {"schema": "comparison/1"}}', b"\xff\xfe"])
def test_a_damaged_artifact_is_a_note(runs, capsys, damage):
    """Never a traceback."""
    for path in (runs.folder / "results/comparison.json", runs.place / "circuit.json", runs.place / "edges.h5"):
        path.write_bytes(damage)
    assert main(["diff", "HEAD"]) == 0
    assert "results/pairs/mini/ioi/circuit.json not read: " in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "spoil", "said"),
    [
        (["nowhere"], None, "nowhere: no such revision; `git log --oneline` lists them"),
        (["HEAD~2"], None, "HEAD~2: has no dvc.lock, so no run is recorded there"),
        (["HEAD", "HEAD", "HEAD"], None, "HEAD: one revision is compared with the working tree, two with each other"),
        (["HEAD"], lambda folder: (folder / "dvc.lock").write_text("stages: ["), "the working tree: its dvc.lock is"),
        (
            ["HEAD"],
            lambda folder: (folder / "dvc.lock").write_text("stages: {a: {outs: [1, {path: [x]}]}}"),
            "the working",
        ),
        (["HEAD"], lambda folder: (folder / "dvc.lock").unlink(), "dvc.lock: not there or not readable"),
        (["HEAD"], lambda folder: (folder / "params.yaml").write_text("a: ["), "the working tree: its params.yaml is"),
        (["HEAD"], lambda folder: (folder / ".dvc/config").write_text("what"), ".dvc/config: not readable"),
        (["HEAD"], lambda folder: shutil.rmtree(folder / ".git"), "this folder is in no git repository"),
    ],
)
def test_what_cannot_be_compared_is_one_line(runs, capsys, monkeypatch, arguments, spoil, said):
    """Of revisions, locks, parameters and the repository itself; with status 2."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(runs.folder.parent))
    if spoil:
        spoil(runs.folder)
    assert main(["diff", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"distilled-circuits: {said}")
    assert error.count("\n") == 1
