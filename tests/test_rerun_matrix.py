"""What reruns when, counted by the commands that really ran, on a tiny graph with this project's rules.

Each run is foretold by `plan`, and what comes is held against that.
"""

import pytest
import yaml
from counted import EVERYTHING, REPORT, Project
from projects import call


def outputs(stage: str) -> list[str]:
    """Return the files of a stage's two items."""
    return [f"results/pairs/a/{task}/{stage}.h5" for task in ("num", "word")]


def test_the_matrix_of_one_checkout(tmp_path):
    """First run, again, one parameter, back, touched files, a flipped byte, deleted outputs, edited code."""
    project = Project(tmp_path / "tiny")
    assert len(project.ran()) == EVERYTHING
    assert project.clean()
    first, lock = project.contents(), (project.folder / "dvc.lock").read_text()
    assert "Nothing to be done" in call(project.folder, "snakemake")
    assert project.ran() == []
    assert project.ran("dvc", "repro") == []

    project.set("ablate", threshold=0.3)
    assert project.ran() == [*outputs("ablate"), REPORT]
    assert project.contents() != first
    project.set("ablate", threshold=0.2)
    assert project.ran() == []
    assert project.contents() == first
    assert (project.folder / "dvc.lock").read_text() == lock

    for file in [*(project.folder / "results").rglob("*.*"), project.folder / "work.py"]:
        file.touch()
    assert project.ran() == []

    for damaged in ("num/cache.h5", "model/model.json", "model/model.safetensors"):
        file = project.folder / "results/pairs/a" / damaged
        content = bytearray(file.read_bytes())
        content[5] ^= 1
        file.write_bytes(content)
        assert project.ran() == []
        assert project.contents() == first

    for file in [*(project.folder / "results").rglob("*.h5"), *(project.folder / "results").rglob("*.safetensors")]:
        file.unlink()
    assert project.ran() == []
    assert project.contents() == first
    assert project.clean()

    work = project.folder / "work.py"
    work.write_text(work.read_text() + "# edited\n")
    assert len(project.ran()) == EVERYTHING
    assert "Nothing to be done" in call(project.folder, "snakemake")


def test_a_damaged_input_is_never_consumed(tmp_path):
    """A byte flipped in an intermediate together with a new parameter downstream: restored first, then used."""
    project = Project(tmp_path / "tiny")
    project.ran()
    expected = project.contents()["pairs/a/num/cache.h5"]
    file = project.folder / "results/pairs/a/num/cache.h5"
    file.write_bytes(b"damaged" + expected[7:])
    project.set("ablate", threshold=0.4)
    assert project.ran() == [*outputs("ablate"), REPORT]
    assert project.contents()["pairs/a/num/cache.h5"] == expected
    assert b"damaged" not in project.contents()["pairs/a/num/ablate.h5"]
    assert project.clean()


def test_tasks_that_are_no_longer_run_leave_no_trace(tmp_path):
    """One task more runs its stages and the report; back again nothing runs, and all is as it was."""
    project = Project(tmp_path / "tiny")
    project.ran()
    first = project.contents()
    path = project.folder / "params.yaml"
    before = path.read_text()
    path.write_text(yaml.safe_dump(yaml.safe_load(before) | {"tasks": ["num", "word", "more"]}))
    added = [f"results/pairs/a/more/{stage}.h5" for stage in ("ablate", "cache")]
    assert project.ran() == [*added, REPORT]
    path.write_text(before)
    assert project.ran() == []
    assert project.contents() == first
    assert project.clean()


def test_both_engines_leave_the_same_lock(tmp_path):
    """`dvc repro` and `snakemake` run the same commands and end in the same dvc.lock.

    DVC lists entries in the order in which stages finished; every run of snakemake puts them into the order of names.
    """
    parallel, serial = Project(tmp_path / "parallel"), Project(tmp_path / "serial")
    assert parallel.ran() == serial.ran("dvc", "repro")
    locks = [(project.folder / "dvc.lock").read_text() for project in (parallel, serial)]
    assert yaml.safe_load(locks[0]) == yaml.safe_load(locks[1])
    assert "Nothing to be done" not in call(serial.folder, "snakemake", "--dry-run")
    assert serial.ran() == []
    assert (serial.folder / "dvc.lock").read_text() == locks[0]
    assert serial.clean()


def test_locks_that_were_cut_short_do_not_stop_a_run(tmp_path):
    """DVC, killed while it writes them, leaves a file that it cannot read itself."""
    project = Project(tmp_path / "tiny")
    locks = project.folder / ".dvc/tmp/rwlock"
    locks.parent.mkdir(parents=True, exist_ok=True)
    locks.write_text("")
    project.ran()
    assert project.clean()


@pytest.mark.long
def test_six_jobs_at_once_with_large_outputs(tmp_path):
    """Six caches of 50 MB in parallel: no lock error, whatever DVC hashes meanwhile."""
    project = Project(tmp_path / "tiny", tasks=[f"t{n}" for n in range(6)], megabytes=50)
    assert len(project.ran("snakemake", "--cores", "6")) == 1 + 6 + 6 + 1
    assert project.clean()
