"""What one person has computed is not computed again by another: remotes over a directory and S3, a common cache."""

import functools
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from counted import EVERYTHING, REPORT, Project
from moto.core import set_initial_no_auth_action_count
from projects import call, environment, tiny_project
from stores import BUCKET, Store, s3_server

AFFECTED = ["results/pairs/a/num/ablate.h5", "results/pairs/a/word/ablate.h5", REPORT]
"""What a new threshold runs."""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory) -> Iterator[str]:
    """A server that speaks S3."""
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    """A finished run that nobody has pushed."""
    project = Project(tmp_path_factory.mktemp("shared") / "first", megabytes=1)
    assert len(project.ran("dvc", "repro")) == EVERYTHING
    return project


@pytest.fixture(params=["directory", "s3"])
def store(request, tmp_path, endpoint) -> Store:
    """An empty store of each kind."""
    return (
        Store(str(tmp_path / "store"))
        if request.param == "directory"
        else Store(f"s3://{BUCKET}/{tmp_path.name}", endpoint)
    )


@pytest.fixture
def first(finished, store, tmp_path) -> Project:
    """The first person's checkout: finished, with the store as its default remote, committed, not pushed."""
    project = Project(shutil.copytree(finished.folder, tmp_path / "first", symlinks=True))
    store.add(project.folder)
    commit(project)
    return project


def commit(project: Project) -> None:
    """Commit what git tracks: parameters, dvc.lock, the address of the store."""
    call(project.folder, "git", "add", "--all")
    call(project.folder, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "results")


def digest(project: Project, item: str) -> str:
    """Return the digest that dvc.lock has of an item's output: its name in a store."""
    return yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"][item]["outs"][0]["md5"]


def clone(project: Project, name: str) -> Project:
    """Clone what was committed."""
    call(project.folder.parent, "git", "clone", "--quiet", str(project.folder), name)
    return Project(project.folder.parent / name)


