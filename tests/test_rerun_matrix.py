"""What reruns when, counted by the commands that really ran, on a tiny graph with this project's rules.

Each run is foretold by `plan`, and what comes is held against that.
"""

import os
import signal

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


@pytest.mark.parametrize("whole_group", [True, False], ids=["all processes", "snakemake alone"])
def test_a_killed_run_finishes_with_the_same_command(tmp_path, whole_group):
    """SIGKILL in the middle of the caches; the same command again completes, with a clean status."""
    project = Project(tmp_path / "tiny")
    process = project.begin(until="cache", seconds_of_work=3)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    project.ran()
    assert project.clean()
    expected = Project(tmp_path / "undisturbed")
    expected.ran()
    assert project.contents() == expected.contents()


def test_locks_that_were_cut_short_do_not_stop_a_run(tmp_path):
    """DVC, killed while it writes them, leaves a file that it cannot read itself."""
    project = Project(tmp_path / "tiny")
    locks = project.folder / ".dvc/tmp/rwlock"
    locks.parent.mkdir(parents=True, exist_ok=True)
    locks.write_text("")
    project.ran()
    assert project.clean()


def test_a_job_that_fails_does_not_stop_the_others(tmp_path):
    """The other task's jobs are done all the same, the failed one leaves nothing, and says why."""
    project = Project(tmp_path / "tiny")
    said = call(
        project.folder,
        "snakemake",
        "--cores",
        "1",
        check=False,
        RAN=str(project.log),
        FAILS="num/cache",
        SECONDS_OF_WORK="0",
    )
    assert "the loss is nan at step 7" in said
    made = {
        str(path.relative_to(project.folder / "results/pairs/a")) for path in project.folder.rglob("results/**/*.h5")
    }
    assert made == {"word/cache.h5", "word/ablate.h5"}
    assert project.ran() == ["results/pairs/a/num/ablate.h5", "results/pairs/a/num/cache.h5", REPORT]


def test_a_second_run_beside_a_living_one_is_refused(tmp_path):
    """It would delete outputs that the first one reads; the word is clear and the first one is not disturbed."""
    project = Project(tmp_path / "tiny")
    first = project.begin(until="model", seconds_of_work=2)
    said = call(project.folder, "snakemake", "--cores", "2", check=False, RAN=str(project.log))
    assert "another snakemake run is at work in this folder" in said
    assert 'File "' not in said
    assert first.wait(timeout=120) == 0
    assert project.clean()
    assert len(project.log.read_text().split()) == EVERYTHING


def test_six_jobs_at_once_with_large_outputs(tmp_path):
    """Six caches of 100 MB in parallel: no lock error, whatever DVC hashes meanwhile."""
    project = Project(tmp_path / "tiny", tasks=[f"t{n}" for n in range(6)], megabytes=100)
    assert len(project.ran("snakemake", "--cores", "6")) == 1 + 6 + 6 + 1
    assert project.clean()
