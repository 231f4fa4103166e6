"""What happens when something goes wrong: nothing is lost, no record is false, and one line says what to do.

`make faults` tries what takes longer too; docs/reliability.md has the counts.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from counted import REPORT, Project
from kills import Chain, is_as_undisturbed, killed_chain
from projects import call, environment, smoke_project

LONG = pytest.mark.long
KILLS = int(os.environ.get("KILLS", "2"))
SEED = int(os.environ.get("SEED", "0"))
ONE = {"tasks": ["num"], "megabytes": 1}
"""The tiny graph with one task: a model, its cache, its ablation, a report."""
CACHE, ABLATE = "results/pairs/a/num/cache.h5", "results/pairs/a/num/ablate.h5"
NAMESPACE = ("unshare", "--map-root-user", "--mount", "sh", "-ec")
"""A shell that mounts what nobody else sees, and that goes with it."""
MAY_MOUNT = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*NAMESPACE, "mount -t tmpfs none /mnt"], check=False).returncode > 0,
    reason="this machine does not let us mount a file system",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    """A finished run."""
    project = Project(tmp_path_factory.mktemp("finished") / "tiny", **ONE)
    project.ran()
    return project


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy of it."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    return Project(tmp_path / "copy")


def flip(file: Path) -> None:
    """Change one bit in the middle of a file as a disk does: DVC checks objects of its cache that may be written to."""
    content, mode = bytearray(file.read_bytes()), file.stat().st_mode
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(mode)


def objects(project: Project, path: str) -> Path:
    """Return the object of an output in DVC's cache."""
    entries = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"].values()
    (digest,) = {out["md5"] for entry in entries for out in entry["outs"] if out["path"] == path}
    return project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]