def at_once(folders: list[Path], *command: str, **variables: str) -> list[str]:
    """Run a command in several folders at the same time, each to its end; return what each printed."""
    running = [
        subprocess.Popen(
            command,
            cwd=folder,
            env={**environment(), **variables},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for folder in folders
    ]
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(folders), said
    return said


def test_a_team_computes_everything_once(first, store):
    """A clone with a new parameter runs what it affects, by what it pulled; who pulls that again runs nothing.

    Snakemake, without its memory, for one kind of store; what a store holds is DVC's matter alone.
    """
    engine = ("dvc", "repro") if store.endpoint else ("snakemake", "--cores", "2")
    call(first.folder, "dvc", "push", "--run-cache")
    second = clone(first, "second")
    call(second.folder, "dvc", "pull")
    assert second.contents() == first.contents()
    second.set("ablate", threshold=0.3)
    assert not (second.folder / ".snakemake").exists()
    assert second.ran(*engine) == AFFECTED
    assert second.clean()
    call(second.folder, "dvc", "push", "--run-cache")
    commit(second)

    third = clone(second, "third")
    call(third.folder, "dvc", "pull")
    assert third.ran(*engine) == []
    assert third.contents() == second.contents()
    assert third.clean()


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_snakemake_can_fetch_by_itself(first):
    """With `--config pull=1` a clone fetches each result, also those of parameters that nobody has committed."""
    first.set("ablate", threshold=0.3)
    assert first.ran("dvc", "repro") == AFFECTED
    call(first.folder, "dvc", "push", "--run-cache")
    second = clone(first, "second")
    second.set("ablate", threshold=0.3)
    assert second.ran("snakemake", "--cores", "2", "--config", "pull=1") == []
    assert second.contents() == first.contents()
    assert second.clean()


def test_two_push_at_once(first):
    """Both end well, and the store has everything."""
    second = clone(first, "second")
    shutil.copytree(first.folder / ".dvc/cache", second.folder / ".dvc/cache")
    at_once([first.folder, second.folder], "dvc", "push", "--run-cache")
    third = clone(first, "third")
    call(third.folder, "dvc", "pull")
    assert third.ran("dvc", "repro") == []
    assert third.contents() == first.contents()


def test_a_damaged_object_is_not_taken(first, store):
    """The pull fails and names the result, which is then computed; nothing wrong is ever there."""
    call(first.folder, "dvc", "push")
    damaged = "results/pairs/a/num/cache.h5"
    store.damage(digest(first, "cache@a-num"))
    second = clone(first, "second")
    said = call(second.folder, "dvc", "pull", check=False)
    assert f"failed to pull data from the cloud - Checkout failed for following targets:\n{damaged}\n" in said
    assert not (second.folder / damaged).exists()
    assert second.ran("dvc", "repro") == [damaged]
    assert second.contents() == first.contents()


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_without_verify_dvc_takes_what_it_gets(first, store):
    """Which is why docs/team.md sets it: damage is taken, and DVC calls it up to date."""
    call(first.folder, "dvc", "push")
    store.damage(digest(first, "cache@a-num"))
    second = clone(first, "second")
    (second.folder / ".dvc/config.local").write_text("['remote \"store\"']\n    verify = false\n")
    call(second.folder, "dvc", "pull")
    assert second.contents()["pairs/a/num/cache.h5"] != first.contents()["pairs/a/num/cache.h5"]
    assert second.clean()


@pytest.fixture
def alone(finished, tmp_path) -> Project:
    """A finished checkout without a store."""
    return Project(shutil.copytree(finished.folder, tmp_path / "alone", symlinks=True))


@pytest.mark.parametrize(
    ("url", "address", "keys", "expected"),
    [
        (f"s3://{BUCKET}/x", "http://127.0.0.1:1", "user", "Could not connect to the endpoint URL"),
        ("s3://nobody/x", None, "user", "The specified bucket does not exist"),
        (f"s3://{BUCKET}/x", None, "", "Unable to locate credentials"),
        (f"s3://{BUCKET}/x", None, "stranger", "Forbidden: An error occurred (403)"),
    ],
    ids=["unreachable", "no bucket", "no keys", "wrong keys"],
)
def test_a_store_that_does_not_answer(url, address, keys, expected, alone, endpoint, monkeypatch):
    """One line of DVC's says why; nothing is lost, and runs go on without it."""
    Store(url, address or endpoint).add(alone.folder)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    asked = set_initial_no_auth_action_count(0)(call) if keys == "stranger" else call
    (alone.folder / REPORT).unlink()
    before = alone.contents()
    push = asked(alone.folder, "dvc", "push", check=False)
    lost = digest(alone, "report")
    (alone.folder / ".dvc/cache/files/md5" / lost[:2] / lost[2:]).unlink()
    for said in (push, asked(alone.folder, "dvc", "pull", check=False)):
        assert expected in said
        assert "Traceback" not in said
    assert alone.contents() == before
    assert alone.ran("dvc", "repro") == [REPORT]


def test_reviewers_read_over_http(finished, tmp_path):
    """A directory that a web server shows can be pulled from, and not be pushed to."""
    first = Project(shutil.copytree(finished.folder, tmp_path / "first", symlinks=True))
    commit(first)
    Store(str(tmp_path / "store")).add(first.folder)
    call(first.folder, "dvc", "push")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "store"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        reviewer = clone(first, "reviewer")
        Store(f"http://127.0.0.1:{server.server_port}").add(reviewer.folder)
        call(reviewer.folder, "dvc", "pull")
        assert reviewer.ran("dvc", "repro") == []
        assert reviewer.contents() == first.contents()
        (tmp_path / "store").rename(tmp_path / "gone")
        assert "ERROR" in call(reviewer.folder, "dvc", "push", check=False)
        server.shutdown()


def test_two_checkouts_share_one_cache(finished, tmp_path):
    """On one machine, without a store: what one has made the other restores; and both may run at once."""
    both = []
    for name in ("one", "two"):
        folder = tiny_project(tmp_path / name, megabytes=1)
        (folder / ".dvc/config.local").write_text(f"[cache]\n    dir = {tmp_path / 'cache'}\n    shared = group\n")
        both.append(folder)
    at_once(both, "dvc", "repro", RAN=str(tmp_path / "ran"))
    assert EVERYTHING <= len((tmp_path / "ran").read_text().split()) <= 2 * EVERYTHING
    one, two = map(Project, both)
    assert one.contents() == two.contents() == finished.contents()
    assert (one.folder / "dvc.lock").read_text() == (two.folder / "dvc.lock").read_text()
    one.set("ablate", threshold=0.3)
    two.set("ablate", threshold=0.3)
    assert one.ran("dvc", "repro") == AFFECTED
    assert two.ran("dvc", "repro") == []
    assert two.contents() == one.contents()
    modes = {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert modes <= {"0o444", "0o664"}
