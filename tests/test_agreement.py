"""What was planned, what holds while a stage runs, what dvc.lock records: the three must be one."""

import fcntl
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from projects import ROOT, smoke_params

from distilled_circuits.agreement import AGAIN, change_since, is_recorded, key_text
from distilled_circuits.around_dvc import RESTORE
from distilled_circuits.around_dvc import main as around_dvc
from distilled_circuits.cli import main
from distilled_circuits.graph import load_graph, sha256
from distilled_circuits.lockfile import md5

COMMAND = ["run", "prompts", "pair=mini", "task=numerals"]
MADE = "results/pairs/mini/numerals/prompts.json"
PLAN = {
    "command": "make it",
    "inputs": ["data/words", "results/a.h5"],
    "outputs": ["results/b.h5", "results/model"],
    "params": {"rate": 1e-05, "sizes": [1, 2], "head": {"doubled": True, "name": "x"}},
    "files": {"data/words": "d" * 32, "src/module.py": "e" * 32, "results/pairs": None},
}
ENTRY = """
cmd: make it
deps:
- {path: data/words, hash: md5, md5: dddddddddddddddddddddddddddddddd, size: 3}
- {path: results/a.h5, hash: md5, md5: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, size: 3}
params: {params.yaml: {rate: 1e-05, sizes: [1, 2], head: {doubled: true, name: x}}}
outs:
- {path: results/b.h5, hash: md5, md5: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb, size: 3}
- {path: results/model, hash: md5, md5: cccccccccccccccccccccccccccccccc.dir, size: 3, nfiles: 2}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one stage that is noted to be made of one module, and whose models are there."""
    for name in ("lexicon", "tasks"):
        shutil.copytree(ROOT / "data" / name, tmp_path / "data" / name)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(smoke_params()))
    (tmp_path / "module.py").write_text("one = 1\n")
    noted = {"provenance": {"inputs": {"module.py": sha256(tmp_path / "module.py")}}}
    for path, text in (
        ("results/code/prompts.json", json.dumps(noted)),
        ("results/pairs/mini/teacher/model.json", "{}"),
    ):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stage_that(edits, monkeypatch):
    """Put a stage in the place of `prompts` that writes its output, and in whose midst a file is edited."""

    def run(job):
        job.output("prompts").parent.mkdir(parents=True)
        job.output("prompts").write_text("made")
        edits()

    monkeypatch.setattr("distilled_circuits.stages.prompts.run", run)


def appended(name, text="# edited\n"):
    """Return a function that adds a line to a file of the project."""
    return lambda folder: (folder / name).write_text((folder / name).read_text() + text)


