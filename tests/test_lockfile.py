"""A job's inputs are held against dvc.lock without DVC: what is as recorded is used, of all else DVC is asked."""

import pytest
from projects import call, git_init

from distilled_circuits import around_dvc
from distilled_circuits.lockfile import (
    entry_of,
    first_difference,
    lock_stages,
    md5,
    problem_of,
    recorded_outputs,
    sorted_lock,
    whole_entries,
    without,
)

STAGES = """stages:
  folder:
    cmd: mkdir -p results/model/deep && printf a > results/model/b.txt && printf c > results/model/deep/ä.txt
    outs: [results/model]
  file:
    cmd: printf d > results/file.json
    outs: [results/file.json]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a project whose two outputs, a file and a folder, DVC has made and recorded."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "dvc.yaml").write_text(STAGES)
    (folder / "results").mkdir()
    (folder / ".dvcignore").write_text("*.tmp-*\n")
    git_init(folder)
    call(folder, "dvc", "init", "--quiet")
    call(folder, "dvc", "repro", "--quiet")
    return folder


def test_digests_are_those_of_dvc(folder):
    """Of files and of folders, whose half-written files belong to nobody."""
    (folder / "results/model/b.txt.tmp-7").write_text("half")
    recorded = recorded_outputs((folder / "dvc.lock").read_text())
    assert recorded == {path: md5(folder / path) for path in ("results/model", "results/file.json")}
    assert first_difference(list(recorded), folder) is None


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda root: (root / "results/file.json").write_text("e"), "results/file.json: not what dvc.lock records"),
        (lambda root: (root / "results/file.json").unlink(), "results/file.json: not there"),
        (lambda root: (root / "results/model/deep/ä.txt").unlink(), "results/model: not what dvc.lock records"),
        (lambda root: (root / "results/model/new").write_text(""), "results/model: not what dvc.lock records"),
        (lambda root: (root / "dvc.lock").unlink(), "results/file.json: dvc.lock has no record of it"),
    ],
    ids=["changed", "missing", "missing in a folder", "added to a folder", "no lock"],
)
def test_what_is_not_as_recorded_is_named(harm, said, folder, tmp_path):
    """DVC is then asked, which restores it."""
    call(tmp_path, "cp", "--recursive", f"{folder}/.", ".")
    harm(tmp_path)
    assert first_difference(["results/file.json", "results/model"], tmp_path) == said


def test_large_files_are_left_to_dvc(folder, tmp_path, monkeypatch):
    """It remembers digests by time and size, and need not read them again."""
    call(tmp_path, "cp", "--recursive", f"{folder}/.", ".")
    monkeypatch.setattr("distilled_circuits.lockfile.LARGE", 1)
    assert "too large" in first_difference(["results/file.json"], tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_lock_that_is_being_written_is_not_believed(share, folder, tmp_path):
    """Another job may rewrite it meanwhile: what is cut off, a digest in its midst too, leads to DVC."""
    call(tmp_path, "cp", "--recursive", f"{folder}/.", ".")
    text = (folder / "dvc.lock").read_text()
    (tmp_path / "dvc.lock").write_text(text[: int(len(text) * share)])
    assert first_difference(["results/file.json", "results/model"], tmp_path) is not None


def test_what_is_no_lock_records_nothing():
    """A list, a word, broken YAML: DVC will say what is wrong."""
    for text in ("", "- a\n", "word", "stages: [", "stages: 3\n"):
        assert lock_stages(text) == {}


def test_entries_are_sorted_as_dvc_wrote_them():
    """Stages go by name, and every entry keeps its lines."""
    head = "schema: '2.0'\nstages:\n"
    one, two = "  b@2:\n    cmd: x\n", "  a@1:\n    cmd: y\n    outs:\n    - path: z\n"
    assert sorted_lock(head + one + two) == head + two + one


def test_a_job_asks_dvc_where_an_input_differs(folder, monkeypatch, capsys):
    """The exit status is the answer: 0 where all is as recorded, 3 and a line where DVC is to restore inputs."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("distilled_circuits.around_dvc._plan", lambda _: {})
    monkeypatch.setattr("distilled_circuits.around_dvc.change_since", lambda *_: None)
    assert around_dvc.main(["before", "x", "results/model", "results/file.json"]) == 0
    assert capsys.readouterr().out == ""
    assert around_dvc.main(["before", "x", "results/other"]) == around_dvc.RESTORE
    assert capsys.readouterr().out == "results/other: dvc.lock has no record of it; asking DVC\n"


def test_a_lock_that_was_cut_short_is_known_wherever_it_was_cut(folder):
    """What is left of it, without the entry that was being written, DVC can read, and it records nothing else."""
    text = (folder / "dvc.lock").read_text()
    assert problem_of(text) is None
    before = lock_stages(text)
    for length in range(len(text)):
        cut = text[:length]
        if problem_of(cut) is not None:
            left = whole_entries(cut)
            assert left == "" or problem_of(left) is None
            assert lock_stages(left).items() <= before.items()
        else:  # at the end of a line, and the entry has all that DVC asks for
            assert cut.endswith("\n")
            assert all("cmd" in entry for entry in lock_stages(cut).values())


def test_one_entry_is_read_alone(folder):
    """As all of them together say."""
    text = (folder / "dvc.lock").read_text()
    assert {name: entry_of(text, name) for name in ("file", "folder")} == lock_stages(text)
    assert entry_of(text, "fil") is None
    assert entry_of("", "file") is None


def test_marks_of_a_merge_are_no_cut(folder):
    """Half of such a file may be anything: a person has to say which."""
    text = (folder / "dvc.lock").read_text()
    for mark in ("<<<<<<< HEAD\n", "=======\n", ">>>>>>> other\n"):
        assert problem_of(text + mark) == "conflict"


def test_an_entry_can_be_taken_out(folder):
    """The others keep their lines; without any there is no lock."""
    text = (folder / "dvc.lock").read_text()
    left = without(text, "file")
    assert lock_stages(left).keys() == {"folder"}
    assert left in text
    assert without(left, "folder") == ""