def refused(project: Project) -> str:
    """Return the lines that a run says of what is wrong; it fails, without a traceback."""
    process = subprocess.run(
        ["snakemake", "--cores", "2"],
        cwd=project.folder,
        env={**environment(), "RAN": str(project.log)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert process.returncode > 0
    assert "Traceback" not in process.stdout
    return "\n".join(line for line in process.stdout.splitlines() if "distilled-circuits: " in line)


def test_a_run_that_is_killed_again_and_again(tmp_path):
    """SIGKILL of all, of snakemake, DVC or a stage alone, at random moments; the end is that of an undisturbed run."""
    project, _ = killed_chain(tmp_path / "killed", KILLS, SEED)
    assert is_as_undisturbed(project, tmp_path / "undisturbed")
    assert project.clean()


@LONG
def test_the_pipeline_itself_killed_a_dozen_times(tmp_path):
    """The real stages on the small configuration, some of them for the third time: the end of an undisturbed run."""
    killed, undisturbed = (smoke_project(tmp_path / name) for name in ("killed", "undisturbed"))
    chain = Chain(killed, SEED)
    while chain.killed.total() < 12 and chain.kill_once(longest=40):
        pass
    Project(killed).finish()
    call(undisturbed, "snakemake", "--cores", "2")
    assert (killed / "dvc.lock").read_bytes() == (undisturbed / "dvc.lock").read_bytes()
    assert Project(killed).contents() == Project(undisturbed).contents()
    assert Project(killed).clean()


@pytest.mark.parametrize(
    "left", [0.5, pytest.param(0, marks=LONG), pytest.param(0.2, marks=LONG), pytest.param(None, marks=LONG)]
)
def test_a_lock_that_was_lost_comes_back(left, project, finished):
    """DVC rewrites dvc.lock in place: cut short by a kill, or deleted, it is the same after a run of no command."""
    lock = project.folder / "dvc.lock"
    text = lock.read_text()
    lock.unlink() if left is None else lock.write_text(text[: int(len(text) * left)])
    assert project.ran() == []
    assert lock.read_text() == text
    assert project.contents() == finished.contents()
    assert "Nothing to be done" in call(project.folder, "snakemake")


def test_a_merge_that_nobody_finished(project):
    """One line says what to do, and dvc.lock stays as it is."""
    lock = project.folder / "dvc.lock"
    lock.write_text(conflict := lock.read_text() + "<<<<<<< HEAD\n=======\n>>>>>>> theirs\n")
    assert refused(project) == (
        "distilled-circuits: dvc.lock has the marks of a merge: keep one side (git checkout --ours dvc.lock), then "
        "start again"
    )
    assert lock.read_text() == conflict


@LONG
def test_a_lock_of_another_revision(project, finished):
    """Parameters and results are of one revision, dvc.lock is taken from another: no command runs, it is as it was."""
    lock = project.folder / "dvc.lock"
    text = lock.read_text()
    project.set("ablate", threshold=0.3)
    project.ran()
    project.set("ablate", threshold=0.2)
    project.ran()
    lock.write_text(text.replace("threshold: 0.2", "threshold: 0.7"))
    assert project.ran() == []
    assert lock.read_text() == text
    assert project.contents() == finished.contents()


def test_a_parameter_that_is_changed_while_its_stage_runs(tmp_path):
    """DVC would record the new value for what was made with the old one: the job fails, and no record stays."""
    project = Project(tmp_path / "tiny", **ONE)
    process = project.begin(until=ABLATE, seconds_of_work=2)
    project.set("ablate", threshold=0.3)
    assert process.wait() == 1
    said = project.said()
    assert "params.yaml: ablate.threshold changed while ablate@a-num was made, so it is not recorded" in said
    assert not (project.folder / ABLATE).exists()
    assert "ablate@a-num" not in yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]
    assert project.ran() == [ABLATE, REPORT]
    assert is_as_undisturbed(project, tmp_path / "undisturbed")


@LONG
def test_a_parameter_that_is_changed_before_its_stage_runs(tmp_path):
    """What was planned with the old value is not made with the new one."""
    project = Project(tmp_path / "tiny", **ONE)
    process = project.begin(until=CACHE, seconds_of_work=2)
    project.set("ablate", threshold=0.3)
    assert process.wait() == 1
    assert "params.yaml: ablate.threshold changed since this run began, so ablate@a-num was not run" in project.said()
    assert project.ran() == [ABLATE, REPORT]
    assert is_as_undisturbed(project, tmp_path / "undisturbed")


def test_a_cache_that_is_damaged(project, finished):
    """DVC trusts its cache: what it restores is checked, removed there and here, and made again."""
    flip(objects(project, CACHE))
    (project.folder / CACHE).unlink()
    said = refused(project)
    assert said.startswith(f"distilled-circuits: {CACHE}: damaged, and DVC did not notice; removed before")
    assert project.ran() == [CACHE]
    assert project.contents() == finished.contents()
    assert project.clean()


@LONG
def test_runs_that_dvc_was_killed_while_it_noted_them(project, finished):
    """It leaves empty folders in its cache, at which it fails; the commands run once more."""
    for note in (project.folder / ".dvc/cache/runs").glob("*/*/*"):
        note.unlink()
    (project.folder / "dvc.lock").unlink()
    assert len(project.ran(foretold=False)) == len(finished.contents()) - 1
    assert project.contents() == finished.contents()


@LONG
@pytest.mark.parametrize("lost", [".snakemake", ".dvc/cache", "logs"])
def test_what_can_be_deleted(lost, project, finished):
    """Snakemake's memory, DVC's cache, logs: results are still there, so no command runs."""
    shutil.rmtree(project.folder / lost)
    assert project.ran() == []
    assert project.contents() == finished.contents()
    assert (project.folder / "dvc.lock").read_text() == (finished.folder / "dvc.lock").read_text()


@LONG
def test_a_clock_that_is_wrong(project, finished):
    """Files dated into the future or the past: contents decide."""
    files = [file for file in project.folder.rglob("*") if file.is_file() and ".git/" not in str(file)]
    for number, file in enumerate(files):
        moment = time.time() + (1, -1)[number % 2] * 86400 * 365
        os.utime(file, (moment, moment))
    assert project.ran() == []
    assert project.contents() == finished.contents()
    assert project.clean()


@MAY_MOUNT
@pytest.mark.parametrize(
    ("place", "size"),
    [(".", "6m"), pytest.param("results", "2500k", marks=LONG), pytest.param(".dvc/cache", "2500k", marks=LONG)],
)
def test_a_disk_that_is_full(place, size, finished, tmp_path):
    """Jobs fail and leave nothing; with more room the same command goes on to the end of an undisturbed run."""
    source = Project(tmp_path / "source", **ONE)
    place = tmp_path / "small" / place
    script = f"""
    mkdir small; [ {place} = $PWD/small ] || cp --recursive source/. small; mkdir --parents {place}
    mount -t tmpfs -o size={size} none {place}; [ {place} != $PWD/small ] || cp --recursive source/. small
    cd small; snakemake && exit 1; echo half-written: $(find results -name '*.h5' -size -900k) end
    mount -o remount,size=90m {place}; echo more room; snakemake; cp --recursive . ../after
    """
    said = call(tmp_path, *NAMESPACE, script, RAN=str(source.log))
    assert "No space left on device" in said.partition("more room")[0]
    assert "half-written: end" in said, said
    after = Project(tmp_path / "after")
    assert after.contents() == finished.contents()
    assert (after.folder / "dvc.lock").read_text() == (finished.folder / "dvc.lock").read_text()


@MAY_MOUNT
@pytest.mark.parametrize("place", ["results", pytest.param(".dvc/cache", marks=LONG), pytest.param("logs", marks=LONG)])
def test_a_folder_that_cannot_be_written_to(place, project):
    """One line names it, and nothing has changed."""
    project.set("ablate", threshold=0.3)
    before = project.contents(), (project.folder / "dvc.lock").read_text()
    mount = f"mount --bind {place} {place}; mount -o remount,bind,ro {place}; snakemake"
    said = call(project.folder, *NAMESPACE, mount, check=False, RAN=str(project.log))
    assert said.splitlines()[-1] == (
        f"distilled-circuits: {project.folder / place} cannot be written to: make it writable, then start again"
    )
    assert (project.contents(), (project.folder / "dvc.lock").read_text()) == before


@pytest.mark.parametrize("_", [0, *(pytest.param(number, marks=LONG) for number in range(1, 5))])
def test_two_runs_that_are_started_at_once(_, tmp_path, finished):
    """One runs everything, the other ends with one line."""
    project = Project(tmp_path / "tiny", **ONE)
    first, second = (project.start(seconds_of_work=1, name=name) for name in ("first", "second"))
    assert sorted((first.wait(), second.wait())) == [0, 1]
    refused = project.said("first" if first.returncode else "second")
    assert "another snakemake run is at work in this folder: wait until it ends or stop it" in refused
    assert 'File "' not in refused
    assert len(project.log.read_text().split()) == len(finished.contents()) - 1  # the model is two files
    assert project.contents() == finished.contents()
    assert (project.folder / "dvc.lock").read_bytes() == (finished.folder / "dvc.lock").read_bytes()
    assert project.clean()


@LONG
def test_two_fresh_clones(tmp_path):
    """Whatever the order in which their jobs end: the same dvc.lock, byte by byte, and the same results."""
    source = Project(tmp_path / "source")
    clones = []
    for name, cores in (("one", "1"), ("two", "3")):
        call(tmp_path, "git", "clone", "--quiet", str(source.folder), name)
        clones.append(Project(tmp_path / name))
        clones[-1].ran("snakemake", "--cores", cores)
    locks = [(clone.folder / "dvc.lock").read_bytes() for clone in clones]
    assert locks[0] == locks[1]
    assert clones[0].contents() == clones[1].contents()


@LONG
def test_dvc_beside_snakemake(tmp_path, finished):
    """Whoever comes second is told which process is at work; started again, the rest is done."""
    project = Project(tmp_path / "tiny", **ONE)
    snakemake = project.begin(until=CACHE, seconds_of_work=3)
    said = call(project.folder, "dvc", "repro", check=False, RAN=str(project.log))
    assert "is busy, it is being blocked by" in said
    assert snakemake.wait() == 0
    assert project.contents() == finished.contents()
    assert project.clean()


@LONG
@pytest.mark.parametrize("number", range(3))
def test_other_parameters_beside_a_run(number, tmp_path):
    """A plan and a run with a new value beside a living run: refused, and the first run's record is true."""
    project = Project(tmp_path / "tiny", **ONE)
    process = project.begin(until=("model", CACHE, ABLATE)[number], seconds_of_work=15)
    project.set("model", seed=1)
    assert "Another snakemake run is at work" in call(project.folder, "snakemake", "--dry-run")
    assert "another snakemake run is at work" in refused(project)
    process.wait()
    project.ran()
    assert is_as_undisturbed(project, tmp_path / "undisturbed")


@pytest.mark.parametrize("how", ["exit", pytest.param("raise", marks=LONG), pytest.param("kill", marks=LONG)])
def test_a_stage_that_fails(how, tmp_path):
    """With a line, a traceback, or killed for its memory: nothing of it is left, the other task is done, then this."""
    project = Project(tmp_path / "tiny", megabytes=1)
    said = call(project.folder, "snakemake", check=False, RAN=str(project.log), FAILS="num/cache", FAILS_HOW=how)
    assert {"exit": "the loss is nan at step 7", "raise": "ZeroDivisionError", "kill": "exited with -9"}[how] in said
    assert {file.name for file in (project.folder / "results/pairs/a/num").rglob("*")} <= {"ablate.h5"}
    assert (project.folder / "results/pairs/a/word/ablate.h5").exists()
    stages = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]
    assert set(stages) == {"model@a", "cache@a-word", "ablate@a-word"}
    assert project.ran() == [ABLATE, CACHE, REPORT]
    assert project.clean()