def replaced(name, old, new):
    """Return a function that replaces text in a file of the project."""

    def edit(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return edit


EDITS = {
    "params.yaml: prompts.number": replaced("params.yaml", "number: 16", "number: 17"),
    "data/lexicon": appended("data/lexicon/fillers.txt"),
    "module.py": appended("module.py"),
    "results/pairs/mini/teacher": appended("results/pairs/mini/teacher/model.json"),
    "dvc.yaml: command of prompts@mini-numerals": replaced("dvc.yaml", "run prompts pair", "run prompts  --x pair"),
    "what dvc.yaml and params.yaml say of prompts@mini-numerals": replaced("params.yaml", "- numerals", "- words"),
}


@pytest.mark.parametrize("changed", EDITS)
def test_an_edit_while_a_stage_runs_is_named_and_nothing_is_kept(changed, project, monkeypatch, capsys):
    """DVC would record what was made before the edit as made after it."""
    stage_that(lambda: EDITS[changed](project), monkeypatch)
    assert main(COMMAND) == 2
    assert capsys.readouterr().err == (
        f"distilled-circuits: {changed}: edited since this run began, so prompts@mini-numerals is not kept; start "
        "snakemake again\n"
    )
    assert not (project / MADE).exists()


def test_an_edit_of_what_a_stage_does_not_use_is_none_of_its_business(project, monkeypatch):
    """Other parameters, comments, files that are touched."""
    change = replaced("params.yaml", "splits: 2", "splits: 3")
    stage_that(
        lambda: (change(project), appended("params.yaml")(project), (project / "module.py").touch()), monkeypatch
    )
    assert main(COMMAND) == 0
    assert (project / MADE).read_text() == "made"


def test_parameters_that_are_no_yaml_for_a_moment(project, monkeypatch, capsys):
    """An editor is writing: the stage is not kept."""
    stage_that(lambda: (project / "params.yaml").write_text("prompts: ["), monkeypatch)
    assert main(COMMAND) == 2
    assert "params.yaml: not readable as YAML" in capsys.readouterr().err
    assert not (project / MADE).exists()


def test_a_plan_holds_until_something_of_it_changes(project):
    """The same key file is held against the folder by each job."""
    item = next(item for item in load_graph().items if item.name == "prompts@mini-numerals")
    plan = json.loads(json.dumps(load_graph().plan(item)))
    assert plan["files"]["data/lexicon"] == md5(project / "data/lexicon")
    assert change_since(item.name, plan) is None
    EDITS["params.yaml: prompts.number"](project)
    assert change_since(item.name, plan) == "params.yaml: prompts.number"


def entry(old="", new=""):
    """Return the entry of dvc.lock, with one text for another."""
    assert old in ENTRY
    return yaml.safe_load(ENTRY.replace(old, new))


def test_an_entry_of_the_plan_is_known():
    """Numbers that YAML 1.1 takes for texts, modules and folders of outputs make no difference."""
    assert is_recorded(PLAN, entry())
    assert isinstance(entry()["params"]["params.yaml"]["rate"], str)
    assert is_recorded(PLAN, entry("doubled: true", "doubled: 'yes'"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("make it", "make it twice"),
        ("rate: 1e-05", "rate: 2e-05"),
        ("rate: 1e-05, ", ""),
        ("sizes: [1, 2]", "sizes: [1, 3]"),
        ("sizes: [1, 2]", "sizes: [1]"),
        ("name: x", "name: y"),
        ("doubled: true", "doubled: false"),
        ("dddd", "ddd0"),
        ("bbbbbbbbb", ""),
        ("results/model", "results/other"),
    ],
)
def test_an_entry_of_another_plan_is_none(old, new):
    """Another command, parameter or file; an output that is missing or whose digest is cut short."""
    assert not is_recorded(PLAN, entry(old, new))


def test_no_entry_is_none():
    """Nor is what is left of one that was cut short."""
    assert not is_recorded(PLAN, None)
    assert not is_recorded(PLAN, {"cmd": "make it", "deps": None, "outs": None})


def test_a_key_changes_when_a_job_is_needed_and_only_then():
    """With what is planned, and where dvc.lock has no record of outputs that are there; back again it is as before."""
    other = {**PLAN, "command": "other"}
    first = key_text(PLAN, "", lost=False, now=1.0)
    assert json.loads(first) == PLAN
    assert key_text(PLAN, first, lost=False, now=2.0) == first
    changed = key_text(other, first, lost=True, now=2.0)
    assert json.loads(changed) == other
    assert key_text(PLAN, changed, lost=False, now=3.0) == first
    lost = key_text(PLAN, first, lost=True, now=3.0)
    assert json.loads(lost)[AGAIN] == 3.0
    assert key_text(PLAN, lost, lost=False, now=4.0) == lost
    assert key_text(PLAN, key_text(other, lost, lost=False, now=5.0), lost=False, now=6.0) == lost
    assert json.loads(key_text(PLAN, lost[:20], lost=False, now=7.0)) == PLAN


@pytest.fixture
def locked(project, monkeypatch):
    """A file that is as dvc.lock records it, and a job that reads it."""
    monkeypatch.setattr("distilled_circuits.around_dvc._plan", lambda _: {"params": {}, "files": {}})
    monkeypatch.setattr("distilled_circuits.around_dvc.change_since", lambda *_: None)
    (project / ".dvc").mkdir()
    (project / "a").write_text("a")
    (project / "dvc.lock").write_text(f"stages:\n  a:\n    outs: [{{path: a, md5: {md5(project / 'a')}}}]\n")
    return project


def test_an_input_that_is_not_as_recorded_is_dvcs_to_restore(locked):
    """And one that is needs nothing."""
    assert around_dvc(["before", "b", "a"]) == 0
    (locked / "a").write_text("b")
    assert around_dvc(["before", "b", "a"]) == RESTORE


@pytest.mark.parametrize("busy", [("dvc.lock", ""), ("a", None)], ids=["rewrites dvc.lock", "restores the input"])
def test_another_job_that_is_at_work_with_dvc_is_waited_for(busy, locked):
    """Its DVC holds a lock meanwhile: ours does not take dvc.lock for lost and have DVC restore what others read."""
    file, text = locked / busy[0], (locked / busy[0]).read_text()
    (locked / ".dvc/tmp").mkdir()
    with (locked / ".dvc/tmp/lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file.unlink() if busy[1] is None else file.write_text(busy[1])
        with ThreadPoolExecutor() as pool:
            looked = pool.submit(around_dvc, ["before", "b", "a"])
            time.sleep(0.2)
            assert not looked.done()
            file.write_text(text)
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert looked.result() == 0
